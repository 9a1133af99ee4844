"""Heuristic models, which count instead of learning: their registry, what they share, and plain popularity."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import tensorflow as tf

from tfmi.core.errors import DataError
from tfmi.core.registry import Registry
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, Sequences


class HeuristicModel(tf.Module, abc.ABC):
    """Base of the heuristic models: a ``DirectRecommender`` once ``fit`` has counted.

    ``fit`` runs in NumPy and leaves tables in variables; ``top_k`` and ``similar_items`` are pure TensorFlow with stock ops, so that
    they can be exported.
    """

    # The attributes that hold all that was counted, where a model can be moved without its log; see ``take_tables``.
    TABLES: ClassVar[tuple[str, ...]] = ()

    history_length: int
    num_rows: int

    def take_tables(self, tables: Mapping[str, np.ndarray], num_rows: int, history_length: int) -> None:
        """Hold what a model with the same parameters has counted, instead of ``fit``: arrays by the names of ``TABLES``."""
        self.num_rows, self.history_length = num_rows, history_length
        for name in self.TABLES:
            setattr(self, name, constant_table(tables[name], name.strip("_")))

    def fit(self, sequences: Sequences, num_rows: int, history_length: int) -> None:
        """Count.

        Args:
            sequences: Training rows; every event counts, whatever its weight.
            num_rows: Rows of an item table: real items have indices 2 to ``num_rows - 1``.
            history_length: How many of a user's newest items are looked at.

        Raises:
            DataError: There is no real item.
        """
        if num_rows <= FIRST_INDEX:
            raise DataError("there is nothing to count: the catalogue holds no item")
        self.num_rows = num_rows
        self.history_length = history_length
        counts = np.bincount(sequences.items, minlength=num_rows)
        counts[:FIRST_INDEX] = 0
        self._count(sequences, counts)

    @abc.abstractmethod
    def _count(self, sequences: Sequences, counts: np.ndarray) -> None:
        """Fill the tables; ``counts`` int64 [num_rows] are each item's events, 0 for padding and unknown."""

    @abc.abstractmethod
    def top_k(self, history: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``DirectRecommender``."""

    @abc.abstractmethod
    def similar_items(self, items: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``DirectRecommender``."""


HEURISTICS: Registry[HeuristicModel] = Registry("heuristic", "tfmi.models")


def rank_by_popularity(counts: np.ndarray) -> np.ndarray:
    """int32 [num_rows - 2]: every real item, highest count first, ties by lower index."""
    order = np.argsort(-counts[FIRST_INDEX:], kind="stable")
    return (order + FIRST_INDEX).astype(np.int32)


def constant_table(values: np.ndarray, name: str) -> tf.Variable:
    """A variable that training leaves alone and an export carries along."""
    return tf.Variable(values, trainable=False, name=name)


def target_counts(sequences: Sequences, num_rows: int, min_history: int) -> np.ndarray:
    """float64 [num_rows]: each item's share of the training targets that ComiRec's sampler draws, times the number of sequences.

    It draws a sequence, then a position with at least ``min_history`` items before it (the code of Cen et al., KDD 2020): every
    sequence counts 1 in all, spread over those positions. Sequences without such a position count nothing.
    """
    lengths = np.repeat(sequences.lengths(), sequences.lengths())
    positions = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], sequences.lengths())
    shares = np.where(positions >= min_history, 1.0 / np.maximum(lengths - min_history, 1), 0.0)
    return np.bincount(sequences.items, weights=shares, minlength=num_rows)


