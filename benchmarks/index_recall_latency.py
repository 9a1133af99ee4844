"""One request against a million items: recall and latency of the ScaNN path, beside exact search and beside ScaNN alone.

The request has K interests and asks for n items: one batched search, merging, exclusions and selection, compiled into one function as in
the servable. "scann_alone" is ScaNN's own op with the same parameters on the same K vectors, and nothing after it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from benchmarks.common import benchmark_arguments, limit_threads, median_seconds, report
from tfmi.index.base import InterestIndex
from tfmi.index.build import build_index
from tfmi.index.recall import measure_recall
from tfmi.index.scann import ScannIndex
from tfmi.index.selection import select
from tfmi.index.sources import InterestCandidates
from tfmi.models.recommender import UserInputs

Request = Callable[[tf.Tensor], tf.Tensor]


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def clustered_items(num_items: int, dimension: int, random: np.random.Generator) -> np.ndarray:
    """Unit vectors [num_items + 2, d] as training leaves them: styles within groups, and a few styles with most of the items."""
    num_groups = max(2, round(num_items**0.5 / 5))
    num_styles = 20 * num_groups

    def directions(count: int) -> np.ndarray:
        return unit_length(random.standard_normal((count, dimension), dtype=np.float32))

    groups = directions(num_groups)
    styles = unit_length(groups[random.integers(0, num_groups, num_styles)] + 0.8 * directions(num_styles))
    popularity = 1.0 / (np.arange(num_styles) + 10.0)
    style_of_item = random.choice(num_styles, num_items, p=popularity / popularity.sum())
    items = unit_length(styles[style_of_item] + 0.7 * directions(num_items))
    return np.concatenate([np.zeros((2, dimension), np.float32), items])


def interests_near_items(item_vectors: np.ndarray, users: int, interests: int, random: np.random.Generator) -> np.ndarray:
    """Interests [users, K, d]: each lies near an item, at a cosine of about 0.9."""
    nearby = item_vectors[random.integers(2, len(item_vectors), (users, interests))]
    return unit_length(nearby + 0.5 * unit_length(random.standard_normal(nearby.shape, dtype=np.float32)))


class GivenInterests(tf.Module):
    """A ``VectorRecommender`` whose users' interests come with the request, so that only what follows is measured."""

    requested_inputs: tuple[str, ...] = ()

    def __init__(self, num_rows: int) -> None:
        super().__init__()
        self.history_length, self.num_rows = 1, num_rows

    def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
        """The interests themselves, all of them active."""
        interests = inputs.profile["interests"]
        return interests, tf.ones(tf.shape(interests)[:2], tf.bool)

    def item_vectors(self) -> tf.Tensor:
        """None of its own: the index holds them."""
        return tf.zeros([self.num_rows, 0])


def request_through(index: InterestIndex, n: int) -> Request:
    """A compiled request: interests [B, K, d] to items [B, n]."""
    source = InterestCandidates(GivenInterests(index.num_rows), index)
    no_exclusions = tf.zeros([1, 1], tf.int32)

    def answer(interests: tf.Tensor) -> tf.Tensor:
        candidates = source.candidates(UserInputs(tf.zeros([tf.shape(interests)[0], 1], tf.int32), {"interests": interests}), n)
        return select(candidates, n, exclude=no_exclusions).items

    return tf.function(answer).get_concrete_function(tf.TensorSpec([None, None, index.dimension]))


def search_alone(index: ScannIndex, n: int) -> Request:
    """A compiled call of ScaNN's op: interests [1, K, d] to positions [K, n], with the parameters that ``index`` searches with."""

    def answer(interests: tf.Tensor) -> tf.Tensor:
        return index.search_scann(interests[0], n)[0]

    return tf.function(answer).get_concrete_function(tf.TensorSpec([None, None, index.dimension]))


def main() -> None:
    """Build, measure, report."""
    parser = benchmark_arguments(__doc__ or "", repeats=300)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--interests", type=int, default=4, help="K")
    parser.add_argument("--results", type=int, default=100, help="n")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    random = np.random.default_rng(arguments.seed)
    item_vectors = clustered_items(arguments.items, arguments.dimension, random)
    users = tf.constant(interests_near_items(item_vectors, arguments.repeats, arguments.interests, random))

    print(f"building a ScaNN index of {arguments.items:,} items ...", flush=True)
    scann, exact = ScannIndex(item_vectors), build_index("exact", item_vectors)
    print(f"parameters: {scann.parameters()}", flush=True)
    answer, answer_exactly = request_through(scann, arguments.results), request_through(exact, arguments.results)
    alone = search_alone(scann, arguments.results)
    user = [users[i : i + 1] for i in range(arguments.repeats)]
    contenders = {
        "tfmi_scann": lambda run: answer(user[run]).numpy(),
        "scann_alone": lambda run: alone(user[run]).numpy(),
        "tfmi_exact": lambda run: answer_exactly(user[run]).numpy(),
    }
    seconds = median_seconds(contenders, arguments.repeats, warm_up=10)
    found = np.concatenate([answer(one) for one in user])
    wanted = np.concatenate([answer_exactly(one) for one in user])
    recall = float(np.mean([np.isin(w, f).mean() for w, f in zip(wanted, found, strict=True)]))
    per_interest = measure_recall(scann, exact, tf.reshape(users, [-1, arguments.dimension]), arguments.results)
    report(
        "index_recall_latency",
        {
            "items": arguments.items,
            "interests": arguments.interests,
            "results": arguments.results,
            "threads": arguments.threads,
            "parameters": scann.parameters(),
            "recall": round(recall, 4),
            "recall_of_single_interests": round(per_interest, 4),
            "milliseconds": {name: round(1e3 * value, 3) for name, value in seconds.items()},
            "share_of_exact": round(seconds["tfmi_scann"] / seconds["tfmi_exact"], 4),
            "times_scann_alone": round(seconds["tfmi_scann"] / seconds["scann_alone"], 3),
        },
        {
            "recall at least 0.95": recall >= 0.95,
            "latency at most a tenth of exact": seconds["tfmi_scann"] <= seconds["tfmi_exact"] / 10,
            "latency at most twice that of ScaNN alone": seconds["tfmi_scann"] <= 2 * seconds["scann_alone"],
        },
    )


if __name__ == "__main__":
    main()
