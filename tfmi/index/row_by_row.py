"""User after user instead of a whole batch at once, for what would not fit into memory together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf


def row_by_row(
    answer: Callable[..., Sequence[tf.Tensor]], inputs: Sequence[tf.Tensor], outputs: Sequence[tf.TensorSpec], *, quick: bool = False
) -> tuple[tf.Tensor, ...]:
    """Stack what ``answer`` says of each row.

    Args:
        answer: Takes a row of each of ``inputs``, and gives the ``outputs``.
        inputs: [B, ...]; B may be 0.
        outputs: Of one row. Shapes that are not known before must be the same for all rows.
        quick: Whether ``answer`` is so quick that a loop around a single row, the usual request, takes longer: it is then traced twice.

    Returns:
        Each output [B, ...].
    """
    if not quick:
        return _loop(answer, inputs, outputs)
    rows = inputs[0].shape[0]
    if rows is not None:
        return _alone(answer, inputs) if rows == 1 else _loop(answer, inputs, outputs)
    answers = tf.cond(tf.shape(inputs[0])[0] == 1, lambda: _alone(answer, inputs), lambda: _loop(answer, inputs, outputs))
    return tuple(tf.ensure_shape(values, [None, *of_row.shape]) for values, of_row in zip(answers, outputs, strict=True))


def _alone(answer: Callable[..., Sequence[tf.Tensor]], inputs: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """The answer to the only row of ``inputs`` [1, ...]."""
    return tuple(values[None] for values in answer(*(tf.squeeze(values, 0) for values in inputs)))


def _loop(
    answer: Callable[..., Sequence[tf.Tensor]], inputs: Sequence[tf.Tensor], outputs: Sequence[tf.TensorSpec]
) -> tuple[tf.Tensor, ...]:
    """The answers to any number of rows, one after the other."""
    rows = tf.shape(inputs[0])[0]
    # A loop cannot tell the shapes of no answers: an empty batch gets a row of zeros, which is taken away again.
    extra = tf.cast(rows == 0, tf.int32)
    filled = [tf.concat([values, tf.zeros([extra, *tf.unstack(tf.shape(values))[1:]], values.dtype)], axis=0) for values in inputs]
    answers = tf.map_fn(
        lambda row: tuple(answer(*row)),
        tuple(filled),
        fn_output_signature=tuple(outputs),
        parallel_iterations=1,  # more would hold several rows' work at once
    )
    return tuple(values[:rows] for values in answers)
