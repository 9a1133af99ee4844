"""GRU4Rec, SASRec, NextItNet: one interest, the state of a sequence encoder at the newest item."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.attention.click_attention import single_interest
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.sequence_encoders.sequence_encoder import EncodedSequence, build_encoder, built, describe_encoder, every_state


@EXTRACTORS.register("newest_state")
class NewestState(InterestExtractor):
    r"""The newest item's state of any ``SequenceEncoder`` as a single interest, or what a linear layer makes of it::

        u = s[newest]                                                      [B, 1, d]
        u = W dropout(s[newest]) + b                                       [B, 1, d], with ``project``

    An empty history gives 0. ``weights`` is where that state looks, see the encoder; what older states brought along from their own items
    is not in it. ``internals`` is empty.

    Papers, by encoder: "transformer" is SASRec (Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018); "gru" with a
    projection GRU4Rec (Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016);
    "dilated_convolution" with a projection NextItNet (Yuan et al., "A Simple Convolutional Generative Network for Next Item
    Recommendation", WSDM 2019). The papers have a target after each item of a history, and losses of their own; here the objective
    and ``data.examples`` decide. The dropout of GRU4Rec's item vectors is the model's ``history_dropout``.

    Example:
        >>> layer = NewestState({"name": "gru", "hidden_dimension": 16}, project=True)
        >>> layer(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 1, 8])

    Args:
        encoder: The sequence encoder, ``{"name": ..., parameter: value, ...}``: "transformer" (see ``TransformerEncoder``), "gru"
            (``GatedRecurrentEncoder``), "dilated_convolution" (``DilatedConvolutionEncoder``) or "interest_tracking"
            (``InterestTrackingEncoder``). None takes a transformer with its defaults.
        project: Whether a linear layer follows. States of another width than the items need it.
        output_dropout: Dropout of the state.
        use_bias: Whether the linear layer has b.
        seed: Seed of the encoder and of the dropout.

    Raises:
        ValueError: An argument out of its range, states of another width than the items without a projection, or a history longer than
            the encoder's positions.
    """

    num_interests = 1

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        *,
        project: bool = False,
        output_dropout: float = 0.0,
        use_bias: bool = True,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = build_encoder(encoder or {"name": "transformer"}, seed, name="encoder")
        self.state_dropout = ElementDropout(output_dropout, seed=seed) if output_dropout else None

    def get_config(self) -> dict[str, Any]:
        """See ``ConfiguredLayer``; with the encoder's description."""
        return {**super().get_config(), "encoder": describe_encoder(self.encoder)}

    @property
    def why_weights_are_constant(self) -> str | None:
        """Those of many encoders only say which state is read."""
        return self.encoder.why_weights_are_constant

    @property
    def why_not_every_item(self) -> str | None:
        """Where the encoder's states depend on newer items."""
        return self.encoder.why_not_causal

    def build(self, input_shape: Any) -> None:
        """Create the encoder's weights and, if asked for, W [h, d] and b [d]."""
        dimension = int(input_shape[-1])
        width = self.encoder.state_dimension(dimension)
        if width != dimension and not self.project:
            raise ValueError(f"encoder: expected states of the items' width, {dimension}, got {width}; set project to true")
        built(self.encoder, input_shape)
        if self.project:
            projection = tf.keras.layers.Dense(dimension, use_bias=self.use_bias, name="projection")
            self.projection = built(projection, [None, 1, width])
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
        state, weights = self.encoder(history, mask, newest_only=not every_item, training=training)  # [B, Q, h], [B, Q, L]
        if self.state_dropout is not None:
            state = self.state_dropout(state, training=training)
        if self.project:
            state = self.projection(state)
        if every_item:
            return every_state(EncodedSequence(state, weights))
        interests, active = single_interest(state[:, 0], mask)
        return InterestOutput(interests, active, weights, {})
