"""A user's own files as checked tables: a log of events, optionally a catalogue of items and profiles of users."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfmi.config import LogConfig
from tfmi.core.errors import DataError
from tfmi.data.reading.encoding import EventTableBuilder
from tfmi.data.reading.events import EventReader
from tfmi.data.reading.formats import VAGUE_SUFFIXES, known_suffix, require_path
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.side_tables import read_catalogue, read_users
from tfmi.data.reading.sources import CATALOGUE_STEMS, LOG_STEMS, USERS_STEMS, is_pattern, part_files, stem_of
from tfmi.data.reading.time_span import say_span
from tfmi.data.tables import EventTable, ItemTable, UserTable

__all__ = ["LogTables", "find_log_files", "read_catalogue", "read_log", "read_log_files", "read_users"]

logger = logging.getLogger(__name__)


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
    if is_pattern(path):
        log, folder = path, next(parent for parent in path.parents if parent.is_dir())
    else:
        require_path(path, "file or folder; give the log, or the folder that holds it, with --data")
        log, folder = _log_at(path, config)
    catalogue = Path(config.catalogue_path) if config.catalogue_path else _find_beside(folder, CATALOGUE_STEMS, "data.log.catalogue_path")
    users = Path(config.users_path) if config.users_path else _find_beside(folder, USERS_STEMS, "data.log.users_path")
    if users is not None and not wants_profiles(config):
        logger.info("%s: ignored; name its columns in data.log.profile_columns and data.log.profile_numbers to train with them", users)
        users = None
    return log, catalogue, users


def _log_at(path: Path, config: LogConfig) -> tuple[Path, Path]:
    """The log that a file or folder is or holds, and the folder that its catalogue would be in."""
    if path.is_file():
        return path, path.parent
    if stem_of(path) in LOG_STEMS and known_suffix(path) is not None:  # as Spark names its folders
        return path, path.parent
    found = _find_beside(path, LOG_STEMS, "--data")
    if found is not None:
        return found, path
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
    items = None if catalogue is None else read_catalogue(catalogue, config, folder / "catalogue.jsonl")
    profiles = None if users is None else read_users(users, config, folder / "users.jsonl")
    in_log = wants_profiles(config) and users is None
    events = read_log(log, config, folder / "log.jsonl", catalogue=items, users=profiles, with_profiles=in_log)
    return LogTables(events, items, profiles if profiles is not None else events.profiles)


def read_log(
    path: str | Path,
    config: LogConfig,
    rejects_path: str | Path,
    *,
    catalogue: ItemTable | None = None,
    users: UserTable | None = None,
    with_profiles: bool = False,
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

    Raises:
        DataError: The log cannot be read, lacks a column, has too many rejected rows or no good one.
    """
    reader = EventReader(
        path,
        config,
        known_items=None if catalogue is None else catalogue.item_ids,
        known_users=None if users is None else users.user_ids,
        with_profile=with_profiles,
    )
    builder = EventTableBuilder(config)
    with Rejects(path, rejects_path) as rejects:
        for chunk in reader.chunks(rejects):
            builder.add(chunk)
    report = {
        **rejects.report(reader.counts.rows),
        "other_event_types": reader.counts.other_event_types,
        "events_of_unknown_items": reader.counts.unknown_item_events,
        **reader.counts.span.report(config.time_unit),
    }
    table = builder.build(report)
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
