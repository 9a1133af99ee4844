"""Experts mixed by what is known of the user."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.history_dropout import ElementDropout


class GatedMixture(ConfiguredLayer):
    """A mean of experts, weighted by a linear gate::

        g = softmax(W x + b)                                                                        [B, n]
        m = sum over i of g_i e_i                                                                   [B, h]

    A single expert needs no gate, and has none. The gate is computed in float32.

    Paper: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018.

    Args:
        num_experts: n.
        dropout: Share of a user's gate weights dropped in training; the others then sum to 1 again. It keeps one expert from taking all.
        seed: Seed of the dropout.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, num_experts: int, dropout: float = 0.0, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_experts=num_experts)
        self.drop = ElementDropout(dropout, seed, dtype=tf.float32)
        noise = tf.keras.initializers.RandomNormal(stddev=0.01)
        self.logits = tf.keras.layers.Dense(num_experts, kernel_initializer=noise, name="gate") if num_experts > 1 else None

    def weights_of(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """g, float32 [B, n], of inputs x [B, w]."""
        if self.logits is None:
            return tf.ones([tf.shape(inputs)[0], 1], tf.float32)
        gate = tf.nn.softmax(tf.cast(self.logits(inputs), tf.float32), axis=-1)
        kept = self.drop(gate, training=training)
        total = tf.reduce_sum(kept, axis=-1, keepdims=True)
        return tf.where(total > 0, tf.math.divide_no_nan(kept, total), gate)

    def call(self, inputs: tf.Tensor, experts: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Mix.

        Args:
            inputs: x [B, w].
            experts: e [B, n, h].
            training: Whether dropout is on.

        Returns:
            m [B, h].
        """
        if self.logits is None:
            return experts[:, 0]
        return tf.einsum("bn,bnh->bh", tf.cast(self.weights_of(inputs, training), experts.dtype), experts)
