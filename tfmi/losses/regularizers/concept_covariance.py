"""SINE's covariance regulariser: prototypes that vary independently of each other."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import InterestExtractor, require_internals
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.randomness import RandomStream
from tfmi.losses.base import REGULARIZERS, BatchContext, Regularizer


def covariance_off_diagonal(prototypes: tf.Tensor) -> tf.Tensor:
    r"""Sum of the squared covariances of all pairs of ``prototypes`` [P, d], a float32 scalar::

        M = (C - mean(C)) (C - mean(C))^T / d;   (|M|^2 - |diag M|^2) / 2

    Each prototype is centred by the mean of its own d entries, which are the samples of the covariance.
    """
    count, dimension = prototypes.shape
    prototypes = tf.cast(prototypes, tf.float32)
    centred = prototypes - tf.reduce_mean(prototypes, axis=1, keepdims=True)
    # C C^T and C^T C have the same norm: of the P x P and the d x d matrix the smaller one will do.
    gram = tf.matmul(centred, centred, transpose_a=count > dimension, transpose_b=count <= dimension)
    on_diagonal = tf.reduce_sum(tf.square(tf.reduce_sum(tf.square(centred), axis=1)))
    return (tf.reduce_sum(tf.square(gram)) - on_diagonal) / (2.0 * dimension**2)


@REGULARIZERS.register("concept_covariance")
class ConceptCovariance(Regularizer):
    r"""``weight`` times the sum of the squared covariances of all pairs of concept prototypes (see ``covariance_off_diagonal``).

    It keeps the pool from holding one concept many times over, and is the only thing that moves prototypes that no user activates. As a
    sum over pairs it grows with the square of the pool, so that a weight suits one size of pool; and with the fourth power of the
    prototypes' length.

    Paper: Tan et al., "Sparse-Interest Network for Sequential Recommendation", WSDM 2021 (SINE), covariance regulariser.

    Args:
        weight: The paper's lambda.
        reg_subsample: Compare as many prototypes only, drawn again at every training step, scaled to estimate the sum over all; None
            compares all of them.
        seed: Seed of the draws.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, weight: float = 0.5, *, reg_subsample: int | None = None, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # the internals are float32 whatever the policy
        require_at_least(0, weight=weight)
        require_at_least(2, reg_subsample=reg_subsample)
        self._draws = RandomStream(seed, "compared prototypes")

    def check(self, extractor: InterestExtractor) -> None:
        """Raise ``ValueError`` if ``extractor`` has no pool of prototypes."""
        require_internals(extractor, ["prototypes"], "ConceptCovariance")

    def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
        """The regularisation loss, a float32 scalar."""
        prototypes = context.output.internals["prototypes"]  # [P, d]
        count = prototypes.shape[0]
        if not training or self.reg_subsample is None or self.reg_subsample >= count:
            return self.weight * covariance_off_diagonal(prototypes)
        drawn = tf.math.top_k(self._draws.uniform([count]), self.reg_subsample).indices
        pairs = count * (count - 1) / (self.reg_subsample * (self.reg_subsample - 1))
        return self.weight * pairs * covariance_off_diagonal(tf.gather(prototypes, drawn))
