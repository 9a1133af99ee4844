"""Batches of impressions with their histories, gathered in the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import Sequences, UserProfiles
from tfmi.data.features import feature_arrays
from tfmi.data.impressions.impression_dataset import ImpressionRows
from tfmi.data.pipeline import RowBatches, history_positions


class ImpressionGatherer:
    """From row numbers to a batch. Arrays become tensors once; the graphs of ``tf.data`` capture them by reference.

    Args:
        rows: The rows.
        clicks: The clicks that histories are cut from.
        history_length: L, the newest clicks before a row that it shows.
        profiles: Users' features, or None.
        coarse: float32 [n, C] coarse labels of ``rows``, for training; None leaves them out.
    """

    def __init__(
        self,
        rows: ImpressionRows,
        clicks: Sequences,
        history_length: int,
        profiles: UserProfiles | None = None,
        coarse: np.ndarray | None = None,
    ) -> None:
        self._history_length = history_length
        # One event at least, so that gathering at a padding position reads something.
        self._clicked = tf.constant(np.resize(clicks.items, max(clicks.num_events, 1)), tf.int32)
        self._ends = tf.constant(rows.history_ends, tf.int64)
        self._available = tf.constant(rows.history_ends - clicks.offsets[rows.users], tf.int64)
        self._columns = {"item": tf.constant(rows.items, tf.int32), "label": tf.constant(rows.labels, tf.float32)}
        if coarse is not None:
            self._columns["coarse"] = tf.constant(coarse, tf.float32)
        self._profile: dict[str, tf.Tensor] = {}
        if profiles is not None:
            self._profile = {name: tf.constant(array) for name, array in feature_arrays(profiles.features).items()}
            self._profile_rows = tf.constant(clicks.users[rows.users], tf.int32)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, rows: tf.Tensor) -> dict[str, Any]:
        """The batch of the rows int64 [B].

        Returns:
            ``history`` int32 [B, L], oldest to newest, right-padded with 0; ``item`` int32 [B]; ``label`` float32 [B]; ``coarse`` float32
            [B, C], if given; ``profile``, if there are profiles: a dict of ``feature_arrays`` rows.
        """
        positions, real = history_positions(tf.gather(self._ends, rows), tf.gather(self._available, rows), self._history_length)
        batch: dict[str, Any] = {name: tf.gather(values, rows) for name, values in self._columns.items()}
        batch["history"] = tf.where(real, tf.gather(self._clicked, positions), 0)
        if self._profile:
            users = tf.gather(self._profile_rows, rows)
            batch["profile"] = {name: tf.gather(array, users) for name, array in self._profile.items()}
        return batch


def impression_batches(
    rows: ImpressionRows,
    clicks: Sequences,
    *,
    history_length: int,
    batch_size: int,
    seed: int,
    profiles: UserProfiles | None = None,
    coarse: np.ndarray | None = None,
) -> RowBatches:
    """Batches of impressions, to be taken ``from_step`` or ``in_order``; arguments as for ``ImpressionGatherer`` and ``RowBatches``."""
    return RowBatches(ImpressionGatherer(rows, clicks, history_length, profiles, coarse), len(rows), batch_size=batch_size, seed=seed)
