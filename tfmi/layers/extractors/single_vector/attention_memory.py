"""STAMP: one interest, a session's long-term memory under attention, gated by its newest item."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.attention.click_attention import ClickAttention, shares, single_interest, weighted_sum
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, num_real_items, zero_padding
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.sequence_encoders.sequence_encoder import built, newest_item


@EXTRACTORS.register("attention_memory")
class AttentionMemoryInterest(InterestExtractor):
    r"""The product of what a session is about and of its newest item, each behind a layer of its own, as a single interest::

        m_t = e[n],  m_s = mean over l of e[l]                              [B, d]
        alpha[l] = w_0 . sigmoid(W_1 e[l] + W_2 m_t + W_3 m_s + b_a)        [B, L], not normalised
        m_a = sum over l of alpha[l] e[l]  (+ m_s)                          [B, d]
        u = tanh(W_s m_a + b_s) * tanh(W_t m_t + b_t)                       [B, 1, d]

    Only the newest item has a place; all others are a set. An empty history gives 0. ``weights`` is each alpha's share of their sizes;
    ``internals`` holds the signed ``"attention"``, float32 [B, 1, L].

    Every coordinate of u lies between -1 and 1: confident scores need long item vectors. The paper puts a sigmoid before the softmax,
    which bounds scores by 1 and is left out.

    Paper: Liu et al., "STAMP: Short-Term Attention/Memory Priority Model for Session-based Recommendation", KDD 2018.

    Example:
        >>> AttentionMemoryInterest()(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 1, 8])

    Args:
        add_mean: Add m_s to m_a, as RecBole's implementation does. The paper's m_a is the weighted sum alone.
        initializer_deviation: Standard deviation of the matrices at the start.

    Raises:
        ValueError: An argument out of its range.
    """

    num_interests = 1

    def __init__(self, *, add_mean: bool = True, initializer_deviation: float = 0.05, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(0, initializer_deviation=initializer_deviation)
        self.attention = ClickAttention(2, use_bias=True, initializer_deviation=initializer_deviation, name="attention")

    def build(self, input_shape: Any) -> None:
        """Create the attention, W_s and W_t [d, d], b_s and b_t [d]."""
        built(self.attention, input_shape)
        self.memory_layer = self._tanh_layer("memory", int(input_shape[-1]))
        self.newest_layer = self._tanh_layer("newest", int(input_shape[-1]))
        super().build(input_shape)

    def _tanh_layer(self, name: str, dimension: int) -> tf.keras.layers.Dense:
        noise = tf.keras.initializers.RandomNormal(stddev=self.initializer_deviation)
        return built(tf.keras.layers.Dense(dimension, activation="tanh", kernel_initializer=noise, name=name), [None, dimension])

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> InterestOutput:
        """Read a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            training: Changes nothing here.

        Returns:
            One interest, [B, 1, d].
        """
        history = zero_padding(history, mask)
        newest = tf.matmul(newest_item(mask, history.dtype), history)[:, 0]  # [B, d]
        each = tf.math.reciprocal_no_nan(tf.cast(num_real_items(mask), tf.float32))[:, None]  # [B, 1]
        mean = weighted_sum(each * tf.cast(mask, tf.float32), history)  # [B, d]
        alpha = self.attention(history, mask, [newest, mean])
        memory = weighted_sum(alpha, history)
        if self.add_mean:
            memory += mean
        interests, active = single_interest(self.memory_layer(memory) * self.newest_layer(newest), mask)
        return InterestOutput(interests, active, shares(alpha), {"attention": alpha[:, None, :]})
