"""Requests that only some of a catalogue's items may answer: recall and latency by the share of items that fit, for every kind of index.

A request has K interests and asks for n items. What fits is drawn at random, or ("far") the items of the clusters that are far from the
user's own, the worst case for an index that looks near the user first. Recall is the share of the exact filtered answer that is found. With
one thread, times are those of processor time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from benchmarks.common import benchmark_arguments, limit_threads, median_processor_seconds, median_seconds, report
from benchmarks.index_recall_latency import GivenInterests, clustered_items, interests_near_items
from tfmi.data.dataset import FIRST_INDEX
from tfmi.index.build import build_index
from tfmi.index.filters import ItemFilter, ValueCondition
from tfmi.index.sources import InterestCandidates
from tfmi.models.recommender import UserInputs

NOBODY, FITS = 2, 3  # the two values of the column that is filtered by


def compiled(source: InterestCandidates, n: int, num_rows: int, dimension: int, interests: int) -> tf.types.experimental.ConcreteFunction:
    """A request: interests [1, K, d] and each item's value [N + 2, 1] to items [1, n]. Value 0 of the whole column restricts nothing."""

    def answer(users: tf.Tensor, column: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
        inputs = UserInputs(tf.zeros([tf.shape(users)[0], 1], tf.int32), {"interests": users})
        allowed = ItemFilter([ValueCondition(column, FITS + 1, wanted, tf.zeros_like(wanted))], num_rows)
        return source.candidates(inputs, n, allowed=allowed).items

    specs = (
        tf.TensorSpec([None, interests, dimension]),
        tf.TensorSpec([num_rows, 1], tf.int32),
        tf.TensorSpec([None, 1], tf.int32),
    )
    return tf.function(answer, autograph=False).get_concrete_function(*specs)


def columns(items: np.ndarray, user: np.ndarray, shares: list[float], random: np.random.Generator) -> dict[str, np.ndarray]:
    """By name, a column in which a share of the items fits."""
    drawn = random.random(len(items))
    made = {f"{share:.1%}": drawn < share for share in shares}
    score = (items @ user.T).max(axis=1)
    made["far 50.0%"] = score < np.median(score[FIRST_INDEX:])
    return {name: np.where(fits, FITS, NOBODY).astype(np.int32)[:, None] for name, fits in made.items()}


def main() -> None:
    """Build, measure, report."""
    parser = benchmark_arguments(__doc__ or "", repeats=30)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--interests", type=int, default=4, help="K")
    parser.add_argument("--results", type=int, default=100, help="n")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.1, 0.01, 0.001], help="of the items that fit")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    random = np.random.default_rng(arguments.seed)
    items = clustered_items(arguments.items, arguments.dimension, random)
    users = interests_near_items(items, arguments.repeats, arguments.interests, random)
    asked = [columns(items, user, arguments.shares, random) for user in users]
    truth = [
        {name: _best((items @ user.T).max(axis=1), column[:, 0] == FITS, arguments.results) for name, column in each.items()}
        for user, each in zip(users, asked, strict=True)
    ]
    wanted, anything = tf.constant([[FITS]]), tf.constant([[0]])
    recall: dict[str, dict[str, float]] = {}
    milliseconds: dict[str, dict[str, float]] = {}
    for kind in ("exact", "scann", "partitioned"):
        print(f"building the index {kind} ...", flush=True)
        source = InterestCandidates(GivenInterests(len(items)), build_index(kind, items))
        answer = compiled(source, arguments.results, len(items), arguments.dimension, arguments.interests)
        found: dict[str, list[float]] = {name: [] for name in asked[0]}
        for user, each, best in zip(users, asked, truth, strict=True):
            for name, column in each.items():
                items_found = answer(user[None], column, wanted).numpy()[0]
                found[name].append(float(np.isin(best[name], items_found).mean()))
        recall[kind] = {name: round(float(np.mean(values)), 4) for name, values in found.items()}
        contenders = {name: _caller(answer, users, [each[name] for each in asked], wanted) for name in asked[0]}
        contenders["unrestricted"] = _caller(answer, users, [each[next(iter(each))] for each in asked], anything)
        measure = median_processor_seconds if arguments.threads == 1 else median_seconds
        seconds = measure(contenders, arguments.repeats, warm_up=2)
        milliseconds[kind] = {name: round(1e3 * value, 2) for name, value in seconds.items()}
    report(
        "filtered_search",
        {
            "items": arguments.items,
            "dimension": arguments.dimension,
            "interests": arguments.interests,
            "results": arguments.results,
            "threads": arguments.threads,
            "recall": recall,
            "milliseconds": milliseconds,
        },
        {"recall at least 0.95 at every share": min(value for each in recall.values() for value in each.values()) >= 0.95},
    )


def _caller(answer: Callable[..., tf.Tensor], users: np.ndarray, column_of: list[np.ndarray], wanted: tf.Tensor) -> Callable[[int], object]:
    return lambda run: answer(users[run : run + 1], column_of[run], wanted).numpy()


def _best(scores: np.ndarray, fits: np.ndarray, n: int) -> np.ndarray:
    allowed = np.flatnonzero(fits[FIRST_INDEX:]) + FIRST_INDEX
    return allowed[np.argsort(-scores[allowed], kind="stable")[:n]]


if __name__ == "__main__":
    main()
