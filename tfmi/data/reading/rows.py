"""A chunk of raw rows, as every format delivers them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from tfmi.core.errors import DataError, nearest


@dataclass(frozen=True)
class RowChunk:
    """Some rows of a file, as text.

    Attributes:
        lines: int64 [rows]: each row's line in the file (its row in Parquet), from 1.
        columns: By the user's names: strings [rows] without nulls, "" where a cell is empty or absent.
        seen: The number of rows of the file that this chunk stands for, those rejected as unreadable included.
    """

    lines: np.ndarray
    columns: Mapping[str, pa.Array]
    seen: int

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True)
class ColumnRequest:
    """Which columns to read.

    Attributes:
        required: Names that the file must have.
        optional: Names that are read if the file has them.
        lists: Those of the names whose cells may be lists or objects (JSON Lines, Parquet); their parts are joined by ``separator``.
        separator: Joins the parts of a list cell; ``{"a": 0.5}`` becomes ``a:0.5``.
        hints: For a required column that a file may lack, which setting names it, as the end of an error message.
    """

    required: Sequence[str]
    optional: Sequence[str] = ()
    lists: frozenset[str] = field(default_factory=frozenset)
    separator: str = "|"
    hints: Mapping[str, str] = field(default_factory=dict)

    def select(self, path: Path, found: Sequence[str]) -> list[str]:
        """The requested columns that a file with the columns ``found`` has.

        Raises:
            DataError: A required column is missing, or a requested name stands twice in the file.
        """
        for name in self.required:
            if name not in found:
                raise DataError(missing_column_message(path, name, found, self.hints.get(name)))
        names = list(dict.fromkeys([*self.required, *(name for name in self.optional if name in found)]))
        for name in names:
            if list(found).count(name) > 1:
                raise DataError(f"{path}: column {name!r} stands twice in the header; rename one of them")
        return names


def missing_column_message(path: Path, name: str, found: Sequence[str], hint: str | None = None) -> str:
    """Say which column a file lacks, what it has instead, the nearest spelling, and what to set; or that the delimiter is another."""
    message = f"{path}: no column {name!r}{nearest(name, found)}; the file has: {', '.join(found) or 'no columns'}"
    if len(found) == 1:
        for delimiter, spoken in ((";", "';'"), ("\t", "a tab"), ("|", "'|'"), (",", "a comma")):
            if delimiter in found[0]:
                return f"{message}. Its cells look separated by {spoken}: set data.log.delimiter"
    return f"{message}. {hint}" if hint else message


def text_array(values: Iterable[str]) -> pa.Array:
    """A string array without nulls."""
    return pa.array(values, type=pa.large_string())


def text_of(value: object) -> str | None:
    """The text of one cell of a typed format, or None if it is a list or an object.

    Nothing becomes "". A whole number held as a fraction (12.0, as columns with gaps often are) loses it, so that ids stay what they
    were.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return None if isinstance(value, list | tuple | dict) else str(value)


def joined_text(value: object, separator: str) -> str | None:
    """The text of a cell that may be a list of values or an object of value: weight; None if it nests deeper."""
    if isinstance(value, dict):
        parts = [(text_of(tag), text_of(weight)) for tag, weight in value.items()]
        return None if any(weight is None for _, weight in parts) else separator.join(f"{tag}:{weight}" for tag, weight in parts)
    if isinstance(value, list | tuple):
        texts = [text_of(part) for part in value]
        return None if None in texts else separator.join(text or "" for text in texts)
    return text_of(value)
