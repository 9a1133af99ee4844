"""Softmax against the other targets of the batch, through TensorFlow Recommenders."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfmi.data.dataset import FIRST_INDEX
from tfmi.layers.base import MASKED_LOGIT
from tfmi.losses.base import OBJECTIVES, Contrast, ItemSpace, Objective, target_logits
from tfmi.losses.objectives.frequency import StreamingFrequency
from tfmi.losses.objectives.sampled_softmax import among_columns

_SMALLEST_PROBABILITY = 1e-6  # what the task takes smaller ones for


@OBJECTIVES.register("in_batch")
class InBatchSoftmax(Objective):
    """Each example's target against all targets of the batch (``tfrs.tasks.Retrieval``), corrected for popularity.

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

    COMPARES_ALL_ALIKE = False

    def __init__(
        self,
        correct_frequency: bool = True,
        remove_accidental_hits: bool = True,
        frequency_update_rate: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.frequency = StreamingFrequency(frequency_update_rate)
        self._task = tfrs.tasks.Retrieval(
            loss=tf.keras.losses.CategoricalCrossentropy(from_logits=True, reduction=tf.keras.losses.Reduction.NONE)
        )

    def contrast(
        self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, left_out: tf.Tensor | None = None, training: bool | None = None
    ) -> Contrast:
        """See ``Objective``. Frequencies are counted in training only."""
        probabilities = self.frequency(targets, items.num_rows, training=training) if self.correct_frequency else None
        queries, vectors = tf.cast(queries, tf.float32), tf.cast(items.embed(targets), tf.float32)
        # `call`, not the layer itself: under mixed precision Keras would cast the queries, but not the candidates, to float16. The
        # task's own removal of accidental hits fails for the same reason, so it gets a mask instead.
        losses = _retrieval_loss()(
            self._task,
            queries,
            vectors,
            candidate_sampling_probability=probabilities,
            score_mask=self._negatives_and_target(targets, left_out),
            compute_metrics=False,
            compute_batch_metrics=False,
        )
        positive = target_logits(queries, vectors)
        if probabilities is not None:
            positive -= tf.math.log(tf.maximum(probabilities, _SMALLEST_PROBABILITY))
        # The task tells the cross-entropy, log(1 + exp(log_negatives - positive)), only.
        share = 0.0 if self.correct_frequency else tf.math.log(tf.cast(tf.size(targets), tf.float32) / (items.num_rows - FIRST_INDEX))
        return Contrast(positive, positive + _log_expm1(losses), share)

    def _negatives_and_target(self, targets: tf.Tensor, left_out: tf.Tensor | None) -> tf.Tensor | None:
        """bool [B, B]: False where column j is no negative of row i; None where all are."""
        own = tf.eye(tf.size(targets), dtype=tf.bool)
        allowed = None
        if self.remove_accidental_hits:
            allowed = targets[:, None] != targets[None, :]
        if left_out is not None:
            distinct, columns = tf.unique(targets)
            others = ~tf.gather(among_columns(left_out, distinct), columns, axis=1)
            allowed = others if allowed is None else allowed & others
        return None if allowed is None else own | allowed


@functools.cache
def _retrieval_loss() -> Callable[..., tf.Tensor]:
    """The task's ``call``. It asks for the length of a tensor, which needs AutoGraph; this package's own graphs are made without."""
    return tf.autograph.to_graph(tfrs.tasks.Retrieval.call)


def _log_expm1(values: tf.Tensor) -> tf.Tensor:
    """``log(exp(x) - 1)`` of x >= 0, with ``MASKED_LOGIT`` at 0."""
    safe = tf.maximum(values, 1e-12)
    return tf.where(values > 0, safe + tf.math.log(-tf.math.expm1(-safe)), MASKED_LOGIT)
