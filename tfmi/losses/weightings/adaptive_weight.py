"""MTAW's adaptive weight: hard examples count more."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import Readout
from tfmi.layers.common.arguments import require_at_least
from tfmi.losses.base import WEIGHTINGS, Contrast, Objective, Weighting, require_softmax

# log y of an item that takes nearly all of the probability: nearer to 0 float32 does not tell 1 - y from 0.
_LARGEST_LOG_SHARE = -1e-6


@WEIGHTINGS.register("adaptive_weight")
class AdaptiveWeight(Weighting):
    r"""Cross-entropy weighted by how far the model still is from the target::

        loss = -(2 - 2 p)^gamma log p

    with p the target's probability under the objective's softmax. The weight is 1 at p = 1/2, above it for examples that the model gets
    wrong and below it for those that it has learned. Up to the constant 2^gamma it is the focal loss of Lin et al., ICCV 2017. The weight
    is differentiated, as the formula stands; 0 is the plain cross-entropy.

    The paper defines p as y_i where item i is the target and as 1 - y_i where it is not, y being the softmax over all items, so that its
    sum can be read to run over all items as well. ``all_items_terms`` is this reading, as in a binary cross-entropy of every item::

        loss = -(2 - 2 y_t)^gamma log y_t - sum over j != t of (2 y_j)^gamma log(1 - y_j)

    It needs every item's score at once, a few times the memory of batch times catalogue.

    Paper: Ouyang et al., "Mining Interest Trends and Adaptively Assigning Sample Weight for Session-based Recommendation", SIGIR 2023.

    Args:
        gamma: At least 0. The paper takes 2 on Tmall and 6 on RetailRocket.
        stop_gradient_weight: Take the weight as a constant in back-propagation.
        all_items_terms: Add the terms of the items that are not the target.

    Raises:
        ValueError: ``gamma`` is negative.
    """

    def __init__(self, gamma: float = 2.0, stop_gradient_weight: bool = False, all_items_terms: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(0, gamma=gamma)

    def check(self, objective: Objective, readout: Readout) -> None:
        """See ``Weighting``."""
        require_softmax(objective, "adaptive_weight")
        if self.all_items_terms and (not objective.COMPARES_EVERY_ITEM or readout.SUMS_INTERESTS):
            raise ValueError(
                "all_items_terms needs every item's probability: take the objective full_softmax, and a readout that "
                f"does not sum over interests; got {type(objective).__name__} and {type(readout).__name__}"
            )

    def call(self, contrast: Contrast) -> tf.Tensor:
        """float32 [B]."""
        # 1 - p = sigmoid(log_negatives - positive) loses no digits where p is near 1; its log keeps the power's gradient finite at 0.
        log_miss = -tf.nn.softplus(contrast.positive - contrast.log_negatives)
        losses = self._weighted(contrast.cross_entropy(), log_miss)
        return losses + self._terms_of_others(contrast) if self.all_items_terms else losses

    def _terms_of_others(self, contrast: Contrast) -> tf.Tensor:
        """float32 [B]."""
        if contrast.negatives is None:
            raise ValueError("all_items_terms needs a contrast with every item: see check")
        log_total = contrast.positive + contrast.cross_entropy()
        log_shares = tf.minimum(contrast.negatives() - log_total[:, None], _LARGEST_LOG_SHARE)  # [B, C]
        losses = -tf.math.log(-tf.math.expm1(log_shares))  # -log(1 - y)
        return tf.reduce_sum(self._weighted(losses, log_shares), axis=1)

    def _weighted(self, losses: tf.Tensor, log_miss: tf.Tensor) -> tf.Tensor:
        """Losses times ``(2 miss)^gamma``."""
        if self.gamma == 0:
            return losses
        weights = tf.exp(self.gamma * (log_miss + tf.math.log(2.0)))
        return losses * (tf.stop_gradient(weights) if self.stop_gradient_weight else weights)
