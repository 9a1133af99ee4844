"""Batches for training and evaluation, gathered in the graph from arrays in memory.

Every training batch is a pure function of (seed, step): an epoch's order is a keyed permutation that is computed, not stored, so a run
that resumes at step s sees exactly the batches that an uninterrupted run sees from step s on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import tensorflow as tf

from tfmi.core.errors import DataError
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, EvaluationSet, Sequences, StreamedSequences, UserProfiles
from tfmi.data.features import feature_arrays

ExampleOrder = Literal["prefixes", "random_position", "sequences"]

# Enough to hide the making of a batch behind a training step, few enough to cost no memory.
PREFETCHED_BATCHES = 8
# Rounds of the cipher that computes an epoch's permutation; four is TensorFlow's own choice for shuffling data.
SHUFFLE_ROUNDS = 4


def target_positions(sequences: Sequences, min_history: int) -> np.ndarray:
    """int64 [examples]: the positions in ``sequences.items`` that can be a training target.

    A target has at least ``min_history`` items before it in its row, and is a real item.
    """
    return np.flatnonzero((_positions_in_row(sequences) >= min_history) & (sequences.items >= FIRST_INDEX))


def window_ends(sequences: Sequences, history_length: int, min_history: int) -> np.ndarray:
    """int64 [windows]: the position in ``sequences.items`` of each window's last target, for the order ``sequences``.

    A row is cut, from its newest event on, into windows of at most ``history_length`` items and the targets after each of them, so that
    every event but a row's first is in one window a target. A window without any possible target is left out.
    """
    events_after = np.repeat(sequences.offsets[1:], sequences.lengths()) - 1 - np.arange(len(sequences.items))
    places = _positions_in_row(sequences)
    ends = np.flatnonzero((places >= 1) & (events_after % history_length == 0))
    is_target = np.zeros(len(sequences.items) + 1, np.int64)
    is_target[1 + target_positions(sequences, min_history)] = 1
    counts = np.cumsum(is_target)  # of the targets before each position
    first = ends - np.minimum(places[ends], history_length)  # the window's first item, which is no target of it
    return ends[counts[ends + 1] > counts[first + 1]]


def examples_per_epoch(
    sequences: Sequences | StreamedSequences, min_history: int, order: ExampleOrder = "prefixes", history_length: int = 1
) -> int:
    """The number of training examples: the possible targets, or for the order ``sequences`` the windows of ``history_length``."""
    if not isinstance(sequences, Sequences):
        return sequences.num_examples(min_history, history_length if order == "sequences" else None)
    return len(window_ends(sequences, history_length, min_history) if order == "sequences" else target_positions(sequences, min_history))


class TrainingBatches:
    """Training batches from any step on. What they are made of becomes tensors once, however often they are asked for.

    Args:
        sequences: The training sequences. Streamed ones bring their own profiles and do not know the order ``random_position``.
        history_length: L, the newest items before the target that an example holds.
        min_history: A target has at least this many items before it.
        batch_size: B; every batch has this size. An epoch's last, incomplete batch is filled up from the next epoch.
        seed: Decides the order.
        order: ``prefixes``: every possible target once per epoch, shuffled. ``random_position``: a random row, then a random target of
            that row, so that a short row's targets come as often as a long row's (ComiRec). ``sequences``: whole rows, in windows as
            ``window_ends`` cuts them, with a target after each item.
        profiles: Users' features, or None.

    Raises:
        DataError: No row is long enough to hold a target.
    """

    def __init__(
        self,
        sequences: Sequences | StreamedSequences,
        *,
        history_length: int,
        min_history: int,
        batch_size: int,
        seed: int,
        order: ExampleOrder = "prefixes",
        profiles: UserProfiles | None = None,
    ) -> None:
        self._batch_size = batch_size
        self._batches: _BatchesFromStep
        if isinstance(sequences, Sequences):
            whole = order == "sequences"
            targets = window_ends(sequences, history_length, min_history) if whole else target_positions(sequences, min_history)
            if not len(targets):
                raise DataError(
                    f"no training example: no sequence has an item with data.min_history = {min_history} items before it; lower "
                    "data.min_history"
                )
            choose_positions = _chooser(sequences, targets, batch_size=batch_size, seed=seed, order=order)
            gatherer = _ExampleGatherer(sequences, history_length, profiles, every_target_from=min_history if whole else None)
            self._batches = _GatheredBatches(choose_positions, gatherer, batch_size)
        else:
            settings = {"history_length": history_length, "min_history": min_history, "seed": seed, "every_target": order == "sequences"}
            self._batches = _StreamedBatches(sequences, batch_size, settings)

    def from_step(self, step: int) -> tf.data.Dataset:
        """An infinite dataset of the batches of ``step``, ``step + 1``, ...

        Returns:
            A dataset of dicts: ``history`` int32 [B, L] oldest to newest, right-padded with 0; ``target`` int32 [B]; ``timestamps``
            float64 [B, L], 0 at padding, if the sequences have any; ``weight`` float32 [B] of the target, if the sequences have any;
            ``negatives`` int32 [B, M], what the user has turned down, 0 pads, if the sequences have any;
            ``profile``, if there are profiles: a dict of ``feature_arrays`` rows. With the order ``sequences``, ``target`` int32 [B, L]
            is what follows each item of the history, 0 where that is no possible target, and ``weight`` is float32 [B, L].
        """
        return self._batches(start_step=step)

    def part(self, index: int, count: int) -> PartOfBatches:
        """The ``index``-th of ``count`` equal parts of every batch; see ``BatchStream``.

        Streamed sequences are cut by shards where there are enough of them, so that whoever takes a part reads no others.
        """
        return PartOfBatches(self._batches.part(index, count), self._batch_size // count)


@dataclass(frozen=True)
class PartOfBatches:
    """An equal part of every batch, ``batch_size`` examples of each."""

    batches: _BatchesFromStep
    batch_size: int

    def from_step(self, step: int) -> tf.data.Dataset:
        """See ``TrainingBatches.from_step``."""
        return self.batches(start_step=step)

    def part(self, index: int, count: int) -> PartOfBatches:
        """A part of the part."""
        return PartOfBatches(self.batches.part(index, count), self.batch_size // count)


def training_batches(
    sequences: Sequences | StreamedSequences,
    *,
    history_length: int,
    min_history: int,
    batch_size: int,
    seed: int,
    order: ExampleOrder = "prefixes",
    start_step: int = 0,
    profiles: UserProfiles | None = None,
) -> tf.data.Dataset:
    """Make an infinite dataset of training batches from ``start_step`` on: see ``TrainingBatches``, which is for asking repeatedly."""
    batches = TrainingBatches(
        sequences,
        history_length=history_length,
        min_history=min_history,
        batch_size=batch_size,
        seed=seed,
        order=order,
        profiles=profiles,
    )
    return batches.from_step(start_step)


def evaluation_batches(
    examples: EvaluationSet, *, history_length: int, batch_size: int, profiles: UserProfiles | None = None
) -> tf.data.Dataset:
    """Make one pass over the users of an evaluation set, in order; the last batch may be smaller.

    Returns:
        A dataset of dicts: ``history``, ``timestamps`` and ``profile`` as in ``training_batches``, and ``row`` int64 [b], the rows of
        ``examples`` that the batch holds.
    """
    gather = _ExampleGatherer(examples.histories, history_length, profiles)
    rows = tf.data.Dataset.range(len(examples)).batch(batch_size)
    return rows.map(gather.rows, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(PREFETCHED_BATCHES)


class RowBatches:
    """Batches of labelled rows: shuffled without end for training, or one pass in order.

    Args:
        gather: From row numbers int64 [B] to a batch, in the graph.
        num_rows: How many rows there are.
        batch_size: B. An epoch's last, incomplete batch is filled up from the next epoch; that of a pass in order is smaller.
        seed: Decides the order.

    Raises:
        DataError: There is no row.
    """

    def __init__(self, gather: Callable[[tf.Tensor], Any], num_rows: int, *, batch_size: int, seed: int) -> None:
        if num_rows < 1:
            raise DataError("no training example: there is no labelled row")
        self._gather, self._num_rows, self._batch_size = gather, num_rows, batch_size
        self._choose: Callable[[tf.Tensor], tf.Tensor] = _ShuffledTargets(np.arange(num_rows), batch_size, seed)

    def part(self, index: int, count: int) -> RowBatches:
        """The ``index``-th of ``count`` equal parts of every shuffled batch; see ``BatchStream``."""
        part = copy.copy(self)
        part._choose, part._batch_size = _part_of(self._choose, index, count), self._batch_size // count
        return part

    def from_step(self, step: int) -> tf.data.Dataset:
        """An infinite dataset of the batches of ``step``, ``step + 1``, ...; every row comes once per epoch."""
        steps = tf.data.Dataset.counter(start=step)
        batches = steps.map(self._shuffled, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return batches.prefetch(PREFETCHED_BATCHES)

    def in_order(self) -> tf.data.Dataset:
        """Every row once, in order."""
        rows = tf.data.Dataset.range(self._num_rows).batch(self._batch_size)
        return rows.map(self._gather, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(PREFETCHED_BATCHES)

    @tf.autograph.experimental.do_not_convert
    def _shuffled(self, step: tf.Tensor) -> Any:
        return self._gather(tf.ensure_shape(self._choose(step), [self._batch_size]))


def history_positions(ends: tf.Tensor, available: tf.Tensor, history_length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the newest ``history_length`` of the ``available`` [B] events before the positions ``ends`` [B] stand.

    Returns:
        int64 [B, L] positions, oldest to newest, 0 at padding; and bool [B, L], False at padding.
    """
    kept = tf.minimum(available, history_length)
    columns = tf.range(history_length, dtype=tf.int64)  # [L]
    real = columns < kept[:, None]  # [B, L]
    return tf.where(real, (ends - kept)[:, None] + columns, 0), real  # [B, L]


