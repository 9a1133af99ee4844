"""GRU4Rec: one interest, what a recurrent network remembers at the newest item."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, zero_padding
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.sequence_encoders.gated_recurrent import GatedRecurrentEncoder
from tfmi.layers.sequence_encoders.sequence_encoder import EncodedSequence, built, every_state


@EXTRACTORS.register("recurrent")
class RecurrentInterest(InterestExtractor):
    r"""The state of gated recurrent units at the newest item, brought to the items' width, as a single interest::

        u = W dropout(s[newest]) + b                                       [B, 1, d]

    An empty history gives 0. A recurrent state cannot be divided among items: ``weights`` is 1 at the newest item, whose state is read,
    and 0 elsewhere. ``internals`` is empty.

    The paper trains on whole sessions side by side, with pairwise losses among the items of a batch. Here the objective decides: with a
    softmax, and a target after each prefix of a history, this is the variant that later work compares with. The dropout of the item
    vectors is the model's ``history_dropout``.

    Paper: Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016 (GRU4Rec).

    Example:
        >>> RecurrentInterest(hidden_dimension=16)(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 1, 8])

    Args:
        hidden_dimension: Width of the state; None takes d.
        dropout: Dropout of the state.
        use_bias: Add biases, in the units and after them.
        seed: Seed of the dropout.

    Raises:
        ValueError: An argument out of its range.
    """

    num_interests = 1

    def __init__(
        self, hidden_dimension: int | None = None, *, dropout: float = 0.0, use_bias: bool = True, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = GatedRecurrentEncoder(hidden_dimension, use_bias=use_bias, name="encoder")
        self.state_dropout = ElementDropout(dropout, seed=seed)

    @property
    def why_weights_are_constant(self) -> str:
        """They say which state is read."""
        return "they are 1 at the newest item, whatever the state holds; take an extractor that weights its items, such as self_attentive"

    def build(self, input_shape: Any) -> None:
        """Create the units, W [h, d] and b [d]."""
        dimension = int(input_shape[-1])
        built(self.encoder, input_shape)
        projection = tf.keras.layers.Dense(dimension, use_bias=self.use_bias, name="projection")
        self.projection = built(projection, [None, 1, self.encoder.state_dimension(dimension)])
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
        interest = self.projection(self.state_dropout(state, training=training))
        if every_item:
            return every_state(EncodedSequence(interest, weights))
        interest = zero_padding(interest, tf.reduce_any(mask, axis=1, keepdims=True))
        return InterestOutput(interest, tf.ones([tf.shape(mask)[0], 1], tf.bool), weights, {})
