"""A user's own files as checked tables: a log of events, optionally a catalogue of items and profiles of users."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.config import LogConfig
from tfmi.core.errors import DataError
from tfmi.core.text import shown_names
from tfmi.data.reading.earlier import EarlierEvents, reading_earlier
from tfmi.data.reading.encoding import EventTableBuilder
from tfmi.data.reading.events import EventChunk, EventReader
from tfmi.data.reading.formats import VAGUE_SUFFIXES, known_suffix, require_path
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.side_tables import read_catalogue, read_users
from tfmi.data.reading.sources import (
    CATALOGUE_STEMS,
    LOG_STEMS,
    USERS_STEMS,
    TableSource,
    is_pattern,
    part_files,
    stem_of,
    table_source,
)
from tfmi.data.reading.time_span import say_span
from tfmi.data.tables import PARTS, TEST, TRAIN, VALID, EventTable, ItemTable, UserTable

__all__ = ["LogTables", "find_held_out_files", "find_log_files", "read_catalogue", "read_log", "read_log_files", "read_users", "says_parts"]

logger = logging.getLogger(__name__)

# What files of a split of your own are called, beside each other.
TRAIN_STEMS, VALID_STEMS, TEST_STEMS = ("train",), ("valid", "validation", "val"), ("test",)


@dataclass(frozen=True)
class LogTables:
    """Everything read from a user's files; ``items`` and ``users`` are None if there are none."""

    events: EventTable
    items: ItemTable | None
    users: UserTable | None


def find_log_files(path: str | Path, config: LogConfig) -> tuple[Path, Path | None, Path | None]:
    """Find the log and, beside it, the catalogue and, if profile columns are asked for, the users file.

    Args:
        path: The log itself; a folder that holds ``log.*``, ``events.*`` or ``interactions.*``, each a file or a folder of part files; a
            folder whose files are the log's parts; or a pattern of such files.
        config: ``catalogue_path`` and ``users_path`` win over ``catalogue.*`` or ``items.*``, and ``users.*``, beside the log.
            ``profile_columns`` and ``profile_numbers`` ask for profiles; without them a users file is ignored, which is logged.

    Raises:
        DataError: There is no log, or several files could be meant.
    """
    path = Path(path)
    if config.file is not None and path.is_dir():
        path = _named_log(path, config)
    if is_pattern(path):
        log, folder = path, next(parent for parent in path.parents if parent.is_dir())
    else:
        require_path(path, "file or folder; give the log, or the folder that holds it, with --data")
        log, folder = _log_at(path, config)
    catalogue = _beside(folder, config.catalogue_path, CATALOGUE_STEMS, "data.log.catalogue_path", config)
    users = _beside(folder, config.users_path, USERS_STEMS, "data.log.users_path", config)
    if users is not None and not wants_profiles(config):
        logger.info("%s: ignored; name its columns in data.log.profile_columns and data.log.profile_numbers to train with them", users)
        users = None
    return log, catalogue, users


def _named_log(folder: Path, config: LogConfig) -> Path:
    """The file ``config.file`` in a folder, or in one of the folders in it, as archives unpack."""
    name = config.file or ""
    inner = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith((".", "_"))]
    for place in (folder, *inner):
        found = [place / name] if (place / name).is_file() else sorted(file for file in place.glob(name) if file.is_file())
        if len(found) > 1:
            raise DataError(
                f"{place}: several files are called like {name}: {shown_names(file.name for file in found)}; name the one that is meant "
                "with --data"
            )
        if found:
            return found[0]
    held = shown_names((entry.name for entry in sorted(folder.iterdir())), most=12) or "nothing"
    raise DataError(f"{folder}: no file {name} there or one folder below; it holds: {held}. {download_hint(config)}".rstrip())


def download_hint(config: LogConfig) -> str:
    """Where a public set is to be had; nothing for another log."""
    from tfmi.data.public.public_sets import public_sets

    known = public_sets().get(config.name)
    return "" if known is None else f"Download {known.summary.split(',')[0]} from {known.home} and unpack it"


def _beside(folder: Path, named: str | None, stems: Sequence[str], setting: str, config: LogConfig) -> Path | None:
    """A table beside the log: as it is named, from here or from the log's folder; by its stem if it is not named."""
    if named is None:
        return None if config.file is not None else _find_beside(folder, stems, setting)
    for path in (Path(named), folder / named):
        if path.exists() or (is_pattern(path) and any(True for _ in path.parent.glob(path.name))):
            return path
    if config.optional_files:
        logger.info("%s: not there, and done without (%s)", folder / named, setting)
        return None
    return Path(named)  # reading it says what is missing


