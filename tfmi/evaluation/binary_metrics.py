"""Metrics of predicted clicks, vectorised in NumPy: how well rows are ordered, and how far probabilities can be trusted.

Shapes: n rows. ``labels`` are 0 or 1; ``scores`` are anything that orders the rows, ``logits`` log-odds, ``probabilities`` in [0, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfmi.core.errors import DataError


class GroupedAuc(NamedTuple):
    """An AUC within groups.

    Attributes:
        value: The mean over the groups by their numbers of rows; NaN if no group counts.
        groups: How many groups count: those with labels of both classes.
    """

    value: float
    groups: int


class ReliabilityBins(NamedTuple):
    """Rows in bins by their predicted probability, empty bins left out.

    Attributes:
        counts: int64 [bins]: rows.
        predicted: float64 [bins]: mean probability.
        observed: float64 [bins]: share of positive labels.
    """

    counts: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The probability that a positive row scores above a negative one, a tie counting half; NaN if all rows are of one class.

    Raises:
        DataError: There is no row.
        ValueError: The arrays are not equally long.
    """
    _check(labels, scores)
    return grouped_auc(np.zeros(len(labels), np.int64), labels, scores).value


def grouped_auc(groups: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> GroupedAuc:
    """AUC within each group, such as a user, where the order of rows matters to somebody; the mean by the groups' numbers of rows.

    Groups of one class have no order to get right, and are left out (GAUC: Zhu et al., KDD 2017; Zhou et al., KDD 2018).

    Args:
        groups: int [n], each row's group.
        labels: [n].
        scores: [n].

    Raises:
        DataError: There is no row.
        ValueError: The arrays are not equally long.
    """
    values, rows = auc_of_each(groups, labels, scores)
    if not len(values):
        return GroupedAuc(float("nan"), 0)
    return GroupedAuc(float(np.average(values, weights=rows)), len(values))


def auc_of_each(groups: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The AUC within each group of both classes, float64 [groups], and their numbers of rows; in the order of the groups' numbers.

    Raises:
        DataError: There is no row.
        ValueError: The arrays are not equally long.
    """
    _check(labels, scores, groups)
    _, group = np.unique(groups, return_inverse=True)
    positive = np.asarray(labels) > 0
    rows = np.bincount(group)
    positives = np.bincount(group, weights=positive)
    pairs = positives * (rows - positives)
    # The positives' ranks within their group, less what they would be among themselves, count the negatives below each (Mann-Whitney).
    rank_sums = np.bincount(group, weights=_ranks_within(group, np.asarray(scores)) * positive)
    counts = pairs > 0
    return (rank_sums - positives * (positives + 1) / 2)[counts] / pairs[counts], rows[counts]


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean cross-entropy in nats, from logits, so that none is too sure to be counted.

    Raises:
        DataError: There is no row.
        ValueError: The arrays are not equally long.
    """
    _check(labels, logits)
    logits = np.asarray(logits, np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - np.asarray(labels) * logits))


def reliability_bins(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10, *, equal_mass: bool = False) -> ReliabilityBins:
    """What is observed where a probability is predicted.

    Args:
        labels: [n].
        probabilities: [n].
        bins: The number of bins.
        equal_mass: Bins of equally many rows instead of equally wide ones: where clicks are rare, nearly all rows fall into the first of
            the latter. Equal probabilities stay together, so that bins may differ in size, or be less.

    Raises:
        DataError: There is no row.
        ValueError: The arrays are not equally long, there is less than one bin, or a probability is not in [0, 1].
    """
    _check(labels, probabilities)
    if bins < 1:
        raise ValueError(f"expected at least one bin, got {bins}")
    probabilities = np.asarray(probabilities, np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("expected probabilities in [0, 1]")
    inner = np.arange(1, bins)
    edges = np.sort(probabilities)[inner * len(probabilities) // bins] if equal_mass else inner / bins
    row_bins = np.searchsorted(edges, probabilities, side="right")
    counts = np.bincount(row_bins, minlength=bins)
    there = counts > 0
    predicted, observed = (
        np.bincount(row_bins, weights=values, minlength=bins)[there] / counts[there] for values in (probabilities, np.asarray(labels))
    )
    return ReliabilityBins(counts[there], predicted, observed)


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Mean over the rows of how far their bin's predicted probability is from what is observed (Naeini et al., AAAI 2015)."""
    return float(np.average(np.abs(bins.predicted - bins.observed), weights=bins.counts))


def click_metrics(labels: np.ndarray, logits: np.ndarray, users: np.ndarray, *, bins: int = 20) -> dict[str, float]:
    """All of the above by name.

    Returns:
        ``auc``; ``gauc``, grouped by user, and ``gauc_users``, how many of them count; ``log_loss``; ``calibration_error`` over bins of
        equal mass; and the means ``predicted_mean`` and ``observed_mean``, which agree where predictions are right on average.

    Raises:
        DataError: There is no row.
        ValueError: The arrays are not equally long.
    """
    grouped = grouped_auc(users, labels, logits)
    probabilities = sigmoid(logits)
    return {
        "auc": auc(labels, logits),
        "gauc": grouped.value,
        "gauc_users": float(grouped.groups),
        "log_loss": log_loss(labels, logits),
        "calibration_error": expected_calibration_error(reliability_bins(labels, probabilities, bins, equal_mass=True)),
        "predicted_mean": float(probabilities.mean()),
        "observed_mean": float(np.mean(labels)),
    }


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float64 [n]: probabilities of log-odds, without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64)))


def _ranks_within(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """float64 [n]: each row's rank in its group by rising score, from 1 on; equal scores share the mean of their ranks."""
    order = np.lexsort((scores, groups))
    groups, scores = groups[order], scores[order]
    new_group = np.concatenate([[True], groups[1:] != groups[:-1]])
    new_run = new_group | np.concatenate([[True], scores[1:] != scores[:-1]])
    positions = np.arange(len(order))
    starts = np.flatnonzero(new_run)
    ends = np.concatenate([starts[1:], [len(order)]])
    run = np.cumsum(new_run) - 1
    group_start = positions[new_group][np.cumsum(new_group) - 1]
    ranks = np.empty(len(order))
    ranks[order] = (starts[run] + 1 + ends[run]) / 2 - group_start
    return ranks


def _check(labels: np.ndarray, *others: np.ndarray) -> None:
    if any(len(other) != len(labels) for other in others):
        raise ValueError(f"expected arrays of one length, got {', '.join(str(len(values)) for values in (labels, *others))}")
    if not len(labels):
        raise DataError("evaluation needs at least one row, but there is none")
