"""How two versions' answers to the same users differ."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmi.rollout.requests import KnownUser
from tfmi.rollout.sides import Answer, Side


def overlap(old: Sequence[Answer], new: Sequence[Answer], cutoff: int) -> np.ndarray:
    """float64 [U]: the share of the old version's best ``cutoff`` items that is among the new version's.

    1 where the old version has no answer.
    """
    shares = []
    for before, after in zip(old, new, strict=True):
        best = set(before.items[:cutoff])
        shares.append(len(best & set(after.items[:cutoff])) / len(best) if best else 1.0)
    return np.array(shares)


def score_shift(old: Sequence[Answer], new: Sequence[Answer]) -> dict[str, float]:
    """How the scores of items changed that both versions recommend to a user: the mean change, and the mean size of a change.

    Both are in units of the old scores' standard deviation, so that versions with other temperatures compare.
    """
    before: list[float] = []
    after: list[float] = []
    for first, second in zip(old, new, strict=True):
        scores = dict(zip(second.items, second.scores, strict=True))
        pairs = [(score, scores[item]) for item, score in zip(first.items, first.scores, strict=True) if item in scores]
        before += [pair[0] for pair in pairs]
        after += [pair[1] for pair in pairs]
    if not before:
        return {"mean": float("nan"), "size": float("nan"), "items": 0}
    change = np.array(after) - np.array(before)
    scale = float(np.std([score for answer in old for score in answer.scores])) or 1.0
    return {"mean": float(change.mean() / scale), "size": float(np.abs(change).mean() / scale), "items": len(change)}


def category_shares(answers: Sequence[Answer], categories: Mapping[str, str], cutoff: int) -> dict[str, float]:
    """The share of each category among the best ``cutoff`` items of all users; items of no category are left out."""
    counts = Counter(categories[item] for answer in answers for item in answer.items[:cutoff] if categories.get(item))
    total = counts.total()
    return {name: count / total for name, count in counts.most_common()}


def category_shift(old: Mapping[str, float], new: Mapping[str, float]) -> float:
    """The total variation distance of two distributions of categories: 0 the same, 1 nothing in common."""
    return 0.5 * sum(abs(old.get(name, 0.0) - new.get(name, 0.0)) for name in {*old, *new})


def latency(old: Side, new: Side, users: Sequence[KnownUser], requests: int) -> dict[str, Any]:
    """Milliseconds of requests for one user each, the versions taking turns; the ratio is that of the medians."""
    took: list[list[float]] = [[], []]
    for number in range(requests):
        user = users[number % len(users)]
        for place, side in enumerate((old, new)):
            started = time.perf_counter()
            side.answer([user])
            took[place].append(1e3 * (time.perf_counter() - started))
    described = [{"p50": float(np.percentile(each, 50)), "p99": float(np.percentile(each, 99))} for each in took]
    return {"requests": requests, "old": described[0], "new": described[1], "ratio": described[1]["p50"] / described[0]["p50"]}
