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
