"""Positions in a history, counted from its oldest or from its newest item."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from tfmi.layers.common.slots import first_slots

PositionOrder = Literal["oldest", "newest", "none"]


def items_after(mask: tf.Tensor) -> tf.Tensor:
    """int32 [B, L]: how many real items of ``mask`` [B, L] stand after each position; 0 at the newest item."""
    return tf.cumsum(tf.cast(mask, tf.int32), axis=1, exclusive=True, reverse=True)


def not_newer(mask: tf.Tensor) -> tf.Tensor:
    """bool [1, L, L] for ``mask`` [B, L]: whether the item of a column is the row's or an older one."""
    positions = tf.range(tf.shape(mask)[1])
    return (positions[None, :] <= positions[:, None])[None]


def add_positions(history: tf.Tensor, mask: tf.Tensor, embeddings: tf.Tensor, order: Literal["oldest", "newest"]) -> tf.Tensor:
    """``history`` [B, L, d] plus the embedding of each item's position.

    Args:
        history: [B, L, d].
        mask: bool [B, L], True at real items.
        embeddings: [S, d] with S >= L, one for each position.
        order: What positions count from: the oldest item of the window, or the newest.

    Raises:
        ValueError: L exceeds S, as in ``first_slots``.
    """
    slots = first_slots(embeddings, history)  # [L, d]
    return history + (slots if order == "oldest" else tf.gather(slots, items_after(mask)))
