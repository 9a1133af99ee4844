"""Ranking metrics over recommended lists, vectorised in NumPy (Cen et al., KDD 2020, evaluation metrics).

Shapes: U users, W recommended items per user, best first, 0 where a list is shorter. Targets are ragged: one row of item indices per
user. A list's items are distinct; a user's targets may repeat. As in ComiRec's protocol |targets| counts repeats, while an item that
is hit counts once. A target that no recommender can name (index 1, unknown) is a target missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from tfmi.core.errors import DataError
from tfmi.data.dataset import FIRST_INDEX, Sequences

NdcgIdeal = Literal["targets", "hits"]

# Metrics of which less is better; of all others more is.
LOWER_IS_BETTER = frozenset({"log_loss", "calibration_error"})


def ranking_metrics(
    recommended: np.ndarray,
    targets: Sequences,
    *,
    cutoffs: Sequence[int],
    num_rows: int,
    categories: np.ndarray | None = None,
    ndcg_ideal: NdcgIdeal = "targets",
) -> dict[str, float]:
    """Mean metrics of all users that have a target.

    Args:
        recommended: int32 [U, W] with W of at least the largest cutoff.
        targets: U rows.
        cutoffs: The Ns.
        num_rows: Rows of the item table, padding and unknown included.
        categories: int32 [num_rows] category of each item, 0 unknown; None leaves diversity out.
        ndcg_ideal: See ``per_user_metrics``.

    Returns:
        ``{"recall@20": ..., "hr@20": ..., "ndcg@20": ..., "mrr@20": ..., "precision@20": ..., "coverage@20": ..., "diversity@20": ...}``
        for each cutoff. Coverage is the share of the catalogue that is recommended to anybody. Diversity is the mean over the users
        with at least two recommended items, 0 if there are none.

    Raises:
        DataError: No user has a target.
    """
    has_target = targets.lengths() > 0
    if not has_target.any():
        raise DataError("evaluation needs at least one user with a target, but there is none; use more data or another data.split")
    metrics = {
        name: float(values[has_target].mean()) for name, values in per_user_metrics(recommended, targets, cutoffs, ndcg_ideal).items()
    }
    for cutoff in cutoffs:
        metrics[f"coverage@{cutoff}"] = catalogue_coverage(recommended[has_target, :cutoff], num_rows)
        if categories is not None:
            diversity = category_diversity(recommended[has_target, :cutoff], categories)
            metrics[f"diversity@{cutoff}"] = 0.0 if np.isnan(diversity).all() else float(np.nanmean(diversity))
    return metrics


def per_user_metrics(
    recommended: np.ndarray, targets: Sequences, cutoffs: Sequence[int], ndcg_ideal: NdcgIdeal = "targets"
) -> dict[str, np.ndarray]:
    """Metrics of each user, float64 [U] by name such as "recall@20", for averages over slices of the users.

    With hits the recommended items among the first N that are targets:

    - recall: hits / |targets|; hr: whether there is a hit; precision: hits / N; mrr: 1 / rank of the first hit, 0 without;
    - ndcg: sum of 1 / log2(1 + rank) over the hits, divided by that of the ideal list. The ideal list starts with min(N, |targets|)
      hits (``ndcg_ideal="targets"``, the standard), or with as many hits as there are ("hits", as ComiRec's published code computes
      it, which is larger).

    All are 0 for a user without targets.

    Raises:
        ValueError: The lists are shorter than a cutoff, or not one per row of targets.
    """
    if len(recommended) != len(targets):
        raise ValueError(f"expected one list for each of the {len(targets)} rows of targets, got {len(recommended)}")
    if recommended.shape[1] < max(cutoffs):
        raise ValueError(f"metrics @{max(cutoffs)} need lists of {max(cutoffs)} items, got {recommended.shape[1]}")
    hits = (recommended >= FIRST_INDEX) & is_in_row(recommended, targets)  # [U, W]
    num_targets = np.maximum(targets.lengths(), 1)
    ranks = np.arange(1, recommended.shape[1] + 1)
    discounts = 1.0 / np.log2(1 + ranks)  # [W]
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])  # ideal[m]: gain of a list that starts with m hits
    metrics: dict[str, np.ndarray] = {}
    for cutoff in cutoffs:
        hits_at = hits[:, :cutoff]
        num_hits = hits_at.sum(axis=1)
        ideal_hits = np.minimum(cutoff, num_targets) if ndcg_ideal == "targets" else num_hits
        gain = hits_at @ discounts[:cutoff]
        metrics[f"recall@{cutoff}"] = num_hits / num_targets
        metrics[f"hr@{cutoff}"] = (num_hits > 0).astype(np.float64)
        metrics[f"ndcg@{cutoff}"] = np.divide(gain, ideal[ideal_hits], out=np.zeros(len(gain)), where=ideal_hits > 0)
        metrics[f"mrr@{cutoff}"] = (hits_at / ranks[:cutoff]).max(axis=1, initial=0.0)
        metrics[f"precision@{cutoff}"] = num_hits / cutoff
    return metrics


def session_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """``metrics`` as papers on sessions report them (Wang et al., SIGIR 2020, evaluation metrics): p@N, which is hr@N, and mrr@N."""
    names = {"hr": "p", "mrr": "mrr"}
    parts = [(*name.partition("@"), value) for name, value in metrics.items()]
    return {f"{names[metric]}@{cutoff}": value for metric, _, cutoff, value in parts if metric in names}


def catalogue_coverage(recommended: np.ndarray, num_rows: int) -> float:
    """Share of the catalogue's items that stand in any of the lists [U, W]."""
    return float((np.unique(recommended) >= FIRST_INDEX).sum() / (num_rows - FIRST_INDEX))


