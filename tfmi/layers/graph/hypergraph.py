"""Hypergraph propagation: message passing among items that were in one session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, Sequences
from tfmi.data.splitting.slicing import every_prefix
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.graph.propagation import PROPAGATIONS, ItemPropagation

HyperedgeKind = Literal["prefixes", "sequences"]


def hyperedges(sequences: Sequences, num_rows: int, kind: HyperedgeKind) -> scipy.sparse.csr_array:
    """float64 [num_rows, hyperedges], H: 1 where a hyperedge holds a real item, however often.

    Args:
        sequences: Training rows.
        num_rows: Rows of an item table.
        kind: "prefixes": one hyperedge for each training example, the items before its target; "sequences": one for each sequence.
    """
    edges = every_prefix(sequences, np.arange(len(sequences))).histories if kind == "prefixes" else sequences
    numbers = np.repeat(np.arange(len(edges)), edges.lengths())
    real = edges.items >= FIRST_INDEX
    ones = np.ones(int(real.sum()))
    incidence = scipy.sparse.coo_array((ones, (edges.items[real], numbers[real])), shape=(num_rows, len(edges))).tocsr()
    incidence.sum_duplicates()
    incidence.data[:] = 1.0
    return incidence


@PROPAGATIONS.register("hypergraph")
class HypergraphPropagation(ItemPropagation):
    r"""The mean of item vectors and what they become in steps over the hypergraph of the training data::

        P = D^-1 H B^-1 H^T                                                 [num_rows, num_rows], sparse
        X' = (X + P X + P^2 X + ... + P^layers X) / (layers + 1)            [num_rows, d]

    H is the incidence of items and hyperedges, B how many items a hyperedge holds, D how many hyperedges hold an item. A step gives an item
    the mean over its hyperedges of the mean of their items: the rows of P sum to 1. There are no weights and no activations. An item in no
    hyperedge has messages from itself alone, so that it keeps its vector.

    A step costs a product of P, which has an entry for each pair of items that share a hyperedge, with the item table: 1.2 million entries
    on Tmall's sessions.

    Paper: Xia et al., "Self-Supervised Hypergraph Convolutional Networks for Session-based Recommendation", AAAI 2021 (DHCN).

    Args:
        layers: Steps; 0 leaves vectors as they are.
        edges: "prefixes" as in the paper: every prefix of a training sequence that has a next item. "sequences": whole training
            sequences, for long ones, whose number of prefixes times their length grows with the square of it.

    Raises:
        ValueError: ``layers`` below 0.
    """

    def __init__(self, layers: int = 3, edges: HyperedgeKind = "prefixes", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(0, layers=layers)

    def adapt(self, sequences: Sequences, num_rows: int) -> None:
        """Keep P as ``H B^-1 H^T``, which is symmetric, and D."""
        incidence = hyperedges(sequences, num_rows, self.edges)
        sizes, degrees = incidence.sum(axis=0), incidence.sum(axis=1)
        alone = (degrees == 0) & (np.arange(num_rows) >= FIRST_INDEX)
        weighted = incidence @ scipy.sparse.diags_array(1.0 / np.maximum(sizes, 1.0))
        pairs = (weighted @ incidence.T + scipy.sparse.diags_array(alone.astype(np.float64))).tocoo()
        order = np.lexsort((pairs.col, pairs.row))
        self._places = _constant(np.stack([pairs.row[order], pairs.col[order]], axis=1).astype(np.int64), "places")
        self._values = _constant(pairs.data[order].astype(np.float32), "values")
        self._degrees = _constant(np.maximum(degrees, 1.0).astype(np.float32)[:, None], "degrees")

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """Propagate item vectors [num_rows, d], in float32.

        Raises:
            ValueError: ``adapt`` has not been called.
        """
        if self.layers == 0:
            return vectors
        if not hasattr(self, "_degrees"):
            raise ValueError("hypergraph propagation needs the training data: call adapt(sequences, num_rows) first")
        return tf.cast(self._propagate(tf.cast(vectors, tf.float32)), vectors.dtype)

    def _propagate(self, vectors: tf.Tensor) -> tf.Tensor:
        degrees = tf.convert_to_tensor(self._degrees)
        shape = [degrees.shape[0]] * 2
        # This form multiplies about twenty times faster than a tf.SparseTensor.
        pairs = tf.raw_ops.SparseTensorToCSRSparseMatrix(indices=self._places, values=self._values, dense_shape=shape)

        def mean_of_steps(start: tf.Tensor, step: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
            total = reached = start
            for _ in range(self.layers):
                reached = tf.ensure_shape(step(reached), start.shape)
                total += reached
            return total / (self.layers + 1)

        @tf.custom_gradient
        def propagate(start: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                # P^T = (H B^-1 H^T) D^-1: the same product of rows, where a transposed one would scatter.
                upstream = tf.convert_to_tensor(upstream)
                return mean_of_steps(upstream, lambda vectors: tf.raw_ops.SparseMatrixMatMul(a=pairs, b=vectors / degrees))

            return mean_of_steps(start, lambda vectors: tf.raw_ops.SparseMatrixMatMul(a=pairs, b=vectors) / degrees), gradient

        return propagate(vectors)


def _constant(values: np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(values, trainable=False, name=name)
