"""Gated graph network over a session's items."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, RealItems, zero_padding
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.initializers import uniform_noise
from tfmi.layers.graph.session_graph import SessionGraph, session_graph
from tfmi.layers.sequence_encoders.sequence_encoder import built


class GatedGraphCell(ConfiguredLayer):
    r"""One step of a gated graph network: a node gets messages from its neighbours, and gates decide what it takes over::

        a = [A_in (H W_1 + b_1) + c_1 ; A_out (H W_2 + b_2) + c_2]         [R, 2 d]
        r = sigmoid(a U_r + H V_r)                                          reset gate
        z = sigmoid(a U_z + H V_z)                                          update gate
        H' = (1 - z) * H + z * tanh(a U + r * (H V))                        [R, d]

    with a bias in each product with U and V. ``message_bias`` is c. Nodes are the R real ones of all sessions.

    Papers: Li et al., "Gated Graph Sequence Neural Networks", ICLR 2016; Wu et al., "Session-Based Recommendation with Graph Neural
    Networks", AAAI 2019.

    Args:
        message_bias: Whether there are c_1 and c_2, the message to a node without neighbours.
    """

    def __init__(self, *, message_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def build(self, input_shape: Any) -> None:
        """Create W [d, 2 d], c [2 d], U [2 d, 3 d], V [d, 3 d] and the biases."""
        dimension = int(input_shape[-1])
        self.message_layer = _dense(2 * dimension, "message", [None, dimension], dimension)
        self.heard_layer = _dense(3 * dimension, "heard", [None, 2 * dimension], dimension)
        self.own_layer = _dense(3 * dimension, "own", [None, dimension], dimension)
        if self.message_bias:
            self.heard_bias = self.add_weight("heard_bias", [2 * dimension], initializer=uniform_noise(dimension))
        super().build(input_shape)

    def call(self, states: tf.Tensor, real: RealItems, graph: SessionGraph) -> tf.Tensor:
        """Update nodes.

        Args:
            states: [R, d], of real nodes.
            real: Where they stand.
            graph: Their edges.

        Returns:
            [R, d].
        """
        to_next, to_previous = tf.split(real.spread(self.message_layer(states)), 2, axis=-1)  # [B, L, d] each
        received = tf.concat([tf.matmul(graph.incoming, to_next), tf.matmul(graph.outgoing, to_previous)], axis=-1)
        received = real.rows(received)  # [R, 2 d]
        if self.message_bias:
            received += self.heard_bias
        received_reset, received_update, received_new = tf.split(self.heard_layer(received), 3, axis=-1)
        own_reset, own_update, own_new = tf.split(self.own_layer(states), 3, axis=-1)
        reset, update = tf.sigmoid(received_reset + own_reset), tf.sigmoid(received_update + own_update)
        return (1 - update) * states + update * tf.tanh(received_new + reset * own_new)


class GatedGraph(ConfiguredLayer):
    r"""One state for each click: that of its item's node after steps of one ``GatedGraphCell`` on the ``SessionGraph``.

    A node starts as its item's vector. Clicks of one item have the same state.

    Example:
        >>> clicks = tf.constant([[4, 7, 4, 0]])
        >>> GatedGraph()(tf.ones([1, 4, 8]), clicks > 0, history_indices=clicks).shape
        TensorShape([1, 4, 8])

    Args:
        steps: Steps of the cell.
        message_bias: As in ``GatedGraphCell``.

    Raises:
        ValueError: ``steps`` below 1.
    """

    def __init__(self, steps: int = 1, *, message_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, steps=steps)
        self.cell = GatedGraphCell(message_bias=message_bias, name="cell")

    def build(self, input_shape: Any) -> None:
        """Create the cell's weights, which all steps share."""
        built(self.cell, [None, int(input_shape[-1])])
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, history_indices: tf.Tensor) -> tf.Tensor:
        """Read a session.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            history_indices: int32 [B, L], which items these are.

        Returns:
            States [B, L, d], 0 at padding.
        """
        graph = session_graph(history_indices, mask, history.dtype)
        real = RealItems(graph.nodes)
        states = real.rows(history)  # [R, d]
        for _ in range(self.steps):
            states = self.cell(states, real, graph)
        return zero_padding(tf.gather(real.spread(states), graph.node_of_click, batch_dims=1), mask)


def _dense(units: int, name: str, input_shape: Any, dimension: int) -> tf.keras.layers.Dense:
    """A built layer whose matrix and bias start as uniform noise of the items' width."""
    layer = tf.keras.layers.Dense(units, kernel_initializer=uniform_noise(dimension), bias_initializer=uniform_noise(dimension), name=name)
    return built(layer, input_shape)
