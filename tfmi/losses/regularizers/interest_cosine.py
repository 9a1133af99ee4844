"""A penalty on interests of one user that point the same way."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import InterestExtractor
from tfmi.layers.common.arguments import require_at_least
from tfmi.losses.base import REGULARIZERS, BatchContext, Regularizer


def mean_pairwise_cosine(vectors: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """float32 [B]: the mean cosine over the pairs of active rows of ``vectors`` [B, K, d]; 0 where there are less than two."""
    directions = tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1)
    directions = tf.where(active[..., None], directions, 0.0)
    # The cosines of all pairs, without forming them: (|sum of u|^2 - sum of |u|^2) over ordered pairs.
    of_sum = tf.reduce_sum(tf.square(tf.reduce_sum(directions, axis=1)), axis=-1)
    own = tf.reduce_sum(tf.square(directions), axis=[1, 2])
    count = tf.reduce_sum(tf.cast(active, tf.float32), axis=1)
    return tf.math.divide_no_nan(of_sum - own, count * (count - 1.0))


@REGULARIZERS.register("interest_cosine")
class InterestCosine(Regularizer):
    r"""``weight`` times the batch mean of::

        1/2 + sum over pairs j < k of cos(v_j, v_k) / (K (K - 1))

    of the vectors that are searched with, K being the number of active ones. It is 1 if all point the same way, 1/2 if they are
    orthogonal, and 1/2 for users of a single interest. Any extractor of more than one interest works.

    Source: the published code of Tan et al., "Sparse-Interest Network for Sequential Recommendation", WSDM 2021 (SINE), which has it in
    the place of the paper's covariance of prototypes, with weight 0 by default.

    Args:
        weight: The code's alpha.

    Raises:
        ValueError: ``weight`` is negative.
    """

    def __init__(self, weight: float = 0.1, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        require_at_least(0, weight=weight)

    def check(self, extractor: InterestExtractor) -> None:
        """Raise ``ValueError`` if ``extractor`` gives one interest only."""
        if extractor.num_interests < 2:
            raise ValueError(f"InterestCosine compares the interests of a user, but the extractor gives {extractor.num_interests}")

    def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
        """The regularisation loss, a float32 scalar."""
        cosines = mean_pairwise_cosine(context.interests, context.output.active)  # [B]
        return self.weight * tf.reduce_mean(0.5 + 0.5 * cosines)
