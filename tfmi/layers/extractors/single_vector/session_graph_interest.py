"""SR-GNN: one interest, attention over the clicks of a session after message passing along its graph."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.attention.click_attention import ClickAttention, shares, single_interest, weighted_sum
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.layers.common.initializers import uniform_noise
from tfmi.layers.graph.gated_graph import GatedGraph
from tfmi.layers.sequence_encoders.sequence_encoder import built, newest_item


@EXTRACTORS.register("session_graph")
class SessionGraphInterest(InterestExtractor):
    r"""The newest click's state in a ``GatedGraph`` and a weighted sum of all clicks' states, as a single interest::

        h[1..n] = gated graph network over the session's graph             [B, L, d]
        beta[l] = q . sigmoid(W_3 h[n] + W_4 h[l] + b)                      [B, L], not normalised
        s_g = sum over l of beta[l] h[l]                                    [B, d]
        u = W_5 [s_g ; h[n]] + b_5                                          [B, 1, d]

    An empty history gives 0. ``weights`` is each beta's share of their sizes: what states brought along from neighbours is not in it.
    ``internals`` holds the signed ``"attention"``, float32 [B, 1, L].

    Paper: Wu et al., "Session-Based Recommendation with Graph Neural Networks", AAAI 2019 (SR-GNN).

    Example:
        >>> clicks = tf.constant([[4, 7, 4, 0]])
        >>> SessionGraphInterest()(tf.ones([1, 4, 8]), clicks > 0, history_indices=clicks).interests.shape
        TensorShape([1, 1, 8])

    Args:
        steps: Steps of the graph network.

    Raises:
        ValueError: ``steps`` below 1.
    """

    num_interests = 1

    def __init__(self, *, steps: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.graph = GatedGraph(steps, name="graph")
        self.attention = ClickAttention(use_bias=True, start="uniform", name="attention")

    def build(self, input_shape: Any) -> None:
        """Create the graph network, the attention, W_5 [2 d, d] and b_5 [d]."""
        dimension = int(input_shape[-1])
        built(self.graph, input_shape)
        built(self.attention, input_shape)
        projection = tf.keras.layers.Dense(
            dimension, kernel_initializer=uniform_noise(dimension), bias_initializer=uniform_noise(dimension), name="projection"
        )
        self.projection = built(projection, [None, 2 * dimension])
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, history_indices: tf.Tensor, training: bool | None = None) -> InterestOutput:
        """Read a session.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            history_indices: int32 [B, L], which items these are.
            training: Changes nothing here.

        Returns:
            One interest, [B, 1, d].
        """
        states = self.graph(history, mask, history_indices)  # [B, L, d]
        newest = tf.matmul(newest_item(mask, states.dtype), states)[:, 0]  # [B, d]
        beta = self.attention(states, mask, [newest])
        joined = tf.concat([weighted_sum(beta, states), newest], axis=-1)
        interests, active = single_interest(self.projection(joined), mask)
        return InterestOutput(interests, active, shares(beta), {"attention": beta[:, None, :]})
