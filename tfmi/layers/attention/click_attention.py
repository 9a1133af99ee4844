"""Attention over a session's clicks that is not divided among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, RealItems, masked_softmax, zero_padding
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.initializers import initial_noise, uniform_noise


class ClickAttention(ConfiguredLayer):
    r"""How much each click matters in view of what is known of its session, by a network with one hidden layer::

        alpha[l] = v . sigmoid(W x[l] + W_1 c_1 + W_2 c_2 + ... + b)        [B, L], 0 at padding

    Without ``softmax`` nothing makes the alphas sum to 1, nor keeps them positive: a click may count against an interest, and a long
    session has a longer sum than a short one.

    Papers: Li et al., "Neural Attentive Session-based Recommendation", CIKM 2017 (one context, no b); Liu et al., "STAMP:
    Short-Term Attention/Memory Priority Model for Session-based Recommendation", KDD 2018 (two contexts); Wu et al.,
    "Session-Based Recommendation with Graph Neural Networks", AAAI 2019 (one context).

    Args:
        num_contexts: How many c there are, each as wide as a click.
        use_bias: Whether there is b.
        softmax: Take a softmax over the clicks.
        start: What all weights start from: "glorot" noise, or noise "uniform" within 1 / sqrt(d).
        initializer_deviation: Standard deviation of normal noise that the matrices start from instead; b is then 0.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        num_contexts: int = 1,
        *,
        use_bias: bool = False,
        softmax: bool = False,
        start: Literal["glorot", "uniform"] = "glorot",
        initializer_deviation: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_contexts=num_contexts)
        require_at_least(0, initializer_deviation=initializer_deviation)
        require_choice(("glorot", "uniform"), start=start)

    def build(self, input_shape: Any) -> None:
        """Create W [d, d], the matrices of the contexts, together [contexts d, d], v [d, 1] and b [d]."""
        width = int(input_shape[-1])
        uniform = self.start == "uniform" and self.initializer_deviation is None

        def noise() -> tf.keras.initializers.Initializer:
            return uniform_noise(width) if uniform else initial_noise(self.initializer_deviation)

        self.click_kernel = self.add_weight("click_kernel", [width, width], initializer=noise())
        self.context_kernel = self.add_weight("context_kernel", [self.num_contexts * width, width], initializer=noise())
        self.alpha_kernel = self.add_weight("alpha_kernel", [width, 1], initializer=noise())
        if self.use_bias:
            self.bias = self.add_weight("bias", [width], initializer=uniform_noise(width) if uniform else "zeros")
        super().build(input_shape)

    def call(self, clicks: tf.Tensor, mask: tf.Tensor, contexts: Sequence[tf.Tensor]) -> tf.Tensor:
        """Weigh clicks.

        Args:
            clicks: [B, L, d], 0 at padding.
            mask: bool [B, L], True at real items.
            contexts: What is known of the sessions, each [B, d].

        Returns:
            alpha, float32 [B, L].
        """
        real = RealItems(mask)
        context = tf.matmul(tf.concat(contexts, axis=-1), self.context_kernel)  # [B, d]
        if self.use_bias:
            context += self.bias
        hidden = tf.sigmoid(tf.matmul(real.rows(clicks), self.click_kernel) + tf.gather(context, real.places[:, 0]))  # [R, d]
        alpha = tf.cast(real.spread(tf.matmul(hidden, self.alpha_kernel))[..., 0], tf.float32)
        return masked_softmax(alpha, mask) if self.softmax else alpha


def weighted_sum(alpha: tf.Tensor, clicks: tf.Tensor) -> tf.Tensor:
    """[B, d]: the sum of ``clicks`` [B, L, d] times ``alpha`` [B, L], computed in float32."""
    summed = tf.matmul(alpha[:, None, :], tf.cast(clicks, tf.float32))[:, 0]
    return tf.cast(summed, clicks.dtype)


def shares(alpha: tf.Tensor) -> tf.Tensor:
    """float32 [B, 1, L], for ``InterestOutput.weights``: the share of each click in the sum of ``alpha``'s [B, L] sizes."""
    sizes = tf.abs(alpha)
    return tf.math.divide_no_nan(sizes, tf.reduce_sum(sizes, axis=1, keepdims=True))[:, None, :]


def single_interest(interest: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """``interest`` [B, d] as one interest of each user, [B, 1, d], 0 for an empty history of ``mask`` [B, L]; and that it is active."""
    interests = zero_padding(interest[:, None, :], tf.reduce_any(mask, axis=1, keepdims=True))
    return interests, tf.ones([tf.shape(mask)[0], 1], tf.bool)
