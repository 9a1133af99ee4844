"""Logs larger than memory: one streaming pass into TFRecord shards, then one sequence record per user.

A user's events all go to the shard that the CRC-32 of the user id names, so that the second stage needs one shard in memory at a time::

    <folder>/<hash>/events/manifest.json, events-00003-of-00016.tfrecord      stage 1: blocks of events in file order; deleted after stage 2
    <folder>/<hash>/sequences/manifest.json, item_counts.json, sequences-00003-of-00016.tfrecord      stage 2: one record per user
    <folder>/<hash>.lock                                                      held by whoever writes or reads them

The hash is that of the log's path, size and time of change, the rules and the catalogue. A stage's folder appears complete or not at
all. A second call with the same log and rules finds the finished stages and reuses them; one at the same time waits for them; one with
another log or other rules writes elsewhere, and deletes what nobody uses.

A sequence record is a ``tf.train.Example``: ``user`` (one string), ``items`` (strings, oldest first, ties in file order),
``timestamps`` (one string, the raw little-endian float64 seconds, since an Example's own floats have only 32 bits) if the log has times,
``weights`` (floats) if it has weights, ``negatives`` (strings) and ``negative_places`` (integers) if the configuration names types of
negative events, and ``part_ends`` (two integers: how many events train, and how many train or validate) if the log says its own split,
whose parts then come before times in the order of events.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfmi.config import LogConfig
from tfmi.core.errors import DataError, StorageError
from tfmi.core.files import folder_appears_complete, write_json
from tfmi.core.folder_lock import FolderLock
from tfmi.data.dataset import Sequences
from tfmi.data.reading.encoding import EventTableBuilder
from tfmi.data.reading.events import EventChunk
from tfmi.data.reading.formats import BLOCK_BYTES
from tfmi.data.reading.log import LogReader, held_out_sources
from tfmi.data.reading.sources import TableSource, table_source
from tfmi.data.reading.time_span import say_span
from tfmi.data.splitting.explicit_negatives import separate_negatives
from tfmi.data.splitting.filtering import newest_events
from tfmi.data.splitting.given import order_given
from tfmi.data.tables import PARTS, TRAIN, EventTable, ItemTable, UserTable

logger = logging.getLogger(__name__)

FORMAT_VERSION = 4
MANIFEST = "manifest.json"
ITEM_COUNTS = "item_counts.json"
LITTLE_ENDIAN_DOUBLE = "<f8"


@dataclass(frozen=True)
class ShardedLog:
    """A log as TFRecord shards of one sequence per user.

    Attributes:
        shards: The TFRecord files.
        has_timestamps, has_weights, has_negatives: Which of the optional features the records hold.
        part_events: How many events train, validate and test in a log that says its own split; else None.
        item_counts: Events of each item, over all users.
        report: Counts of what was read, rejected and dropped, as ``EventTable.report`` has them.
        lock: Keeps others from deleting the shards for as long as this object lives; None if nobody does.
    """

    shards: tuple[Path, ...]
    has_timestamps: bool
    has_weights: bool
    has_negatives: bool
    part_events: tuple[int, int, int] | None
    item_counts: Mapping[str, int]
    report: Mapping[str, Any]
    lock: FolderLock | None = field(default=None, repr=False, compare=False)


def write_sharded_log(
    path: str | Path,
    config: LogConfig,
    folder: str | Path,
    rejects_path: str | Path,
    *,
    catalogue: ItemTable | None = None,
    users: UserTable | None = None,
    max_user_events: int | None = None,
    held_out: Mapping[int, Path] | None = None,
    own_split: bool = False,
    block_bytes: int = BLOCK_BYTES,
) -> ShardedLog:
    """Turn a log of any size into sharded sequences, or open them if they are there already.

    Memory holds one block of the log, later one shard; the disk needs space for about twice the unpacked log. While another process
    writes the same shards, this one waits, and says so.

    Args:
        path: The log: a file, a folder of part files or a pattern.
        config: Column names, rules, and ``shards``.
        folder: Where the shards go; it belongs to this log alone. Those of an earlier state of the log, or of other rules, are deleted
            if no process uses them.
        rejects_path: Where rejected rows go.
        catalogue: The items, to count or reject events of others.
        users: The users file, to see whether it belongs to this log.
        max_user_events: Of a user with more events, the newest so many count; None: all.
        held_out: Further files of events, as for ``tfmi.data.reading.log.read_log``.
        own_split: Keep which part an event belongs to, and nobody's events are left out; otherwise parts are forgotten.
        block_bytes: How much of a text log one chunk holds.

    Raises:
        DataError: As ``tfmi.data.reading.log.read_log``.
    """
    path, folder = Path(path), Path(folder)
    sources = {TRAIN: table_source(path, config.log_file()), **held_out_sources(held_out or {}, config)}
    max_user_events = None if own_split else max_user_events
    fingerprint = shards_fingerprint(sources, config, catalogue, users, max_user_events=max_user_events, own_split=own_split)
    home = folder / _digest(fingerprint)
    sequences = home / "sequences"
    lock = FolderLock(_lock_path(home), "shared", str(path))
    while _manifest(sequences, fingerprint) is None:
        lock.release()
        lock = FolderLock(_lock_path(home), "exclusive", str(path))
        # Whoever was waited for may have written them.
        if _manifest(sequences, fingerprint) is None:
            reader = LogReader(
                sources,
                config,
                known_items=None if catalogue is None else catalogue.item_ids,
                known_users=None if users is None else users.user_ids,
                block_bytes=block_bytes,
            )
            _write_stages(reader, home, rejects_path, fingerprint, lock)
        lock.share()
    # Nobody writes a first stage whose second is there: a run was killed before it could delete it.
    shutil.rmtree(home / "events", ignore_errors=True)
    _delete_unused(folder, home)
    logger.info("%s: the TFRecord shards are in %s", path, sequences)
    log = replace(open_sharded_log(sequences), lock=lock)
    say_span(path, log.report)
    return log


def open_sharded_log(folder: str | Path) -> ShardedLog:
    """Open a finished ``sequences`` folder; raises ``DataError`` if it is none."""
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        item_counts = json.loads((folder / ITEM_COUNTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: not a folder of sequence shards: {error}; write it again with write_sharded_log") from None
    return ShardedLog(
        shards=tuple(folder / name for name in manifest["shards"]),
        has_timestamps=manifest["has_timestamps"],
        has_weights=manifest["has_weights"],
        has_negatives=manifest["has_negatives"],
        part_events=None if manifest["part_events"] is None else tuple(manifest["part_events"]),
        item_counts=item_counts,
        report=manifest["report"],
    )


def shard_of(users: pa.Array, shards: int) -> np.ndarray:
    """int64 [rows]: the shard of each user: CRC-32 of the id in UTF-8, modulo ``shards``; the same on every machine and in every run."""
    encoded = users.dictionary_encode()
    distinct = np.array([zlib.crc32(user.encode("utf-8")) % shards for user in encoded.dictionary.to_pylist()], dtype=np.int64)
    return distinct[encoded.indices.to_numpy()]


def shards_fingerprint(
    sources: Mapping[int, TableSource],
    config: LogConfig,
    catalogue: ItemTable | None,
    users: UserTable | None,
    *,
    max_user_events: int | None,
    own_split: bool,
) -> dict[str, Any]:
    """What the shards depend on: another log, other rules or another catalogue have shards of their own."""
    return {
        "format": FORMAT_VERSION,
        "log": sources[TRAIN].state(),
        "held_out": {PARTS[part]: source.state() for part, source in sources.items() if part != TRAIN},
        "own_split": own_split,
        "rules": config.model_dump(mode="json"),
        "max_user_events": max_user_events,
        "catalogue_crc32": None if catalogue is None else _checksum(catalogue.item_ids),
        "users_crc32": None if users is None else _checksum(users.user_ids),
    }


def _checksum(ids: Sequence[str]) -> int:
    return zlib.crc32("\n".join(ids).encode("utf-8"))


def _manifest(folder: Path, fingerprint: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of a finished stage if it was made from this log by these rules, else None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if manifest.get("made_from") == fingerprint else None


def _digest(fingerprint: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


def _lock_path(home: Path) -> Path:
    return home.with_name(f"{home.name}.lock")


def _delete_unused(folder: Path, kept: Path) -> None:
    """Delete the shards of other states of the log and of other rules, finished or not, that no process writes or reads."""
    for lock_path in folder.glob("*.lock"):
        home = lock_path.with_suffix("")
        if home == kept:
            continue
        try:
            lock = FolderLock(lock_path, "exclusive", str(home), wait=False)
        except (OSError, StorageError):  # In use, or another user's.
            continue
        shutil.rmtree(home, ignore_errors=True)
        lock.release_and_remove()
        logger.info("%s: deleted; it belonged to an earlier state of the log or to other rules", home)


def _write_stages(reader: LogReader, home: Path, rejects_path: str | Path, fingerprint: Mapping[str, Any], lock: FolderLock) -> None:
    """Write the stages that the folder lacks, which ``lock`` has for itself; the lock is released if that fails."""
    events, sequences = home / "events", home / "sequences"
    try:
        for left_by_killed_run in [*home.glob(".events.*"), *home.glob(".sequences.*")]:
            shutil.rmtree(left_by_killed_run)
        if _manifest(events, fingerprint) is None:
            with folder_appears_complete(events) as temporary:
                _write_events(reader, Path(rejects_path), temporary, fingerprint)
        with folder_appears_complete(sequences) as temporary:
            _write_sequences(events, temporary, reader.config, fingerprint)
    except BaseException:
        if events.exists():
            lock.release()  # The next run goes on from there.
        else:
            shutil.rmtree(home, ignore_errors=True)
            lock.release_and_remove()
        raise


def shard_names(stage: str, shards: int) -> list[str]:
    """The files of a stage."""
    return [f"{stage}-{shard:05d}-of-{shards:05d}.tfrecord" for shard in range(shards)]


def _write_events(reader: LogReader, rejects_path: Path, folder: Path, fingerprint: Mapping[str, Any]) -> None:
    """Stage 1: one pass over the log; each block's events go to their shards as one record per shard."""
    names = shard_names("events", reader.config.shards)
    writers = [tf.io.TFRecordWriter(str(folder / name)) for name in names]
    try:
        for chunk in reader.chunks(rejects_path):
            events = chunk if fingerprint["own_split"] else replace(chunk, parts=None)
            shard = shard_of(events.users, len(writers))
            order = np.argsort(shard, kind="stable")
            for rows in np.split(order, np.flatnonzero(np.diff(shard[order])) + 1):
                if len(rows):
                    writers[shard[rows[0]]].write(_event_block(events, rows))
    finally:
        for writer in writers:
            writer.close()
    write_json(folder / MANIFEST, {"made_from": fingerprint, "shards": names, "report": reader.report()})


