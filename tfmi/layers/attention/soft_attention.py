"""Soft attention over a session's clicks that knows their age and the session's mean."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.attention.click_attention import ClickAttention, weighted_sum
from tfmi.layers.base import ConfiguredLayer, num_real_items
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.initializers import uniform_noise
from tfmi.layers.common.positions import items_after
from tfmi.layers.common.slots import first_slots, num_slots
from tfmi.layers.sequence_encoders.sequence_encoder import built


class SoftAttention(ConfiguredLayer):
    r"""Clicks weighed by what they are, how old they are and the mean of their session, then summed::

        m = mean over l of h[l]                                             [B, d]
        n[l] = tanh(W [p[items after l] ; h[l]])                            [B, L, d]
        beta[l] = q . sigmoid(G_1 n[l] + G_2 m + b)                         [B, L], not normalised
        s = sum over l of beta[l] h[l]                                      [B, d]

    Positions p count from the newest click, which always meets p[0]. With ``positions="none"`` n[l] is h[l].

    Papers: Wang et al., "Global Context Enhanced Graph Neural Networks for Session-based Recommendation", SIGIR 2020; Xia et al.,
    "Self-Supervised Hypergraph Convolutional Networks for Session-based Recommendation", AAAI 2021, whose published code leaves the
    positions out on Tmall.

    Args:
        positions: "newest" or "none".
        max_length: Longest history that will ever be given; None takes that of the first call.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, positions: Literal["newest", "none"] = "newest", max_length: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_choice(("newest", "none"), positions=positions)
        require_at_least(1, max_length=max_length)
        self.attention = ClickAttention(use_bias=True, start="uniform", name="attention")

    def build(self, input_shape: Any) -> None:
        """Create p [S, d], W as two halves [d, d], and the attention."""
        width = int(input_shape[-1])
        if self.positions == "newest":
            slots = num_slots(input_shape, self.max_length)
            self.position_embeddings = self.add_weight("position_embeddings", [slots, width], initializer=uniform_noise(width))
            self.position_kernel = self.add_weight("position_kernel", [width, width], initializer=uniform_noise(width))
            self.click_kernel = self.add_weight("click_kernel", [width, width], initializer=uniform_noise(width))
        built(self.attention, input_shape)
        super().build(input_shape)

    def call(self, states: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Weigh and sum.

        Args:
            states: h [B, L, d], 0 at padding.
            mask: bool [B, L], True at real items.

        Returns:
            s [B, d], 0 for an empty history, and beta float32 [B, L], 0 at padding.
        """
        lengths = tf.maximum(num_real_items(mask), 1)
        shares = tf.cast(mask, tf.float32) / tf.cast(lengths, tf.float32)[:, None]
        beta = self.attention(self._aged(states, mask), mask, [weighted_sum(shares, states)])
        return weighted_sum(beta, states), beta

    def _aged(self, states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """n [B, L, d]."""
        if self.positions == "none":
            return states
        by_age = tf.matmul(first_slots(self.position_embeddings, states), self.position_kernel)  # [L, d]
        return tf.tanh(tf.gather(by_age, items_after(mask)) + tf.matmul(states, self.click_kernel))
