"""From log files to a prepared log, by a cluster: the driver's side.

A task reads and checks each file, Spark brings each user's events together, a task writes each shard, and Spark counts. Files, checks,
reasons, shards and their order are those of a streamed log, since the code is the same.
"""

from __future__ import annotations

import functools
import logging
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tfmi.config import DataConfig
from tfmi.core.errors import ConfigError
from tfmi.core.files import folder_appears_complete, remove_leftovers, write_json
from tfmi.data.assembly import frequency_order
from tfmi.data.reading.events import EventReader
from tfmi.data.reading.log import find_held_out_files, find_log_files, read_catalogue, read_users, wants_profiles
from tfmi.data.reading.readers import check_alike
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.time_span import say_span
from tfmi.data.splitting.filtering import cold_items
from tfmi.data.streaming.prepared import NumberedItems, Prepared, is_prepared, write_prepared
from tfmi.data.streaming.shard_writing import optional_features, shard_names, shards_fingerprint, write_records
from tfmi.data.streaming.streamed_log import check_examples, has_own_split
from tfmi.data.tables import TRAIN, ItemTable, UserTable
from tfmi.spark.counting import ItemCounts, count_items
from tfmi.spark.log_tasks import (
    ITEMS,
    KNOWN_ITEMS,
    KNOWN_USERS,
    READ,
    REJECTS,
    SHARDS,
    USERS,
    event_schema,
    part_of,
    read_files,
    write_shards,
)
from tfmi.spark.session import SparkCluster
from tfmi.spark.work_folder import JOB, read_result, told

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_WORK = ".work"


@dataclass(frozen=True)
class _Inputs:
    """What is known before a cluster is asked."""

    reader: EventReader
    items: ItemTable | None
    users: UserTable | None


def prepare(path: str | Path, config: DataConfig, output: str | Path, rejects_folder: str | Path, cluster: SparkCluster) -> dict[str, Any]:
    """Prepare a log for ``data.dataset: prepared``.

    Args:
        path: The log, or the folder that holds it, as for ``tfmi.data.reading.log.find_log_files``. Every machine of the cluster sees it,
            and the output, under the same name.
        config: The data section: columns and rules of the log, filters and split, ``log.shards``.
        output: Appears complete or not at all; an earlier prepared log there is replaced.
        rejects_folder: Where rejected rows go.
        cluster: Who works.

    Returns:
        Counts, for a report.

    Raises:
        ConfigError: A setting that only data in memory can have, or the output holds something else.
        DataError: As for a log in memory.
        ClusterError: The cluster cannot be reached, or has failed.
    """
    output, rejects = Path(output), Path(rejects_folder)
    if output.exists() and not is_prepared(output) and not (output.is_dir() and not any(output.iterdir())):
        raise ConfigError(f"{output}: holds something else than a prepared log; name another output")
    _check_rules(path, config)
    inputs = _read_tables(path, config, rejects)
    output.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output.parent)
    names = shard_names("sequences", config.log.shards)
    with folder_appears_complete(output) as folder:
        work = folder.absolute() / _WORK
        _write_job(work, folder.absolute(), names, inputs, config)
        with cluster.session(f"tfmi prepare {config.name}") as session, told(work):
            _run_tasks(session, work, inputs, config)
            report = _report_of_reading(work, inputs, rejects / "log.jsonl")
            counts = count_items(session, work, config.split)
        totals = _totals(work, folder, names)
        prepared = _prepared(inputs, config, counts, names, {**report, **totals, "items": counts.distinct})
        # Besides the work folder, what tasks may have left that were ended half way.
        for entry in [*folder.iterdir()]:
            if entry.name not in names:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        write_prepared(folder, prepared)
    say_span(path, prepared.report)
    left = {"items_left": len(counts.ids), "candidates": len(prepared.vocabulary.ids)}
    return {"output": str(output), "shards": len(names), **prepared.report, **left}


def _check_rules(path: str | Path, config: DataConfig) -> None:
    """Raise ``ConfigError`` for what only a log that one process reads can have."""
    if config.split.method not in {"auto", "by_user"} or has_own_split(config, find_held_out_files(path, config.log)):
        raise ConfigError(
            "data.split.method: a log is prepared split by_user; set that, or give a log that says its own split to training/train.py "
            "--dataset log, with data.log.streaming where it is larger than memory"
        )
    if config.log.columns.history is not None:
        raise ConfigError("data.log.columns.history: what users did before a log is not prepared; leave it out, or use --dataset log")
    check_examples(config)


