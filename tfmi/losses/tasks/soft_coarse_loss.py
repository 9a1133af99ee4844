"""MGIPF's soft loss of coarse labels: how much a row counts depends on what was clicked."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer


class SoftCoarseLoss(ConfiguredLayer):
    r"""Cross-entropy of coarse labels y_c (does the user like this category?) that were made of fine labels y (clicked this item?)::

        loss    = omega BCE(y_c, z_c)
        omega   = 1                     y = 1               full interest
                  partial_interest      y = 0, y_c = 1      the user likes some item of this kind: perhaps not this one
                  no_interest           y = 0, y_c = 0      nothing of this kind was clicked: perhaps only never seen

    Full interest is certain; the other two may be wrong and count less. The weights do not sum to anything: a batch's loss is the mean
    over its rows, so that less certain rows make it smaller.

    Paper: "MGIPF: Multi-Granularity Interest Prediction Framework for Personalized Recommendation", SIGIR 2025. The defaults suit
    clicks; for rare labels such as purchases the published code takes 0.7 and 0.5.

    Args:
        partial_interest: omega of partial interest.
        no_interest: omega of no interest.
        soft: False takes every omega as 1.

    Shapes: fine labels float32 [B], coarse labels and logits float32 [B, C], to float32 [B, C].

    Raises:
        ValueError: A weight is not in [0, 1].
    """

    def __init__(self, partial_interest: float = 0.2, no_interest: float = 0.1, soft: bool = True, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        for name, weight in (("partial_interest", partial_interest), ("no_interest", no_interest)):
            if not 0 <= weight <= 1:
                raise ValueError(f"{name}: expected a weight of at least 0 and at most 1, got {weight}")

    def row_weights(self, labels: tf.Tensor, coarse_labels: tf.Tensor) -> tf.Tensor:
        """float32 [B, C]: omega."""
        if not self.soft:
            return tf.ones_like(coarse_labels)
        without_click = tf.where(coarse_labels > 0, self.partial_interest, self.no_interest)
        return tf.where(labels[:, None] > 0, 1.0, without_click)

    def call(self, labels: tf.Tensor, coarse_labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of each row and coarse feature."""
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=coarse_labels, logits=logits)
        return self.row_weights(labels, coarse_labels) * entropy
