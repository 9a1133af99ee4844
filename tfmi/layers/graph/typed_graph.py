"""Attention along the typed edges of a session's graph."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, masked_softmax, zero_padding
from tfmi.layers.common.initializers import uniform_noise
from tfmi.layers.graph.session_graph import SessionGraph, session_graph

LEAKY_SLOPE = 0.2
NUM_TYPES = 4


def edge_types(graph: SessionGraph) -> tf.Tensor:
    """bool [B, 4, L, L]: whether the node of a row and that of a column are, in this order of types,

    the same node; joined by an edge from row to column alone; by one from column to row alone; by both.
    """
    forward, backward = graph.outgoing > 0, graph.incoming > 0  # [B, L, L]
    same = tf.linalg.diag(graph.nodes)
    types = [same, forward & ~backward & ~same, backward & ~forward & ~same, forward & backward & ~same]
    return tf.stack(types, axis=1)


class TypedGraphAttention(ConfiguredLayer):
    r"""One state for each click: the mean of its item's neighbours in the session's graph, weighed by attention that knows edge types::

        logit[i, j] = leaky_relu(a[type(i, j)] . (e[i] * e[j]))             j a neighbour of i, or i itself
        h[i] = sum over j of softmax_j(logit[i, j]) e[j]                    [B, L, d]

    The types of ``edge_types`` are self, next, previous and both; * is the elementwise product, and the slope of the leaky part 0.2.

    Paper: Wang et al., "Global Context Enhanced Graph Neural Networks for Session-based Recommendation", SIGIR 2020 (GCE-GNN,
    session-level layer).

    Example:
        >>> clicks = tf.constant([[4, 7, 4, 0]])
        >>> TypedGraphAttention()(tf.ones([1, 4, 8]), clicks > 0, history_indices=clicks).shape
        TensorShape([1, 4, 8])
    """

    def build(self, input_shape: Any) -> None:
        """Create a [4, d]."""
        width = int(input_shape[-1])
        self.type_vectors = self.add_weight("type_vectors", [NUM_TYPES, width], initializer=uniform_noise(width))
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, history_indices: tf.Tensor) -> tf.Tensor:
        """Read a session.

        Args:
            history: e [B, L, d] item vectors, 0 at padding; a node has that of its item's first click.
            mask: bool [B, L], True at real items.
            history_indices: int32 [B, L], which items these are.

        Returns:
            States [B, L, d], 0 at padding.
        """
        graph = session_graph(history_indices, mask)
        types = edge_types(graph)
        typed = history[:, None] * self.type_vectors[None, :, None, :]  # [B, 4, L, d]
        logits = tf.nn.leaky_relu(tf.matmul(typed, history[:, None], transpose_b=True), LEAKY_SLOPE)  # [B, 4, L, L]
        logits = tf.reduce_sum(tf.where(types, tf.cast(logits, tf.float32), 0.0), axis=1)
        weights = masked_softmax(logits, tf.reduce_any(types, axis=1))  # [B, L, L]
        nodes = tf.cast(tf.matmul(weights, tf.cast(history, tf.float32)), history.dtype)
        return zero_padding(tf.gather(nodes, graph.node_of_click, batch_dims=1), mask)
