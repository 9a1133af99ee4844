"""Max-sim: every candidate is scored by the interest nearest to it."""

from __future__ import annotations

import tensorflow as tf

from tfmi.layers.base import READOUTS, Readout, repeat_first_where_inactive


@READOUTS.register("max_sim")
class MaxSim(Readout):
    """Hands all interests to the objective, which scores each candidate, target and negatives alike, by its best interest.

    Training then scores as serving does, at K times the cost of the softmax.

    Example:
        >>> MaxSim()(tf.constant([[[1.0], [0.0]]]), tf.constant([[True, False]]), tf.constant([[1.0]])).numpy().tolist()
        [[[1.0], [1.0]]]
    """

    def call(self, interests: tf.Tensor, active: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Make all K rows safe for a maximum over them.

        Args:
            interests: [B, K, d].
            active: bool [B, K].
            target: [B, d]; changes nothing here.

        Returns:
            Queries [B, K, d], in which inactive rows repeat interest 0.
        """
        return repeat_first_where_inactive(interests, active)
