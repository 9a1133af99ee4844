"""Re4's Re-construct: interests from which the items they stand for can be told."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import RealItems, masked_softmax, num_real_items
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.initializers import initial_noise
from tfmi.layers.common.slots import first_slots, num_slots
from tfmi.losses.base import REGULARIZERS, BatchContext, Regularizer
from tfmi.losses.regularizers.interest_items import Reduction, interest_items, mean_over_items, raw_interests, require_backward_flow


@REGULARIZERS.register("re_construct")
class ReConstruct(Regularizer):
    r"""Squared error with which each interest, alone, tells its own items.

    With z the raw interests, x the history's item vectors and P_k the items of interest k (``interest_items``)::

        C_k = Up(z_k)                                                      [L, d], slot by slot
        b_ij = softmax over slots i < n of w_j . tanh(c_ki W3)             n: the user's number of items
        x'_kj = sum over i of b_ij c_ki W5
        loss = mean over all k and j in P_k of |x'_kj - x_j|^2

    Slots are numbered from the newest item, as histories are in the published code, so that older items do not move them. The matrices
    belong to training only: nothing that is served uses them.

    Paper: Zhang et al., "Re4: Learning to Re-contrast, Re-attend, Re-construct for Multi-interest Recommendation", WWW 2022.

    Args:
        weight: Weight in the total loss.
        threshold: Attention above which an item is one of P_k; None takes 1 / n for a history of n items.
        stop_gradient_target: Make x_j a constant. Otherwise, as in the published code, item vectors can shrink to please the loss.
        reduction: "items" for the mean above, "cells" to divide the sum by B K L d instead, as the published code. The same weight
            then does several hundred times less.
        initializer_deviation: Standard deviation of the matrices at the start; None takes Glorot's. The published code takes 1.

    Raises:
        ValueError: An argument out of its range, or a history longer than the first one.
    """

    def __init__(
        self,
        weight: float = 0.1,
        *,
        threshold: float | None = None,
        stop_gradient_target: bool = True,
        reduction: Reduction = "items",
        initializer_deviation: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        require_backward_flow(weight, threshold, reduction)
        require_at_least(0, initializer_deviation=initializer_deviation)
        self.reduction: Reduction = reduction

    def build(self, input_shape: Any) -> None:
        """Create Up [d, L d] with its bias, W3 [d, d], w [L, d] and W5 [d, d], from the shapes of a ``BatchContext``."""
        dimension = int(input_shape.history[-1])
        slots = num_slots(input_shape.history, None)
        self.upsample_kernel = self._matrix("upsample_kernel", int(input_shape.output.interests[-1]), slots * dimension)
        self.upsample_bias = self.add_weight("upsample_bias", [slots * dimension], initializer="zeros", experimental_autocast=False)
        self.hidden_kernel = self._matrix("hidden_kernel", dimension, dimension)
        self.slot_queries = self._matrix("slot_queries", slots, dimension)
        self.value_kernel = self._matrix("value_kernel", dimension, dimension)
        super().build(input_shape)

    def _matrix(self, name: str, rows: int, columns: int) -> tf.Variable:
        initializer = initial_noise(self.initializer_deviation)
        return self.add_weight(name, [rows, columns], initializer=initializer, experimental_autocast=False)

    def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
        """The weighted loss of a batch, a float32 scalar; 0 if no interest stands for any item."""
        counts = num_real_items(context.mask)
        # From the newest item on; real items stand first, so that the mask stays the same.
        items = tf.reverse_sequence(tf.cast(context.history, tf.float32), counts, seq_axis=1)  # [B, L, d]
        members = tf.reverse_sequence(interest_items(context, self.threshold), counts, seq_axis=2)  # [B, K, L]
        targets = tf.stop_gradient(items) if self.stop_gradient_target else items
        # Most pairs of an interest and a position are not members: errors are computed for the M that are.
        places = tf.where(members)  # [M, 3]
        told = tf.matmul(tf.gather_nd(self._mix(raw_interests(context.output), context.history, context.mask), places), self.value_kernel)
        by_member = tf.reduce_sum(tf.square(told - tf.gather_nd(targets, tf.gather(places, [0, 2], axis=1))), axis=1)  # [M]
        errors = tf.scatter_nd(places, by_member, tf.shape(members, tf.int64))  # [B, K, L]
        if self.reduction == "cells":
            errors /= float(items.shape[-1])
        return self.weight * mean_over_items(errors, members, self.reduction)

    def _mix(self, interests: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """sum over i of b_ij c_ki, [B, K, j, d], newest slot first, of ``interests`` [B, K, d]."""
        queries = first_slots(self.slot_queries, history)  # [L, d]
        length, dimension = queries.shape
        upsampled = tf.tensordot(interests, self.upsample_kernel, axes=1) + self.upsample_bias  # [B, K, slots d]
        shape = tf.concat([tf.shape(interests)[:2], self.slot_queries.shape], axis=0)
        slots = tf.transpose(tf.reshape(upsampled, shape)[:, :, :length], [0, 2, 1, 3])  # [B, L, K, d]
        real = RealItems(mask)
        hidden = tf.tanh(tf.matmul(tf.reshape(real.rows(slots), [-1, dimension]), self.hidden_kernel))  # [R K, d]
        num_interests = interests.shape[1]
        logits = tf.reshape(tf.matmul(hidden, queries, transpose_b=True), [-1, num_interests * length])  # [R, K j]
        logits = tf.reshape(real.spread(logits), [-1, length, num_interests, length])  # [B, i, K, j]
        shares = masked_softmax(tf.transpose(logits, [0, 2, 3, 1]), mask[:, None, None, :])  # [B, K, j, i]
        return tf.matmul(shares, tf.transpose(slots, [0, 2, 1, 3]))
