"""A user's own log as an ``InteractionDataset`` whose training part stays on disk (``data.log.streaming``).

In memory are the catalogue, the profiles, and the validation and test users; the training users' events are streamed from TFRecord
shards. The split is the log's own, or by user, as every other one needs all users at once: a hash of the user id, keyed by
``data.split.seed``, decides who trains, who validates and who tests, so that the same user always falls into the same part.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from tfmi.config import DataConfig, SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.assembly import evaluation_counts, frequency_order
from tfmi.data.dataset import FIRST_INDEX, Catalogue, EvaluationSet, InteractionDataset, Sequences, UserProfiles, Vocabulary
from tfmi.data.features import build_catalogue, build_profiles
from tfmi.data.reading.log import find_held_out_files, find_log_files, read_catalogue, read_users, wants_profiles
from tfmi.data.splitting.filtering import cold_items, say_giant, say_left_out
from tfmi.data.splitting.given import NOT_GIVEN, require_parts
from tfmi.data.splitting.slicing import cut_rows
from tfmi.data.splitting.splits import history_and_rest
from tfmi.data.streaming.shard_reading import Choice, GivenPart, ShardedSequences, UserPart
from tfmi.data.streaming.shard_writing import ShardedLog, write_sharded_log
from tfmi.data.tables import TEST, TRAIN, VALID, ItemTable, UserTable

logger = logging.getLogger(__name__)

PartName = Literal["train", "valid", "test"]
HeldOut = Literal["valid", "test"]
HELD_OUT: tuple[HeldOut, HeldOut] = ("valid", "test")


def load_streamed_log(path: str | Path, config: DataConfig, shard_folder: str | Path, rejects_folder: str | Path) -> InteractionDataset:
    """Load a log that does not fit into memory.

    Args:
        path: The log, or the folder that holds it, as for ``tfmi.data.reading.log.find_log_files``.
        config: The data section.
        shard_folder: Where the TFRecord shards go, or are if they were written before.
        rejects_folder: Where rejected rows go.

    Returns:
        A dataset whose ``train`` is a ``ShardedSequences``.

    Raises:
        ConfigError: A setting that only data in memory can have.
        DataError: As for a log in memory.
    """
    _check(config)
    log_path, catalogue_path, users_path = find_log_files(path, config.log)
    rejects = Path(rejects_folder)
    if users_path is None and wants_profiles(config.log) and config.log.users_path is None:
        raise ConfigError(
            "data.log.profile_columns: with data.log.streaming the profile columns must stand in a users file, with one row per user; "
            "give data.log.users_path, or put a file users.* beside the log"
        )
    items = None if catalogue_path is None else read_catalogue(catalogue_path, config.log, rejects / "catalogue.jsonl", log=log_path)
    users = None if users_path is None else read_users(users_path, config.log, rejects / "users.jsonl")
    held_out = find_held_out_files(path, config.log)
    own_split = has_own_split(config, held_out)
    log = write_sharded_log(
        log_path,
        config.log,
        shard_folder,
        rejects / "log.jsonl",
        catalogue=items,
        users=users,
        max_user_events=config.split.max_user_events,
        held_out=held_out,
        own_split=own_split,
    )
    distinct = len(log.item_counts)
    parts: _Split = _OwnSplit(log, config.split) if own_split else _ByUser(log, config.split, distinct)
    frequent = _frequent_items(log, parts.min_item_events)
    log = replace(log, item_counts={})  # which would stay in memory as long as the shards are read
    cold = cold_items(config.name, items, frequent, config.split)
    candidates = [*frequent, *cold.candidates]
    counted = _training_sequences(log, candidates, parts, frozenset(cold.candidates))
    item_counts, training = _count_training(counted, with_users=users is not None)
    order = frequency_order(candidates, np.arange(len(candidates)), item_counts)
    train = counted.with_indices(Vocabulary(candidates[code] for code in order), None)
    del counted, candidates, frequent  # and with them a second table of items
    return _dataset(_Beside(config.name, items, users, cold.report), parts, train, item_counts[order], training)


def load_counted_log(counted: CountedLog) -> InteractionDataset:
    """The dataset of a sharded log whose items are numbered and counted already, split by user.

    Raises:
        DataError: A part holds nothing.
    """
    parts = _ByUser(counted.log, counted.split, counted.distinct_items)
    train = _training_sequences(counted.log, counted.items, parts, counted.silent)
    training = [] if counted.users is None else [user for users, _ in train.chunks() for user in users]
    return _dataset(_Beside(counted.name, counted.catalogue, counted.users, counted.cold), parts, train, counted.item_counts, training)


@dataclass(frozen=True)
class CountedLog:
    """A sharded log with what would take passes over its shards to find.

    Attributes:
        name: What reports call the data.
        log: The shards.
        split: The rules by which it was filtered and is split.
        items: Those that are left, in index order.
        item_counts: int64 [items] training events.
        silent: Those of the items that are candidates by their features alone.
        distinct_items: Items of the log before any was left out.
        catalogue, users: The tables beside the log, or None.
        cold: Counts of catalogue items without events.
    """

    name: str
    log: ShardedLog
    split: SplitConfig
    items: SequenceOf[str]
    item_counts: np.ndarray
    silent: frozenset[str]
    distinct_items: int
    catalogue: ItemTable | None
    users: UserTable | None
    cold: Mapping[str, int]


class _Beside(NamedTuple):
    """What a dataset has besides its events."""

    name: str
    items: ItemTable | None
    users: UserTable | None
    cold: Mapping[str, int]


def _dataset(
    beside: _Beside, parts: _Split, counted: ShardedSequences, item_counts: np.ndarray, training: SequenceOf[str]
) -> InteractionDataset:
    """The dataset of a training part whose items have their indices; ``item_counts`` int64 [items], ``training`` its users' ids."""
    vocabulary = counted.vocabulary
    profiles = _profiles(beside.users, training)
    catalogue = build_catalogue(vocabulary, np.concatenate([np.zeros(FIRST_INDEX, np.int64), item_counts]), beside.items)
    train = counted if profiles is None else counted.with_indices(vocabulary, profiles)
    held: list[EvaluationSet] = []
    lengths = [train.lengths()]
    for name in HELD_OUT:
        examples, users_of_part = parts.evaluation_set(name, train)
        if not len(examples):
            raise DataError(
                f"the streamed log's {name} part is empty: no user there has both a history and a later event; give more data, or "
                f"{parts.more.format(name)}"
            )
        held.append(examples)
        lengths.append(users_of_part)
    valid, test = held
    left_out = parts.left_out(beside.name, np.concatenate(lengths), items=len(vocabulary) - len(train.without_events))
    return InteractionDataset(
        name=beside.name,
        catalogue=catalogue,
        train=train,
        valid=valid,
        test=test,
        profiles=profiles,
        report={
            **_report(train.log, catalogue, train, valid, test),
            "dataset": beside.name,
            "split": parts.method,
            **left_out,
            **beside.cold,
        },
    )