def category_diversity(recommended: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Share of the unordered pairs of recommended items with different categories, float64 [U]; NaN for lists of fewer than two.

    An unknown category (0) differs from every other, other unknown ones included.
    """
    real = recommended >= FIRST_INDEX
    category = np.where(real, categories[recommended], 0)
    # Distinct negative numbers for what shares a category with nothing.
    category = np.where(category > 0, category, -1 - np.arange(recommended.shape[1]))
    pairs_alike = _ranks_in_runs(np.sort(category, axis=1)).sum(axis=1)  # m equal ones have ranks 0 .. m - 1: m (m - 1) / 2 pairs
    length = real.sum(axis=1)
    pairs = length * (length - 1) / 2
    return np.divide(pairs - pairs_alike, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def category_coverage(recommended: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Share of the catalogue's categories that stand in each list, float64 [U]; unknown ones (0) count neither here nor there.

    Raises:
        ValueError: No item has a category.
    """
    num_categories = len(np.unique(categories[FIRST_INDEX:][categories[FIRST_INDEX:] > 0]))
    if not num_categories:
        raise ValueError("expected a catalogue in which at least one item has a category")
    category = np.sort(np.where(recommended >= FIRST_INDEX, categories[recommended], 0), axis=1)
    return ((_ranks_in_runs(category) == 0) & (category > 0)).sum(axis=1) / num_categories


def is_in_row(items: np.ndarray, rows: Sequences) -> np.ndarray:
    """bool [U, W]: whether each of ``items`` [U, W] stands in the row of ``rows`` with the same number."""
    # Row and item in one integer: a single search in a sorted array then answers for all rows.
    stride = int(max(items.max(initial=0), rows.items.max(initial=0))) + 1
    present = np.unique(np.repeat(np.arange(len(rows)), rows.lengths()) * stride + rows.items)
    wanted = np.arange(len(items))[:, None] * stride + items
    return np.isin(wanted, present)


def _ranks_in_runs(values: np.ndarray) -> np.ndarray:
    """int [U, W]: for rows sorted so that equals are neighbours, how many equals stand before each value."""
    positions = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    starts_run = np.ones(values.shape, dtype=bool)
    starts_run[:, 1:] = values[:, 1:] != values[:, :-1]
    return positions - np.maximum.accumulate(np.where(starts_run, positions, 0), axis=1)
