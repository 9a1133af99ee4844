"""How often an item turns up in a training batch, estimated while training."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer


class StreamingFrequency(ConfiguredLayer):
    """Each item's probability of being in a batch, from the gaps between the steps that had it.

    For every item of the batch of step t (Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", algorithm 2), with A the last step that had it and B its mean gap:

        B <- (1 - rate) B + rate (t - A);  A <- t;  probability = 1 / B

    Two points are ours. Items have small consecutive indices here, so A and B hold one cell per item instead of a hash bucket: no
    collisions. And the first gaps of an item are averaged plainly, ``rate = max(update_rate, 1 / gaps seen)``: the paper's start from a
    fixed B is biased until the item has been seen 1 / rate times, which most items of a catalogue never are.

    A, B and the step are non-trainable variables, so they are saved and restored with the model. They are made at the first call.

    Args:
        update_rate: Weight of the newest gap once an item has been seen often; larger forgets faster.

    Raises:
        ValueError: ``update_rate`` outside (0, 1].
    """

    def __init__(self, update_rate: float = 0.01, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if not 0.0 < update_rate <= 1.0:
            raise ValueError(f"update_rate must be in (0, 1], got {update_rate}")
        self._variables_exist = False

    def create_variables(self, num_rows: int) -> None:
        """Make the variables for items 0 to ``num_rows - 1``; does nothing if they exist."""
        if self._variables_exist:
            return
        self._variables_exist = True
        with tf.init_scope():  # a first call inside a tf.function must not make the variables part of its graph
            options = {"initializer": "zeros", "trainable": False, "experimental_autocast": False}
            self.last_step = self.add_weight(name="last_step", shape=[num_rows], dtype=tf.int64, **options)
            self.mean_gap = self.add_weight(name="mean_gap", shape=[num_rows], dtype=tf.float32, **options)
            self.gaps_seen = self.add_weight(name="gaps_seen", shape=[num_rows], dtype=tf.int32, **options)
            self.step = self.add_weight(name="step", shape=[], dtype=tf.int64, **options)

    def call(self, item_indices: tf.Tensor, num_rows: int, training: bool | None = None) -> tf.Tensor:
        """float32 [B] probabilities in (0, 1] of ``item_indices`` [B]; in training, count the batch first.

        An item never seen is taken to turn up at the next step.
        """
        self.create_variables(num_rows)
        if training:
            self._count(tf.unique(item_indices).y)
        gaps = tf.gather(self.mean_gap, item_indices)
        unseen_gap = tf.cast(self.step + 1, tf.float32)
        return 1.0 / tf.maximum(tf.where(gaps > 0.0, gaps, unseen_gap), 1.0)

    def _count(self, items: tf.Tensor) -> None:
        step = self.step.assign_add(1)
        newest_gaps = tf.cast(step - tf.gather(self.last_step, items), tf.float32)
        gaps_seen = tf.gather(self.gaps_seen, items) + 1
        rates = tf.maximum(self.update_rate, 1.0 / tf.cast(gaps_seen, tf.float32))
        gaps = tf.gather(self.mean_gap, items)
        self.mean_gap.scatter_update(tf.IndexedSlices(gaps + rates * (newest_gaps - gaps), items))
        self.gaps_seen.scatter_update(tf.IndexedSlices(gaps_seen, items))
        self.last_step.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(items), step), items))