def find_held_out_files(path: str | Path, config: LogConfig) -> dict[int, Path]:
    """The files of validation and test events, by part: those that are named, or ``valid.*`` and ``test.*`` beside a ``train.*``."""
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    if config.test_path is not None:
        named = {VALID: config.valid_path, TEST: config.test_path}
        return {part: Path(name) if Path(name).exists() else folder / name for part, name in named.items() if name is not None}
    if not Path(path).is_dir() or config.file is not None or config.columns.part is not None:
        return {}
    if _find_beside(folder, LOG_STEMS, "--data") is not None or _find_beside(folder, TRAIN_STEMS, "--data") is None:
        return {}
    test = _find_beside(folder, TEST_STEMS, "data.log.test_path")
    valid = _find_beside(folder, VALID_STEMS, "data.log.valid_path")
    return {} if test is None else {part: file for part, file in ((VALID, valid), (TEST, test)) if file is not None}


def says_parts(path: str | Path, config: LogConfig) -> bool:
    """Whether a log says its own split: by a column, or by files of held-out events."""
    return config.columns.part is not None or bool(find_held_out_files(path, config))


def _log_at(path: Path, config: LogConfig) -> tuple[Path, Path]:
    """The log that a file or folder is or holds, and the folder that its catalogue would be in."""
    if path.is_file():
        return path, path.parent
    if stem_of(path) in LOG_STEMS and known_suffix(path) is not None:  # as Spark names its folders
        return path, path.parent
    found = _find_beside(path, LOG_STEMS, "--data")
    if found is not None:
        return found, path
    if find_held_out_files(path, config):
        train = _find_beside(path, TRAIN_STEMS, "--data")
        if train is not None:
            return train, path
    parts = part_files(path, config.log_file())
    if not parts:
        names = ", ".join(f"{stem}.*" for stem in LOG_STEMS)
        raise DataError(
            f"{path}: the folder holds no log; expected one of {names}, e.g. log.csv, or the part files of one table (part-*.parquet); "
            "give the file itself, or a pattern of files, with --data"
        )
    logger.info("%s: the folder's %d data files are read as one log", path, len(parts))
    return path, path


def wants_profiles(config: LogConfig) -> bool:
    """Whether any profile column is asked for."""
    return bool(config.profile_columns or config.profile_numbers)


def read_log_files(path: str | Path, config: LogConfig, rejects_folder: str | Path) -> LogTables:
    """Find and read a log with all that belongs to it.

    Profile columns come from the users file if there is one, else from the log. Rejects go to ``log.jsonl``, ``catalogue.jsonl`` and
    ``users.jsonl`` in ``rejects_folder``.

    Raises:
        DataError: As ``find_log_files``, ``read_log``, ``read_catalogue`` and ``read_users``.
    """
    log, catalogue, users = find_log_files(path, config)
    folder = Path(rejects_folder)
    items = None if catalogue is None else read_catalogue(catalogue, config, folder / "catalogue.jsonl", log=log)
    profiles = None if users is None else read_users(users, config, folder / "users.jsonl")
    in_log = wants_profiles(config) and users is None and config.users_path is None
    held_out = find_held_out_files(path, config)
    events = read_log(log, config, folder / "log.jsonl", catalogue=items, users=profiles, with_profiles=in_log, held_out=held_out)
    return LogTables(events, items, profiles if profiles is not None else events.profiles)


