"""SASRec: one interest, the newest item's state behind transformer blocks."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.layers.sequence_encoders.sequence_encoder import built, every_state
from tfmi.layers.sequence_encoders.transformer_encoder import Activation, EncoderPositions, TransformerEncoder


@EXTRACTORS.register("transformer")
class TransformerInterest(InterestExtractor):
    r"""The newest item's state of a causal ``TransformerEncoder`` as a single interest, [B, 1, d].

    An empty history gives 0. ``weights`` is where the newest item looks in the last block, mean over heads; what older states brought
    along from their own items is not in it. Without blocks it is 1 at the newest item. ``internals`` is empty.

    Paper: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018 (SASRec); see ``TransformerEncoder`` for the variant.
    The paper has one target after each item of a history and one negative for each; here the objective decides.

    Example:
        >>> TransformerInterest(num_blocks=1)(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 1, 8])

    Args:
        num_blocks, num_heads, inner_dimension, activation, norm, positions, gate, dropout, attention_dropout, initializer_deviation,
            max_length, seed: As in ``TransformerEncoder``.

    Raises:
        ValueError: An argument out of its range, heads that do not divide d, or a history longer than ``max_length``.
    """

    num_interests = 1

    def __init__(
        self,
        num_blocks: int = 2,
        *,
        num_heads: int = 2,
        inner_dimension: int | None = None,
        activation: Activation = "gelu",
        norm: Literal["post", "pre"] = "post",
        positions: EncoderPositions = "oldest",
        gate: bool = False,
        dropout: float = 0.2,
        attention_dropout: float = 0.2,
        initializer_deviation: float = 0.02,
        max_length: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = TransformerEncoder(
            num_blocks,
            num_heads=num_heads,
            inner_dimension=inner_dimension,
            activation=activation,
            norm=norm,
            positions=positions,
            gate=gate,
            dropout=dropout,
            attention_dropout=attention_dropout,
            initializer_deviation=initializer_deviation,
            max_length=max_length,
            seed=seed,
            name="encoder",
        )

    @property
    def why_weights_are_constant(self) -> str | None:
        """Without blocks there is no attention."""
        return None if self.num_blocks else "without blocks they are 1 at the newest item; set num_blocks to at least 1"

    @property
    def why_not_every_item(self) -> str | None:
        """Positions counted from the newest item change with every item that follows."""
        return self.encoder.why_not_causal

    def build(self, input_shape: Any) -> None:
        """Create the encoder's weights."""
        built(self.encoder, input_shape)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, every_item: bool = False) -> InterestOutput:
        """Read a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            training: Whether dropout is on.
            every_item: Return the interest after every item.

        Returns:
            One interest, [B, 1, d], or [B, L, 1, d].
        """
        if every_item:
            return every_state(self.encoder(history, mask, training=training))
        state, weights = self.encoder(history, mask, newest_only=True, training=training)  # [B, 1, d], [B, 1, L]
        return InterestOutput(state, tf.ones([tf.shape(mask)[0], 1], tf.bool), weights, {})
