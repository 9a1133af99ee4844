"""Neighbour propagation: an item's vector takes a share of those of the items that stand in the same histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfmi.data.cooccurrence import item_sets, nearest_neighbours
from tfmi.data.dataset import FIRST_INDEX, Sequences
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.graph.propagation import PROPAGATIONS, ItemPropagation


@PROPAGATIONS.register("neighbours")
class NeighbourPropagation(ItemPropagation):
    r"""A learned mixture of an item's own vector and those of its nearest neighbours by co-occurrence::

        x'_i = (1 - a_i) x_i + a_i sum over its neighbours j of w_ij x_j                [num_rows, d]
        a_i  = sigmoid(b + c log(1 + n_i)),  w_ij = similarity(i, j) / sum over j of similarity(i, j)

    with the similarity that item-KNN counts, and n_i the training histories that hold the item. What counting knows of an item reaches
    every score that way, and a rare item, whose own vector has learned little, can lean on its neighbours more than a frequent one. An item
    without neighbours keeps its own vector.

    Source: no paper; this project's own, of item-KNN's counts (Sarwar et al., WWW 2001) and one step of graph convolution. The idea of
    co-occurrence-weighted sums as item vectors has been published as SimEmb; nothing beyond the idea is taken from there.

    Args:
        neighbours: Neighbours of an item, the nearest.
        shrink, power: As in ``item_knn``.
        share_start: a at the start, above 0 and below 1, the same for all items; b and c are learned from there.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, neighbours: int = 20, *, shrink: float = 0.0, power: float = 0.5, share_start: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, neighbours=neighbours)
        require_at_least(0, shrink=shrink)
        if not 0 <= power <= 1:
            raise ValueError(f"power: expected a number from 0 to 1, got {power}")
        if not 0 < share_start < 1:
            raise ValueError(f"share_start: expected a number above 0 and below 1, got {share_start}")
        start = tf.keras.initializers.Constant(float(np.log(share_start / (1 - share_start))))
        self.offset = self.add_weight("offset", [], initializer=start, experimental_autocast=False)
        self.slope = self.add_weight("slope", [], initializer="zeros", experimental_autocast=False)

    def adapt(self, sequences: Sequences, num_rows: int) -> None:
        """Count: keep the weights w and their transpose, sorted by row, and log(1 + n)."""
        sets = item_sets(sequences, num_rows)
        offsets, items, similarities = nearest_neighbours(sets, self.neighbours, self.shrink, self.power)
        own = np.repeat(np.arange(num_rows), np.diff(offsets))
        real = (own >= FIRST_INDEX) & (items >= FIRST_INDEX)
        weights = scipy.sparse.coo_array((similarities[real], (own[real], items[real])), shape=(num_rows, num_rows)).tocsr()
        totals = weights.sum(axis=1)
        weights = scipy.sparse.diags_array(1.0 / np.where(totals > 0, totals, 1.0)) @ weights
        self._matrix, self._transposed = _stored(weights, "weights"), _stored(weights.T, "transposed")
        counts = np.asarray(sets.sum(axis=0)).ravel()
        self._log_counts = _constant(np.log1p(counts).astype(np.float32)[:, None], "log_counts")
        self._has_neighbours = _constant((totals > 0).astype(np.float32)[:, None], "has_neighbours")

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """Propagate item vectors [num_rows, d], in float32.

        Raises:
            ValueError: ``adapt`` has not been called.
        """
        if not hasattr(self, "_log_counts"):
            raise ValueError("neighbour propagation needs the training data: call adapt(sequences, num_rows) first")
        own = tf.cast(vectors, tf.float32)
        shares = tf.sigmoid(self.offset + self.slope * self._log_counts) * self._has_neighbours  # [num_rows, 1]
        return tf.cast(own + shares * (self._neighbours_of(own) - own), vectors.dtype)

    def _neighbours_of(self, vectors: tf.Tensor) -> tf.Tensor:
        """[num_rows, d]: the weighted means of neighbours."""
        num_rows = self._log_counts.shape[0]

        def product(stored: tuple[tf.Variable, tf.Variable], factor: tf.Tensor) -> tf.Tensor:
            # This form multiplies about twenty times faster than a tf.SparseTensor.
            matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(indices=stored[0], values=stored[1], dense_shape=[num_rows, num_rows])
            return tf.ensure_shape(tf.raw_ops.SparseMatrixMatMul(a=matrix, b=factor), factor.shape)

        @tf.custom_gradient
        def multiply(factor: tf.Tensor) -> tuple[tf.Tensor, Any]:
            # A product of rows with the stored transpose, where a transposed product would scatter.
            return product(self._matrix, factor), lambda upstream: product(self._transposed, tf.convert_to_tensor(upstream))

        return multiply(vectors)


def _stored(matrix: scipy.sparse.sparray, name: str) -> tuple[tf.Variable, tf.Variable]:
    """The places int64 [entries, 2] and values float32 [entries] of a matrix, row by row."""
    entries = matrix.tocoo()
    order = np.lexsort((entries.col, entries.row))
    places = np.stack([entries.row[order], entries.col[order]], axis=1).astype(np.int64)
    return _constant(places, f"{name}_places"), _constant(entries.data[order].astype(np.float32), name)


def _constant(values: np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(values, trainable=False, name=name)
