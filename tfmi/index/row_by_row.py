"""User after user instead of a whole batch at once, for what would not fit into memory together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf


def row_by_row(
    answer: Callable[..., Sequence[tf.Tensor]], inputs: Sequence[tf.Tensor], outputs: Sequence[tf.TensorSpec]
) -> tuple[tf.Tensor, ...]:
    """Stack what ``answer`` says of each row.

    Args:
        answer: Takes a row of each of ``inputs``, and gives the ``outputs``.
        inputs: [B, ...]; B may be 0.
        outputs: Of one row. Shapes that are not known before must be the same for all rows.

    Returns:
        Each output [B, ...].
    """
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
