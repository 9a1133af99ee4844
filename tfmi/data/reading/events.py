"""The events of a log, checked chunk by chunk: what both the in-memory and the streaming path are built on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmi.config import LogConfig
from tfmi.core.errors import DataError
from tfmi.data.reading.checks import ChunkChecks, filtered, is_one_of
from tfmi.data.reading.codes import plain_code
from tfmi.data.reading.event_types import warn_of_absent_types, weights_by_type
from tfmi.data.reading.formats import BLOCK_BYTES
from tfmi.data.reading.joins import Join
from tfmi.data.reading.readers import read_rows
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, ListText, RowChunk
from tfmi.data.reading.sources import TableSource, table_source
from tfmi.data.reading.time_span import TimeSpan
from tfmi.data.reading.times import UNITS_PER_SECOND
from tfmi.data.tables import TEST, TRAIN, VALID

logger = logging.getLogger(__name__)

PROGRESS_ROWS = 1_000_000
# What a log may call the parts of its split.
PART_NAMES = {
    **dict.fromkeys(("train", "training", "0"), TRAIN),
    **dict.fromkeys(("valid", "validation", "val", "dev", "1"), VALID),
    **dict.fromkeys(("test", "testing", "2"), TEST),
}


@dataclass(frozen=True)
class EventChunk:
    """Good events in file order, all columns [events] long.

    Attributes:
        users, items: Non-empty ids.
        times: float64 seconds, or None if the log has no times.
        weights: float32, or None.
        types: Event types, or None.
        parts: int8, of a log that says its split: 0 training, 1 validation, 2 test; else None.
        rows: int64, the number of the row that each event is of; only where they are asked for.
        earlier: Whether these were before the log, and stand before it.
        profile: Profile columns: text ("" missing) or float64 (NaN missing).
    """

    users: pa.Array
    items: pa.Array
    times: np.ndarray | None
    weights: np.ndarray | None
    types: pa.Array | None
    parts: np.ndarray | None = None
    rows: np.ndarray | None = None
    earlier: bool = False
    profile: Mapping[str, pa.Array | np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)


@dataclass
class EventCounts:
    """Counted while a log is read: rows seen, good events, rows of other event types, events of items that the catalogue lacks but are
    kept, and the first and last time."""

    rows: int = 0
    good: int = 0
    other_event_types: int = 0
    unknown_item_events: int = 0
    span: TimeSpan = field(default_factory=TimeSpan)


class EventReader:
    """Reads and checks a log in one pass, in memory bounded by one block of the file.

    A row is looked at in this order, and rejected for the first reason found: can it be read, is its event type wanted (else it is left
    out, not rejected), user, item, time, weight, profile numbers, is its item in the catalogue (``unknown_items: reject``).

    Args:
        path: The log: a file, a folder of part files or a pattern; or its files, found before.
        config: Column names and rules.
        known_items: The catalogue's ids, or None without a catalogue.
        known_users: The users file's ids, or None without one.
        with_profile: Read the profile columns from the log.
        with_rows: Say which row each event is of; a row with an empty list is an event without an item. The log is not judged by them.
        block_bytes: How much of a text file one chunk holds.

    Attributes:
        counts: Complete once ``chunks`` is exhausted.
    """

    def __init__(
        self,
        path: str | Path | TableSource,
        config: LogConfig,
        *,
        known_items: Sequence[str] | None = None,
        known_users: Sequence[str] | None = None,
        with_profile: bool = False,
        with_rows: bool = False,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.path = path.path if isinstance(path, TableSource) else Path(path)
        self.config = config
        self.counts = EventCounts()
        self._source = path
        self._event_types = None if config.kept_types() is None else [plain_code(name) for name in config.kept_types() or ()]
        self._items = None if known_items is None else Join("items", known_items, "the catalogue")
        self._users = None if known_users is None else Join("users", known_users, "the users file")
        self._types_seen: set[str] = set()
        self._with_profile, self._with_rows = with_profile, with_rows
        self._block_bytes = block_bytes

    def chunks(self, rejects: Rejects) -> Iterator[EventChunk]:
        """The good events.

        Raises:
            DataError: The file cannot be read, is empty or holds no rows, lacks a mapped column, or, found once all rows are read, more
                than ``max_reject_share`` of them were rejected or none was good.
        """
        if not self._with_rows:
            self.say_unused()
        yield from self.unfinished_chunks(rejects)
        if not self._with_rows:
            self.finish(rejects)

    def say_unused(self) -> None:
        """Warn of settings that the log's files have no use for."""
        source = self.source()
        for name in source.unused(self.config.log_file()):
            logger.warning("data.log.%s does nothing here: %s is %s, which has no such thing", name, self.path, source.parts[0].format)

    def unfinished_chunks(self, rejects: Rejects) -> Iterator[EventChunk]:
        """As ``chunks``, of a part of a log: what all of its rows have to be like is not looked at, see ``finish``."""
        for rows in read_rows(self.source(), self.request(), rejects, self.config.log_file(), block_bytes=self._block_bytes):
            before = self.counts.rows
            self.counts.rows += rows.seen
            if self.counts.rows // PROGRESS_ROWS > before // PROGRESS_ROWS:
                logger.info("%s: %s rows read so far", self.path, f"{self.counts.rows:,}")
            if len(rows):
                events = self._checked(rows, rejects)
                self.counts.good += len(events)
                yield events

    def source(self) -> TableSource:
        """The log's files."""
        return self._source if isinstance(self._source, TableSource) else table_source(self._source, self.config.log_file())

    def tally(self) -> dict[str, Any]:
        """What has been counted, as JSON can hold it, for a reader of the whole log in another process."""
        return {
            "counts": dataclasses.asdict(self.counts),
            "types": sorted(self._types_seen),
            "joins": [None if join is None else join.tally() for join in (self._items, self._users)],
        }

    def add_tally(self, tally: Mapping[str, Any]) -> None:
        """Count what another process has counted in the part of the log that follows, too."""
        counts = tally["counts"]
        for name in ("rows", "good", "other_event_types", "unknown_item_events"):
            setattr(self.counts, name, getattr(self.counts, name) + counts[name])
        self.counts.span.join(TimeSpan(**counts["span"]))
        self._types_seen.update(tally["types"])
        for join, counted in zip((self._items, self._users), tally["joins"], strict=True):
            if join is not None:
                join.add_tally(counted)

    def report(self, rejects: Rejects) -> dict[str, Any]:
        """What was counted and rejected, for a dataset's report."""
        return {
            **rejects.report(self.counts.rows),
            "other_event_types": self.counts.other_event_types,
            "events_of_unknown_items": self.counts.unknown_item_events,
            **self.counts.span.report(self.config.time_unit),
        }

    def request(self) -> ColumnRequest:
        """The columns that are read."""
        roles = {role: name for role, name in self.config.columns.model_dump(exclude={"history"}).items() if name is not None}
        hints = {name: f"Name the log's column in data.log.columns.{role}" for role, name in roles.items()}
        if "time" in roles:
            hints[roles["time"]] += ", or set data.log.columns.time: null if the file's order is the time order"
        names = list(roles.values())
        if self._with_profile:
            names += [*self.config.profile_columns, *self.config.profile_numbers]
            hints |= profile_hints(self.config, "the log's columns, or name a users file in data.log.users_path")
        how = self.config
        return ColumnRequest(
            names,
            codes=frozenset([*(roles[role] for role in ("user", "item", "event", "part") if role in roles), *how.profile_columns]),
            list_text=ListText(how.list_separator, tuple(how.element_fields or ()), how.element_separator),
            empty_lists=self._with_rows,
            hints=hints,
        )

    def _checked(self, rows: RowChunk, rejects: Rejects) -> EventChunk:
        columns = self.config.columns
        checks = ChunkChecks(rows, rejects, self.config.decimal)
        if columns.event is not None:
            self._types_seen.update(rows.columns[columns.event].unique().to_pylist())
            if self._event_types is not None:
                self.counts.other_event_types += checks.drop(~is_one_of(rows.columns[columns.event], self._event_types))
        checks.require_text(columns.user, "empty_user")
        if not self._with_rows:
            checks.require_text(columns.item, "empty_item")
        times = checks.times(columns.time, self.config.time_unit, self.config.time_format) if columns.time is not None else None
        if times is not None and columns.offset is not None:
            times = times + np.nan_to_num(checks.numbers(columns.offset)) / UNITS_PER_SECOND[self.config.time_unit]
        weights = checks.numbers(columns.weight, required=True, positive=True) if columns.weight is not None else None
        if columns.event is not None:
            weights = weights_by_type(rows.columns[columns.event], self.config, weights)
        parts = None if columns.part is None else _parts(rows, checks, columns.part)
        profile = self._profile(rows, checks)
        self._check_known(rows, checks)
        kept = checks.kept
        if times is not None:
            self.counts.span.add(times[kept])
        return EventChunk(
            users=filtered(rows.columns[columns.user], kept),
            items=filtered(rows.columns[columns.item], kept),
            times=None if times is None else filtered(times, kept),
            weights=None if weights is None else filtered(weights, kept).astype(np.float32),
            types=None if columns.event is None else filtered(rows.columns[columns.event], kept),
            parts=None if parts is None else filtered(parts, kept),
            rows=filtered(rows.lines, kept) if self._with_rows else None,
            profile={name: filtered(values, kept) for name, values in profile.items()},
        )

    def _profile(self, rows: RowChunk, checks: ChunkChecks) -> dict[str, pa.Array | np.ndarray]:
        if not self._with_profile:
            return {}
        texts = {name: pc.utf8_trim_whitespace(rows.columns[name]) for name in self.config.profile_columns}
        return {**texts, **{name: checks.numbers(name) for name in self.config.profile_numbers}}

    def _check_known(self, rows: RowChunk, checks: ChunkChecks) -> None:
        if self._users is not None:
            self._users.count(rows.columns[self.config.columns.user], checks.kept)
        if self._items is None:
            return
        column = self.config.columns.item
        unknown = ~self._items.count(rows.columns[column], checks.kept)
        if self.config.unknown_items == "reject":
            unknown &= pc.not_equal(rows.columns[column], "").to_numpy(zero_copy_only=False)
            checks.reject(unknown, column, "unknown_item")
        else:
            self.counts.unknown_item_events += int((unknown & checks.kept).sum())

    def finish(self, rejects: Rejects) -> None:
        """Say what was read, once all of the log has been counted.

        Raises:
            DataError: There are no rows, no good ones, too many rejected, or too few that the catalogue or the users file knows.
        """
        rows = self.counts.rows
        if not rows:
            raise DataError(f"{self.path}: the file holds no rows; expected one row per event")
        rejects.log_summary(rows)
        for join in (self._items, self._users):
            if join is not None:
                join.finish(self.path, self.config.min_join_share)
        rejects.stop_if_too_many(rows, self.config.max_reject_share)
        warn_of_absent_types(self.path, self.config, self._types_seen)
        if not self.counts.good:
            raise DataError(
                f"{self.path}: no event is left: {rejects.total:,} of {rows:,} rows were rejected and {self.counts.other_event_types:,} "
                "are of other types than data.log.event_types"
            )


def _parts(rows: RowChunk, checks: ChunkChecks, column: str) -> np.ndarray:
    """int8 [rows]: which part each row says it belongs to; rejects what is none."""
    encoded = pc.utf8_lower(pc.utf8_trim_whitespace(rows.columns[column])).dictionary_encode()
    codes = np.array([PART_NAMES.get(name, -1) for name in encoded.dictionary.to_pylist()], dtype=np.int8)
    parts = codes[encoded.indices.to_numpy(zero_copy_only=False)] if len(rows) else np.empty(0, np.int8)
    checks.reject(parts < 0, column, "not_a_part")
    return parts


def profile_hints(config: LogConfig, expected: str) -> dict[str, str]:
    """What to do where a file lacks a profile column: the setting that names it, and what it should name."""
    settings = {"data.log.profile_columns": config.profile_columns, "data.log.profile_numbers": config.profile_numbers}
    return {name: f"{setting} must name {expected}" for setting, names in settings.items() for name in names}
