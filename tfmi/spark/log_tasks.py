"""What executors do to a log: a task reads and checks a file of it, another writes a shard. Both with the code of the local path."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tfmi.config import FileConfig, LogConfig
from tfmi.core.files import file_appears_complete, write_json
from tfmi.data.dataset import Sequences
from tfmi.data.reading.encoding import EventTableBuilder
from tfmi.data.reading.events import EventChunk, EventReader
from tfmi.data.reading.formats import table_file
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.sources import TableSource
from tfmi.data.tables import EventTable
from tfmi.spark.work_folder import read_job, telling

KNOWN_ITEMS, KNOWN_USERS = "known_items.parquet", "known_users.parquet"
READ, REJECTS, SHARDS, ITEMS, USERS = "read", "rejects", "shards", "items", "users"
# An event's place in the log: the number of its file, and its place in it.
FILE_SHIFT = 40
_USERS_AT_ONCE = 10_000
_USER_ROWS = pa.schema([("user", pa.string()), ("bucket", pa.int64()), ("items", pa.list_(pa.string()))])


def part_of(source: TableSource, number: int) -> dict[str, Any]:
    """One file of a table, as JSON can hold it."""
    part = source.parts[number]
    return {"path": str(part.path.absolute()), "shown": str(part.path), "partitions": part.partitions}


def source_of(job: dict[str, Any], number: int, options: FileConfig) -> TableSource:
    """The file of ``part_of`` as a table by itself."""
    part = job["parts"][number]
    return TableSource(Path(job["path"]), (table_file(part["path"], options, part["partitions"]),))


def event_schema(config: LogConfig) -> str:
    """The columns of checked events, in Spark's words."""
    columns = ["shard int", "place long", "user string", "item string"]
    columns += ["time double"] * (config.columns.time is not None)
    columns += ["weight float"] * config.has_weights
    columns += ["type string"] * (config.columns.event is not None)
    return ", ".join(columns)


def read_files(numbers: Iterator[pa.RecordBatch], *, folder: str) -> Iterator[pa.RecordBatch]:
    """A task: the checked events of some files, each with its shard and its place in the log.

    What was counted of a file goes to ``read/<number>.json``, its rejected rows to ``rejects/<number>.jsonl``.
    """
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            with telling(folder, f"read-{number:06}"):
                yield from _read_file(folder, number)


def _read_file(folder: str, number: int) -> Iterator[pa.RecordBatch]:
    from tfmi.data.streaming.shard_writing import shard_of

    job = read_job(folder)
    config = _config(folder)
    source = source_of(job, number, config.log_file())
    reader = EventReader(source, config, known_items=_known(folder, KNOWN_ITEMS), known_users=_known(folder, KNOWN_USERS))
    rejected = Path(folder) / REJECTS / f"{number:06}.jsonl"
    place = number << FILE_SHIFT
    with Rejects(job["path"], rejected) as rejects:
        for events in reader.unfinished_chunks(rejects):
            yield _event_batch(events, shard_of(events.users, config.shards), place)
            place += len(events)
    write_json(Path(folder) / READ / f"{number:06}.json", {"events": reader.tally(), "rejects": rejects.tally()})


def _event_batch(events: EventChunk, shards: np.ndarray, place: int) -> pa.RecordBatch:
    columns: dict[str, Any] = {
        "shard": shards.astype(np.int32),
        "place": np.arange(place, place + len(events), dtype=np.int64),
        "user": events.users.cast(pa.string()),
        "item": events.items.cast(pa.string()),
    }
    if events.times is not None:
        columns["time"] = events.times
    if events.weights is not None:
        columns["weight"] = events.weights
    if events.types is not None:
        columns["type"] = events.types.cast(pa.string())
    return pa.record_batch(columns)


