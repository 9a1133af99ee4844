"""Every example counts the same."""

from __future__ import annotations

import tensorflow as tf

from tfmi.losses.base import WEIGHTINGS, Contrast, Weighting


@WEIGHTINGS.register("cross_entropy")
class CrossEntropy(Weighting):
    """The plain softmax cross-entropy ``-log p`` of the target."""

    def call(self, contrast: Contrast) -> tf.Tensor:
        """float32 [B]."""
        return contrast.cross_entropy()
