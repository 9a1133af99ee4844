"""Ranking by lists of neighbours: what heuristic models share that score an item by the lists in which it stands."""

from __future__ import annotations

import abc

import numpy as np
import tensorflow as tf

from tfmi.data.cooccurrence import NeighbourLists
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, Sequences
from tfmi.models.heuristics.heuristic import HeuristicModel, constant_table, newest_first, padded_top_k, rank_by_popularity


class NeighbourModel(HeuristicModel):
    """Scores an item by a weighted sum over the user's items of the strengths with which it is their neighbour.

    Items that no history item has as a neighbour follow by popularity, with scores in [-1, 0), below every neighbour. Only neighbours are
    looked at, so the cost of a request follows from the length of their lists, not from the catalogue's size.
    """

    TABLES = ("_offsets", "_neighbours", "_similarities", "_popularity")

    def tables_of_other_items(self, rows: np.ndarray, candidate_rows: int) -> dict[str, np.ndarray]:
        """The tables where the catalogue has changed: lists go with their items, and nothing has counted new ones.

        Args:
            rows: int64 [new num_rows]: which row each item had, -1 for a new one.
            candidate_rows: Items in rows from here on are understood in histories, but are nobody's neighbours any more.

        Returns:
            Arrays by the names of ``TABLES``, for ``take_tables``.
        """
        offsets, neighbours, similarities, popularity = (getattr(self, name).numpy() for name in self.TABLES)
        now = np.full(self.num_rows, -1, np.int64)
        now[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
        owners = now[np.repeat(np.arange(self.num_rows), np.diff(offsets))]
        listed = now[neighbours[: offsets[-1]]]
        kept = np.flatnonzero((owners >= 0) & (listed >= FIRST_INDEX) & (listed < candidate_rows))
        kept = kept[np.argsort(owners[kept], kind="stable")]  # each list in its order
        lengths = np.bincount(owners[kept], minlength=len(rows))
        # An item that nothing has counted is as popular as one without an event.
        popular = np.where(rows >= 0, popularity[np.maximum(rows, 0)], -1.0).astype(np.float32)
        ranking = rank_by_popularity(popular[:candidate_rows])
        return {
            "_offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(offsets.dtype),
            "_neighbours": np.concatenate([listed[kept], ranking]).astype(neighbours.dtype),
            "_similarities": np.concatenate([similarities[kept], np.zeros(len(ranking), np.float32)]),
            "_popularity": popular,
        }

    def _count(self, sequences: Sequences, counts: np.ndarray) -> None:
        lists = self._lists(sequences)
        ranking = rank_by_popularity(counts)
        # The popularity ranking stands behind the last neighbour list, with similarity 0: one more list, which every user has.
        similarities = np.concatenate([lists.similarities, np.zeros(len(ranking), np.float32)])
        self._offsets = constant_table(lists.offsets, "offsets")
        self._neighbours = constant_table(np.concatenate([lists.items, ranking]), "neighbours")
        self._similarities = constant_table(similarities, "similarities")
        self._popularity = constant_table((counts / (counts.max() + 1.0) - 1.0).astype(np.float32), "popularity")

    @abc.abstractmethod
    def _lists(self, sequences: Sequences) -> NeighbourLists:
        """Every item's neighbours, with strengths above 0."""

    @abc.abstractmethod
    def _weights(self, items: tf.Tensor, ages: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
        """float32 [B, L]: how much the list of each item of a history counts, 0 where ``counted`` is False; as from ``newest_first``."""

    def top_k(self, history: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The best ``k`` items int32 [B, k] and their scores for histories int32 [B, L]; an empty history gets the popular ones."""
        items, ages, counted = newest_first(history, self.history_length)
        return padded_top_k(*self._score(items, self._weights(items, ages, counted), k), k)

    def similar_items(self, items: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The ``k`` nearest neighbours int32 [B, k] and similarities of items int32 [B], then the most popular others."""
        weights = tf.cast(items >= FIRST_INDEX, tf.float32)
        # One more popular item, because the item itself may be among them.
        candidates, scores = self._score(items[:, None], weights[:, None], k + 1)
        return padded_top_k(candidates, tf.where(candidates == items[:, None], -float("inf"), scores), k)

    def _score(self, history: tf.Tensor, weights: tf.Tensor, num_popular: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """Distinct candidates int32 [B, C] and scores [B, C], 0 and -inf where a user has fewer than C, in the order they are found.

        Args:
            history: int32 [B, L].
            weights: float32 [B, L]; items of weight 0 are left out.
            num_popular: How many of the most popular items are candidates besides.
        """
        batch = tf.shape(history)[0]
        starts = tf.gather(self._offsets, history)
        stops = tf.where(weights > 0.0, tf.gather(self._offsets, history + 1), starts)
        # Gathered like the others: reading a variable as a whole, once it is gathered from, copies it.
        ranking_start, ranking_stop = tf.gather(self._offsets, self.num_rows), tf.size(self._neighbours, out_type=tf.int64)
        popular_stop = tf.minimum(ranking_start + tf.cast(num_popular, tf.int64), ranking_stop)
        starts = tf.concat([starts, tf.fill([batch, 1], ranking_start)], axis=1)  # [B, L + 1]
        stops = tf.concat([stops, tf.fill([batch, 1], popular_stop)], axis=1)
        weights = tf.pad(weights, [[0, 0], [0, 1]])

        cells = tf.ragged.range(tf.reshape(starts, [-1]), tf.reshape(stops, [-1]))  # [B (L + 1), (list length)]
        places = cells.value_rowids()  # [M], which history item of which user found a candidate
        contributions = tf.gather(self._similarities, cells.values) * tf.gather(tf.reshape(weights, [-1]), places)
        users = places // tf.cast(tf.shape(starts)[1], tf.int64)
        keys = users * self.num_rows + tf.cast(tf.gather(self._neighbours, cells.values), tf.int64)
        distinct, positions = tf.unique(keys)  # in order of first occurrence, hence user by user
        sums = tf.math.unsorted_segment_sum(contributions, positions, tf.size(distinct))
        items = tf.cast(distinct % self.num_rows, tf.int32)
        scores = tf.where(sums > 0.0, sums, tf.gather(self._popularity, items))

        def by_user(values: tf.Tensor, missing: float) -> tf.Tensor:
            nrows = tf.cast(batch, tf.int64)
            return tf.RaggedTensor.from_value_rowids(values, distinct // self.num_rows, nrows, validate=False).to_tensor(missing)

        return by_user(items, PADDING_INDEX), by_user(scores, -float("inf"))
