"""Reading sequence shards back: as ``Sequences``, shard by shard, and as training examples made in the graph of ``tf.data``."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfmi.core.errors import DataError
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, UNKNOWN_INDEX, Sequences, UserProfiles, Vocabulary
from tfmi.data.features import feature_arrays
from tfmi.data.pipeline import PREFETCHED_BATCHES, SHUFFLE_ROUNDS, history_positions
from tfmi.data.splitting.explicit_negatives import MOST_NEGATIVES
from tfmi.data.streaming.shard_writing import ShardedLog

# Users parsed at once: enough to spread the cost of a call over them.
USERS_PER_PARSE = 256
# Shards read in turns, so that neighbours in the stream are different users'.
SHARDS_IN_TURNS = 4
# Examples mixed at once. Up to three such blocks are in memory: one is read, one waits, one is cut into batches.
DEFAULT_SHUFFLE_BUFFER = 100_000

HASH_BUCKETS = 1 << 30
# The second half of the key that chooses parts; any fixed number does.
_HASH_KEY = 0x7466_6D69


@dataclass(frozen=True)
class UserPart:
    """Some of the users, chosen by a hash of their id with a seed: the same ones in every run.

    Attributes:
        seed: Another seed chooses other users.
        low, high: The users whose hash, taken as a number in [0, 1), lies in ``[low, high)``.
    """

    seed: int = 0
    low: float = 0.0
    high: float = 1.0

    def contains(self, users: tf.Tensor) -> tf.Tensor:
        """bool [b]: whether each user belongs to the part."""
        share = tf.cast(user_buckets(users, self.seed), tf.float64) / HASH_BUCKETS
        return (share >= self.low) & (share < self.high)

    def places(self, records: Records) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``Choice``: all events of the users, or none."""
        return tf.zeros_like(records.lengths), tf.where(self.contains(records.users), records.lengths, 0)


EVERY_USER = UserPart()


class Records(NamedTuple):
    """Some users as they are stored: ``users`` string [b], ``lengths`` int64 [b] of their events, and of a log that says its own split
    ``part_ends`` int64 [b, 2], where training and validation end."""

    users: tf.Tensor
    lengths: tf.Tensor
    part_ends: tf.Tensor | None


class Choice(Protocol):
    """Which events of which users are read."""

    def places(self, records: Records) -> tuple[tf.Tensor, tf.Tensor]:
        """int64 [b]: the first event of each record that is read, and the one after the last; equal where none is."""


