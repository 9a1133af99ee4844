"""A user's own log as a ``Dataset`` whose training part stays on disk (``data.log.streaming``).

In memory are the catalogue, the profiles, and the validation and test users; the training users' events are streamed from TFRecord
shards. The split is by user, as every other one needs all users at once: a hash of the user id, keyed by ``data.split.seed``, decides
who trains, who validates and who tests, so that the same user always falls into the same part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfmi.config import DataConfig, SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.assembly import evaluation_counts, frequency_order
from tfmi.data.dataset import FIRST_INDEX, Catalogue, Dataset, EvaluationSet, Sequences, UserProfiles, Vocabulary
from tfmi.data.features import build_catalogue, build_profiles
from tfmi.data.reading.log import find_log_files, read_catalogue, read_users, wants_profiles
from tfmi.data.splitting.filtering import cold_items, say_giant, say_left_out
from tfmi.data.splitting.slicing import cut_rows
from tfmi.data.splitting.splits import history_and_rest
from tfmi.data.streaming.shard_reading import ShardedSequences, UserPart
from tfmi.data.streaming.shard_writing import ShardedLog, write_sharded_log
from tfmi.data.tables import UserTable

PartName = Literal["train", "valid", "test"]


def load_streamed_log(path: str | Path, config: DataConfig, shard_folder: str | Path, rejects_folder: str | Path) -> Dataset:
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
    log = write_sharded_log(
        log_path,
        config.log,
        shard_folder,
        rejects / "log.jsonl",
        catalogue=items,
        users=users,
        max_user_events=config.split.max_user_events,
    )
    frequent = _frequent_items(log, config.split)
    cold = cold_items(config.name, items, frequent, config.split)
    candidates = [*frequent, *cold.candidates]
    silent = frozenset(cold.candidates)
    counted = _training_sequences(log, Vocabulary(candidates), config.split, silent)
    item_counts, user_counts = _count_training(counted)
    order = frequency_order(candidates, np.arange(len(candidates)), item_counts[FIRST_INDEX:])
    vocabulary = Vocabulary(candidates[code] for code in order)
    profiles = _profiles(users, user_counts)
    catalogue = build_catalogue(vocabulary, np.concatenate([[0, 0], item_counts[FIRST_INDEX:][order]]), items)
    train = counted.with_indices(vocabulary, profiles)
    (valid, valid_users), (test, test_users) = (
        _evaluation_set(log, vocabulary, config.split, part, profiles=profiles, silent=silent) for part in ("valid", "test")
    )
    lengths = np.concatenate([train.lengths(), valid_users.lengths(), test_users.lengths()])
    left_out = _say_left_out(config.name, log, config.split, lengths, items=len(frequent))
    return Dataset(
        name=config.name,
        catalogue=catalogue,
        train=train,
        valid=valid,
        test=test,
        profiles=profiles,
        report={**_report(log, catalogue, train, valid, test), "dataset": config.name, **left_out, **cold.report},
    )


def _check(config: DataConfig) -> None:
    if config.split.method not in {"auto", "by_user"}:
        raise ConfigError(
            f"data.split.method: a streamed log is split by_user, got {config.split.method!r}; or set data.log.streaming: false"
        )
    if config.log.columns.part is not None or config.log.test_path is not None:
        raise ConfigError("data.log.columns.part, data.log.test_path: a streamed log is split by_user; or set data.log.streaming: false")
    if config.split.iterate_core:
        raise ConfigError("data.split.iterate_core: a streamed log is filtered once; set it to false, or data.log.streaming: false")
    if config.examples == "random_position":
        raise ConfigError(
            f"data.examples: a streamed log gives its examples as prefixes or sequences, got {config.examples!r}; or set "
            "data.log.streaming: false"
        )


def _frequent_items(log: ShardedLog, split: SplitConfig) -> list[str]:
    frequent = sorted(item for item, count in log.item_counts.items() if count >= split.min_item_events)
    if not frequent:
        raise DataError(
            f"none of the log's {len(log.item_counts):,} items has {split.min_item_events} events; lower data.split.min_item_events"
        )
    return frequent


def _part(split: SplitConfig, name: PartName) -> UserPart:
    valid_end = split.valid_share
    test_end = split.valid_share + split.test_share
    low, high = {"valid": (0.0, valid_end), "test": (valid_end, test_end), "train": (test_end, 1.0)}[name]
    return UserPart(split.seed, low, high)


def _training_sequences(log: ShardedLog, vocabulary: Vocabulary, split: SplitConfig, silent: frozenset[str]) -> ShardedSequences:
    train = ShardedSequences(log, vocabulary, min_events=split.min_user_events, part=_part(split, "train"), without_events=silent)
    if not train.num_examples(1):
        raise DataError(
            "the streamed log's training part has no sequence of two or more events, so there is nothing to learn from; give more data, "
            "or lower data.split.min_user_events and data.split.min_item_events"
        )
    return train


def _count_training(train: ShardedSequences) -> tuple[np.ndarray, list[str]]:
    """int64 [rows]: the training events of each item index; and the training users' ids."""
    counts = np.zeros(train.vocabulary.num_rows, dtype=np.int64)
    users: list[str] = []
    for ids, sequences in train.chunks():
        counts += np.bincount(sequences.items, minlength=len(counts))
        users += ids
    return counts, users


def _profiles(table: UserTable | None, training_users: list[str]) -> UserProfiles | None:
    if table is None or not table.columns:
        return None
    row = {user: position for position, user in enumerate(table.user_ids, start=1)}
    rows = np.array([row[user] for user in training_users if user in row], dtype=np.int64)
    return build_profiles(table.user_ids, rows, table)


def _evaluation_set(
    log: ShardedLog, vocabulary: Vocabulary, split: SplitConfig, part: PartName, *, profiles: UserProfiles | None, silent: frozenset[str]
) -> tuple[EvaluationSet, Sequences]:
    """The users of a part, cut into histories and targets, and whole."""
    users = ShardedSequences(
        log, vocabulary, min_events=split.min_user_events, part=_part(split, part), profiles=profiles, without_events=silent
    ).in_memory()
    examples = cut_rows(users, *history_and_rest(users, np.arange(len(users)), split.history_share))
    if not len(examples):
        raise DataError(
            f"the streamed log's {part} part is empty: no user there has both a history and a later event; give more data, or raise "
            f"data.split.{part}_share"
        )
    return examples, users


def _say_left_out(name: str, log: ShardedLog, split: SplitConfig, lengths: np.ndarray, *, items: int) -> dict[str, Any]:
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
        "items_left_out_as_rare": len(log.item_counts) - items,
    }
    say_left_out(name, split, report, users=int(log.report["users"]), items=len(log.item_counts), events=events)
    say_giant(name, "one user", lengths, split)
    return report


def _report(log: ShardedLog, catalogue: Catalogue, train: ShardedSequences, valid: EvaluationSet, test: EvaluationSet) -> dict[str, Any]:
    return {
        "dataset": "log",
        "split": "by_user",
        "streamed": True,
        "items": len(catalogue.vocabulary),
        "items_not_in_train": int((catalogue.counts[FIRST_INDEX:] == 0).sum()),
        "train": {"sequences": len(train), "events": train.num_events},
        **{name: evaluation_counts(part, catalogue) for name, part in (("valid", valid), ("test", test))},
        "read": dict(log.report),
    }
