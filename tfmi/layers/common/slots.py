"""Weights with one slot per history position, for histories that may be shorter than the longest."""

from __future__ import annotations

import tensorflow as tf


def num_slots(input_shape: tf.TensorShape | tuple[int | None, ...], max_length: int | None) -> int:
    """Number of history positions to build weights for.

    Args:
        input_shape: Shape of the history, [B, L, d].
        max_length: Longest history that will ever be given, or None to take L.

    Raises:
        ValueError: Neither is known, or L exceeds ``max_length``.
    """
    length = tf.TensorShape(input_shape)[1]
    if max_length is None and length is None:
        raise ValueError("max_length: required, because the history's length is not known when the layer is built")
    if max_length is not None and length is not None and length > max_length:
        raise ValueError(f"the history has {length} positions, but max_length is {max_length}")
    return int(length if max_length is None else max_length)


def first_slots(slots: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    """The slots of a history's positions: the first L rows of ``slots`` [S, ...] for ``history`` [B, L, d].

    Raises:
        ValueError: L is known and exceeds S. A length known only at run time raises ``InvalidArgumentError`` then.
    """
    longest, length = slots.shape[0], history.shape[1]
    if length == longest:
        return slots
    problem = f"the history is longer than the {longest} positions that this layer was built for; cut it, or raise max_length"
    if length is not None:
        if length > longest:
            raise ValueError(f"{problem} (it has {length})")
        return slots[:length]
    dynamic_length = tf.shape(history)[1]
    with tf.control_dependencies([tf.debugging.assert_less_equal(dynamic_length, longest, message=problem)]):
        return slots[:dynamic_length]
