"""Dropout, of a history or of a tower's hidden layer, whose randomness belongs to a seed and a checkpoint."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.randomness import RandomStream


class ElementDropout(ConfiguredLayer):
    """Sets each element to 0 with probability ``rate`` in training and divides the others by ``1 - rate``.

    Unlike Keras' own, it draws from a ``RandomStream``: equal seeds give equal runs, and a restored checkpoint goes on where it was.

    Args:
        rate: Probability of dropping, at least 0 and below 1.
        seed: Seed of the choices. Layers of one model should have seeds of their own.

    Raises:
        ValueError: ``rate`` is out of its range.
    """

    def __init__(self, rate: float, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate: expected a number of at least 0 and below 1, got {rate}")
        self.supports_masking = True
        self._choices = RandomStream(seed, "dropout")

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Drop from ``inputs``, of any shape."""
        if not training or self.rate == 0:
            return inputs
        return self._drop(inputs, tf.shape(inputs))

    def _drop(self, inputs: tf.Tensor, choices_shape: tf.Tensor) -> tf.Tensor:
        """Drop by one choice per cell of ``choices_shape``, which broadcasts to the shape of ``inputs``."""
        kept = self._choices.coins(choices_shape, 1 - self.rate)
        return inputs * (tf.cast(kept, inputs.dtype) / (1 - self.rate))


class HistoryDropout(ElementDropout):
    """Drops elements of a history's item vectors [B, L, d], or whole items.

    Args:
        rate: Probability of dropping, at least 0 and below 1.
        seed: Seed of the choices. Layers of one model should have seeds of their own.
        per_item: Drop whole items: their vectors become 0, while they still count as items of the history.

    Raises:
        ValueError: ``rate`` is out of its range.
    """

    def __init__(self, rate: float, seed: int = 0, per_item: bool = False, **kwargs: Any) -> None:
        super().__init__(rate, seed, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Drop from a history [B, L, d]."""
        if not training or self.rate == 0 or not self.per_item:
            return super().call(inputs, training=training)
        shape = tf.shape(inputs)
        return self._drop(inputs, [shape[0], shape[1], 1])
