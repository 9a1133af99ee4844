"""First-order Markov chain: what followed the newest item in training."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.data.cooccurrence import NeighbourLists
from tfmi.data.dataset import FIRST_INDEX, Sequences
from tfmi.models.heuristics.heuristic import HEURISTICS
from tfmi.models.heuristics.neighbours import NeighbourModel


def successor_lists(sequences: Sequences, num_rows: int) -> NeighbourLists:
    """Each item's successors by the share of its transitions that led to them, ties by which was seen first; an item may follow itself."""
    items = sequences.items.astype(np.int64)
    rows = np.repeat(np.arange(len(sequences)), sequences.lengths())
    adjacent = (rows[:-1] == rows[1:]) & (items[:-1] >= FIRST_INDEX) & (items[1:] >= FIRST_INDEX)
    keys, first_seen, counts = np.unique((items[:-1] * num_rows + items[1:])[adjacent], return_index=True, return_counts=True)
    before, after = keys // num_rows, keys % num_rows
    order = np.lexsort((first_seen, -counts, before))
    totals = np.bincount(before, weights=counts, minlength=num_rows)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(before, minlength=num_rows))]).astype(np.int64)
    return NeighbourLists(offsets, after[order].astype(np.int32), (counts / totals[before])[order].astype(np.float32))


@HEURISTICS.register("markov_chain")
class MarkovChain(NeighbourModel):
    """Scores an item by how often it came right after the newest item in training.

        score(j) = n(i, j) / sum over j' of n(i, j'),  i the newest item, n(i, j) how often j came right after i

    An item may follow itself. Items that never followed the newest one come after by popularity, with scores in [-1, 0). This is the
    maximum-likelihood chain that factorised ones smooth (Rendle et al., WWW 2010, FPMC).
    """

    def __init__(self) -> None:
        super().__init__(name="markov_chain")

    def _lists(self, sequences: Sequences) -> NeighbourLists:
        return successor_lists(sequences, self.num_rows)

    def _weights(self, items: tf.Tensor, ages: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        del items
        return tf.cast(counted & (ages == 0), tf.float32)