def _read_tables(path: str | Path, config: DataConfig, rejects: Path) -> _Inputs:
    """Find the files, read what stands beside the log, and look at the log's columns."""
    log_path, catalogue_path, users_path = find_log_files(path, config.log)
    if users_path is None and wants_profiles(config.log):
        raise ConfigError(
            "data.log.profile_columns: the profile columns must stand in a users file, with one row per user; give data.log.users_path, or "
            "put a file users.* beside the log"
        )
    items = None if catalogue_path is None else read_catalogue(catalogue_path, config.log, rejects / "catalogue.jsonl", log=log_path)
    users = None if users_path is None else read_users(users_path, config.log, rejects / "users.jsonl")
    reader = EventReader(
        log_path,
        config.log,
        known_items=None if items is None else items.item_ids,
        known_users=None if users is None else users.user_ids,
    )
    reader.say_unused()
    check_alike(reader.source(), reader.request())
    return _Inputs(reader, items, users)


def _write_job(work: Path, folder: Path, names: list[str], inputs: _Inputs, config: DataConfig) -> None:
    for name in (READ, REJECTS, SHARDS, ITEMS, USERS):
        (work / name).mkdir(parents=True)
    for name, table in ((KNOWN_ITEMS, inputs.items and inputs.items.item_ids), (KNOWN_USERS, inputs.users and inputs.users.user_ids)):
        if table is not None:
            pyarrow.parquet.write_table(pa.table({"id": pa.array(table, pa.string())}), work / name)
    source = inputs.reader.source()
    job = {
        "path": str(source.path),
        "parts": [part_of(source, number) for number in range(len(source.parts))],
        "log": config.log.model_dump(mode="json"),
        "output": str(folder),
        "shards": names,
        "max_user_events": config.split.max_user_events,
        "seed": config.split.seed,
    }
    write_json(work / JOB, job)


def _run_tasks(session: SparkSession, work: Path, inputs: _Inputs, config: DataConfig) -> None:
    """Read every file and write every shard."""
    files = len(inputs.reader.source().parts)
    log.info("%s: %s files are read by %s", inputs.reader.path, f"{files:,}", session.sparkContext.master)
    events = session.range(0, files, 1, files).mapInArrow(functools.partial(read_files, folder=str(work)), event_schema(config.log))
    shards = events.repartitionById(config.log.shards, "shard").sortWithinPartitions("shard", "place")
    written = shards.mapInArrow(functools.partial(write_shards, folder=str(work)), "shard int").toArrow()
    log.info("%s: %s of %s shards have users", inputs.reader.path, f"{written.num_rows:,}", f"{config.log.shards:,}")


def _report_of_reading(work: Path, inputs: _Inputs, rejects_path: Path) -> dict[str, Any]:
    """Join what the tasks have counted and rejected, in the order of the files, and look at the whole as a single reader does."""
    reader = inputs.reader
    with Rejects(reader.path, rejects_path) as rejects:
        for number in range(len(reader.source().parts)):
            found = read_result(work / READ / f"{number:06}.json")
            reader.add_tally(found["events"])
            rejects.add_tally(found["rejects"], work / REJECTS / f"{number:06}.jsonl")
        reader.finish(rejects)
    return reader.report(rejects)


def _totals(work: Path, folder: Path, names: list[str]) -> dict[str, int]:
    """Add up what was counted shard by shard. A shard that nobody fell into is an empty file."""
    totals: Counter[str] = Counter()
    for number, name in enumerate(names):
        path = work / SHARDS / f"{number:06}.json"
        if path.exists():
            totals.update(read_result(path))
        else:
            write_records(folder / name, None)
    return dict(totals)


def _prepared(inputs: _Inputs, config: DataConfig, counts: ItemCounts, names: list[str], report: dict[str, Any]) -> Prepared:
    cold = cold_items(config.name, inputs.items, counts.ids, config.split)
    candidates = [*counts.ids, *cold.candidates]
    numbers = np.concatenate([counts.counts, np.zeros(len(cold.candidates), np.int64)])
    order = frequency_order(candidates, np.arange(len(candidates)), numbers)
    return Prepared(
        name=config.name,
        shards=names,
        features=optional_features(config.log),
        split=config.split,
        vocabulary=NumberedItems([candidates[code] for code in order.tolist()], numbers[order], order >= len(counts.ids)),
        distinct_items=counts.distinct,
        report=report,
        cold=cold.report,
        items=inputs.items,
        users=inputs.users,
        made_from=shards_fingerprint(
            {TRAIN: inputs.reader.source()},
            config.log,
            inputs.items,
            inputs.users,
            max_user_events=config.split.max_user_events,
            own_split=False,
        ),
    )
