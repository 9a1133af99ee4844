"""REMI's routing regularisation."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import InterestExtractor
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.losses.base import REGULARIZERS, BatchContext, Regularizer
from tfmi.losses.regularizers.interest_attention import attention_over_items, require_differentiable_weights


def squared_variances(attention: tf.Tensor, mask: tf.Tensor, divisor: tf.Tensor | float) -> tf.Tensor:
    """float32 [B]: the sum over the interests of (sum over l of ``(A[k, l] - mean of A[k])^2`` / divisor)^2.

    Args:
        attention: float32 [B, K, L], 0 where ``mask`` is False.
        mask: bool [B, L]: the items that mean and sum go over.
        divisor: Broadcast to [B].
    """
    counted = tf.cast(mask, tf.float32)[:, None, :]  # [B, 1, L]
    mean = tf.math.divide_no_nan(tf.reduce_sum(attention, axis=2, keepdims=True), tf.reduce_sum(counted, axis=2, keepdims=True))
    spread = tf.reduce_sum(tf.square(attention - mean) * counted, axis=2)  # [B, K]
    return tf.reduce_sum(tf.square(spread), axis=1) / tf.square(divisor)


@REGULARIZERS.register("routing_regularization")
class RoutingRegularization(Regularizer):
    r"""Keeps an interest's weights from collapsing into a spike on one item: their variance over the history, squared::

        A = weights of an interest over the items, summing to 1            [B, K, L]
        C_kk = (sum over l of (A[k, l] - mean of A[k])^2) / c              [B, K]
        loss = weight * sum over the batch of sum over k of C_kk^2

    that is the squared Frobenius norm of the diagonal of the weights' covariance. Every interest is flattened; different interests are
    not pushed apart. Too large a weight makes all of them the history's mean.

    The defaults are those of the authors' code, to which the paper's weight of 100 belongs: c is the width d, and the loss is summed over
    the batch. That makes the weight depend on batch size, width and length: with the "mean" over the batch and c the "length" n, the
    weight that does the same is ``weight * B * (n / d)^2`` for full histories.

    Extractors that route need ``stop_gradient_routing: false``, or their weights would take no notice.

    Paper: Xie et al., "Rethinking Multi-Interest Learning for Candidate Matching in Recommender Systems", RecSys 2023.

    Args:
        weight: Factor of the loss, at least 0.
        normalizer: c: "dim" is the width d, "length" the number of positions.
        reduction: "sum" over the batch, or "mean".
        masked: Take mean, sum and "length" over the real items only, so that equal weights cost nothing however short a history is and
            padding plays no part. Otherwise they go over all L positions of the window, padding included, as in the authors' code.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        weight: float = 100.0,
        normalizer: Literal["dim", "length"] = "dim",
        reduction: Literal["sum", "mean"] = "sum",
        masked: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        require_at_least(0, weight=weight)
        require_choice(("dim", "length"), normalizer=normalizer)
        require_choice(("sum", "mean"), reduction=reduction)

    def check(self, extractor: InterestExtractor) -> None:
        """Refuse extractors whose weights carry no gradient; see ``Regularizer``."""
        require_differentiable_weights(extractor, "routing_regularization")

    def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
        """float32 scalar; see ``Regularizer``."""
        attention = attention_over_items(context.output, context.mask)  # [B, K, L]
        mask = context.mask if self.masked else tf.ones_like(context.mask)
        divisor: tf.Tensor | float
        if self.normalizer == "dim":
            divisor = float(context.output.interests.shape[-1])
        else:
            divisor = tf.maximum(tf.reduce_sum(tf.cast(mask, tf.float32), axis=1), 1.0)  # [B]
        losses = squared_variances(attention, mask, divisor)  # [B]
        return self.weight * (tf.reduce_sum(losses) if self.reduction == "sum" else tf.reduce_mean(losses))
