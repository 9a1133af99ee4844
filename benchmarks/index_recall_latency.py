"""One request against a million items: recall and latency of every kind of index, beside exact search and beside ScaNN alone.

The request has K interests and asks for n items: one batched search, merging, exclusions and selection, compiled into one function as in
the servable. "scann_alone" is ScaNN's own op with the same parameters on the same K vectors, and nothing after it. As at an
export, the approximate kinds search as far as the target recall needs. Contenders take turns of ``--in-a-row`` requests of different users,
as a busy server answers them. With one thread, times and ratios are those of processor time, which other work on the machine disturbs
little; "by_the_clock" is beside them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from benchmarks.common import benchmark_arguments, limit_threads, median_processor_seconds, median_seconds, report
from tfmi.data.dataset import FIRST_INDEX
from tfmi.export.exported_model import ExportedModel
from tfmi.export.publishing import newest_version
from tfmi.index.base import InterestIndex
from tfmi.index.build import build_index
from tfmi.index.recall import RecallProbe
from tfmi.index.scann import ScannIndex
from tfmi.index.selection import select
from tfmi.index.sources import InterestCandidates
from tfmi.index.widening import widen_search
from tfmi.models.recommender import UserInputs

TUNING_QUERIES = 512
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

    def answer(interests: tf.Tensor) -> tf.Tensor:
        nothing = tf.zeros([tf.shape(interests)[0], 1], tf.int32)
        candidates = source.candidates(UserInputs(nothing, {"interests": interests}), n)
        return select(candidates, n, exclude=nothing).items

    return tf.function(answer, autograph=False).get_concrete_function(tf.TensorSpec([None, None, index.dimension]))


def search_alone(index: ScannIndex, n: int) -> Request:
    """A compiled call of ScaNN's op: interests [1, K, d] to positions [K, n], with the parameters that ``index`` searches with."""

    def answer(interests: tf.Tensor) -> tf.Tensor:
        return index.search_scann(interests[0], n)[0]

    return tf.function(answer, autograph=False).get_concrete_function(tf.TensorSpec([None, None, index.dimension]))


def repeated_with_noise(model: Path, num_items: int, random: np.random.Generator) -> np.ndarray:
    """The item vectors [num_items + 2, d] of an exported model, each repeated as a cloud around itself."""
    own = ExportedModel(newest_version(model)).item_vectors()[FIRST_INDEX:]
    repeats = np.resize(np.arange(len(own)), num_items)
    noise = random.standard_normal((num_items, own.shape[1]), dtype=np.float32)
    lengths = np.linalg.norm(own, axis=1)[repeats, None]
    moved = unit_length(own[repeats] / np.maximum(lengths, 1e-9) + 0.5 * unit_length(noise)) * lengths
    return np.concatenate([np.zeros((FIRST_INDEX, own.shape[1]), np.float32), moved]).astype(np.float32)


def megabytes(index: InterestIndex) -> float:
    """Of the variables, which is what the index adds to a SavedModel."""
    return sum(variable.numpy().nbytes for variable in index.variables if variable.dtype != tf.string) / 1e6