@dataclass(frozen=True)
class GivenPart:
    """What a log that says its own split holds for a part, by the rules of ``tfmi.data.splitting.given.split_given``.

    Attributes:
        part: "train"; or of "valid" and "test"
        piece: the "history" or the "targets".
        history_share: Of users who are in no earlier part, or validate with their training events.
        validating: Without a validation part, which of the users who train validate; else None.
    """

    part: Literal["train", "valid", "test"]
    piece: Literal["all", "history", "targets"]
    history_share: float
    validating: UserPart | None = None

    def places(self, records: Records) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``Choice``."""
        if records.part_ends is None:
            raise ValueError("expected records of a log that says its own split")
        train_ends, valid_ends = records.part_ends[:, 0], records.part_ends[:, 1]
        none = tf.zeros_like(train_ends)
        if self.validating is not None:
            own_history = self._share(train_ends)
            chosen = (own_history > 0) & (own_history < train_ends) & self.validating.contains(records.users)
            if self.part == "train":
                return none, tf.where(chosen, own_history, train_ends)
            if self.part == "valid":
                return self._piece(chosen, own_history, train_ends)
        if self.part == "train":
            return none, train_ends
        first, last = (train_ends, valid_ends) if self.part == "valid" else (valid_ends, records.lengths)
        history_ends = tf.where(first > 0, first, self._share(last - first))
        return self._piece((last > first) & (history_ends > 0) & (history_ends < last), history_ends, last)

    def _share(self, lengths: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.cast(lengths, tf.float64) * self.history_share, tf.int64)

    def _piece(self, chosen: tf.Tensor, history_ends: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        none = tf.zeros_like(ends)
        if self.piece == "history":
            return none, tf.where(chosen, history_ends, none)
        return tf.where(chosen, history_ends, none), tf.where(chosen, ends, none)


# Events of some users, one user after the other: "users" string [b], "lengths" int64 [b], "items" int32 [events], and, if the log has
# them, "timestamps" float64 [events] and "weights" float32 [events].
_Events = dict[str, tf.Tensor]


class ShardedSequences:
    """Sequences that stay on disk, as a stand-in for ``Sequences`` in training.

    Args:
        log: The shards.
        vocabulary: The items. Events of others are left out, as rare items are in memory.
        min_events: Users with fewer events, after that, are left out.
        part: Which users, or which of their events.
        profiles: Users' features, looked up by user id, or None.
        without_events: Items of the vocabulary whose events are left out all the same: candidates by their features alone.
    """

    def __init__(
        self,
        log: ShardedLog,
        vocabulary: Vocabulary,
        *,
        min_events: int = 1,
        part: Choice = EVERY_USER,
        profiles: UserProfiles | None = None,
        without_events: frozenset[str] = frozenset(),
    ) -> None:
        self.log = log
        self.vocabulary = vocabulary
        self.min_events = min_events
        self.part = part
        self.profiles = profiles
        self.without_events = without_events
        self._known_lengths: np.ndarray | None = None
        # Traced once for all shards and passes.
        self._traced_parse = tf.function(self._parse, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
        with_events = [identifier for identifier in vocabulary.ids if identifier not in without_events]
        self._item_table = index_table(with_events, vocabulary.indices(with_events), UNKNOWN_INDEX)
        if profiles is not None:
            # Row 0 of the profiles is the user of whom nothing is known.
            self._user_table = index_table(profiles.user_ids[1:], np.arange(1, len(profiles.user_ids)), 0)
            self._profile = {name: tf.constant(array) for name, array in feature_arrays(profiles.features).items()}

    def chunks(self) -> Iterator[tuple[list[str], Sequences]]:
        """User ids and their sequences, one shard at a time. Rows refer to ``profiles``, or count on from 0 without profiles."""
        rows_before = 0
        for shard in self.log.shards:
            records = tf.data.TFRecordDataset(str(shard)).batch(USERS_PER_PARSE)
            parts = [{name: values.numpy() for name, values in self._traced_parse(batch).items()} for batch in records]
            users = [user.decode("utf-8") for part in parts for user in part["users"]]
            rows = self._rows(users, rows_before)
            rows_before += len(users)
            yield users, _joined(parts, rows, self.log)

    def in_memory(self) -> Sequences:
        """All sequences, for what cannot stream."""
        chunks = [sequences for _, sequences in self.chunks()]
        lengths = np.concatenate([chunk.lengths() for chunk in chunks])
        return Sequences(
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            items=np.concatenate([chunk.items for chunk in chunks]),
            timestamps=np.concatenate([chunk.timestamps for chunk in chunks]) if self.log.has_timestamps else None,
            weights=np.concatenate([chunk.weights for chunk in chunks]) if self.log.has_weights else None,
            users=np.concatenate([chunk.users for chunk in chunks]),
            negatives=np.concatenate([chunk.negatives for chunk in chunks]) if self.log.has_negatives else None,
            negative_places=np.concatenate([chunk.negative_places for chunk in chunks]) if self.log.has_negatives else None,
        )

    def examples(self, *, history_length: int, min_history: int) -> tf.data.Dataset:
        """Every training example once, in the order of the shards.

        Args:
            history_length: L, the newest items before the target that an example holds.
            min_history: A target has at least this many items before it.

        Returns:
            A dataset of dicts: ``history`` int32 [L] oldest to newest, right-padded with 0; ``target`` int32 []; ``timestamps`` float64
            [L] if the log has times; ``weight`` float32 [] of the target if it has weights; ``profile``, if there are profiles.
        """
        return self._pass(tf.constant(self._paths()), history_length, min_history).unbatch()

    def training_batches(
        self,
        *,
        history_length: int,
        min_history: int,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        shuffle_buffer: int = DEFAULT_SHUFFLE_BUFFER,
        every_target: bool = False,
    ) -> tf.data.Dataset:
        """Make an infinite dataset of shuffled batches, like ``tfmi.data.pipeline.training_batches``.

        A pass over the shards is an epoch: every example once. It reads the shards in an order keyed by ``(seed, epoch)`` and mixes each
        ``shuffle_buffer`` examples that follow each other, so that ``(seed, step)`` decides every batch. The epoch in which
        ``start_step`` lies is therefore known, and no more than its earlier examples are read and left out. With ``every_target``
        examples are windows of whole histories, of the order ``sequences``.

        Raises:
            DataError: No user is left with enough events.
        """
        num_examples = self.num_examples(min_history, history_length if every_target else None)
        if not num_examples:
            raise DataError(
                f"no training example: no user has an item with data.min_history = {min_history} items before it; lower data.min_history"
            )
        paths = tf.constant(self._paths())
        block_size = min(shuffle_buffer, num_examples)
        first_epoch, examples_before = divmod(start_step * batch_size, num_examples)

        @tf.autograph.experimental.do_not_convert
        def one_pass(epoch: tf.Tensor) -> tf.data.Dataset:
            key = tf.stack([tf.constant(seed, tf.int64), epoch])
            shuffled_paths = tf.random.experimental.stateless_shuffle(paths, key)
            blocks = self._pass(shuffled_paths, history_length, min_history, every_target).rebatch(block_size)
            left_out = tf.where(epoch == first_epoch, tf.constant(examples_before, tf.int64), 0)
            first_block = left_out // block_size

            @tf.autograph.experimental.do_not_convert
            def mix(block: tf.Tensor, examples: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
                start = tf.where(block == first_block, left_out % block_size, 0)
                return _shuffled(examples, tf.stack([*tf.unstack(key), block]), start)

            return blocks.enumerate().skip(first_block).map(mix).prefetch(1)

        passes = tf.data.Dataset.counter(start=first_epoch).flat_map(one_pass)
        return passes.rebatch(batch_size, drop_remainder=True).prefetch(PREFETCHED_BATCHES)

    def part_of_shards(self, index: int, count: int) -> ShardedSequences:
        """The sequences of every ``count``-th shard, from ``index`` on.

        Raises:
            DataError: There are fewer shards than parts.
        """
        if len(self.log.shards) < count:
            raise DataError(f"data.log.shards: {len(self.log.shards)} shards cannot be shared by {count} replicas; write at least {count}")
        return self._like(replace(self.log, shards=self.log.shards[index::count]), self.vocabulary, self.profiles)

    def with_indices(self, vocabulary: Vocabulary, profiles: UserProfiles | None) -> ShardedSequences:
        """The same sequences with the same items in another order, and with profiles."""
        other = self._like(self.log, vocabulary, profiles)
        other._known_lengths = self._known_lengths
        return other

    def _like(self, log: ShardedLog, vocabulary: Vocabulary, profiles: UserProfiles | None) -> ShardedSequences:
        """The same choice of events from another log, with other indices or profiles."""
        return ShardedSequences(
            log, vocabulary, min_events=self.min_events, part=self.part, profiles=profiles, without_events=self.without_events
        )

    def of_part(self, part: Choice) -> ShardedSequences:
        """Others of the same log, by the same rules; the table of items, which is as large as the vocabulary, is shared."""
        other = copy.copy(self)
        other.part, other._known_lengths = part, None
        other._traced_parse = tf.function(other._parse, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
        return other

    def __len__(self) -> int:
        """The number of sequences. Like all counts, it reads every shard when it is first asked for."""
        return len(self.lengths())

    @property
    def num_events(self) -> int:
        """The number of events."""
        return int(self.lengths().sum())

    def num_examples(self, min_history: int, window: int | None = None) -> int:
        """The number of training examples in a pass: targets, or windows of at most ``window`` of them as ``window_ends`` cuts them."""
        targets = np.maximum(self.lengths() - min_history, 0)
        return int(targets.sum() if window is None else -(-targets // window).sum())

    def lengths(self) -> np.ndarray:
        """int64 [rows] number of events of each sequence."""
        if self._known_lengths is None:
            self._known_lengths = np.concatenate([sequences.lengths() for _, sequences in self.chunks()])
        return self._known_lengths

    def _paths(self) -> list[str]:
        return [str(shard) for shard in self.log.shards]

    def _pass(self, paths: tf.Tensor, history_length: int, min_history: int, every_target: bool = False) -> tf.data.Dataset:
        """Every example once, in batches of the examples of some users."""

        @tf.autograph.experimental.do_not_convert
        def cut(records: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._examples_of(self._traced_parse(records), history_length, min_history, every_target)

        records = tf.data.Dataset.from_tensor_slices(paths).interleave(
            tf.data.TFRecordDataset, cycle_length=SHARDS_IN_TURNS, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        batches = records.batch(USERS_PER_PARSE)
        return batches.map(cut, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _parse(self, records: tf.Tensor) -> _Events:
        """Sequence records string [b] as the events of the users that are to be kept."""
        features: dict[str, object] = {"user": tf.io.FixedLenFeature([], tf.string), "items": tf.io.RaggedFeature(tf.string)}
        if self.log.has_timestamps:
            features["timestamps"] = tf.io.FixedLenFeature([], tf.string)
        if self.log.has_weights:
            features["weights"] = tf.io.RaggedFeature(tf.float32)
        if self.log.has_negatives:
            features["negatives"] = tf.io.RaggedFeature(tf.string)
            features["negative_places"] = tf.io.RaggedFeature(tf.int64)
        if self.log.part_events is not None:
            features["part_ends"] = tf.io.FixedLenFeature([2], tf.int64)
        parsed = tf.io.parse_example(records, features)
        row_of_event = parsed["items"].value_rowids()  # [events]
        items = self._item_table.lookup(parsed["items"].values)  # [events]
        stored = tf.cast(parsed["items"].row_lengths(), tf.int64)  # [b]
        first, last = self.part.places(Records(parsed["user"], stored, parsed.get("part_ends")))
        place = tf.range(tf.size(items, tf.int64)) - tf.gather(tf.cumsum(stored, exclusive=True), row_of_event)  # [events]
        known = (items >= FIRST_INDEX) & (place >= tf.gather(first, row_of_event)) & (place < tf.gather(last, row_of_event))
        lengths = tf.math.segment_sum(tf.cast(known, tf.int64), row_of_event)  # every record has an event, so one per record
        wanted = lengths >= max(self.min_events, 1)  # [b]
        kept = known & tf.gather(wanted, row_of_event)  # [events]
        events = {
            "users": tf.boolean_mask(parsed["user"], wanted),
            "lengths": tf.boolean_mask(lengths, wanted),
            "items": tf.boolean_mask(items, kept),
        }
        if self.log.has_timestamps:
            # The doubles of all records, end to end.
            doubles = tf.io.decode_raw(tf.strings.reduce_join(parsed["timestamps"]), tf.float64, little_endian=True)
            events["timestamps"] = tf.boolean_mask(doubles, kept)
        if self.log.has_weights:
            events["weights"] = tf.boolean_mask(parsed["weights"].values, kept)
        if self.log.has_negatives:
            negatives, places = self._negatives(parsed, known)
            events["negatives"] = tf.boolean_mask(negatives, wanted)
            events["negative_places"] = tf.boolean_mask(places, wanted)
        return events

    def _negatives(self, parsed: dict[str, tf.Tensor], known: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What each user has turned down, int32 [b, M], 0 where there is none, and how many ``known`` [events] events came before it."""
        width = MOST_NEGATIVES
        ids = parsed["negatives"]
        items = ids.with_values(self._item_table.lookup(ids.values)).to_tensor(PADDING_INDEX, shape=[None, width])
        items = tf.where(items >= FIRST_INDEX, items, PADDING_INDEX)
        before = tf.concat([tf.zeros([1], tf.int64), tf.cumsum(tf.cast(known, tf.int64))], axis=0)  # [events + 1]
        starts = tf.cast(parsed["items"].row_starts(), tf.int64)[:, None]  # [b, 1]
        places = parsed["negative_places"].to_tensor(0, shape=[None, width])
        return items, tf.gather(before, starts + places) - tf.gather(before, starts)

    def _examples_of(self, events: _Events, history_length: int, min_history: int, every_target: bool) -> dict[str, tf.Tensor]:
        """Every example of some users, [n] each."""
        starts = tf.cumsum(events["lengths"], exclusive=True)  # [b]
        place_in_row = tf.range(tf.size(events["items"], tf.int64)) - tf.repeat(starts, events["lengths"])  # [events]
        is_example = place_in_row >= min_history
        if every_target:
            events_after = tf.repeat(events["lengths"], events["lengths"]) - 1 - place_in_row
            is_example &= events_after % history_length == 0
        targets = tf.where(is_example)[:, 0]  # [n]
        positions, real = history_positions(targets, tf.gather(place_in_row, targets), history_length)  # [n, L]
        examples = {"history": tf.where(real, tf.gather(events["items"], positions), 0), "target": tf.gather(events["items"], targets)}
        if self.log.has_timestamps:
            examples["timestamps"] = tf.where(real, tf.gather(events["timestamps"], positions), tf.zeros([], tf.float64))
        if self.log.has_weights:
            examples["weight"] = tf.gather(events["weights"], targets)
        if every_target:
            after = positions + tf.cast(real, tf.int64)  # [n, L]
            is_target = real & (tf.gather(place_in_row, after) >= min_history)
            examples["target"] = tf.where(is_target, tf.gather(events["items"], after), 0)
            if self.log.has_weights:
                examples["weight"] = tf.where(is_target, tf.gather(events["weights"], after), 0.0)
        if self.log.has_negatives:
            rows = tf.repeat(tf.range(tf.size(events["lengths"], tf.int64)), events["lengths"])
            examples["negatives"] = tf.gather(events["negatives"], tf.gather(rows, targets))
        if self.profiles is not None:
            users = tf.gather(tf.repeat(self._user_table.lookup(events["users"]), events["lengths"]), targets)
            examples["profile"] = {name: tf.gather(array, users) for name, array in self._profile.items()}
        return examples

    def _rows(self, users: list[str], rows_before: int) -> np.ndarray:
        if self.profiles is None:
            return np.arange(rows_before, rows_before + len(users), dtype=np.int32)
        return self._user_table.lookup(tf.constant(users, tf.string)).numpy()


