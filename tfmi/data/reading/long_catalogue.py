"""A catalogue in long format: a row holds one property of an item, often with the time from which it held.

Of several values of one property the last one counts, by time, or by the file's order where times are equal or absent. It may be of a
moment after an event that is tested: a property that changes with what users do, such as a price after a sale, tells the future.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmi.config import CatalogueColumns, LogConfig
from tfmi.core.errors import DataError, nearest
from tfmi.core.text import shown_names
from tfmi.data.reading.checks import ChunkChecks, is_one_of
from tfmi.data.reading.codes import plain_codes
from tfmi.data.reading.readers import read_rows
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk
from tfmi.data.tables import ItemTable

_PLURAL = {"title": "titles", "category": "categories", "brand": "brands", "tags": "tags"}
# So many names of properties are kept for a message.
_SEEN = 1000


@dataclass
class _Latest:
    """Of each item's values of one property, the last one."""

    values: dict[str, tuple[float, Any]] = field(default_factory=dict)

    def add(self, items: Sequence[str], times: np.ndarray, values: Sequence[Any]) -> None:
        for item, time, value in zip(items, times.tolist(), values, strict=True):
            known = self.values.get(item)
            if known is None or time >= known[0]:
                self.values[item] = (time, value)

    def of(self, items: Sequence[str], missing: Any) -> list[Any]:
        """The value of each item."""
        return [self.values.get(item, (0.0, missing))[1] for item in items]


def read_long_catalogue(path: str | Path, config: LogConfig, rejects_path: str | Path) -> ItemTable:
    """Read and check a catalogue in long format; ``catalogue_columns`` names the columns, and the properties to take.

    Raises:
        DataError: The file cannot be read, lacks a column or a property that was named, or has too many rejected rows.
    """
    columns = config.catalogue_columns
    roles = {name: getattr(columns, name) for name in _PLURAL if getattr(columns, name) is not None}
    wanted = list(dict.fromkeys([*roles.values(), *columns.numbers]))
    latest = {name: _Latest() for name in wanted}
    items: dict[str, None] = {}
    seen: dict[str, None] = {}
    rows_seen = 0
    options = config.side_file(config.catalogue_file)
    with Rejects(path, rejects_path) as rejects:
        for rows in read_rows(path, _request(columns), rejects, options):
            rows_seen += rows.seen
            if not len(rows):
                continue
            checks = ChunkChecks(rows, rejects, options.decimal)
            checks.require_text(columns.item, "empty_item")
            times = np.zeros(len(rows)) if columns.time is None else checks.times(columns.time, config.time_unit)
            items.update(dict.fromkeys(rows.columns[columns.item].filter(pa.array(checks.kept)).unique().to_pylist()))
            names = rows.columns[_required(columns.property)]
            if len(seen) < _SEEN:
                seen.update(dict.fromkeys(names.unique().to_pylist()))
            for name in wanted:
                places = np.flatnonzero(is_one_of(names, [name]) & checks.kept)
                if len(places):
                    kind = "number" if name in columns.numbers else next(role for role, column in roles.items() if column == name)
                    own = ChunkChecks(_rows_at(rows, places), rejects, options.decimal)
                    _take(latest[name], kind, own, times[places], config)
        if not rows_seen:
            raise DataError(f"{path}: the file holds no rows; expected one per property of an item")
        rejects.log_summary(rows_seen)
        rejects.stop_if_too_many(rows_seen, config.max_reject_share)
    _check_named(path, columns, roles, seen)
    ids = list(items)
    if not ids:
        raise DataError(f"{path}: no row is left: all {rows_seen:,} were rejected; see {rejects.path}")
    numbers = {name: np.array(latest[name].of(ids, np.nan), dtype=np.float32) for name in columns.numbers}
    texts: dict[str, Any] = {}
    for role, column in roles.items():
        if latest[column].values:
            texts[_PLURAL[role]] = latest[column].of(ids, [] if role == "tags" else "")
    return ItemTable(item_ids=ids, numbers=numbers, report={**rejects.report(rows_seen), "items": len(ids)}, **texts)


def _request(columns: CatalogueColumns) -> ColumnRequest:
    roles = {"item": columns.item, "property": columns.property, "value": columns.value, "time": columns.time}
    names = {role: name for role, name in roles.items() if name is not None}
    return ColumnRequest(
        required=list(names.values()),
        codes=frozenset([columns.item]),
        texts=frozenset([_required(columns.property), _required(columns.value)]),
        lists=frozenset([_required(columns.value)]),
        hints={name: f"Name the catalogue's column in data.log.catalogue_columns.{role}" for role, name in names.items()},
    )


def _required(name: str | None) -> str:
    if name is None:
        raise ValueError("the catalogue is not in long format")
    return name


def _rows_at(rows: RowChunk, places: np.ndarray) -> RowChunk:
    taken = pa.array(places)
    return RowChunk(rows.lines[places], {name: text.take(taken) for name, text in rows.columns.items()}, len(places))


def _take(latest: _Latest, kind: str, checks: ChunkChecks, times: np.ndarray, config: LogConfig) -> None:
    """Add the values of the rows of one property."""
    columns, chosen = config.catalogue_columns, checks.chunk
    value_column = _required(columns.value)
    values: Sequence[Any]
    if kind == "number":
        values = checks.numbers(value_column).tolist()
    elif kind == "tags":
        values = checks.tags(value_column, config.tag_separator)
    else:
        text = pc.utf8_trim_whitespace(chosen.columns[value_column])
        values = (text if kind == "title" else plain_codes(text)).to_pylist()
    kept = np.flatnonzero(checks.kept).tolist()
    ids = chosen.columns[columns.item].to_pylist()
    latest.add([ids[place] for place in kept], times[kept], [values[place] for place in kept])


def _check_named(path: str | Path, columns: CatalogueColumns, roles: Mapping[str, str], seen: Mapping[str, None]) -> None:
    """Raise ``DataError`` if a property that the user named never occurs."""
    defaults = CatalogueColumns()
    named = {column: f"data.log.catalogue_columns.{role}" for role, column in roles.items() if column != getattr(defaults, role)}
    named |= dict.fromkeys(columns.numbers, "data.log.catalogue_columns.numbers")
    for name, setting in named.items():
        if name not in seen and len(seen) < _SEEN:
            raise DataError(f"{path}: no property {name!r}{nearest(name, seen)}, which {setting} names; there are: {shown_names(seen)}")
