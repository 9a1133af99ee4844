"""PIMI's periodicity: what the intervals between an item and all others of its history say about it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, masked_softmax
from tfmi.layers.common.arguments import require_at_least

SECONDS_PER_DAY = 86400.0


def day_numbers(timestamps: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    """int32 [B, L]: the day of each item, counted from the earliest one of its history and rounded; 0 where not ``known``.

    Args:
        timestamps: Seconds [B, L], in a type that holds them to the second: float64 or int64.
        known: bool [B, L].
    """
    earliest = tf.reduce_min(tf.where(known, timestamps, timestamps.dtype.max), axis=1, keepdims=True)
    seconds = tf.where(known, timestamps - earliest, tf.zeros([], timestamps.dtype))
    return tf.cast(tf.round(tf.cast(seconds, tf.float64) / SECONDS_PER_DAY), tf.int32)


def interval_counts(timestamps: tf.Tensor, mask: tf.Tensor, time_span: int) -> tf.Tensor:
    """How often each interval occurs between an item and the items of its history, itself included: float32 [B, L, time_span + 1].

    Intervals are the differences of ``day_numbers``; those above ``time_span`` count as ``time_span``. An item whose time is unknown (0)
    has one interval, the 0 to itself, and is in nobody else's. Padding has none.

    Args:
        timestamps: Seconds [B, L], float64 or int64.
        mask: bool [B, L], True at real items.
        time_span: The longest interval that is told apart, in days.
    """
    known = mask & (timestamps != 0)
    days = day_numbers(timestamps, known)
    intervals = tf.minimum(tf.abs(days[:, :, None] - days[:, None, :]), time_span)  # [B, L, L]
    batch, length = tf.shape(mask)[0], tf.shape(mask)[1]
    itself = tf.eye(length, dtype=tf.bool) & mask[:, :, None]
    counted = (known[:, :, None] & known[:, None, :]) | itself  # [B, L, L]
    rows = tf.reshape(tf.range(batch * length), [batch, length, 1])
    # Negative segments are left out.
    cells = tf.where(counted, rows * (time_span + 1) + intervals, -1)
    cells = tf.reshape(cells, [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(cells), cells, batch * length * (time_span + 1))
    return tf.cast(tf.reshape(counts, [batch, length, time_span + 1]), tf.float32)


class IntervalEncoding(ConfiguredLayer):
    r"""A vector for each item from its intervals, in days, to all items of its history::

        t[i] = sum over j of a[i, j] R[i, j],  a[i] = softmax over j of R[i, j] . w,  R[i, j] = E[min(|day[i] - day[j]|, time_span)]

    Scores depend on the interval alone, so equal intervals are counted first, and the sums run over ``time_span + 1`` intervals instead
    of L items: no [B, L, L, d] tensor.

    Paper: Chen et al., "Exploring Periodicity and Interactivity in Multi-Interest Framework for Sequential Recommendation", IJCAI 2021.

    Args:
        dimension: d.
        time_span: The longest interval that is told apart, in days.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, dimension: int, time_span: int = 64, **kwargs: Any) -> None:
        # Timestamps lose seconds as float32, to which Keras would cast them.
        super().__init__(autocast=False, **kwargs)
        require_at_least(1, dimension=dimension, time_span=time_span)

    def build(self, input_shape: Any) -> None:
        """Create E [time_span + 1, d] and w [d, 1]."""
        options = {"initializer": "glorot_uniform", "experimental_autocast": False}
        self.embeddings = self.add_weight("embeddings", [self.time_span + 1, self.dimension], **options)
        self.score_kernel = self.add_weight("score_kernel", [self.dimension, 1], **options)
        super().build(input_shape)

    def call(self, timestamps: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Encode.

        Args:
            timestamps: Seconds [B, L], float64 or int64; 0 where unknown.
            mask: bool [B, L], True at real items.

        Returns:
            The vectors t, float32 [B, L, d], and the weight of each interval in them, float32 [B, L, time_span + 1], whose rows sum to
            1. Both are 0 at padding.
        """
        counts = interval_counts(timestamps, mask, self.time_span)
        scores = tf.squeeze(tf.matmul(self.embeddings, self.score_kernel), axis=1)  # [time_span + 1]
        # n equal scores s are, in a softmax, one score of s + log n.
        weights = masked_softmax(scores + tf.math.log(tf.maximum(counts, 1.0)), counts > 0)
        return tf.tensordot(weights, self.embeddings, axes=1), weights