@HEURISTICS.register("popularity")
class Popularity(HeuristicModel):
    """The most popular items for everybody. Scores are counts.

    What follows a history is not distributed as the whole log is: users begin with other items than they go on with, and a few users
    have most events. Counting targets as a trained model sees them makes popularity the stronger baseline: recall@50 of 0.053 instead of
    0.043 on Amazon Beauty and 0.085 instead of 0.066 on Amazon Video Games, ComiRec's protocol, test users.

    Args:
        count: "targets" counts what ComiRec's sampler would draw as training targets (``target_counts``), ties by events; "events"
            counts events.
        min_history: "targets" only: items that a target has before it.

    Raises:
        ValueError: ``min_history`` is negative.
    """

    def __init__(self, count: Literal["targets", "events"] = "targets", min_history: int = 4) -> None:
        super().__init__(name="popularity")
        if min_history < 0:
            raise ValueError(f"min_history must not be negative, got {min_history}")
        self.count = count
        self.min_history = min_history

    def _count(self, sequences: Sequences, counts: np.ndarray) -> None:
        scores = counts.astype(np.float64)
        if self.count == "targets":
            # All events together weigh less than one sequence: they order the items that were never a target.
            scores = target_counts(sequences, self.num_rows, self.min_history) + scores / (scores.sum() + 1.0)
        self._rank(scores)

    def fit_counts(self, counts: np.ndarray, history_length: int) -> None:
        """Rank by events int64 [num_rows] that somebody has counted already, where the sequences are not in memory."""
        self.num_rows, self.history_length = len(counts), history_length
        scores = np.array(counts, np.float64)
        scores[:FIRST_INDEX] = 0
        self._rank(scores)

    def _rank(self, scores: np.ndarray) -> None:
        """Keep the items in the order of ``scores`` float64 [num_rows]."""
        ranking = rank_by_popularity(scores)
        # Where each item stands in the ranking; padding and unknown stand behind the last item.
        places = np.full(self.num_rows, len(ranking), dtype=np.int32)
        places[ranking] = np.arange(len(ranking))
        self._ranking = constant_table(ranking, "ranking")
        self._scores = constant_table(scores[ranking].astype(np.float32), "scores")
        self._places = constant_table(places, "places")

    def top_k(self, history: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The ``k`` most popular items, the same for every history int32 [B, L]."""
        return self._at_places(tf.tile(tf.range(k)[None, :], [tf.shape(history)[0], 1]))

    def similar_items(self, items: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The ``k`` most popular other items, for each of ``items`` int32 [B]."""
        places = tf.range(k)[None, :]  # [1, k]
        own = tf.gather(self._places, items)[:, None]  # [B, 1]
        return self._at_places(places + tf.cast(places >= own, tf.int32))

    def _at_places(self, places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Items and scores at places [B, k] of the ranking; 0 and -inf behind its end."""
        last = self.num_rows - FIRST_INDEX - 1
        inside = places <= last
        places = tf.minimum(places, last)
        items = tf.where(inside, tf.gather(self._ranking, places), PADDING_INDEX)
        return items, tf.where(inside, tf.gather(self._scores, places), -float("inf"))


def newest_first(history: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Histories turned around.

    Args:
        history: int32 [B, L], oldest to newest; padding and unknown items may stand anywhere.
        length: How many of the newest real items are looked at.

    Returns:
        The items int32 [B, L], newest first; how many real items are newer than each, int32 [B, L]; which are real and looked at,
        bool [B, L].
    """
    items = tf.reverse(history, axis=[1])
    real = items >= FIRST_INDEX
    ages = tf.cumsum(tf.cast(real, tf.int32), axis=1, exclusive=True)
    return items, ages, real & (ages < length)


def occurs_before(items: tf.Tensor) -> tf.Tensor:
    """bool [B, L]: whether an item of ``items`` [B, L] stands further to the left, too."""
    same = items[:, :, None] == items[:, None, :]  # [B, L, L]
    return tf.reduce_sum(tf.cast(tf.linalg.band_part(same, -1, 0), tf.int32), axis=2) > 1


def padded_top_k(candidates: tf.Tensor, scores: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
    """The ``k`` best of distinct candidates int32 [B, C] by ``scores`` [B, C], ties in their order; padded with 0 and -inf."""
    missing = tf.maximum(k - tf.shape(scores)[1], 0)
    scores = tf.pad(scores, [[0, 0], [0, missing]], constant_values=-float("inf"))
    best, columns = tf.math.top_k(scores, k)
    items = tf.gather(tf.pad(candidates, [[0, 0], [0, missing]]), columns, batch_dims=1)
    return tf.where(best > -float("inf"), items, PADDING_INDEX), best
