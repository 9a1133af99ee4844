"""MIND's label-aware attention, ComiRec's hard choice included."""

from __future__ import annotations

import math
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import READOUTS, Readout, masked_softmax
from tfmi.layers.common.arguments import require_at_least, require_choice

# From this power on the softmax is a choice of the best interest for any but nearly equal scores, and |x|^p leaves float32.
_HARD_POWER = 100.0
_SMALLEST_MAGNITUDE = 1e-6
_LARGEST_SHARPENED = 1e30


@READOUTS.register("label_aware")
class LabelAwareAttention(Readout):
    r"""Lets the target decide how much each active interest answers for it::

        query = sum over k of softmax(pow(v_k . e, p)) v_k                  [B, d]

    ``p = 0`` is the mean of the active interests; ``p = inf`` picks the best one, ties going to the lowest index, and the gradient
    reaches that one only. A power of a negative score would not be a number (fractional p) or turn the order around (even p), so
    ``pow`` keeps the sign: ``sign(x) max(|x|, 1e-6)^p``.

    Papers: Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", CIKM 2019, label-aware
    attention layer; Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD 2020, model training (hard).

    Example:
        >>> interests = tf.constant([[[1.0, 0.0], [0.0, 2.0]]])
        >>> query = LabelAwareAttention()(interests, tf.constant([[True, True]]), tf.constant([[1.0, 1.0]]))
        >>> query.numpy().tolist()
        [[0.0, 2.0]]

    Args:
        power: p, at least 0. In mode "pow", 100 and above are taken as infinite.
        mode: "pow" raises scores to the power p (MIND); "scale" multiplies them by p (EasyRec).

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, power: float = math.inf, mode: Literal["pow", "scale"] = "pow", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(0, power=power)
        require_choice(("pow", "scale"), mode=mode)

    def call(self, interests: tf.Tensor, active: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Attend to the interests.

        Args:
            interests: [B, K, d].
            active: bool [B, K].
            target: [B, d].

        Returns:
            Queries [B, d].
        """
        scores = tf.linalg.matvec(tf.cast(interests, tf.float32), tf.cast(target, tf.float32))
        if self._is_hard():
            choosable = tf.where(active, tf.stop_gradient(scores), scores.dtype.min)
            best = tf.argmax(choosable, axis=1, output_type=tf.int32)
            # All users' interests as rows of one table: the gradient of a gather with batch_dims works this out in a dozen operations.
            num_users, num_interests, width = tf.shape(interests)[0], interests.shape[1], interests.shape[2]
            return tf.gather(tf.reshape(interests, [-1, width]), tf.range(num_users) * num_interests + best)
        weights = tf.cast(self._soft_weights(scores, active), interests.dtype)
        return tf.einsum("bk,bkd->bd", weights, interests)

    def _is_hard(self) -> bool:
        return math.isinf(self.power) or (self.mode == "pow" and self.power >= _HARD_POWER)

    def _soft_weights(self, scores: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
        """float32 [B, K]: the softmax of the sharpened scores over the active interests."""
        if self.power == 0:
            sharpened = tf.zeros_like(scores)
        elif self.mode == "scale":
            sharpened = self.power * scores
        else:
            magnitude = tf.clip_by_value(tf.abs(scores), _SMALLEST_MAGNITUDE, _LARGEST_SHARPENED ** (1 / self.power))
            sharpened = tf.sign(scores) * tf.pow(magnitude, self.power)
        # Relative to the best active interest, so that powers of large scores stay above the logit of the inactive ones.
        best = tf.reduce_max(tf.where(active, sharpened, sharpened.dtype.min), axis=1, keepdims=True)
        return masked_softmax(sharpened - tf.stop_gradient(best), active)