def user_buckets(users: tf.Tensor, seed: int) -> tf.Tensor:
    """int64 [b]: the bucket, below ``HASH_BUCKETS``, of each user id string [b], by which parts are chosen; see ``UserPart``."""
    return tf.strings.to_hash_bucket_strong(users, HASH_BUCKETS, key=[seed, _HASH_KEY])


def _shuffled(examples: dict[str, tf.Tensor], key: tf.Tensor, start: tf.Tensor) -> dict[str, tf.Tensor]:
    """The examples [n] in an order keyed by ``key`` int64 [3], from the place ``start`` on.

    ``tf.data``'s own shuffling would also depend on TensorFlow's global seed.
    """
    number = tf.shape(examples["target"], tf.int64)[0]
    places = tf.raw_ops.RandomIndexShuffle(index=tf.range(start, number), seed=key, max_index=number - 1, rounds=SHUFFLE_ROUNDS)
    return tf.nest.map_structure(lambda values: tf.gather(values, places), examples)


def index_table(ids: Sequence[str], indices: np.ndarray, missing: int) -> tf.lookup.StaticHashTable:
    """A table from ids to ``indices`` int [ids] in the graph; ``missing`` for all others."""
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(ids, tf.string), tf.constant(indices, tf.int32))
    return tf.lookup.StaticHashTable(initializer, missing)


def _joined(parts: Sequence[_Events], rows: np.ndarray, log: ShardedLog) -> Sequences:
    """The events of one shard as sequences; ``parts`` hold NumPy arrays."""

    def column(name: str, dtype: type, *shape: int) -> np.ndarray:
        return np.concatenate([np.empty((0, *shape), dtype), *(part[name] for part in parts)]).astype(dtype)

    lengths = column("lengths", np.int64)
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=column("items", np.int32),
        timestamps=column("timestamps", np.float64) if log.has_timestamps else None,
        weights=column("weights", np.float32) if log.has_weights else None,
        users=rows,
        negatives=column("negatives", np.int32, MOST_NEGATIVES) if log.has_negatives else None,
        negative_places=column("negative_places", np.int64, MOST_NEGATIVES) if log.has_negatives else None,
    )
