"""Positions counted from the newest item of a history."""

from __future__ import annotations

import tensorflow as tf


def items_after(mask: tf.Tensor) -> tf.Tensor:
    """int32 [B, L]: how many real items of ``mask`` [B, L] stand after each position; 0 at the newest item."""
    return tf.cumsum(tf.cast(mask, tf.int32), axis=1, exclusive=True, reverse=True)
