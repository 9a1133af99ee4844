"""How much of the exact answer an index finds."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.index.base import InterestIndex

QUERIES_PER_SEARCH = 256


def measure_recall(index: InterestIndex, exact: InterestIndex, queries: np.ndarray | tf.Tensor, k: int) -> float:
    """Mean share of the exact best ``k`` items of ``queries`` [M, d] that ``index`` has among its best ``k``.

    Raises:
        ValueError: There are no queries.
    """
    queries = tf.convert_to_tensor(queries, tf.float32)
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
