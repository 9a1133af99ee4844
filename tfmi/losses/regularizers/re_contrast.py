"""Re4's Re-contrast: interests that are distinct from each other and near the items they stand for."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import MASKED_LOGIT
from tfmi.layers.common.arguments import require_at_least
from tfmi.losses.base import REGULARIZERS, BatchContext, Regularizer
from tfmi.losses.regularizers.interest_items import Reduction, interest_items, mean_over_items, raw_interests, require_backward_flow


@REGULARIZERS.register("re_contrast")
class ReContrast(Regularizer):
    r"""Contrasts each interest's own items with everything else it could be taken for.

    With z the raw interests, x the history's item vectors, P_k the items of interest k (``interest_items``) and s the cosine divided by
    the temperature, the mean over all k and i in P_k of::

        -log( exp s(z_k, x_i) / (exp s(z_k, x_i) + sum over negatives y of exp s(z_k, y)) )

    where the negatives of interest k are the history's items outside P_k, the user's other interests, and the history of the batch's
    previous user (of the last one, for the first), without items that the user has, too. A batch of one has none of the latter. Inactive
    interests are neither contrasted nor negatives. Gradients reach z and x on both sides, and the attention only through z.

    Compares interests with items directly, which presumes that they share a space: see ``raw_interests``.

    Paper: Zhang et al., "Re4: Learning to Re-contrast, Re-attend, Re-construct for Multi-interest Recommendation", WWW 2022. Cosines,
    the temperature and whose history serves as negatives are its published code's. Leaving out shared items is ours.

    Args:
        weight: Weight in the total loss.
        temperature: Divides the cosines.
        threshold: Attention above which an item is one of P_k; None takes 1 / n for a history of n items. (The published code's option
            ``thre`` is the reciprocal of this.)
        include_all_positives: Let the other items of P_k stand in the denominator, too, as in the published code.
        reduction: "items" for the mean above, "cells" to divide the sum by B K L instead, as the published code. The same weight
            then does several times less.
        warmup_steps: Raise the weight linearly over so many training steps. The count is part of a checkpoint. 0: the whole weight at once.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        weight: float = 0.1,
        *,
        temperature: float = 0.02,
        threshold: float | None = None,
        include_all_positives: bool = False,
        reduction: Reduction = "items",
        warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        require_backward_flow(weight, threshold, reduction)
        require_at_least(0, warmup_steps=warmup_steps)
        if not temperature > 0:
            raise ValueError(f"temperature: expected a number above 0, got {temperature}")
        self.reduction: Reduction = reduction

    def build(self, input_shape: Any) -> None:
        """Create the count of training steps, if there is a warm-up."""
        if self.warmup_steps:
            self.steps_seen = self.add_weight("steps_seen", [], tf.int64, initializer="zeros", trainable=False, experimental_autocast=False)
        super().build(input_shape)

    def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
        """The weighted loss of a batch, a float32 scalar; 0 if no interest stands for any item."""
        members = interest_items(context, self.threshold)  # [B, K, L]
        interests = tf.math.l2_normalize(raw_interests(context.output), axis=-1)  # [B, K, d]
        items = tf.math.l2_normalize(tf.cast(context.history, tf.float32), axis=-1)  # [B, L, d]
        others, are_others = self._others(context)
        candidates = tf.concat([items, interests, tf.roll(items, 1, axis=0)], axis=1)  # [B, L + K + L, d]
        similarities = tf.matmul(interests, candidates, transpose_b=True) / self.temperature  # [B, K, L + K + L]
        similarity = similarities[:, :, : items.shape[1]]  # [B, K, L]
        in_history = context.mask[:, None, :] if self.include_all_positives else context.mask[:, None, :] & ~members
        in_history = tf.broadcast_to(in_history, tf.shape(members))
        negatives = tf.where(tf.concat([in_history, others, are_others], axis=2), similarities, MASKED_LOGIT)
        rivals = tf.reduce_logsumexp(negatives, axis=2, keepdims=True)  # [B, K, 1]
        losses = rivals - similarity if self.include_all_positives else tf.nn.softplus(rivals - similarity)
        return self._current_weight(training) * mean_over_items(losses, members, self.reduction)

    def _others(self, context: BatchContext) -> tuple[tf.Tensor, tf.Tensor]:
        """Which interests [B, K, K] and which items of the previous user's history [B, K, L] are negatives of each interest."""
        active = context.output.active
        num_interests = active.shape[1]
        interests = active[:, None, :] & ~tf.eye(num_interests, dtype=tf.bool)  # [B, K, K]
        previous = tf.roll(context.history_indices, 1, axis=0)  # [B, L]
        # In a batch of one the previous user is the user, who has all of these items.
        shared = tf.reduce_any(previous[:, :, None] == context.history_indices[:, None, :], axis=2)  # [B, L]
        items = tf.roll(context.mask, 1, axis=0) & ~shared
        return interests, tf.repeat(items[:, None, :], num_interests, axis=1)

    def _current_weight(self, training: bool | None) -> tf.Tensor:
        """The weight after warm-up so far; counts a training step."""
        if not self.warmup_steps:
            return tf.constant(self.weight)
        steps = self.steps_seen.assign_add(1) if training else self.steps_seen
        return self.weight * tf.minimum(tf.cast(steps, tf.float32) / self.warmup_steps, 1.0)
