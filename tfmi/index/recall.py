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


class RecallProbe:
    """Measures how much of the exact answers to the same queries various searches find; the exact search runs once.

    Args:
        exact: The truth.
        queries: [M, ...], at least one.
        k: Results per query.

    Raises:
        ValueError: There are no queries.
    """

    def __init__(self, exact: Searches, queries: np.ndarray | tf.Tensor, k: int) -> None:
        queries = tf.convert_to_tensor(queries)
        if queries.dtype.is_floating:
            queries = tf.cast(queries, tf.float32)
        if not int(queries.shape[0]):
            raise ValueError("recall of an index needs at least one query")
        self._queries, self.k = queries, k
        self._wanted = [exact.search(batch, k)[1].numpy() for batch in self._batches()]

    @property
    def num_queries(self) -> int:
        """M."""
        return int(self._queries.shape[0])

    def recall(self, search: Searches) -> float:
        """Mean share of the exact best ``k`` items of a query that ``search`` has among its best ``k``."""
        found = [search.search(batch, self.k)[1].numpy() for batch in self._batches()]
        return float(np.concatenate([_share_found(*pair) for pair in zip(found, self._wanted, strict=True)]).mean())

    def _batches(self) -> list[tf.Tensor]:
        return [self._queries[start : start + QUERIES_PER_SEARCH] for start in range(0, self.num_queries, QUERIES_PER_SEARCH)]


def measure_recall(index: Searches, exact: Searches, queries: np.ndarray | tf.Tensor, k: int) -> float:
    """``RecallProbe`` for one search."""
    return RecallProbe(exact, queries, k).recall(index)


def _share_found(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """float64 [M]: share of the real items of ``wanted`` [M, k] that stand in the same row of ``found`` [M, k]."""
    hits = [np.isin(wanted_row[wanted_row > 0], found_row).mean() for found_row, wanted_row in zip(found, wanted, strict=True)]
    return np.array(hits)