def _event_block(events: EventChunk, rows: np.ndarray) -> bytes:
    """Some events as a serialised ``tf.train.Example`` of parallel columns."""
    places = pa.array(rows)
    features = {"users": _strings(events.users.take(places)), "items": _strings(events.items.take(places))}
    if events.types is not None:
        features["types"] = _strings(events.types.take(places))
    if events.times is not None:
        features["times"] = _doubles(events.times[rows])
    if events.weights is not None:
        features["weights"] = _floats(events.weights[rows])
    if events.parts is not None:
        features["parts"] = _integers(events.parts[rows])
    if events.earlier:
        features["earlier"] = _integers(np.ones(1, dtype=np.int64))
    return _serialised(features)


def _read_event_block(record: bytes) -> EventChunk:
    features = tf.train.Example.FromString(record).features.feature

    def strings(name: str) -> pa.Array:
        return pa.array(list(features[name].bytes_list.value), pa.large_binary()).cast(pa.large_string())

    times = np.frombuffer(features["times"].bytes_list.value[0], LITTLE_ENDIAN_DOUBLE) if "times" in features else None
    weights = np.array(features["weights"].float_list.value, dtype=np.float32) if "weights" in features else None
    parts = np.array(features["parts"].int64_list.value, dtype=np.int8) if "parts" in features else None
    types = strings("types") if "types" in features else None
    return EventChunk(strings("users"), strings("items"), times, weights, types, parts, earlier="earlier" in features)


