"""One likelihood over a user's own items and the catalogue's others."""

from __future__ import annotations

import tensorflow as tf

from tfmi.layers.base import MASKED_LOGIT
from tfmi.losses.base import Contrast


def with_repeats(contrast: Contrast, own_logits: tf.Tensor, is_target: tf.Tensor) -> Contrast:
    """Let the items of each history compete with those that an objective compares.

    Args:
        contrast: Of an objective that left the history out.
        own_logits: float32 [B, L] of the history's items, -inf where there is none.
        is_target: bool [B, L], where the item is the target.

    Returns:
        The contrast whose positive is the target's own logit where the target is in the history, and whose negatives are both the
        objective's and the history's others.
    """
    # Everything in the history is compared for certain: what the objective drew stands for more than itself.
    own = tf.maximum(own_logits, MASKED_LOGIT) + contrast.log_inclusion
    is_target &= own_logits > MASKED_LOGIT
    other_own = tf.where(is_target, MASKED_LOGIT, own)  # [B, L]
    others = tf.reduce_logsumexp(other_own, axis=1)
    largest = tf.maximum(others, contrast.log_negatives)
    log_negatives = largest + tf.math.log(tf.exp(others - largest) + tf.exp(contrast.log_negatives - largest))
    positive = tf.where(tf.reduce_any(is_target, axis=1), tf.reduce_max(tf.where(is_target, own, MASKED_LOGIT), axis=1), contrast.positive)
    one_by_one = contrast.negatives
    negatives = None if one_by_one is None else lambda: tf.concat([one_by_one(), other_own], axis=1)
    return Contrast(positive, log_negatives, negatives=negatives)
