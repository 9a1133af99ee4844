"""Every interest is one component of a mixture, and all of them answer for the target."""

from __future__ import annotations

from typing import ClassVar

import tensorflow as tf

from tfmi.layers.base import READOUTS, Readout


@READOUTS.register("mixture")
class Mixture(Readout):
    r"""Hands all interests to the objective, which sums over them where ``max_sim`` takes the best::

        P(i) = sum over k of exp(v_k . e_i / T) / sum over k, j of exp(v_k . e_j / T)

    The target is assigned softly: the gradient reaches each interest in proportion to its part in P(target), so that none starves for
    want of a first win, as under a hard choice. Negatives are scored like the target. Written as a mixture of softmaxes, interest k has
    the weight Z_k / Z: one whose scores are low everywhere contributes little. In serving, where the sum is dominated by its largest
    term, items are found by their best interest.

    Costs K times the softmax of a single vector.

    Source: no paper; the mixture of softmaxes of Yang et al., ICLR 2018, with tied normalisation.
    """

    SUMS_INTERESTS: ClassVar[bool] = True

    def call(self, interests: tf.Tensor, active: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """All interests as they are.

        Args:
            interests: [B, K, d].
            active: bool [B, K].
            target: [B, d]; changes nothing here.

        Returns:
            Queries [B, K, d]; the sum leaves inactive ones out, so that their rows need not repeat an active one.
        """
        return interests