def _write_sequences(events: Path, folder: Path, config: LogConfig, fingerprint: Mapping[str, Any]) -> None:
    """Stage 2: each shard alone is read, freed of duplicates, sorted and written as one record per user."""
    manifest = json.loads((events / MANIFEST).read_text(encoding="utf-8"))
    names = shard_names("sequences", len(manifest["shards"]))
    totals: Counter[str] = Counter()
    item_counts: Counter[str] = Counter()
    part_events = np.zeros(len(PARTS), dtype=np.int64)
    for source, name in zip(manifest["shards"], names, strict=True):
        table = _shard_table(events / source, config)
        shard = None if table is None else Shard(table, fingerprint["max_user_events"])
        write_records(folder / name, shard)
        if shard is None:
            continue
        part_events += shard.part_events
        totals.update(shard.totals)
        item_counts.update(shard.item_counts())
        logger.info("%s: %s events of %s users written", name, f"{len(shard.table):,}", f"{len(shard.table.user_ids):,}")
    write_json(folder / ITEM_COUNTS, dict(item_counts))
    report = {**manifest["report"], **totals, "items": len(item_counts)}
    optional = {**optional_features(config), "part_events": part_events.tolist() if part_events.any() else None}
    write_json(folder / MANIFEST, {"made_from": fingerprint, "shards": names, **optional, "report": report})


