"""Octopus' regulariser: channels stay apart."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import InterestExtractor, require_internals
from tfmi.layers.common.arguments import require_at_least
from tfmi.losses.base import REGULARIZERS, BatchContext, Regularizer


@REGULARIZERS.register("channel_orthogonality")
class ChannelOrthogonality(Regularizer):
    r"""Pulls the channels of an ``elastic_archive`` towards right angles, whatever their lengths::

        loss = weight * |H H^T - I|^2 / (M (M - 1))        with H [M, d] the channels, each divided by its length

    It is the mean squared cosine of two different channels; a single channel costs nothing.

    Paper: Liu et al., "Octopus: Comprehensive and Elastic User Representation for the Generation of Recommendation Candidates", SIGIR
    2020, channel orthogonality. The form of the loss and its weight are this package's.

    Args:
        weight: Factor of the loss.

    Raises:
        ValueError: A negative weight.
    """

    def __init__(self, weight: float = 0.1, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # the internals are float32 whatever the policy
        require_at_least(0, weight=weight)

    def check(self, extractor: InterestExtractor) -> None:
        """Raise ``ValueError`` if the extractor has no channels."""
        require_internals(extractor, ("channel_vectors",), "channel_orthogonality")

    def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
        """The weighted loss, a float32 scalar."""
        return self.weight * squared_cosines(context.output.internals["channel_vectors"])


def squared_cosines(channels: tf.Tensor) -> tf.Tensor:
    """``|H H^T - I|^2 / (M (M - 1))`` of the row-normalised channels [M, d]; 0 for M = 1."""
    num_channels = channels.shape[0]
    directions = tf.math.l2_normalize(channels, axis=1)
    gram = tf.matmul(directions, directions, transpose_b=True)  # [M, M]
    deviation = tf.reduce_sum(tf.square(gram - tf.eye(num_channels)))
    return deviation / max(1, num_channels * (num_channels - 1))