def _check(config: DataConfig) -> None:
    if config.split.method not in {"auto", "by_user", "given"}:
        raise ConfigError(
            f"data.split.method: a streamed log is split by_user, or as it says itself (given), got {config.split.method!r}; or set "
            "data.log.streaming: false"
        )
    if config.split.iterate_core:
        raise ConfigError("data.split.iterate_core: a streamed log is filtered once; set it to false, or data.log.streaming: false")
    check_examples(config)


def check_examples(config: DataConfig) -> None:
    """Raise ``ConfigError`` for examples that cannot be had from a stream."""
    if config.examples == "random_position":
        raise ConfigError(
            f"data.examples: a streamed log gives its examples as prefixes or sequences, got {config.examples!r}; or set "
            "data.log.streaming: false"
        )


def has_own_split(config: DataConfig, held_out: Mapping[int, Path]) -> bool:
    """Whether a log's own split counts; raises ``ConfigError`` if it is asked for, and there is none."""
    if config.split.method == "by_user":
        return False
    says = config.log.columns.part is not None or bool(held_out)
    if config.split.method == "given" and not says:
        raise ConfigError(NOT_GIVEN)
    return says


class _Split(Protocol):
    """Who trains, validates and tests.

    Attributes:
        method: As ``data.split.method`` calls it.
        min_item_events, min_user_events: Rarer items and users are left out.
        more: What would give an empty part something, with its name in ``{}``.
    """

    method: str
    min_item_events: int
    min_user_events: int
    more: str

    def training(self) -> Choice:
        """What trains."""

    def evaluation_set(self, part: HeldOut, train: ShardedSequences) -> tuple[EvaluationSet, np.ndarray]:
        """The users of a held-out part of the log whose training part is ``train``; and int64, the events of those who do not train."""

    def left_out(self, name: str, lengths: np.ndarray, *, items: int) -> dict[str, Any]:
        """Log and report who was left out; ``lengths`` [users] are the events of those who are not, ``items`` so many are left."""


class _ByUser:
    """A hash of the user id decides; a held-out user's first events are the history."""

    method = "by_user"
    more = "raise data.split.{}_share"

    def __init__(self, log: ShardedLog, split: SplitConfig, distinct_items: int) -> None:
        self._log, self._split, self._distinct_items = log, split, distinct_items
        self.min_item_events, self.min_user_events = split.min_item_events, split.min_user_events

    def training(self) -> Choice:
        """See ``_Split``."""
        return user_part(self._split, "train")

    def evaluation_set(self, part: HeldOut, train: ShardedSequences) -> tuple[EvaluationSet, np.ndarray]:
        """See ``_Split``."""
        users = train.of_part(user_part(self._split, part)).in_memory()
        return cut_rows(users, *history_and_rest(users, np.arange(len(users)), self._split.history_share)), users.lengths()

    def left_out(self, name: str, lengths: np.ndarray, *, items: int) -> dict[str, Any]:
        """See ``_Split``; as for a log in memory."""
        return _say_left_out(name, self._log, self._split, lengths, items=items, distinct=self._distinct_items)