class Shard:
    """All events of some users, freed of duplicates, sorted and cut to the newest.

    Args:
        table: The events.
        max_user_events: Of a user with more events, the newest so many count; None: all. A log that says its own split keeps all.

    Attributes:
        sequences: A row per user; items are codes of ``table``.
        part_events: int64 [3], how many events train, validate and test in a log that says its own split; else 0.
        totals: Counts that add up over shards.
    """

    def __init__(self, table: EventTable, max_user_events: int | None) -> None:
        self.table = table
        self.part_events = np.zeros(len(PARTS), dtype=np.int64)
        self.totals: Counter[str] = Counter({key: value for key, value in table.report.items() if key != "items"})
        self._part_ends: np.ndarray | None = None
        separated = separate_negatives(table)
        positives = separated.positives
        if positives.parts is not None:
            given = order_given(separated)
            self.sequences = given.ordered
            self._part_ends = np.stack([given.train_ends, given.valid_ends], axis=1) - self.sequences.offsets[:-1, None]
            self.part_events += np.bincount(positives.parts, minlength=len(PARTS))
            return
        newest = newest_events(positives.user_codes, positives.timestamps, max_user_events)
        if max_user_events is not None:
            self.totals["events_over_max_user_events"] = int((~newest).sum())
        self.sequences = separated.ordered(newest)

    def item_counts(self) -> dict[str, int]:
        """Events of each item; an item without one, which was only turned down, has 0."""
        counts = np.bincount(self.sequences.items, minlength=len(self.table.item_ids)).tolist()
        return dict(zip(self.table.item_ids, counts, strict=True))

    def records(self) -> Iterator[bytes]:
        """One serialised ``tf.train.Example`` per user."""
        return _sequence_records(self.sequences, self.table, self._part_ends)


def write_records(path: Path, shard: Shard | None) -> None:
    """Write a TFRecord file of a shard's users; an empty one if it has none."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in () if shard is None else shard.records():
            writer.write(record)


def optional_features(config: LogConfig) -> dict[str, Any]:
    """Which of the optional features the records of such a log hold, as a manifest says it."""
    return {
        "has_timestamps": config.columns.time is not None,
        "has_weights": config.has_weights,
        "has_negatives": config.negative_events is not None,
    }


def _shard_table(path: Path, config: LogConfig) -> EventTable | None:
    """One shard of stage 1 in memory; None if no user fell into it."""
    builder = EventTableBuilder(config)
    empty = True
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        builder.add(_read_event_block(record))
        empty = False
    return None if empty else builder.build({})


def _sequence_records(sequences: Sequences, table: EventTable, part_ends: np.ndarray | None) -> Iterator[bytes]:
    """One record per row of ``sequences``, which hold the codes of ``table``; ``part_ends`` int64 [rows, 2] of a log's own split."""
    item_ids = np.array([item.encode("utf-8") for item in table.item_ids], dtype=object)
    bounds = zip(sequences.users.tolist(), sequences.offsets[:-1].tolist(), sequences.offsets[1:].tolist(), strict=True)
    for row, (user, start, end) in enumerate(bounds):
        features = {"user": _strings(pa.array([table.user_ids[user]])), "items": _bytes(item_ids[sequences.items[start:end]])}
        if sequences.timestamps is not None:
            features["timestamps"] = _doubles(sequences.timestamps[start:end])
        if sequences.weights is not None:
            features["weights"] = _floats(sequences.weights[start:end])
        if sequences.negatives is not None and sequences.negative_places is not None:
            real = sequences.negatives[row] >= 0
            features["negatives"] = _bytes(item_ids[sequences.negatives[row][real]])
            features["negative_places"] = _integers(sequences.negative_places[row][real])
        if part_ends is not None:
            features["part_ends"] = _integers(part_ends[row])
        yield _serialised(features)


def _bytes(values: np.ndarray) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values.tolist()))


def _serialised(features: Mapping[str, tf.train.Feature]) -> bytes:
    # The same bytes in every process: an Example's features are a map, in no order of its own.
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def _strings(text: pa.Array) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=text.cast(pa.large_binary()).to_pylist()))


def _floats(values: np.ndarray) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values.tolist()))


def _integers(values: np.ndarray) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values.tolist()))


def _doubles(values: np.ndarray) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[values.astype(LITTLE_ENDIAN_DOUBLE).tobytes()]))