def write_shards(batches: Iterator[pa.RecordBatch], *, folder: str) -> Iterator[pa.RecordBatch]:
    """A task: shards of sequences, of events that come shard by shard, in the order of the log.

    Writes ``<output>/sequences-*.tfrecord``, ``shards/<number>.json`` with what was counted, ``items/<number>.parquet`` with the events of
    each item, and ``users/<number>.parquet`` with the items of each user; gives the numbers of the shards.
    """
    config = _config(folder)
    builder: EventTableBuilder | None = None
    current = -1
    for batch in batches:
        numbers = batch.column("shard").to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
            if numbers[start] != current:
                if builder is not None:
                    yield _write_shard(folder, current, builder)
                builder, current = EventTableBuilder(config), int(numbers[start])
            assert builder is not None  # noqa: S101 - set with the first shard
            builder.add(_event_chunk(batch.slice(start, end - start)))
    if builder is not None:
        yield _write_shard(folder, current, builder)


def _event_chunk(batch: pa.RecordBatch) -> EventChunk:
    names = batch.schema.names

    def numbers(name: str) -> np.ndarray | None:
        return batch.column(name).to_numpy(zero_copy_only=False) if name in names else None

    types = batch.column("type") if "type" in names else None
    return EventChunk(batch.column("user"), batch.column("item"), numbers("time"), numbers("weight"), types)


def _write_shard(folder: str, number: int, builder: EventTableBuilder) -> pa.RecordBatch:
    from tfmi.data.streaming.shard_writing import Shard, write_records

    job, work = read_job(folder), Path(folder)
    with telling(folder, f"write-{number:06}"):
        shard = Shard(builder.build({}), job["max_user_events"])
        with file_appears_complete(Path(job["output"]) / job["shards"][number]) as temporary:
            write_records(temporary, shard)
        counts = shard.item_counts()
        with file_appears_complete(work / ITEMS / f"{number:06}.parquet") as temporary:
            table = pa.table({"item": pa.array(counts.keys(), pa.string()), "count": pa.array(counts.values(), pa.int64())})
            pyarrow.parquet.write_table(table, temporary)
        rows = _user_rows(shard.table, shard.sequences, job["seed"])
        with file_appears_complete(work / USERS / f"{number:06}.parquet") as temporary:
            pyarrow.parquet.write_table(pa.Table.from_batches(rows, _USER_ROWS), temporary)
        write_json(work / SHARDS / f"{number:06}.json", dict(shard.totals))
    return pa.record_batch({"shard": pa.array([number], pa.int32())})


def _user_rows(table: EventTable, sequences: Sequences, seed: int) -> Iterator[pa.RecordBatch]:
    import tensorflow as tf

    from tfmi.data.streaming.shard_reading import user_buckets

    users, items = pa.array(table.user_ids, pa.string()), pa.array(table.item_ids, pa.string())
    for start in range(0, len(sequences), _USERS_AT_ONCE):
        codes = sequences.users[start : start + _USERS_AT_ONCE]
        offsets = sequences.offsets[start : start + len(codes) + 1]
        ids = users.take(pa.array(codes))
        own = items.take(pa.array(sequences.items[offsets[0] : offsets[-1]]))
        lists = pa.ListArray.from_arrays(pa.array((offsets - offsets[0]).astype(np.int32)), own)
        buckets = user_buckets(tf.constant(ids.to_pylist(), tf.string), seed).numpy()
        yield pa.record_batch([ids, pa.array(buckets, pa.int64()), lists], schema=_USER_ROWS)


@functools.cache
def _config(folder: str) -> LogConfig:
    return LogConfig.model_validate_json(json.dumps(read_job(folder)["log"]))


@functools.cache
def _known(folder: str, name: str) -> list[str] | None:
    """Ids of the catalogue or the users file; None without one. Read once by every process."""
    path = Path(folder) / name
    if not path.is_file():
        return None
    ids: list[str] = pyarrow.parquet.read_table(path, partitioning=None)["id"].to_pylist()
    return ids
