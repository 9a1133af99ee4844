"""How certain a mean over users is: bootstrap over the users, intervals, paired differences and several of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfmi.core.files import file_appears_complete

RESAMPLES = 1000
LEVEL = 0.95


class Difference(NamedTuple):
    """A difference of two systems' means over the same users.

    Attributes:
        mean: The first's mean less the second's.
        low, high: The interval of ``LEVEL`` around it.
        p_value: Two-sided: how often resampled users would tell the two apart as clearly, if there were no difference.
    """

    mean: float
    low: float
    high: float
    p_value: float


def bootstrap_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means over users drawn with replacement, as many as there are: float64 [resamples, M] of ``values`` [U, M].

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 1979.
    """
    random = np.random.default_rng(seed)
    users = len(values)
    means = np.empty([resamples, values.shape[1]])
    for row in means:
        row[:] = np.bincount(random.integers(users, size=users), minlength=users) @ values / users
    return means


def bootstrap_intervals(
    per_user: Mapping[str, np.ndarray], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, list[float]]:
    """The percentile interval ``[low, high]`` of each metric's mean, of values [U] by name; empty where there is no user."""
    names = list(per_user)
    if not names or not len(per_user[names[0]]):
        return {}
    means = bootstrap_means(np.stack([per_user[name] for name in names], axis=1), resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: [float(low[place]), float(high[place])] for place, name in enumerate(names)}


def ratio_intervals(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, list[float]]:
    """The percentile interval of each ratio of two sums over the same users, such as a loss over rows: users are drawn, with all that is
    theirs. ``parts`` are numerators and denominators [U] by name; a ratio that drawn users leave without a denominator is left out."""
    names = list(parts)
    if not names or not len(parts[names[0]][0]):
        return {}
    stacked = np.stack([part for name in names for part in parts[name]], axis=1)
    sums = bootstrap_means(stacked, resamples, seed)
    intervals = {}
    for place, name in enumerate(names):
        above, below = sums[:, 2 * place], sums[:, 2 * place + 1]
        if (below > 0).all():
            low, high = np.quantile(above / below, [(1 - level) / 2, (1 + level) / 2])
            intervals[name] = [float(low), float(high)]
    return intervals


def auc_interval(
    users: np.ndarray, labels: np.ndarray, scores: np.ndarray, *, level: float = LEVEL, resamples: int = 200, seed: int = 0
) -> list[float] | None:
    """The percentile interval of the AUC of rows [n] whose ``users`` are drawn with all of their rows; None where a draw has one class."""
    _, user = np.unique(users, return_inverse=True)
    order = np.argsort(scores, kind="stable")
    user, positive, ordered = user[order], np.asarray(labels)[order] > 0, np.asarray(scores)[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))  # equal scores are half in order
    random, num_users = np.random.default_rng(seed), int(user.max()) + 1
    values = np.empty(resamples)
    for place in range(resamples):
        weights = np.bincount(random.integers(num_users, size=num_users), minlength=num_users)[user].astype(np.float64)
        above = np.add.reduceat(weights * positive, starts)
        below = np.add.reduceat(weights * ~positive, starts)
        pairs = above.sum() * below.sum()
        if not pairs:
            return None
        values[place] = (above * (np.cumsum(below) - below / 2)).sum() / pairs
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def paired_difference(
    first: np.ndarray, second: np.ndarray, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Compare two systems on the same users, [U] each: a bootstrap of the users' own differences.

    Raises:
        ValueError: The two are not of the same users.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"expected the values of the same users, at least one, got {first.shape} and {second.shape}")
    each = (first - second)[:, None]
    mean = float(each.mean())
    means = bootstrap_means(each, resamples, seed)[:, 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    # Of means around no difference, those at least as far away; the 1 stands for what was seen.
    as_far = np.count_nonzero(np.abs(means - mean) >= abs(mean)) if mean else resamples
    return Difference(mean, float(low), float(high), (1 + as_far) / (1 + resamples))


def write_user_metrics(path: Path, per_user: Mapping[str, np.ndarray]) -> None:
    """Store the metrics of each user, values [U] by name, for ``read_user_metrics``."""
    stored: dict[str, Any] = {name: values.astype(np.float32) for name, values in per_user.items()}
    with file_appears_complete(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **stored)


def read_user_metrics(path: Path) -> dict[str, np.ndarray]:
    """What ``write_user_metrics`` has stored, float64 [U] by name."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float64) for name in stored.files}


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, corrected so that any of them is wrong no more often than one alone.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors), 1.0)
    result = np.empty(len(p_values))
    result[order] = corrected
    return [float(value) for value in result]


def differences_from(reference: np.ndarray, others: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """Each of ``others`` less ``reference``, user by user, [U] each, with p-values corrected for as many comparisons (``holm``)."""
    found = {name: paired_difference(values, reference) for name, values in others.items()}
    corrected = holm([each.p_value for each in found.values()])
    return {name: each._replace(p_value=p_value) for (name, each), p_value in zip(found.items(), corrected, strict=True)}
