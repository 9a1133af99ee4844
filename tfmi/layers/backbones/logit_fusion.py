"""MGIPF's fusion: one logit of several, by weights that do not depend on the data."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer


class LogitFusion(ConfiguredLayer):
    r"""A trained linear combination of C + 1 logits::

        z = sum over c of  w_c z_c  (+ b)

    The weights start at 1 / (C + 1), so that the combination starts as the mean. Coarse logits have the base rate of their own labels;
    the bias, which the paper's code does not have, can take that back.

    Paper: "MGIPF: Multi-Granularity Interest Prediction Framework for Personalized Recommendation", SIGIR 2025.

    Args:
        use_bias: Whether there is b.

    Shapes: float32 [..., C + 1] to float32 [...].
    """

    def __init__(self, use_bias: bool = False, **kwargs: Any) -> None:
        # Logits are float32 under any policy, and stay it.
        super().__init__(**{"autocast": False, **kwargs})

    def build(self, input_shape: Any) -> None:
        """Create w [C + 1], and b."""
        number = int(input_shape[-1])
        equal = tf.keras.initializers.Constant(1.0 / number)
        self.weighing = self.add_weight("weights", [number], initializer=equal, experimental_autocast=False)
        self.bias = self.add_weight("bias", [], initializer="zeros", experimental_autocast=False) if self.use_bias else None
        super().build(input_shape)

    def call(self, logits: tf.Tensor) -> tf.Tensor:
        """The combined logit."""
        combined = tf.linalg.matvec(logits, self.weighing)
        return combined if self.bias is None else combined + self.bias
