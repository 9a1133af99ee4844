"""The times of a history's items as a request input, for models that read them.

``timestamps`` is float64 [B, L], seconds beside the ids of ``history``; 0 where a time is unknown, and at padding. In a serialised
``tf.train.Example``, whose own decimal numbers have 32 bits (two minutes, for today's seconds since 1970), they are whole seconds in an
``int64_list``: as many as there are items in ``history``, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.export.graph_checks import require_columns, require_rows

TIMESTAMPS = "timestamps"


class TimestampInputs:
    """The input ``timestamps`` of a servable, or nothing for a model that does not read it.

    Args:
        requested: Whether the model reads it.
        history_length: L.
    """

    def __init__(self, requested: bool, history_length: int) -> None:
        self._requested, self._history_length = requested, history_length

    def specs(self) -> dict[str, tf.TensorSpec]:
        """The request inputs by name."""
        if not self._requested:
            return {}
        return {TIMESTAMPS: tf.TensorSpec([None, self._history_length], tf.float64, name=TIMESTAMPS)}

    def example_features(self) -> dict[str, Any]:
        """Parsing specification of the input in a ``tf.train.Example``."""
        return {TIMESTAMPS: tf.io.RaggedFeature(tf.int64)} if self._requested else {}

    def from_example(self, parsed: Mapping[str, Any]) -> dict[str, tf.RaggedTensor]:
        """Seconds [B, (items)] beside every item of the examples' histories, 0 for users without times.

        Raises:
            tf.errors.InvalidArgumentError: At run time, where an example has another number of times than of items.
        """
        if not self._requested:
            return {}
        history, times = parsed["history"], parsed[TIMESTAMPS]
        given = times.row_lengths() > 0
        fits = tf.reduce_all(~given | tf.equal(times.row_lengths(), history.row_lengths()))
        message = f"{TIMESTAMPS} in an example must be as many as the items of its history, or none; numbers of each:"
        with tf.control_dependencies([tf.debugging.Assert(fits, [message, times.row_lengths(), history.row_lengths()])]):
            has_time = tf.gather(given, history.value_rowids())  # of each item
        # Times stand in the order of the items that have one.
        seconds = tf.scatter_nd(tf.where(has_time), tf.cast(times.flat_values, tf.float64), tf.shape(has_time, tf.int64))
        return {TIMESTAMPS: history.with_flat_values(seconds)}

    def encode(self, inputs: Mapping[str, tf.Tensor], rows: tf.Tensor) -> tf.Tensor | None:
        """What the model reads: float64 [B, L] finite seconds; None if it does not."""
        if not self._requested:
            return None
        seconds = require_rows(require_columns(inputs[TIMESTAMPS], TIMESTAMPS, self._history_length), TIMESTAMPS, rows)
        return tf.where(tf.math.is_finite(seconds), seconds, tf.zeros([], seconds.dtype))


def believable_timestamps(history: np.ndarray) -> np.ndarray:
    """float64 [B, L] whole seconds for a request's history of ids [B, L]: one item a minute, 0 at padding."""
    minutes = np.arange(history.shape[1], dtype=np.float64)
    return np.where(history != "", 1_700_000_000.0 + 60.0 * minutes, 0.0)