def main() -> None:
    """Build, measure, report."""
    parser = benchmark_arguments(__doc__ or "", repeats=300)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--interests", type=int, default=4, help="K")
    parser.add_argument("--results", type=int, default=100, help="n")
    parser.add_argument("--in-a-row", type=int, default=10, help="requests of a kind of index before the next one has its turn")
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 64], help="users at once, measured a tenth as often as one user")
    parser.add_argument("--target-recall", type=float, default=0.97, help="of single interests; see index.target_recall")
    parser.add_argument("--model", type=Path, metavar="DIR", help="an exported model whose item vectors, repeated with noise, are taken")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    random = np.random.default_rng(arguments.seed)
    if arguments.model is None:
        item_vectors = clustered_items(arguments.items, arguments.dimension, random)
    else:
        item_vectors = repeated_with_noise(arguments.model, arguments.items, random)
    dimension = item_vectors.shape[1]
    num_users = max(arguments.repeats, *arguments.batches, 1)
    users = tf.constant(interests_near_items(item_vectors, num_users, arguments.interests, random))
    kinds: dict[str, InterestIndex] = {}
    build_seconds = {}
    for kind in ("exact", "scann", "partitioned"):
        print(f"building the index {kind} of {arguments.items:,} items ...", flush=True)
        start = time.perf_counter()
        kinds[kind] = build_index(kind, item_vectors)
        build_seconds[kind] = round(time.perf_counter() - start, 1)
    # Other users' interests than those that are measured: an export, too, widens on some users and answers others.
    held_out = interests_near_items(item_vectors, TUNING_QUERIES, 1, random)[:, 0]
    probe = RecallProbe(kinds["exact"], held_out, arguments.results)
    for kind in ("scann", "partitioned"):
        widen_search(kinds[kind], probe, arguments.target_recall)
        print(f"parameters: {kinds[kind].parameters()}", flush=True)
    requests = {kind: request_through(index, arguments.results) for kind, index in kinds.items()}
    scann = kinds["scann"]
    alone = search_alone(scann, arguments.results)
    user = [users[i : i + 1] for i in range(num_users)]
    contenders = {f"tfmi_{kind}": _caller(request, user) for kind, request in requests.items()}
    contenders["scann_alone"] = _caller(alone, user)
    turns = max(3, arguments.repeats // arguments.in_a_row)
    by_the_clock = median_seconds(contenders, turns, in_a_row=arguments.in_a_row)
    seconds = median_processor_seconds(contenders, turns, in_a_row=arguments.in_a_row) if arguments.threads == 1 else by_the_clock
    answers = {kind: np.concatenate([request(one) for one in user]) for kind, request in requests.items()}
    recall = {kind: _share_found(answers[kind], answers["exact"]) for kind in ("scann", "partitioned")}
    per_interest = {kind: probe.recall(kinds[kind]) for kind in ("scann", "partitioned")}
    of_batches = {}
    measure_batch = median_processor_seconds if arguments.threads == 1 else median_seconds
    for size in arguments.batches:
        batch = [users[:size]]
        runs = max(3, arguments.repeats // 10)
        of_batches[size] = measure_batch({f"tfmi_{kind}": _caller(request, batch) for kind, request in requests.items()}, runs, warm_up=2)
    partitioned = {
        "parameters": kinds["partitioned"].parameters(),
        "recall": round(recall["partitioned"], 4),
        "recall_of_single_interests": round(per_interest["partitioned"], 4),
        "share_of_exact": round(seconds["tfmi_partitioned"] / seconds["tfmi_exact"], 4),
        "times_scann": round(seconds["tfmi_partitioned"] / seconds["tfmi_scann"], 3),
    }
    report(
        "index_recall_latency",
        {
            "vectors": "clustered" if arguments.model is None else f"of {arguments.model}, repeated with noise",
            "items": arguments.items,
            "dimension": dimension,
            "interests": arguments.interests,
            "results": arguments.results,
            "threads": arguments.threads,
            "in_a_row": arguments.in_a_row,
            "parameters": kinds["scann"].parameters(),
            "recall": round(recall["scann"], 4),
            "recall_of_single_interests": round(per_interest["scann"], 4),
            "share_of_exact": round(seconds["tfmi_scann"] / seconds["tfmi_exact"], 4),
            "times_scann_alone": round(seconds["tfmi_scann"] / seconds["scann_alone"], 3),
            "partitioned": partitioned,
            "milliseconds": _rounded({name: 1e3 * value for name, value in seconds.items()}, 3),
            "milliseconds_by_the_clock": _rounded({name: 1e3 * value for name, value in by_the_clock.items()}, 3),
            "milliseconds_of_batches": {size: _rounded({k: 1e3 * v for k, v in each.items()}, 2) for size, each in of_batches.items()},
            "build_seconds": build_seconds,
            "megabytes": {kind: round(megabytes(index), 1) for kind, index in kinds.items()},
        },
        {
            "recall at least 0.95": recall["scann"] >= 0.95,
            "latency at most a tenth of exact": seconds["tfmi_scann"] <= seconds["tfmi_exact"] / 10,
            "latency at most 1.4 times that of ScaNN alone": seconds["tfmi_scann"] <= 1.4 * seconds["scann_alone"],
            "partitioned: recall at least 0.95": recall["partitioned"] >= 0.95,
            "partitioned: latency at most 0.08 of exact": seconds["tfmi_partitioned"] <= 0.08 * seconds["tfmi_exact"],
            "partitioned: latency at most 2.5 times scann": seconds["tfmi_partitioned"] <= 2.5 * seconds["tfmi_scann"],
        },
    )


def _caller(request: Request, users: list[tf.Tensor]) -> Callable[[int], object]:
    return lambda run: request(users[run % len(users)]).numpy()


def _share_found(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([np.isin(w, f).mean() for w, f in zip(wanted, found, strict=True)]))


def _rounded(values: Mapping[str, float], digits: int = 4) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items()}


if __name__ == "__main__":
    main()