class LogReader:
    """Reads a log in one pass: the files of all its parts, one after the other, each with rejects of its own.

    Args:
        sources: The files of each part, training first. With more than one, an event's part is that of its file.
        config: Column names and rules.
        options: Further arguments of every ``EventReader``.
    """

    def __init__(self, sources: Mapping[int, TableSource], config: LogConfig, **options: Any) -> None:
        self.config = config
        self._readers = {part: EventReader(source, config, **options) for part, source in sources.items()}
        self._earlier: list[EventReader] = []
        if config.columns.history is not None:
            options = {**options, "with_profile": False, "with_rows": True}
            self._earlier = [EventReader(source, reading_earlier(config), **options) for source in sources.values()]
        first = self._readers[TRAIN]
        self.path = first.path
        for reader in self._readers.values():
            reader.counts.span = first.counts.span  # first and last time of all files
        self._rejected: dict[str, Mapping[str, Any]] = {}

    def chunks(self, rejects_path: Path) -> Iterator[EventChunk]:
        """The good events; raises as ``EventReader.chunks``."""
        for part, reader in self._readers.items():
            own_rejects = rejects_path if part == TRAIN else rejects_path.with_suffix(f".{PARTS[part]}.jsonl")
            with Rejects(reader.path, own_rejects) as rejects:
                for chunk in reader.chunks(rejects):
                    yield chunk if len(self._readers) == 1 else replace(chunk, parts=np.full(len(chunk), part, dtype=np.int8))
            self._rejected[PARTS[part]] = rejects.report(reader.counts.rows)
        if self._earlier:
            yield from self._earlier_chunks(rejects_path)

    def _earlier_chunks(self, rejects_path: Path) -> Iterator[EventChunk]:
        """What users did before the log, which is known once its first time is."""
        earlier = EarlierEvents()
        for place, reader in enumerate(self._earlier):
            with Rejects(reader.path, rejects_path.with_suffix(f".history{place or ''}.jsonl")) as rejects:
                for chunk in reader.chunks(rejects):
                    earlier.add(chunk)
        events, users = earlier.counts
        column = self.config.columns.history
        logger.info(
            "%s: %s earlier events of %s users in the column %r stand before the log's", self.path, f"{events:,}", f"{users:,}", column
        )
        has_parts = len(self._readers) > 1 or self.config.columns.part is not None
        yield from earlier.chunks(self.config, self._readers[TRAIN].counts.span.first, has_parts=has_parts)

    def report(self) -> dict[str, Any]:
        """What was read, rejected and left out, once ``chunks`` is exhausted."""
        counts = [reader.counts for reader in self._readers.values()]
        train, *others = self._rejected.items()
        return {
            **train[1],
            **{f"{name}_file": report for name, report in others},
            "other_event_types": sum(each.other_event_types for each in counts),
            "events_of_unknown_items": sum(each.unknown_item_events for each in counts),
            **counts[0].span.report(self.config.time_unit),
        }


def held_out_sources(held_out: Mapping[int, Path], config: LogConfig) -> dict[int, TableSource]:
    """The files of ``find_held_out_files``, found."""
    return {part: table_source(file, config.log_file()) for part, file in held_out.items()}


def read_log(
    path: str | Path,
    config: LogConfig,
    rejects_path: str | Path,
    *,
    catalogue: ItemTable | None = None,
    users: UserTable | None = None,
    with_profiles: bool = False,
    held_out: Mapping[int, Path] | None = None,
) -> EventTable:
    """Read and check a log into memory. ``docs/data.md`` has the outcome of every kind of bad row.

    Args:
        path: The log: a file, a folder of part files or a pattern.
        config: Column names and rules.
        rejects_path: Where rejected rows go; the file appears only if there are any.
        catalogue: The items, to count or reject events of others.
        users: The users file, to see whether it belongs to this log.
        with_profiles: Read the profile columns from the log: a user's value is the one of the earliest event that has one; without
            times, of the first in the file.
        held_out: Further files of events by their part, 1 for validation and 2 for test; the log's own events are then training.

    Raises:
        DataError: The log cannot be read, lacks a column, has too many rejected rows or no good one.
    """
    builder = EventTableBuilder(config)
    reader = LogReader(
        {TRAIN: table_source(Path(path), config.log_file()), **held_out_sources(held_out or {}, config)},
        config,
        known_items=None if catalogue is None else catalogue.item_ids,
        known_users=None if users is None else users.user_ids,
        with_profile=with_profiles,
    )
    for chunk in reader.chunks(Path(rejects_path)):
        builder.add(chunk)
    table = builder.build(reader.report())
    logger.info(
        "%s: %s events of %s users and %s items; %s exact duplicates dropped, %s times out of order, %s users with one event",
        path,
        *(f"{table.report[key]:,}" for key in ("events", "users", "items", "duplicates_dropped", "out_of_order", "users_with_one_event")),
    )
    say_span(path, table.report)
    return table


def _find_beside(folder: Path, stems: Sequence[str], setting: str) -> Path | None:
    """The one file, or folder of part files, in ``folder`` called by one of ``stems`` and a known suffix, or None.

    A suffix that says little, as that of ``items.txt``, counts only where no other file is called so.
    """
    found = [entry for entry in sorted(folder.iterdir()) if stem_of(entry) in stems and _is_table(entry)]
    clear = [entry for entry in found if known_suffix(entry) not in VAGUE_SUFFIXES]
    found = clear or found
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise DataError(f"{folder}: expected one file of {names}; remove or rename the others, or name the right one with {setting}")
    return found[0] if found else None


def _is_table(entry: Path) -> bool:
    return bool(part_files(entry)) if entry.is_dir() else known_suffix(entry) is not None
