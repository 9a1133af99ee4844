"""Softmax against the other targets of the batch, through TensorFlow Recommenders."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfmi.losses.base import OBJECTIVES, ItemSpace, Objective
from tfmi.losses.frequency import StreamingFrequency


@OBJECTIVES.register("in_batch")
class InBatchSoftmax(Objective):
    """Cross-entropy of each example's target among all targets of the batch (``tfrs.tasks.Retrieval``), corrected for popularity.

    A popular item is a negative more often; its score is lowered by the log of its probability of being in a batch, estimated as
    training goes on (``StreamingFrequency``). Where ``tfrs.tasks.Retrieval`` sums over the batch, this returns one loss per example,
    as the papers' losses are means. Queries [B, K, d] are scored by their best interest, for the target and the negatives alike.

    Args:
        correct_frequency: Subtract the log probability of each candidate (Yi et al. 2019). TFRS takes those below 1e-6 as 1e-6.
        remove_accidental_hits: Leave out negatives that are the example's own target.
        frequency_update_rate: ``update_rate`` of the ``StreamingFrequency``.

    Raises:
        ValueError: ``frequency_update_rate`` outside (0, 1].
    """

    def __init__(
        self,
        correct_frequency: bool = True,
        remove_accidental_hits: bool = True,
        frequency_update_rate: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.correct_frequency = correct_frequency
        self.remove_accidental_hits = remove_accidental_hits
        self.frequency_update_rate = frequency_update_rate
        self.frequency = StreamingFrequency(frequency_update_rate)
        self._task = tfrs.tasks.Retrieval(
            loss=tf.keras.losses.CategoricalCrossentropy(from_logits=True, reduction=tf.keras.losses.Reduction.NONE)
        )

    def call(self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, training: bool | None = None) -> tf.Tensor:
        """float32 [B] losses; see ``Objective``. Frequencies are counted in training only."""
        probabilities = self.frequency(targets, items.num_rows, training=training) if self.correct_frequency else None
        # `call`, not the layer itself: under mixed precision Keras would cast the queries, but not the candidates, to float16. The
        # task's own removal of accidental hits fails for the same reason, so it gets a mask instead.
        losses: tf.Tensor = self._task.call(
            tf.cast(queries, tf.float32),
            tf.cast(items.embed(targets), tf.float32),
            candidate_sampling_probability=probabilities,
            score_mask=self._negatives_and_target(targets) if self.remove_accidental_hits else None,
            compute_metrics=False,
            compute_batch_metrics=False,
        )
        return losses

    @staticmethod
    def _negatives_and_target(targets: tf.Tensor) -> tf.Tensor:
        """bool [B, B]: False where column j is another example with the same target as row i."""
        own = tf.eye(tf.size(targets), dtype=tf.bool)
        return own | (targets[:, None] != targets[None, :])
