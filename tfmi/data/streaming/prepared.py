"""A log that a cluster has read, checked, filtered, split and numbered: what training needs of it, in one folder.

::

    <folder>/manifest.json                             format, rules, split, counts, and the size of every file; written last
    <folder>/sequences-00003-of-00016.tfrecord         the records of a streamed log (``shard_writing``), byte for byte
    <folder>/vocabulary.parquet                        items in index order, with their training events
    <folder>/catalogue.parquet, users.parquet          the checked tables beside the log, if there are any

The records hold everybody's events. Who is in which part follows from the user id and the split that the manifest holds, which items and
users are left out as rare from the vocabulary and ``min_user_events``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tfmi.config import DataConfig, SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.core.files import write_json
from tfmi.data.dataset import InteractionDataset
from tfmi.data.streaming.shard_writing import FORMAT_VERSION, MANIFEST, ShardedLog
from tfmi.data.streaming.streamed_log import CountedLog, check_examples, load_counted_log
from tfmi.data.table_files import read_item_table, read_user_table, write_item_table, write_user_table
from tfmi.data.tables import ItemTable, UserTable

FORMAT = f"tfmi prepared log 1, records {FORMAT_VERSION}"
VOCABULARY, CATALOGUE, USERS = "vocabulary.parquet", "catalogue.parquet", "users.parquet"
_AGAIN = "write it again with training/spark/prepare.py"


@dataclass(frozen=True)
class NumberedItems:
    """The items that are left, in index order.

    Attributes:
        ids: From index 2 on.
        counts: int64 [items] training events.
        silent: bool [items]: candidates by their features alone, whose events, if any, teach nothing.
    """

    ids: Sequence[str]
    counts: np.ndarray
    silent: np.ndarray


@dataclass(frozen=True)
class Prepared:
    """What goes into a folder besides the shards.

    Attributes:
        name: What reports call the data.
        shards: The names of the shard files.
        features: Which optional features the records hold, see ``optional_features``.
        split: The rules of filtering and splitting.
        vocabulary: The items.
        distinct_items: Items of the log before any was left out.
        report: Counts of what was read, rejected and dropped.
        cold: Counts of catalogue items without events.
        items, users: The tables beside the log, or None.
        made_from: What the shards depend on, for people.
    """

    name: str
    shards: Sequence[str]
    features: dict[str, bool]
    split: SplitConfig
    vocabulary: NumberedItems
    distinct_items: int
    report: dict[str, Any]
    cold: dict[str, int]
    items: ItemTable | None
    users: UserTable | None
    made_from: dict[str, Any]


def write_prepared(folder: Path, prepared: Prepared) -> None:
    """Complete a folder in which the shards are; the manifest is written last.

    Raises:
        DataError: A shard is missing.
    """
    numbered = prepared.vocabulary
    table = pa.table({"item": pa.array(numbered.ids, pa.string()), "count": numbered.counts, "silent": numbered.silent})
    pyarrow.parquet.write_table(table, folder / VOCABULARY, compression="zstd")
    names = [*prepared.shards, VOCABULARY]
    if prepared.items is not None:
        write_item_table(folder / CATALOGUE, prepared.items)
        names.append(CATALOGUE)
    if prepared.users is not None:
        write_user_table(folder / USERS, prepared.users)
        names.append(USERS)
    manifest = {
        "format": FORMAT,
        "name": prepared.name,
        "shards": list(prepared.shards),
        **prepared.features,
        "split": prepared.split.model_dump(mode="json"),
        "distinct_items": prepared.distinct_items,
        "cold": prepared.cold,
        "report": prepared.report,
        "made_from": prepared.made_from,
        "bytes": {name: _size(folder / name) for name in names},
    }
    write_json(folder / MANIFEST, manifest)


def load_prepared(path: str | Path, config: DataConfig) -> InteractionDataset:
    """Load a prepared log; its training part stays on disk.

    Args:
        path: The folder.
        config: The data section. What was decided when the folder was written is not read of it.

    Raises:
        ConfigError: Examples that only data in memory can have.
        DataError: The folder is none, is not complete, or was written by another version.
    """
    check_examples(config)
    if config.split.method not in {"auto", "given"}:
        raise ConfigError(
            f"data.split.method: {config.split.method!r}: a prepared log comes filtered and split; give the method to "
            "training/spark/prepare.py, and leave it out here"
        )
    folder = Path(path)
    manifest = _checked_manifest(folder)
    try:
        split = SplitConfig.model_validate(manifest["split"])
        log = ShardedLog(
            shards=tuple(folder / name for name in manifest["shards"]),
            part_events=None,
            item_counts={},
            report=manifest["report"],
            **{name: manifest[name] for name in ("has_timestamps", "has_weights", "has_negatives")},
        )
        cold, distinct = manifest["cold"], manifest["distinct_items"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / MANIFEST}: cannot be read: {error}; {_AGAIN}") from None
    items = read_item_table(folder / CATALOGUE) if CATALOGUE in manifest["bytes"] else None
    users = read_user_table(folder / USERS) if USERS in manifest["bytes"] else None
    numbered = _read_vocabulary(folder / VOCABULARY)
    counted = CountedLog(
        name=manifest["name"],
        log=log,
        split=split,
        items=numbered.ids,
        item_counts=numbered.counts,
        silent=frozenset(np.asarray(numbered.ids, dtype=object)[numbered.silent].tolist()),
        distinct_items=distinct,
        catalogue=items,
        users=users,
        cold=cold,
    )
    return load_counted_log(counted)


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a prepared log, of any version, complete or not."""
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["format"]).startswith("tfmi prepared log")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _checked_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder in which everything is that it names."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that training/spark/prepare.py has written, with --data")
    path = folder / MANIFEST
    if not path.is_file():
        held = "shards without one: writing them was stopped" if any(folder.glob("sequences-*.tfrecord")) else "no prepared log"
        raise DataError(f"{folder}: has no {MANIFEST}, so that it holds {held}; {_AGAIN}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = manifest.get("format")
        sizes = manifest.get("bytes", {})
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read: {error}; {_AGAIN}") from None
    if found != FORMAT:
        what = f"of the format {found!r}" if found else "of no prepared log"
        raise DataError(f"{path}: is {what}; this version of tfmi reads {FORMAT!r}; {_AGAIN}")
    for name, size in sizes.items():
        there = (folder / name).stat().st_size if (folder / name).is_file() else None
        if there != size:
            state = "is missing" if there is None else f"has {there:,} bytes"
            raise DataError(f"{folder / name}: {state}; expected {size:,} bytes: the folder is not complete; copy it again, or {_AGAIN}")
    return manifest


def _read_vocabulary(path: Path) -> NumberedItems:
    try:
        table = pyarrow.parquet.read_table(path, partitioning=None)
        return NumberedItems(table["item"].to_pylist(), table["count"].to_numpy(), table["silent"].to_numpy())
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}; {_AGAIN}") from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; executors and driver have to see one file system") from None
