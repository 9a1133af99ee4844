"""How much of the exact answer an index finds."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import tensorflow as tf

QUERIES_PER_SEARCH = 256


class Searches(Protocol):
    """An index, or whatever else finds the best of something."""

    def search(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores float32 [M, k] and item indices int32 [M, k] of queries [M, ...]; 0 where there is none."""


def measure_recall(index: Searches, exact: Searches, queries: np.ndarray | tf.Tensor, k: int) -> float:
    """Mean share of the exact best ``k`` items of ``queries`` [M, ...] that ``index`` has among its best ``k``.

    Raises:
        ValueError: There are no queries.
    """
    queries = tf.convert_to_tensor(queries)
    if queries.dtype.is_floating:
        queries = tf.cast(queries, tf.float32)
    num_queries = int(queries.shape[0])
    if not num_queries:
        raise ValueError("recall of an index needs at least one query")
    shares: list[np.ndarray] = []
    for start in range(0, num_queries, QUERIES_PER_SEARCH):
        batch = queries[start : start + QUERIES_PER_SEARCH]
        found = index.search(batch, k)[1].numpy()
        wanted = exact.search(batch, k)[1].numpy()
        shares.append(_share_found(found, wanted))
    return float(np.concatenate(shares).mean())


def _share_found(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """float64 [M]: share of the real items of ``wanted`` [M, k] that stand in the same row of ``found`` [M, k]."""
    hits = [np.isin(wanted_row[wanted_row > 0], found_row).mean() for found_row, wanted_row in zip(found, wanted, strict=True)]
    return np.array(hits)
