"""MTAW's adaptive weight: hard examples count more."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.arguments import require_at_least
from tfmi.losses.base import WEIGHTINGS, Contrast, Weighting


@WEIGHTINGS.register("adaptive_weight")
class AdaptiveWeight(Weighting):
    r"""Cross-entropy weighted by how far the model still is from the target::

        loss = -(2 - 2 p)^gamma log p

    with p the target's probability under the objective's softmax. The weight is 1 at p = 1/2, above it for examples that the model gets
    wrong and below it for those that it has learned. Up to the constant 2^gamma it is the focal loss of Lin et al., ICCV 2017. The weight
    is differentiated, as the formula stands; 0 is the plain cross-entropy.

    Paper: Ouyang et al., "Mining Interest Trends and Adaptively Assigning Sample Weight for Session-based Recommendation", SIGIR 2023.

    Args:
        gamma: At least 0. The paper takes 2 on Tmall and 6 on RetailRocket.
        stop_gradient_weight: Take the weight as a constant in back-propagation.

    Raises:
        ValueError: ``gamma`` is negative.
    """

    def __init__(self, gamma: float = 2.0, stop_gradient_weight: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(0, gamma=gamma)
        self.gamma = gamma
        self.stop_gradient_weight = stop_gradient_weight

    def call(self, contrast: Contrast) -> tf.Tensor:
        """float32 [B]."""
        losses = contrast.cross_entropy()
        if self.gamma == 0:
            return losses
        # 1 - p = sigmoid(log_negatives - positive) loses no digits where p is near 1; its log keeps the power's gradient finite at 0.
        log_miss = -tf.nn.softplus(contrast.positive - contrast.log_negatives)
        weights = tf.exp(self.gamma * (log_miss + tf.math.log(2.0)))
        return losses * (tf.stop_gradient(weights) if self.stop_gradient_weight else weights)
