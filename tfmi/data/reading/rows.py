"""A chunk of raw rows, as every format delivers them, and the request for its columns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from tfmi.core.errors import DataError, nearest
from tfmi.core.text import shown_name, shown_names
from tfmi.data.reading.paths import ColumnPath


@dataclass(frozen=True)
class RowChunk:
    """Some rows of a file, as text.

    Attributes:
        lines: int64 [rows]: each row's line in the file (its row in Parquet, its element in a JSON array), from 1. Rows that were made
            of one list share their line.
        columns: By the user's names: strings [rows] without nulls, "" where a cell is empty or absent.
        seen: The number of rows of the file that this chunk stands for, those rejected as unreadable included.
    """

    lines: np.ndarray
    columns: Mapping[str, pa.Array]
    seen: int

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True)
class ListText:
    """How a text cell that holds a list is cut, see ``data.log.list_separator`` and its like."""

    separator: str | None = None
    fields: tuple[str, ...] = ()
    field_separator: str = "-"


@dataclass(frozen=True)
class ColumnRequest:
    """Which columns to read.

    A name that no column of the file has may be a path: ``user.id`` is a key of an object, ``items[]`` makes one row of each element of
    a list, ``events[].aid`` one of each element, with a key of it.

    Attributes:
        required: Names that the file must have.
        optional: Names that are read if the file has them.
        codes: Those of the names that are ids and the like: a whole number that is written as a fraction loses it, see ``codes.py``.
            NaN, in formats that have it, is an empty cell.
        texts: Those that are other texts; NaN is an empty cell, too.
        lists: Those whose cells may be lists or objects (JSON, Parquet); such a cell becomes JSON text.
        list_text: How text cells that hold a list are cut.
        empty_lists: Whether a list without an element is a row all the same, with an empty cell.
        hints: For a required column that a file may lack, which setting names it, as the end of an error message.
    """

    required: Sequence[str]
    optional: Sequence[str] = ()
    codes: frozenset[str] = field(default_factory=frozenset)
    texts: frozenset[str] = field(default_factory=frozenset)
    lists: frozenset[str] = field(default_factory=frozenset)
    list_text: ListText = field(default_factory=ListText)
    empty_lists: bool = False
    hints: Mapping[str, str] = field(default_factory=dict)

    def select(self, path: Path, found: Sequence[str], nested: Sequence[str] = ()) -> list[str]:
        """The requested columns that a file with the columns ``found`` has, the paths among them included.

        Args:
            path: The file, for messages.
            found: Its columns.
            nested: Paths into its lists and objects, to suggest.

        Raises:
            DataError: A required column is missing, or a requested name stands twice in the file.
        """
        for name in self.required:
            if name not in found and ColumnPath.parse(name).base not in found:
                raise DataError(missing_column_message(path, name, [*found, *nested], self.hints.get(name)))
        wanted = [*self.required, *(name for name in self.optional if name in found or _is_path(name, found))]
        names = list(dict.fromkeys(wanted))
        for name in names:
            column = name if name in found else ColumnPath.parse(name).base
            if list(found).count(column) > 1:
                raise DataError(f"{path}: column {column!r} stands twice in the header; rename one of them")
        return names

    def paths(self, names: Sequence[str], found: Sequence[str]) -> list[ColumnPath]:
        """Where each of the selected names is found: in a column of that name, or along a path."""
        return [ColumnPath(name, name) if name in found else ColumnPath.parse(name) for name in names]

    def empties_nan(self, name: str) -> bool:
        """Whether NaN in this column is an empty cell, rather than a number that is none."""
        return name in self.codes or name in self.texts


def _is_path(name: str, found: Sequence[str]) -> bool:
    path = ColumnPath.parse(name)
    return path.base != name and path.base in found


def missing_column_message(path: Path, name: str, found: Sequence[str], hint: str | None = None) -> str:
    """Say which column a file lacks, what it has instead, the nearest spelling, and what to set; or that the delimiter is another."""
    similar = [other for other in found if other.endswith((f"[].{name}", f".{name}"))]
    suggestion = f" (did you mean {shown_name(similar[0])!r}?)" if similar else nearest(name, found)
    message = f"{path}: no column {name!r}{suggestion}; the file has: {shown_names(found) or 'no columns'}"
    if len(found) == 1:
        for delimiter, spoken in (("::", "'::'"), (";", "';'"), ("\t", "a tab"), ("|", "'|'"), (",", "a comma")):
            if delimiter in found[0]:
                return f"{message}. Its cells look separated by {spoken}: set data.log.delimiter"
    return f"{message}. {hint}" if hint else message


def text_array(values: Iterable[str]) -> pa.Array:
    """A string array without nulls."""
    return pa.array(values, type=pa.large_string())


def text_of(value: object, *, empty_nan: bool = False) -> str | None:
    """The text of one cell of a typed format, or None if it is a list or an object.

    Nothing becomes "", and so does NaN or an infinity if ``empty_nan``. A whole number held as a fraction (12.0, as columns with gaps
    often are) loses it, so that ids stay what they were.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if empty_nan and not math.isfinite(value):
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return None if isinstance(value, list | tuple | dict) else str(value)


def json_cell(value: object) -> str | None:
    """The text of a cell that may be a list or an object: JSON, so that its parts stay what they are; None if it nests deeper."""
    if isinstance(value, dict):
        return None if any(isinstance(weight, dict | list | tuple) for weight in value.values()) else _json(value)
    if isinstance(value, list | tuple):
        return _json(value) if value else ""
    return text_of(value, empty_nan=True)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
