"""PIMI's periodicity and interactivity in front of ComiRec-SA's attention."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestOutput, RealItems, zero_padding
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.positions import PositionOrder
from tfmi.layers.extractors.multi_interest.interval_encoding import IntervalEncoding
from tfmi.layers.extractors.multi_interest.self_attention import SelfAttentiveInterests
from tfmi.layers.extractors.multi_interest.star_attention import StarAttention


@EXTRACTORS.register("periodic_interactive")
class PeriodicInteractiveInterests(SelfAttentiveInterests):
    r"""K weighted means of a history, whose weights know when each item was seen and what stood around it::

        X = H + P                                                          [B, L, d], items and positions
        Z = X + IntervalEncoding(times)                                    [B, L, d], periodicity
        s = mean of Z over the items                                       [B, d], the centre
        Z, s = StarAttention(Z, X, s)          (``blocks`` times)          interactivity
        A = softmax over items of tanh(Z W1 + b1) W2                       [B, L, K]
        V = A^T H                                                          [B, K, d]

    The values are the items themselves, so every interest lies in the convex hull of the history. An empty history gives zeros. All K
    interests are active.

    Times are read where the data has them; without any, the periodicity is left out. They enter as intervals between the items of the
    history alone: nothing depends on when it is asked. An item of unknown time (0) is as if it stood alone.

    ``internals`` holds what ``SelfAttentiveInterests`` does, ``"features"`` (the last Z, 0 at padding) [B, L, d] and, with times,
    ``"interval_weights"`` [B, L, time_span + 1], all float32.

    Paper: Chen et al., "Exploring Periodicity and Interactivity in Multi-Interest Framework for Sequential Recommendation", IJCAI 2021
    (PIMI, or PIMIRec). The equations are those of the authors' published code.

    Example:
        >>> extractor = PeriodicInteractiveInterests(num_interests=2)
        >>> output = extractor(tf.ones([1, 3, 8]), tf.ones([1, 3], tf.bool), timestamps=tf.constant([[1e9, 2e9, 2e9]], tf.float64))
        >>> output.interests.shape
        TensorShape([1, 2, 8])

    Args:
        num_interests: K.
        hidden_dimension: Width of the last attention's hidden layer; None takes 4 d.
        positions: "oldest" numbers the positions from the oldest item of the window, as the paper's code; "newest" from the newest
            item, so that one position always means the same age; "none" leaves them out.
        use_bias: Add the bias b1.
        time_span: Intervals above this many days count as this many.
        blocks: Rounds of messages; 0 leaves the interactivity out.
        num_heads: Attention heads of each block.
        dropout: Dropout of the blocks' attention weights.
        centre: False leaves out the centre node: an item then knows of ``blocks`` predecessors and of nothing else.
        parity_padding: Attend to what is not there, too, as the published code does; then padding changes the interests.
        max_length: Longest history that will ever be given; None takes the length of the first input.
        seed: Seed of the dropout.

    Raises:
        ValueError: An argument out of its range, or a history longer than ``max_length``.
    """

    def __init__(
        self,
        num_interests: int = 4,
        *,
        hidden_dimension: int | None = None,
        positions: PositionOrder = "oldest",
        use_bias: bool = True,
        time_span: int = 64,
        blocks: int = 3,
        num_heads: int = 4,
        dropout: float = 0.1,
        centre: bool = True,
        parity_padding: bool = False,
        max_length: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_interests, hidden_dimension=hidden_dimension, positions=positions, use_bias=use_bias, max_length=max_length, **kwargs
        )
        require_at_least(0, blocks=blocks)
        require_at_least(1, time_span=time_span)
        self.star_blocks = [
            StarAttention(num_heads, dropout=dropout, parity_padding=parity_padding, seed=seed + block) for block in range(blocks)
        ]

    def build(self, input_shape: Any) -> None:
        """Create the interval encoding, the blocks, and what the last attention needs."""
        self.interval_encoding = IntervalEncoding(int(input_shape[-1]), self.time_span)
        self.interval_encoding.build(input_shape)
        for block in self.star_blocks:
            block.build(input_shape)
        super().build(input_shape)

    def call(
        self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, timestamps: tf.Tensor | None = None
    ) -> InterestOutput:
        """Attend to a history.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Whether dropout is on.
            timestamps: Seconds [B, L], float64 or int64; 0 where unknown. None: no times are known.

        Returns:
            Interests [B, K, d].
        """
        history = zero_padding(history, mask)
        context = zero_padding(self._keys(history, mask), mask)  # X
        features, internals = context, {}
        if timestamps is not None:
            encoded, internals["interval_weights"] = self.interval_encoding(timestamps, mask)
            features += tf.cast(encoded, features.dtype)
        centre = _mean(features, mask) if self.centre else None
        real = RealItems(mask)
        real_features, real_context = real.rows(features), real.rows(context)  # [R, d]
        for block in self.star_blocks:
            real_features, centre = block(real_features, real_context, centre, mask, training=training)
        features = real.spread(real_features)  # [B, L, d]
        output = self._attend(features, history, mask)
        internals["features"] = tf.cast(features, tf.float32)
        return output._replace(internals={**output.internals, **internals})


def _mean(features: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """[B, d]: the mean of ``features`` [B, L, d], which are 0 at padding, over the real items; 0 without any."""
    counts = tf.maximum(tf.reduce_sum(tf.cast(mask, tf.float32), axis=1, keepdims=True), 1.0)
    return tf.cast(tf.reduce_sum(tf.cast(features, tf.float32), axis=1) / counts, features.dtype)
