"""What every index has in common: its interface, the shape of its answers, and the check of what it is built from.

An index knows item indices and vectors only. Item vectors come with one row per item index; rows 0 and 1 (padding, unknown) are
ignored and never found. Shapes: M queries, d width, N items.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tfmi.core.errors import IndexBuildError
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.merging import MISSING_SCORE, NO_INTEREST, Candidates, best_of_interests

ROWS_CHECKED_AT_ONCE = 65_536


class InterestIndex(tf.Module, abc.ABC):
    """Search for the items whose vectors have the largest inner products with a query.

    Subclasses implement ``search``, ``vectors`` and ``parameters``. Everything is traceable by ``tf.function`` and can be saved in a
    SavedModel; ``op_namespaces`` are the custom op namespaces that saving has to allow.

    Attributes:
        num_rows: Rows of the item table that the index was built from, padding and unknown included.
        dimension: d, the width of a vector.
    """

    kind: ClassVar[str]
    op_namespaces: ClassVar[tuple[str, ...]] = ()

    def __init__(self, num_rows: int, dimension: int) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.dimension = dimension

    @property
    def num_items(self) -> int:
        """N, the number of real items."""
        return self.num_rows - FIRST_INDEX

    @property
    def is_approximate(self) -> bool:
        """Whether it may miss what exact search finds."""
        return False

    @abc.abstractmethod
    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """Find the best ``k`` items of each query.

        Args:
            queries: float32 [M, d].
            k: How many, at least 1; it may exceed the catalogue.

        Returns:
            Inner products float32 [M, k] and item indices int32 [M, k], best first; missing ones are -inf and 0.
        """

    def search_interests(self, interests: tf.Tensor, active: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """Find the best ``k`` items of users with several interests each, an item by its best score.

        Args:
            interests: float32 [B, K, d].
            active: bool [B, K]; inactive interests contribute nothing.
            k: How many, at least 1; it may exceed the catalogue.

        Returns:
            ``Candidates`` [B, k].
        """
        batch, num_interests = tf.shape(interests)[0], tf.shape(interests)[1]
        scores, items = self.search(tf.reshape(interests, [batch * num_interests, self.dimension]), k)
        each = [batch, num_interests, k]
        return best_of_interests(tf.reshape(scores, each), tf.reshape(items, each), active, k)

    @abc.abstractmethod
    def vectors(self, items: tf.Tensor) -> tf.Tensor:
        """Vectors float32 [B, d] of item indices int32 [B]; 0 at padding and unknown."""

    @abc.abstractmethod
    def parameters(self) -> dict[str, int | str]:
        """How the index was built, for reports."""

    def wider_searches(self) -> list[dict[str, int]]:
        """The ways to search one step further, each as the parameters to change; none where nothing is left, or all was set by hand."""
        return []

    def set_search(self, parameters: Mapping[str, int]) -> None:
        """Search with other parameters from now on: those of ``wider_searches``, or what they were before. What is traced stays."""
        if parameters:
            raise ValueError(f"an index of kind {self.kind!r} has no parameters of its search")

    def settings_by_hand(self) -> list[str]:
        """The parameters of the search that were given, which nothing changes."""
        return []


def check_item_vectors(item_vectors: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Return item vectors as float32 [num_rows, d], the rows of padding and unknown set to 0. A tensor that needs no change is not copied.

    Raises:
        IndexBuildError: They are not a table, hold no item, or an item's vector is not finite.
    """
    vectors = tf.cast(item_vectors, tf.float32)
    if vectors.shape.rank != 2:
        raise IndexBuildError(f"item vectors: expected a table [num_rows, dimension], got the shape {tuple(vectors.shape)}")
    if vectors.shape[0] <= FIRST_INDEX:
        raise IndexBuildError("item vectors: the catalogue holds no item; an index needs at least one")
    if as_array(vectors)[:FIRST_INDEX].any():  # NaN, too
        vectors = tf.tensor_scatter_nd_update(vectors, [[row] for row in range(FIRST_INDEX)], tf.zeros([FIRST_INDEX, vectors.shape[1]]))
    rows = as_array(vectors)
    # By blocks: flags of all numbers at once would take a quarter of the table.
    blocks = range(0, len(rows), ROWS_CHECKED_AT_ONCE)
    broken = np.concatenate([start + np.flatnonzero(~_finite(rows[start : start + ROWS_CHECKED_AT_ONCE])) for start in blocks])
    if len(broken):
        raise IndexBuildError(
            f"item vectors: {len(broken)} of {len(rows) - FIRST_INDEX} items have NaN or infinite values (the first is item index "
            f"{broken[0]}); the model has probably diverged, so train it with a lower learning rate or gradient clipping"
        )
    return vectors


def _finite(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(rows).all(axis=1))


def as_array(tensor: tf.Tensor) -> np.ndarray:
    """A tensor's own memory as an array to read from; ``numpy()`` would copy it."""
    return np.asarray(memoryview(tensor))


def finish_answer(scores: tf.Tensor, positions: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
    """Turn scores [M, w] and positions among the real items [M, w], w <= k, into an answer of ``InterestIndex.search``.

    A score of NaN or -inf marks a missing result.
    """
    found = scores > MISSING_SCORE  # False for NaN, too
    scores = tf.where(found, scores, MISSING_SCORE)
    items = tf.where(found, tf.cast(positions, tf.int32) + FIRST_INDEX, PADDING_INDEX)
    return pad_columns(scores, k, MISSING_SCORE), pad_columns(items, k, PADDING_INDEX)


def gather_rows(table: tf.Variable, rows: tf.Tensor) -> tf.Tensor:
    """Rows [B, d] of a ``table`` [N, d] that is also read as a whole.

    ``tf.gather`` on a variable switches it, for good, to copying all of it whenever it is read as a whole, in every signature: after the
    first request for neighbours each search would copy the catalogue's vectors.
    """
    return tf.gather(table.read_value(), rows)


def is_among(items: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """bool [B, C]: which of ``items`` int32 [B, C] are in the same row of ``others`` int32 [B, E].

    They are found by bisection: comparing all pairs would hold B * C * E flags.
    """
    # Above every item there is a last entry, so that each search ends at one, even with no others.
    rising = tf.pad(tf.sort(others, axis=1), [[0, 0], [0, 1]], constant_values=others.dtype.max)  # [B, E + 1]
    first_not_below = tf.searchsorted(rising, items)  # [B, C]
    return tf.gather(rising, first_not_below, batch_dims=1) == items


def pad_candidates(candidates: Candidates, width: tf.Tensor | int) -> Candidates:
    """Append missing ones to the rows of ``candidates`` [B, w] up to ``width`` columns; w must not exceed it."""
    paddings = [[0, 0], [0, width - tf.shape(candidates.items)[1]]]
    static = [candidates.items.shape[0], width if isinstance(width, int) else None]
    return Candidates(
        *(
            tf.ensure_shape(tf.pad(values, paddings, constant_values=missing), static)
            for values, missing in zip(candidates, (PADDING_INDEX, MISSING_SCORE, NO_INTEREST), strict=True)
        )
    )


def pad_columns(values: tf.Tensor, width: tf.Tensor | int, padding: float) -> tf.Tensor:
    """Append ``padding`` to the rows of ``values`` [B, w] up to ``width`` columns; w must not exceed it."""
    missing = width - tf.shape(values)[1]
    padded = tf.pad(values, [[0, 0], [0, missing]], constant_values=padding)
    return tf.ensure_shape(padded, [values.shape[0], width if isinstance(width, int) else None])
