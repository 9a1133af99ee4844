"""How far item vectors moved between two versions.

Two trainings give spaces that are turned against each other, so that the same item's two vectors say nothing by themselves. What stays
comparable is who is near whom, and the vectors after the rotation that fits best (orthogonal Procrustes; Schönemann, 1966).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmi.data.dataset import FIRST_INDEX
from tfmi.export.exported_model import ExportedModel

MOST_MOVED = 10


def vector_drift(old: ExportedModel, new: ExportedModel, *, neighbours: int = 20, sample: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Compare the item vectors of two versions.

    Args:
        old, new: Exported models with an index.
        neighbours: How many nearest items, by cosine among the items that both know, are compared.
        sample: Of how many items, drawn once and for all.
        seed: Of the draw.

    Returns:
        Counts of items in both, new and gone; the mean overlap of neighbours; the mean cosine after the best rotation, where both
        versions are of one width; the items that moved most.
    """
    old_ids, new_ids = old.item_ids(), new.item_ids()
    places = {identifier: place for place, identifier in enumerate(new_ids)}
    common = [(place, places[identifier]) for place, identifier in enumerate(old_ids) if identifier in places]
    drift: dict[str, Any] = {"both": len(common), "new": len(new_ids) - len(common), "gone": len(old_ids) - len(common)}
    if len(common) < 2:
        return drift
    rows = np.array(common)
    before = _unit(old.item_vectors()[FIRST_INDEX:][rows[:, 0]])
    after = _unit(new.item_vectors()[FIRST_INDEX:][rows[:, 1]])
    chosen = np.sort(np.random.default_rng(seed).permutation(len(common))[:sample])
    shares = neighbour_overlap(before, after, chosen, min(neighbours, len(common) - 1))
    drift |= {"neighbours": neighbours, "neighbour_overlap": float(shares.mean())}
    moved = np.argsort(shares, kind="stable")[:MOST_MOVED]
    drift["moved_most"] = [{"item": old_ids[rows[chosen[place], 0]], "neighbour_overlap": float(shares[place])} for place in moved]
    if before.shape[1] == after.shape[1]:
        drift["cosine_after_rotation"] = float((best_rotation(before, after) * after).sum(axis=1).mean())
    return drift


def neighbour_overlap(before: np.ndarray, after: np.ndarray, chosen: np.ndarray, count: int) -> np.ndarray:
    """float64 [chosen]: the share of the ``count`` nearest rows in ``before`` that are nearest in ``after``, too; unit vectors [N, d]."""
    first, second = _nearest(before, chosen, count), _nearest(after, chosen, count)
    return np.array([len(np.intersect1d(a, b)) / count for a, b in zip(first, second, strict=True)])


def best_rotation(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """``before`` [N, d] turned by the orthogonal matrix that brings it nearest to ``after`` [N, d]."""
    left, _, right = np.linalg.svd(before.T @ after)
    turned: np.ndarray = before @ (left @ right)
    return turned


def _nearest(vectors: np.ndarray, chosen: np.ndarray, count: int) -> np.ndarray:
    scores = vectors[chosen] @ vectors.T
    scores[np.arange(len(chosen)), chosen] = -np.inf
    return np.argpartition(-scores, count - 1, axis=1)[:, :count]


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float64)
