"""Which items stand together in users' histories, by how much more than chance: the counting behind item-KNN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse

from tfmi.data.dataset import FIRST_INDEX, Sequences

# Co-occurring pairs, repeats included, that are counted at a time: bounds memory to some hundred megabytes.
PAIRS_PER_BLOCK = 10_000_000


class NeighbourLists(NamedTuple):
    """The neighbours of every item, nearest first: those of item i are at ``offsets[i]:offsets[i + 1]``.

    Attributes:
        offsets: int64 [num_rows + 1].
        items: int32 [neighbours of all items].
        similarities: float32, likewise.
    """

    offsets: np.ndarray
    items: np.ndarray
    similarities: np.ndarray


def item_sets(sequences: Sequences, num_rows: int) -> scipy.sparse.csr_array:
    """float32 [sequences, num_rows]: 1 where a sequence holds a real item, however often."""
    rows = np.repeat(np.arange(len(sequences)), sequences.lengths())
    real = sequences.items >= FIRST_INDEX
    ones = np.ones(int(real.sum()), dtype=np.float32)
    sets = scipy.sparse.coo_array((ones, (rows[real], sequences.items[real])), shape=(len(sequences), num_rows)).tocsr()
    sets.sum_duplicates()
    sets.data[:] = 1.0
    return sets


def nearest_neighbours(
    sets: scipy.sparse.csr_array, limit: int | None, shrink: float, power: float = 0.5, pairs_per_block: int = PAIRS_PER_BLOCK
) -> NeighbourLists:
    """Similarity of items by the sets that hold them (Sarwar et al., WWW 2001; shrinkage as in RecBole's ItemKNN).

        similarity(i, j) = co(i, j) / ((n_i n_j)^power + shrink + 1e-6),  i != j

    Counted for a block of items at a time, so that memory holds the kept neighbours and one block of pairs, never all pairs.

    Args:
        sets: 0/1 matrix [sets, num_rows], e.g. from ``item_sets``.
        limit: Neighbours kept per item, the nearest, ties by lower index; None keeps all.
        shrink: Lowers the similarity of rare items.
        power: 0.5 is the cosine, 0 the count of sets that hold both: the larger, the less frequent items are alike.
        pairs_per_block: Upper bound of the pairs counted at a time; a single item may exceed it.
    """
    counts = np.asarray(sets.sum(axis=0)).ravel()
    holders = sets.T.tocsr()  # [num_rows, sets]
    degrees, items, similarities = [], [], []
    for start, stop in _blocks(holders @ np.diff(sets.indptr).astype(np.float64), pairs_per_block):
        pairs = (holders[start:stop] @ sets).tocoo()
        own, others = pairs.row.astype(np.int64) + start, pairs.col
        values = pairs.data / ((counts[own].astype(np.float64) * counts[others]) ** power + shrink + 1e-6)
        order = np.lexsort((others, -values, own))
        order = order[own[order] != others[order]]
        row_degrees = np.bincount(own[order] - start, minlength=stop - start)
        place_in_row = np.arange(len(order)) - np.repeat(np.cumsum(row_degrees) - row_degrees, row_degrees)
        if limit is not None:
            order = order[place_in_row < limit]
            row_degrees = np.minimum(row_degrees, limit)
        degrees.append(row_degrees)
        items.append(others[order].astype(np.int32))
        similarities.append(values[order].astype(np.float32))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(degrees))]).astype(np.int64)
    return NeighbourLists(offsets, np.concatenate(items), np.concatenate(similarities))


def _blocks(pairs_per_item: np.ndarray, pairs_per_block: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of items with at most ``pairs_per_block`` pairs each, or a single item."""
    totals = np.cumsum(pairs_per_item)
    start = 0
    while start < len(totals):
        before = totals[start - 1] if start else 0.0
        stop = max(start + 1, int(np.searchsorted(totals, before + pairs_per_block, side="right")))
        yield start, stop
        start = stop
