"""Checks inside the graph.

TensorFlow Serving does not enforce a signature's shapes, so a request of the wrong shape reaches the graph, where broadcasting would
turn it into a wrong answer instead of an error.
"""

from __future__ import annotations

import tensorflow as tf


def require_columns(tensor: tf.Tensor, name: str, columns: int | None = None, most: int | None = None) -> tf.Tensor:
    """Pass ``tensor`` on if it is [B, ``columns``], or [B, ``most`` or fewer], else fail with a message naming the input.

    Raises:
        tf.errors.InvalidArgumentError: At run time, on another rank or width.
    """
    shape = _run_time_shape(tensor)
    valid = tf.equal(tf.size(shape), 2)
    expected = f"input {name} must have two dimensions, one row per user"
    last = tf.concat([[-1], shape], axis=0)[-1]  # the leading -1 gives a scalar something to index
    if columns is not None:
        valid = tf.logical_and(valid, tf.equal(last, columns))
        padding = "empty strings" if tensor.dtype == tf.string else "zeros"
        expected += f" and exactly {columns} columns (pad rows on the right with {padding})"
    if most is not None:
        valid = tf.logical_and(valid, last <= most)
        expected += f" and at most {most} columns"
    with tf.control_dependencies([tf.debugging.Assert(valid, [f"{expected}; its shape is", shape])]):
        return tf.identity(tensor)


def require_rows(tensor: tf.Tensor, name: str, rows: tf.Tensor) -> tf.Tensor:
    """Pass ``tensor`` on if its first dimension is ``rows``, else fail with a message naming the input.

    Raises:
        tf.errors.InvalidArgumentError: At run time, on another number of rows.
    """
    first = tf.concat([_run_time_shape(tensor), [-1]], axis=0)[0]  # the trailing -1 gives a scalar something to index
    message = f"input {name} must have as many rows as the others; its rows, and theirs:"
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(first, rows), [message, first, rows])]):
        return tf.identity(tensor)


def require_vector(tensor: tf.Tensor, name: str) -> tf.Tensor:
    """Pass ``tensor`` on if it has one dimension, else fail with a message naming the input.

    Raises:
        tf.errors.InvalidArgumentError: At run time, on another rank.
    """
    shape = _run_time_shape(tensor)
    message = f"input {name} must have one dimension, one value per row; its shape is"
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(tf.size(shape), 1), [message, shape])]):
        return tf.identity(tensor)


def require_at_most(counts: tf.Tensor, most: int, what: str) -> tf.Tensor:
    """Pass ``counts`` int [...] on if none is above ``most``, else fail with a message naming ``what`` is counted.

    Raises:
        tf.errors.InvalidArgumentError: At run time, on a larger one.
    """
    message = f"{what}: at most {most} are taken per user; the largest number is"
    largest = tf.reduce_max(tf.concat([tf.reshape(counts, [-1]), [0]], axis=0))  # the 0 answers for an empty batch
    with tf.control_dependencies([tf.debugging.Assert(largest <= most, [message, largest])]):
        return tf.identity(counts)


def of_any_width(tensor: tf.Tensor) -> tf.Tensor:
    """The same ``tensor`` [B, C], of which the graph is not to know C."""
    return tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=[None, None])


def _run_time_shape(tensor: tf.Tensor) -> tf.Tensor:
    # The signature's static shape would let TensorFlow fold the check into "true" while tracing; the placeholder forgets it.
    return tf.shape(tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=tf.TensorShape(None)))
