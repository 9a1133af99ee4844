"""What Re4's backward flows share: the interests before what is scored, the items each of them stands for, and means over these.

Paper: Zhang et al., "Re4: Learning to Re-contrast, Re-attend, Re-construct for Multi-interest Recommendation", WWW 2022.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from tfmi.layers.base import InterestOutput, num_real_items
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.losses.base import BatchContext
from tfmi.losses.regularizers.interest_attention import attention_over_items

# "items": the mean over the pairs of an interest and one of its items; "cells": the mean over all B K L pairs, the others counting as 0.
Reduction = Literal["items", "cells"]

# Uniform attention of n items is 1 / n only up to rounding, which must not make an item a member.
_TOLERANCE = 1e-6


def require_backward_flow(weight: float, threshold: float | None, reduction: str) -> None:
    """Check the arguments that the flows share; raises ``ValueError`` naming the one that is out of its range."""
    require_at_least(0, weight=weight, threshold=threshold)
    require_choice(("items", "cells"), reduction=reduction)


def raw_interests(output: InterestOutput) -> tf.Tensor:
    """The interests z, float32 [B, K, d], before any transform of what is scored.

    These live where the history's item vectors do, as far as anything makes them: the backward flows compare the two directly. A user
    tower with layers comes after them, and so does an extractor's own output transform, in which case the extractor keeps them in
    ``internals["raw_interests"]``.
    """
    return tf.cast(output.internals.get("raw_interests", output.interests), tf.float32)


def interest_items(context: BatchContext, threshold: float | None) -> tf.Tensor:
    """P, which items each interest stands for: bool [B, K, L], attention above the threshold.

    Attention is the extractor's weights as shares of each interest (``attention_over_items``). No gradient passes through a comparison.
    Padding and inactive interests have no members, nor has an interest that attends to all of its items alike, as to a single one.

    Args:
        context: What a regulariser is called with.
        threshold: The smallest share of a member, exclusive; None takes 1 / n for a history of n items.
    """
    attention = attention_over_items(context.output, context.mask)  # [B, K, L]
    counts = tf.cast(num_real_items(context.mask), tf.float32)  # [B]
    limits = tf.math.reciprocal_no_nan(counts) if threshold is None else tf.fill(tf.shape(counts), threshold)
    return (attention > limits[:, None, None] + _TOLERANCE) & context.mask[:, None, :] & context.output.active[:, :, None]


def mean_over_items(losses: tf.Tensor, members: tf.Tensor, reduction: Reduction) -> tf.Tensor:
    """Scalar mean of ``losses`` [B, K, L] over ``members`` (bool, same shape) or over all cells; 0 if there are no members.

    The mean over cells depends on how much padding a batch has and on how many items each interest stands for.
    """
    total = tf.reduce_sum(tf.where(members, losses, 0.0))
    count = tf.size(members) if reduction == "cells" else tf.math.count_nonzero(members)
    return total / tf.maximum(tf.cast(count, tf.float32), 1.0)
