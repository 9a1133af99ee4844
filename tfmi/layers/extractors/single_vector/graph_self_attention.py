"""GC-SAN: one interest, self-attention over the clicks of a session after message passing along its graph."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.attention.click_attention import single_interest
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, RealItems
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.positions import not_newer
from tfmi.layers.graph.gated_graph import GatedGraph
from tfmi.layers.sequence_encoders.sequence_encoder import built, newest_item
from tfmi.layers.sequence_encoders.transformer_encoder import TransformerBlock


@EXTRACTORS.register("graph_self_attention")
class GraphSelfAttentionInterest(InterestExtractor):
    r"""The newest click's state in a ``GatedGraph``, mixed with what causal transformer blocks make of all clicks' states::

        h[1..n] = gated graph network over the session's graph             [B, L, d]
        a[1..n] = block(... block(h[1..n]))                                 [B, L, d], no positions
        u = w a[n] + (1 - w) h[n]                                           [B, 1, d]

    An empty history gives 0. ``weights`` is w times the newest click's attention in the last block, mean over heads, plus 1 - w at the
    newest click. ``internals`` is empty.

    Paper: Xu et al., "Graph Contextualized Self-Attention Network for Session-based Recommendation", IJCAI 2019 (GC-SAN). The paper's
    attention has one head; two, GELU and the causal mask are those of RecBole's implementation, with which others compare.

    Example:
        >>> clicks = tf.constant([[4, 7, 4, 0]])
        >>> GraphSelfAttentionInterest()(tf.ones([1, 4, 8]), clicks > 0, history_indices=clicks).interests.shape
        TensorShape([1, 1, 8])

    Args:
        attention_share: w, from 0 to 1. The paper finds 0.4 to 0.8 best.
        steps: Steps of the graph network.
        num_blocks: Transformer blocks.
        num_heads, inner_dimension, activation, dropout, attention_dropout, initializer_deviation: As in ``TransformerBlock``.
        seed: Seed of the dropouts; the blocks use ``3 num_blocks`` seeds from this one on.

    Raises:
        ValueError: An argument out of its range, or heads that do not divide d.
    """

    num_interests = 1

    def __init__(
        self,
        *,
        attention_share: float = 0.6,
        steps: int = 1,
        num_blocks: int = 2,
        num_heads: int = 2,
        inner_dimension: int | None = None,
        activation: Literal["gelu", "relu"] = "gelu",
        dropout: float = 0.5,
        attention_dropout: float = 0.5,
        initializer_deviation: float = 0.02,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_blocks=num_blocks)
        if not 0 <= attention_share <= 1:
            raise ValueError(f"attention_share: expected a number from 0 to 1, got {attention_share}")
        self.graph = GatedGraph(steps, message_bias=False, name="graph")
        self.blocks = [
            TransformerBlock(
                num_heads,
                inner_dimension=inner_dimension,
                activation=activation,
                dropout=dropout,
                attention_dropout=attention_dropout,
                initializer_deviation=initializer_deviation,
                seed=seed + TransformerBlock.NUM_SEEDS * position,
                name=f"block_{position}",
            )
            for position in range(num_blocks)
        ]

    @property
    def why_weights_are_constant(self) -> str | None:
        """Without a share of attention, nothing is weighted."""
        return None if self.attention_share else "with attention_share 0 they are 1 at the newest item"

    def build(self, input_shape: Any) -> None:
        """Create the graph network and the blocks."""
        built(self.graph, input_shape)
        for block in self.blocks:
            built(block, [None, int(input_shape[-1])])
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, history_indices: tf.Tensor, training: bool | None = None) -> InterestOutput:
        """Read a session.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            history_indices: int32 [B, L], which items these are.
            training: Whether dropout is on.

        Returns:
            One interest, [B, 1, d].
        """
        states = self.graph(history, mask, history_indices)  # [B, L, d]
        real, newest = RealItems(mask), newest_item(mask, states.dtype)
        rows, seen = real.rows(states), mask[:, None, :]
        for block in self.blocks[:-1]:
            rows, _ = block(rows, real, seen & not_newer(mask), training=training)
        attended, weights = self.blocks[-1](rows, real, seen, selected=newest, training=training)  # [B, d], [B, H, 1, L]
        share = self.attention_share
        mixed = share * attended + (1 - share) * tf.matmul(newest, states)[:, 0]
        interests, active = single_interest(mixed, mask)
        return InterestOutput(interests, active, share * tf.reduce_mean(weights, axis=1) + (1 - share) * newest_item(mask), {})
