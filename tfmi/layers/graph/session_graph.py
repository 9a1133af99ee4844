"""A session as a graph of its items."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class SessionGraph(NamedTuple):
    """The directed graphs of a batch of sessions: a node for each item, an edge from each item to those clicked right after it.

    An item's node stands at its first click, so that nodes have places among the L clicks, of which those of later clicks stay empty.

    Attributes:
        nodes: bool [B, L]: the clicks at which nodes stand.
        node_of_click: int32 [B, L]: where the node of each click stands; 0 at padding.
        incoming: float [B, L, L]: row v has the mean over the nodes with an edge to v; 0 without one.
        outgoing: float [B, L, L]: row u has the mean over the nodes that edges from u lead to; 0 without one.
    """

    nodes: tf.Tensor
    node_of_click: tf.Tensor
    incoming: tf.Tensor
    outgoing: tf.Tensor


def session_graph(history_indices: tf.Tensor, mask: tf.Tensor, dtype: tf.DType = tf.float32) -> SessionGraph:
    """The graphs of sessions. Only which clicks are of equal items matters, not what the items are called.

    An edge is there or not, however often the session takes it: its weight is 1 over the number of edges that share its end or start.
    An item clicked twice in a row has an edge to itself.

    Paper: Wu et al., "Session-Based Recommendation with Graph Neural Networks", AAAI 2019, whose published code
    counts each edge once.

    Args:
        history_indices: int32 [B, L], real items first.
        mask: bool [B, L], True at real items.
        dtype: Of the means.
    """
    length = tf.shape(mask)[1]
    places = tf.range(length)
    same_item = (history_indices[:, :, None] == history_indices[:, None, :]) & mask[:, None, :]
    first_click = tf.reduce_min(tf.where(same_item, places, length), axis=2)  # [B, L]
    node_of_click = tf.where(mask, first_click, 0)
    visits = tf.one_hot(tf.where(mask, first_click, -1), length, dtype=dtype)  # [B, L, L]: click, node; 0 at padding
    # Every click but the newest is followed by one; where that is padding, its row is 0.
    edges = tf.minimum(tf.matmul(visits[:, :-1], visits[:, 1:], transpose_a=True), 1)  # [B, L, L]: from, to
    return SessionGraph(
        nodes=mask & (first_click == places),
        node_of_click=node_of_click,
        incoming=_rows_to_means(tf.linalg.matrix_transpose(edges)),
        outgoing=_rows_to_means(edges),
    )


def _rows_to_means(edges: tf.Tensor) -> tf.Tensor:
    """Each row of ``edges`` [B, L, L] divided by its sum; rows of 0 stay."""
    return tf.math.divide_no_nan(edges, tf.reduce_sum(edges, axis=2, keepdims=True))
