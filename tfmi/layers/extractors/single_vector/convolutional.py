"""NextItNet: one interest, the newest item's state behind dilated convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.attention.click_attention import single_interest
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.layers.sequence_encoders.dilated_convolution import DilatedConvolutionEncoder
from tfmi.layers.sequence_encoders.sequence_encoder import EncodedSequence, built, every_state


@EXTRACTORS.register("convolutional")
class ConvolutionalInterest(InterestExtractor):
    r"""The newest item's state of a ``DilatedConvolutionEncoder``, through a linear layer, as a single interest::

        u = W s[newest] + b                                                [B, 1, d]

    An empty history gives 0. ``weights`` is 1 at the newest item, whose state is read, and 0 elsewhere. ``internals`` is empty.

    Paper: Yuan et al., "A Simple Convolutional Generative Network for Next Item Recommendation", WSDM 2019 (NextItNet). The paper has one
    target after each item of a history; here the objective decides.

    Example:
        >>> ConvolutionalInterest(dilations=[1])(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 1, 8])

    Args:
        dilations, width: As in ``DilatedConvolutionEncoder``.

    Raises:
        ValueError: An argument below 1, or no blocks.
    """

    num_interests = 1

    def __init__(self, dilations: Sequence[int] = (1, 4, 1, 4, 1, 4, 1, 4, 1, 4), *, width: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dilations = tuple(dilations)
        self.encoder = DilatedConvolutionEncoder(dilations, width=width, name="encoder")

    @property
    def why_weights_are_constant(self) -> str:
        """They say which state is read."""
        return "they are 1 at the newest item, whatever the state holds; take an extractor that weights its items, such as self_attentive"

    def build(self, input_shape: Any) -> None:
        """Create the encoder's weights, W [d, d] and b [d]."""
        dimension = int(input_shape[-1])
        built(self.encoder, input_shape)
        self.projection = built(tf.keras.layers.Dense(dimension, name="projection"), [None, dimension])
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, every_item: bool = False) -> InterestOutput:
        """Read a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            training: Changes nothing here.
            every_item: Return the interest after every item.

        Returns:
            One interest, [B, 1, d], or [B, L, 1, d].
        """
        state, weights = self.encoder(history, mask, newest_only=not every_item, training=training)  # [B, Q, d], [B, Q, L]
        if every_item:
            return every_state(EncodedSequence(self.projection(state), weights))
        interests, active = single_interest(self.projection(state[:, 0]), mask)
        return InterestOutput(interests, active, weights, {})