def _part_of(choose: Callable[[tf.Tensor], tf.Tensor], index: int, count: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """From a function that chooses the examples [B] of a step to the one that chooses one of ``count`` equal parts of them."""
    return lambda step: tf.split(choose(step), count)[index]


def _positions_in_row(sequences: Sequences) -> np.ndarray:
    """int64 [events]: how many events of the same row come before each event."""
    return np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], sequences.lengths())


def _chooser(
    sequences: Sequences, targets: np.ndarray, *, batch_size: int, seed: int, order: ExampleOrder
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function from a step to the target positions int64 [B] of its batch."""
    if order != "random_position":
        return _ShuffledTargets(targets, batch_size, seed)
    return _RandomRowTargets(sequences, targets, batch_size, seed)


class _ShuffledTargets:
    """From a step to the targets int64 [B] of its batch: every target once per epoch, in an order keyed by (seed, epoch)."""

    def __init__(self, targets: np.ndarray, batch_size: int, seed: int) -> None:
        self._targets = tf.constant(targets, tf.int64)
        self._num_targets = len(targets)
        self._batch_size = batch_size
        self._seed = seed

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        places = step * self._batch_size + tf.range(self._batch_size, dtype=tf.int64)  # [B] in the endless stream of examples
        epochs = places // self._num_targets
        keys = tf.stack([tf.fill([self._batch_size], tf.constant(self._seed, tf.int64)), epochs, tf.zeros_like(epochs)], axis=1)  # [B, 3]
        last = tf.constant(self._num_targets - 1, tf.int64)
        # The raw op takes a key per index, which tf.random.experimental.index_shuffle does not: a batch may span epochs.
        shuffled = tf.raw_ops.RandomIndexShuffle(index=places % self._num_targets, seed=keys, max_index=last, rounds=SHUFFLE_ROUNDS)  # [B]
        return tf.gather(self._targets, shuffled)


class _RandomRowTargets:
    """A random row that has a target, then one of its targets, independently for every example."""

    def __init__(self, sequences: Sequences, targets: np.ndarray, batch_size: int, seed: int) -> None:
        rows = np.searchsorted(sequences.offsets, targets, side="right") - 1
        _, first_target, num_targets = np.unique(rows, return_index=True, return_counts=True)
        self._targets = tf.constant(targets, tf.int64)
        self._first_target = tf.constant(first_target, tf.int64)  # [rows with targets]
        self._num_targets = tf.constant(num_targets, tf.int64)
        self._batch_size = batch_size
        self._seed = seed

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        key = tf.stack([tf.constant(self._seed, tf.int64), step])
        row_key, place_key = tf.unstack(tf.random.experimental.stateless_split(key, num=2))
        rows = tf.random.stateless_uniform([self._batch_size], row_key, 0, tf.size(self._first_target, tf.int64), tf.int64)
        # A 31-bit draw modulo a row's length favours none of its places by more than length / 2^31.
        draws = tf.random.stateless_uniform([self._batch_size], place_key, 0, 2**31 - 1, tf.int64)
        places = draws % tf.gather(self._num_targets, rows)
        return tf.gather(self._targets, tf.gather(self._first_target, rows) + places)


@dataclass(frozen=True)
class _EventColumn:
    """An array with one value per event, to be gathered with 0 at padding."""

    values: tf.Tensor

    def gather(self, positions: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        return tf.where(real, tf.gather(self.values, positions), tf.zeros([], self.values.dtype))


class _ExampleGatherer:
    """Gathers histories, targets and profiles. Arrays become tensors once; the graphs of ``tf.data`` capture them by reference.

    Args:
        sequences: What to gather from.
        history_length: L.
        profiles: Users' features, or None.
        every_target_from: None for one target per example; otherwise examples have one after each item of the history that has at least
            so many items before it in its row.
    """

    def __init__(
        self, sequences: Sequences, history_length: int, profiles: UserProfiles | None, every_target_from: int | None = None
    ) -> None:
        self._every_target_from = every_target_from
        # One event at least, so that gathering at a padding position reads something.
        events = max(len(sequences.items), 1)
        self._history_length = history_length
        self._items = _EventColumn(tf.constant(np.resize(sequences.items, events), tf.int32))
        self._timestamps = None
        if sequences.timestamps is not None:
            self._timestamps = _EventColumn(tf.constant(np.resize(sequences.timestamps, events), tf.float64))
        self._weights = None if sequences.weights is None else tf.constant(sequences.weights, tf.float32)
        self._offsets = tf.constant(sequences.offsets, tf.int64)
        self._positions_in_row = tf.constant(_positions_in_row(sequences), tf.int32)
        self._negatives = None
        if sequences.negatives is not None:
            self._negatives = tf.constant(np.maximum(sequences.negatives, PADDING_INDEX), tf.int32)
            self._event_rows = tf.constant(np.repeat(np.arange(len(sequences)), sequences.lengths()), tf.int32)
        self._profile: dict[str, tf.Tensor] = {}
        if profiles is not None:
            self._profile = {name: tf.constant(array) for name, array in feature_arrays(profiles.features).items()}
            self._row_users = tf.constant(sequences.users, tf.int32)
            self._event_users = tf.constant(np.repeat(sequences.users, sequences.lengths()), tf.int32)

    def examples(self, positions: tf.Tensor) -> dict[str, tf.Tensor]:
        """The examples whose targets stand at ``positions`` int64 [B]."""
        available = tf.cast(tf.gather(self._positions_in_row, positions), tf.int64)
        batch = self._histories(positions, available)
        if self._every_target_from is not None:
            history, real = history_positions(positions, available, self._history_length)
            after = history + tf.cast(real, tf.int64)  # the targets' positions, [B, L]
            batch["target"] = self._items.gather(after, real)
            is_target = (batch["target"] >= FIRST_INDEX) & (tf.gather(self._positions_in_row, after) >= self._every_target_from)
            batch["target"] = tf.where(is_target, batch["target"], 0)
            if self._weights is not None:
                batch["weight"] = tf.where(is_target, tf.gather(self._weights, after), 0.0)
        else:
            batch["target"] = tf.gather(self._items.values, positions)
            if self._weights is not None:
                batch["weight"] = tf.gather(self._weights, positions)
        if self._negatives is not None:
            batch["negatives"] = tf.gather(self._negatives, tf.gather(self._event_rows, positions))
        if self._profile:
            batch["profile"] = self._profiles(tf.gather(self._event_users, positions))
        return batch

    @tf.autograph.experimental.do_not_convert
    def rows(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """Whole rows int64 [B] as histories."""
        ends = tf.gather(self._offsets, rows + 1)
        batch = self._histories(ends, ends - tf.gather(self._offsets, rows))
        batch["row"] = rows
        if self._profile:
            batch["profile"] = self._profiles(tf.gather(self._row_users, rows))
        return batch

    def _histories(self, ends: tf.Tensor, available: tf.Tensor) -> dict[str, tf.Tensor]:
        """The newest L of the ``available`` [B] events before the positions ``ends`` [B]."""
        positions, real = history_positions(ends, available, self._history_length)
        batch = {"history": self._items.gather(positions, real)}
        if self._timestamps is not None:
            batch["timestamps"] = self._timestamps.gather(positions, real)
        return batch

    def _profiles(self, users: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.gather(array, users) for name, array in self._profile.items()}


class _BatchesFromStep(Protocol):
    def __call__(self, *, start_step: int) -> tf.data.Dataset: ...

    def part(self, index: int, count: int) -> _BatchesFromStep: ...


@dataclass(frozen=True)
class _StreamedBatches:
    """Batches of sequences that stay on disk."""

    sequences: StreamedSequences
    batch_size: int
    settings: dict[str, Any]

    def __call__(self, *, start_step: int) -> tf.data.Dataset:
        return self.sequences.training_batches(batch_size=self.batch_size, start_step=start_step, **self.settings)

    def part(self, index: int, count: int) -> _StreamedBatches:
        # Each part goes through its own shards at its own pace: an epoch of one may end before that of another.
        return _StreamedBatches(self.sequences.part_of_shards(index, count), self.batch_size // count, self.settings)


@dataclass(frozen=True)
class _GatheredBatches:
    """Batches of the examples whose targets stand where ``choose_positions`` says."""

    choose_positions: Callable[[tf.Tensor], tf.Tensor]
    gatherer: _ExampleGatherer
    batch_size: int

    def part(self, index: int, count: int) -> _GatheredBatches:
        return _GatheredBatches(_part_of(self.choose_positions, index, count), self.gatherer, self.batch_size // count)

    def __call__(self, *, start_step: int) -> tf.data.Dataset:
        steps = tf.data.Dataset.counter(start=start_step)
        return steps.map(self._batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(PREFETCHED_BATCHES)

    @tf.autograph.experimental.do_not_convert
    def _batch(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.gatherer.examples(tf.ensure_shape(self.choose_positions(step), [self.batch_size]))
