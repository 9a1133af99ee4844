"""The tables beside a log: a catalogue of items and profiles of users, one row each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from tfmi.config import CatalogueColumns, FileConfig, LogConfig
from tfmi.core.errors import DataError
from tfmi.data.reading.checks import ChunkChecks
from tfmi.data.reading.events import profile_hints
from tfmi.data.reading.long_catalogue import read_long_catalogue
from tfmi.data.reading.readers import read_rows
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk
from tfmi.data.reading.vectors import VectorCells, read_vector_file
from tfmi.data.tables import ItemTable, UserTable

# The values of one chunk by name: float64 arrays for numbers, lists for everything else; all rows, good and bad.
ChunkValues = dict[str, Any]


def read_catalogue(
    path: str | Path, config: LogConfig, rejects_path: str | Path, *, log: Path | None = None, may_lack_columns: bool = False
) -> ItemTable:
    """Read and check a catalogue: one row per item, or, with ``catalogue_columns.property``, one per property of an item.

    Columns mapped under a name of the user's own must be there, unless ``may_lack_columns`` leaves out what is not there but the ids;
    columns under their default name are read if the file has them. Of several rows for one item the first counts and the others are
    rejected, or passed over with ``repeated_items: first`` and where the catalogue is the ``log`` itself.

    Raises:
        DataError: The file cannot be read, lacks a column, has too many rejected rows or no good one.
    """
    columns = config.catalogue_columns
    if columns.property is not None:
        return read_long_catalogue(path, config, rejects_path)
    repeats = config.repeated_items == "first" or (log is not None and Path(path).resolve() == log.resolve())
    texts = {name: getattr(columns, name) for name in ("title", "category", "brand", "tags") if getattr(columns, name) is not None}
    defaults = CatalogueColumns()
    named = [column for name, column in texts.items() if column != getattr(defaults, name)]
    roles = {"item": columns.item, **texts}
    hints = {column: f"Name the catalogue's column in data.log.catalogue_columns.{role}" for role, column in roles.items()}
    hints |= dict.fromkeys(columns.numbers, "data.log.catalogue_columns.numbers must name columns of the catalogue")
    hints |= dict.fromkeys(columns.vectors, "data.log.catalogue_columns.vectors must name columns of the catalogue")
    cells = VectorCells(columns.vectors)
    mapped = [*named, *columns.numbers, *columns.vectors]
    request = ColumnRequest(
        required=[columns.item] if may_lack_columns else [columns.item, *mapped],
        optional=list(dict.fromkeys([*texts.values(), *(mapped if may_lack_columns else [])])),
        codes=frozenset([columns.item, *(texts[name] for name in ("category", "brand") if name in texts)]),
        texts=frozenset(texts[name] for name in ("title",) if name in texts),
        lists=frozenset([*columns.vectors, *(texts[name] for name in ("tags",) if name in texts)]),
        hints=hints,
    )

    def check(rows: RowChunk, checks: ChunkChecks) -> ChunkValues:
        checks.require_text(columns.item, "empty_item")
        values: ChunkValues = {name: _trimmed(rows, column) for name, column in texts.items() if name != "tags" and column in rows.columns}
        if texts.get("tags") in rows.columns:
            values["tags"] = checks.tags(texts["tags"], config.tag_separator)
        values |= {f"vector:{name}": cells.parse(name, rows, checks) for name in columns.vectors if name in rows.columns}
        return {**values, **{f"number:{name}": checks.numbers(name) for name in columns.numbers if name in rows.columns}}

    item_ids, values, report = _read_unique(
        path,
        config,
        rejects_path,
        request=request,
        own=config.catalogue_file,
        id_column=columns.item,
        repeated=None if repeats else "repeated_item",
        check=check,
    )
    return ItemTable(
        item_ids=item_ids,
        titles=values.get("title"),
        categories=values.get("category"),
        brands=values.get("brand"),
        tags=values.get("tags"),
        numbers={name: values[f"number:{name}"].astype(np.float32) for name in columns.numbers if f"number:{name}" in values},
        vectors={
            **{name: cells.table(name, values[f"vector:{name}"]) for name in columns.vectors if f"vector:{name}" in values},
            **{name: read_vector_file(name, Path(path).parent, file, item_ids) for name, file in columns.vector_files.items()},
        },
        report=report,
    )


def read_users(path: str | Path, config: LogConfig, rejects_path: str | Path) -> UserTable:
    """Read and check a users file: one row per user, with the columns of ``profile_columns`` and ``profile_numbers``.

    Of several rows for one user the first counts and the others are rejected.

    Raises:
        DataError: The file cannot be read, lacks a column, has too many rejected rows or no good one.
    """
    hints = {
        **profile_hints(config, "columns of the users file"),
        config.user_column: "Name the users file's id column in data.log.user_column",
    }
    request = ColumnRequest(
        [config.user_column, *config.profile_columns, *config.profile_numbers],
        codes=frozenset([config.user_column, *config.profile_columns]),
        hints=hints,
    )

    def check(rows: RowChunk, checks: ChunkChecks) -> ChunkValues:
        checks.require_text(config.user_column, "empty_user")
        texts = {name: _trimmed(rows, name) for name in config.profile_columns}
        return {**texts, **{name: checks.numbers(name) for name in config.profile_numbers}}

    user_ids, values, report = _read_unique(
        path,
        config,
        rejects_path,
        request=request,
        own=config.users_file,
        id_column=config.user_column,
        repeated="repeated_user",
        check=check,
    )
    columns = {name: value.astype(np.float32) if isinstance(value, np.ndarray) else value for name, value in values.items()}
    return UserTable(user_ids, columns, report)


def _read_unique(
    path: str | Path,
    config: LogConfig,
    rejects_path: str | Path,
    *,
    request: ColumnRequest,
    own: FileConfig | None,
    id_column: str,
    repeated: str | None,
    check: Callable[[RowChunk, ChunkChecks], ChunkValues],
) -> tuple[list[str], ChunkValues, dict[str, Any]]:
    """Read a file of one row per id: the ids, their values by name, and the counts for a report."""
    known: dict[str, None] = {}
    parts: list[ChunkValues] = []
    rows_seen = 0
    with Rejects(path, rejects_path) as rejects:
        options = config.side_file(own)
        for rows in read_rows(path, request, rejects, options):
            rows_seen += rows.seen
            if not len(rows):
                continue
            checks = ChunkChecks(rows, rejects, options.decimal)
            values = check(rows, checks)
            _reject_repeated(rows, checks, id_column, repeated, known)
            parts.append({name: _kept(value, checks.kept) for name, value in values.items()})
        if not rows_seen:
            raise DataError(f"{path}: the file holds no rows; expected one per {id_column}")
        rejects.log_summary(rows_seen)
        rejects.stop_if_too_many(rows_seen, config.max_reject_share)
    if not known:
        raise DataError(f"{path}: no row is left: all {rows_seen:,} were rejected; see {rejects.path}")
    return list(known), {name: _joined([part[name] for part in parts]) for name in parts[0]}, rejects.report(rows_seen)


def _reject_repeated(rows: RowChunk, checks: ChunkChecks, id_column: str, repeated: str | None, known: dict[str, None]) -> None:
    """Reject good rows whose id an earlier good row has, or pass over them without a reason; add the others' ids to ``known``."""
    again = np.zeros(len(rows), dtype=bool)
    for place, identifier in enumerate(rows.columns[id_column].to_pylist()):
        if not checks.kept[place]:
            continue
        if identifier in known:
            again[place] = True
        else:
            known[identifier] = None
    if repeated is None:
        checks.drop(again)
    else:
        checks.reject(again, id_column, repeated)


def _trimmed(rows: RowChunk, column: str) -> list[str]:
    return pc.utf8_trim_whitespace(rows.columns[column]).to_pylist()


def _kept(values: list[Any] | np.ndarray, kept: np.ndarray) -> list[Any] | np.ndarray:
    return values[kept] if isinstance(values, np.ndarray) else [value for value, keep in zip(values, kept, strict=True) if keep]


def _joined(parts: list[list[Any] | np.ndarray]) -> list[Any] | np.ndarray:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [value for part in parts for value in part]
