"""A drawn interest answers for the target, so that none is starved by another that wins every time."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import MASKED_LOGIT, READOUTS, Readout
from tfmi.layers.common.arguments import require_above, require_at_least
from tfmi.layers.common.randomness import RandomStream

_SMALLEST_SHARE = 1e-6


@READOUTS.register("sampled_interest")
class SampledInterest(Readout):
    r"""Draws the interest that is trained, the likelier the better it fits the target and the less it has been used::

        k ~ softmax over active interests of (v_k . e / temperature - balance log(share of k))
        query = v_k                                                        [B, d]

    A hard choice trains the best interest only: one that wins early wins always, and the others never learn. A draw gives each a chance
    that grows with its score. ``share`` is the running share of examples that each of the K places has answered for; with ``balance`` a
    place that answers for more than others is drawn less, so that use evens out. Negatives are scored by the drawn interest. The draw is
    a constant in back-propagation; serving looks at the interests as they are.

    Source: the idea of choosing the trained interest by a draw, with balanced use, is BaM's, a training scheme for multi-interest models;
    the formulation is this project's own.

    Args:
        temperature: Above 0; towards 0 the best interest is chosen.
        balance: At least 0; 0 does not look at what has been used.
        usage_rate: How fast ``share`` follows, above 0 and at most 1.
        seed: Seed of the draws; their ``RandomStream`` is part of a checkpoint, and so is ``share``.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, temperature: float = 0.1, *, balance: float = 0.0, usage_rate: float = 0.01, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_above(0, temperature=temperature, usage_rate=usage_rate)
        require_at_least(0, balance=balance)
        if usage_rate > 1:
            raise ValueError(f"usage_rate: expected a number of at most 1, got {usage_rate}")
        self.stream = RandomStream(seed, purpose="trained interests")

    def build(self, input_shape: Any) -> None:
        """Create the shares [K]."""
        count = int(input_shape[1])
        even = tf.keras.initializers.Constant(1.0 / count)
        self.shares = self.add_weight("shares", [count], initializer=even, trainable=False, experimental_autocast=False)
        super().build(input_shape)

    def call(self, interests: tf.Tensor, active: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Draw an interest for each target, and count it.

        Args:
            interests: [B, K, d].
            active: bool [B, K].
            target: [B, d].

        Returns:
            Queries [B, d].
        """
        scores = tf.einsum("bkd,bd->bk", tf.cast(interests, tf.float32), tf.cast(target, tf.float32)) / self.temperature
        logits = scores - self.balance * tf.math.log(tf.maximum(tf.convert_to_tensor(self.shares), _SMALLEST_SHARE))
        # The largest of logits with Gumbel noise is a draw from their softmax.
        uniform = self.stream.uniform(tf.shape(logits), minval=1e-7, maxval=1.0)
        noisy = tf.where(active, tf.stop_gradient(logits) - tf.math.log(-tf.math.log(uniform)), MASKED_LOGIT)
        drawn = tf.argmax(noisy, axis=1, output_type=tf.int32)  # [B]
        used = tf.reduce_mean(tf.one_hot(drawn, tf.shape(logits)[1]), axis=0)
        self.shares.assign_add(self.usage_rate * (used - self.shares))
        return tf.gather(interests, drawn, batch_dims=1)