class _OwnSplit:
    """As the log says, and nobody is left out; see ``tfmi.data.splitting.given``."""

    method = "given"
    more = "say more of it in data.log.columns.part or the files of held-out events"
    min_item_events = min_user_events = 1

    def __init__(self, log: ShardedLog, split: SplitConfig) -> None:
        events = log.part_events or (0, 0, 0)
        require_parts(train=events[TRAIN] > 0, test=events[TEST] > 0)
        self._log, self._share = log, split.history_share
        self._validating = None if events[VALID] else user_part(split, "valid")
        if self._validating is not None:
            logger.info("The log says no validation part: a share of the users who train validate (data.split.valid_share)")

    def training(self) -> Choice:
        """See ``_Split``."""
        return GivenPart("train", "all", self._share, self._validating)

    def evaluation_set(self, part: HeldOut, train: ShardedSequences) -> tuple[EvaluationSet, np.ndarray]:
        """See ``_Split``."""

        def piece(name: Literal["history", "targets"]) -> Sequences:
            return train.of_part(GivenPart(part, name, self._share, self._validating)).in_memory()

        return EvaluationSet(piece("history"), piece("targets")), np.empty(0, np.int64)

    def left_out(self, name: str, lengths: np.ndarray, *, items: int) -> dict[str, Any]:
        """See ``_Split``: nobody."""
        positives = int(self._log.report["events"]) - int(self._log.report.get("negative_events", 0))
        return {"users": int(self._log.report["users"]), "events": positives}


def _frequent_items(log: ShardedLog, least: int) -> list[str]:
    frequent = sorted(item for item, count in log.item_counts.items() if count >= least)
    if not frequent:
        raise no_frequent_item(len(log.item_counts), least)
    return frequent


def no_frequent_item(items: int, least: int) -> DataError:
    """What to say where none of so many items has enough events."""
    return DataError(f"none of the log's {items:,} items has {least} events; lower data.split.min_item_events")


def user_part(split: SplitConfig, name: PartName) -> UserPart:
    """The users of a part of a log that is split by user."""
    valid_end = split.valid_share
    test_end = split.valid_share + split.test_share
    low, high = {"valid": (0.0, valid_end), "test": (valid_end, test_end), "train": (test_end, 1.0)}[name]
    return UserPart(split.seed, low, high)


def _training_sequences(log: ShardedLog, candidates: SequenceOf[str], parts: _Split, silent: frozenset[str]) -> ShardedSequences:
    """The training part, with items numbered as ``candidates`` stand."""
    train = ShardedSequences(log, Vocabulary(candidates), min_events=parts.min_user_events, part=parts.training(), without_events=silent)
    if not train.num_examples(1):
        raise DataError(
            "the streamed log's training part has no sequence of two or more events, so there is nothing to learn from; give more data, "
            "or lower data.split.min_user_events and data.split.min_item_events"
        )
    return train


def _count_training(train: ShardedSequences, *, with_users: bool) -> tuple[np.ndarray, list[str]]:
    """int64 [items]: the training events of each item; and the training users' ids, if they are asked for."""
    counts = np.zeros(train.vocabulary.num_rows, dtype=np.int64)
    users: list[str] = []
    for ids, sequences in train.chunks():
        counts += np.bincount(sequences.items, minlength=len(counts))
        users += ids if with_users else []
    return counts[FIRST_INDEX:], users


def _profiles(table: UserTable | None, training: SequenceOf[str]) -> UserProfiles | None:
    if table is None or not table.columns:
        return None
    row = {user: position for position, user in enumerate(table.user_ids, start=1)}
    rows = np.array([row[user] for user in training if user in row], dtype=np.int64)
    return build_profiles(table.user_ids, rows, table)


def _say_left_out(name: str, log: ShardedLog, split: SplitConfig, lengths: np.ndarray, *, items: int, distinct: int) -> dict[str, Any]:
    """Log and report who was left out, as for a log in memory; ``lengths`` [users] are the events of those that are not."""
    over = int(log.report.get("events_over_max_user_events", 0))
    # What users have turned down is neither rare nor an event that counts.
    events = int(log.report["events"]) - int(log.report.get("negative_events", 0))
    report = {
        "users": len(lengths),
        "events": int(lengths.sum()),
        "events_over_max_user_events": over,
        "events_left_out_as_rare": events - over - int(lengths.sum()),
        "users_left_out_as_rare": int(log.report["users"]) - len(lengths),
        "items_left_out_as_rare": distinct - items,
    }
    say_left_out(name, split, report, users=int(log.report["users"]), items=distinct, events=events)
    say_giant(name, "one user", lengths, split)
    return report


def _report(log: ShardedLog, catalogue: Catalogue, train: ShardedSequences, valid: EvaluationSet, test: EvaluationSet) -> dict[str, Any]:
    return {
        "streamed": True,
        "items": len(catalogue.vocabulary),
        "items_not_in_train": int((catalogue.counts[FIRST_INDEX:] == 0).sum()),
        "train": {"sequences": len(train), "events": train.num_events},
        **{name: evaluation_counts(part, catalogue) for name, part in (("valid", valid), ("test", test))},
        "read": dict(log.report),
    }
