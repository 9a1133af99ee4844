"""Batches of labelled rows and of users' states, gathered in the graph from arrays in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.data.features import feature_arrays
from tfmi.data.pipeline import PREFETCHED_BATCHES, RowBatches
from tfmi.data.tags.tag_dataset import TagRows, UserStates


class StateGatherer:
    """A user's fields by the number of a state. Arrays become tensors once, however many parts of a dataset share them."""

    def __init__(self, states: UserStates) -> None:
        self._arrays = {name: tf.constant(array) for name, array in feature_arrays(states.fields).items()}

    @tf.autograph.experimental.do_not_convert
    def fields(self, states: tf.Tensor) -> dict[str, tf.Tensor]:
        """The fields of states int32 [B], as ``FieldEmbedding`` takes them."""
        return {name: tf.gather(array, states) for name, array in self._arrays.items()}

    def batches(self, states: np.ndarray, batch_size: int) -> tf.data.Dataset:
        """The fields of the states, in order; the last batch may be smaller."""
        rows = tf.data.Dataset.from_tensor_slices(tf.constant(states, tf.int32)).batch(batch_size)
        return rows.map(self.fields, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(PREFETCHED_BATCHES)


def tag_batches(rows: TagRows, states: StateGatherer, *, batch_size: int, seed: int = 0) -> RowBatches:
    """Batches of labelled rows: ``fields``; ``tags`` int32 [B, N]; ``labels`` and ``weights`` float32 [B, A].

    Raises:
        DataError: There is no row.
    """
    state_of, tags, labels, weights = (tf.constant(array) for array in (rows.states, rows.tags, rows.labels, rows.weights))

    @tf.autograph.experimental.do_not_convert
    def gather(chosen: tf.Tensor) -> dict[str, Any]:
        return {
            "fields": states.fields(tf.gather(state_of, chosen)),
            "tags": tf.gather(tags, chosen),
            "labels": tf.gather(labels, chosen),
            "weights": tf.gather(weights, chosen),
        }

    return RowBatches(gather, len(rows), batch_size=batch_size, seed=seed)
