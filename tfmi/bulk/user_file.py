"""Users in a file: one row each, columns called as what the model reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet

from tfmi.bulk.users import Users
from tfmi.config import FileConfig
from tfmi.core.errors import DataError
from tfmi.data.reading.checks import ChunkChecks, parse_numbers
from tfmi.data.reading.codes import plain_code
from tfmi.data.reading.readers import read_rows
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, ListText, RowChunk, text_array, text_of
from tfmi.data.reading.shapes import list_of_text
from tfmi.data.reading.sources import table_source
from tfmi.data.reading.times import UNITS_PER_SECOND, parse_iso_times
from tfmi.export.saving import Request


class Fields(Protocol):
    """What a model can be asked with.

    Attributes:
        kinds: By field: "categorical", "number", "multi_valued" (weighted values), "ids" (a list of ids in order) or "times" (a list of
            times in order).
    """

    kinds: dict[str, str]

    def request(self, columns: Mapping[str, Sequence[Any] | np.ndarray], rows: int) -> Request:
        """The request inputs of so many users; a field that is left out is unknown for all."""


class UserFile:
    """Users in a Parquet, CSV, TSV or JSON file, one row each; or in a folder of part files, or a pattern.

    Rows that cannot be used are written to a rejects file, with the reason. A column that the file lacks is unknown for everybody.

    Args:
        path: The file.
        fields: The model's fields.
        user_column: The column of ids.
        rejects_path: Where rejected rows go.
        columns: The column of a field whose name in the file is another.
        separator: Between the values of a cell that holds several, ``value|value`` or ``value:weight``.
        delimiter: Between cells of CSV and TSV; None: by the suffix.

    Raises:
        DataError: There is no such file, or it has none of the fields.
    """

    def __init__(
        self,
        path: Path,
        fields: Fields,
        *,
        user_column: str,
        rejects_path: Path,
        columns: Mapping[str, str] | None = None,
        separator: str = "|",
        delimiter: str | None = None,
    ) -> None:
        self._source = table_source(path, FileConfig(delimiter=delimiter))
        self._columns = {name: (columns or {}).get(name, name) for name in fields.kinds}
        if user_column in self._columns.values():
            raise DataError(f"--user-column: {user_column!r} is a field of the model, not the users' id")
        self._fields, self._user_column, self._rejects_path = fields, user_column, rejects_path
        self._separator, self._delimiter = separator, delimiter

    def chunks(self) -> Iterator[Users]:
        """See ``UserSource``; logs at the end what was rejected."""
        several = {"multi_valued", "ids", "times"}
        kinds = self._fields.kinds.items()
        request = ColumnRequest(
            required=[self._user_column],
            optional=list(self._columns.values()),
            codes=frozenset([self._user_column, *(self._columns[name] for name, kind in kinds if kind == "categorical")]),
            lists=frozenset(self._columns[name] for name, kind in kinds if kind in several),
            hints={self._user_column: "Name the column of user ids with --user-column"},
        )
        seen = 0
        path = self._source.path
        with Rejects(path, self._rejects_path) as rejects:
            for rows in read_rows(self._source, request, rejects):
                if not seen and not set(rows.columns) & set(self._columns.values()):
                    raise DataError(f"{path}: none of the model's fields is there: {', '.join(sorted(self._columns.values()))}")
                seen += rows.seen
                if len(rows):
                    yield self._checked(rows, ChunkChecks(rows, rejects))
            rejects.log_summary(seen)

    def total(self) -> int | None:
        """See ``UserSource``."""
        if any(part.format != "parquet" for part in self._source.parts):
            return None
        return sum(pyarrow.parquet.read_metadata(part.path).num_rows for part in self._source.parts)

    def fingerprint(self) -> dict[str, Any]:
        """See ``UserSource``."""
        return {
            **self._source.state(),
            "user_column": self._user_column,
            "columns": self._columns,
            "separator": self._separator,
            "delimiter": self._delimiter,
        }

    def _checked(self, rows: RowChunk, checks: ChunkChecks) -> Users:
        checks.require_text(self._user_column, "empty_user")
        columns: dict[str, Any] = {}
        for name, kind in self._fields.kinds.items():
            column = self._columns[name]
            if column not in rows.columns:
                continue
            texts = rows.columns[column]
            if kind == "number":
                columns[name] = checks.numbers(column)
            elif kind == "categorical":
                columns[name] = [text.strip() for text in texts.to_pylist()]
            elif kind == "ids":
                columns[name] = [[plain_code(part) for part in each] for each in self._lists(column, texts.to_pylist(), checks)]
            elif kind == "times":
                columns[name] = self._times(column, texts.to_pylist(), checks)
            else:
                columns[name] = checks.tags(column, self._separator)
        kept = np.flatnonzero(checks.kept)
        ids = rows.columns[self._user_column].to_pylist()
        request = self._fields.request(columns, len(rows))
        return Users([ids[place] for place in kept], {name: values[kept] for name, values in request.items()})

    def _lists(self, column: str, cells: list[str], checks: ChunkChecks) -> list[list[str]]:
        """The parts of every cell: between separators, or of a list in JSON, as typed formats have them."""
        how = ListText(self._separator)
        lists: list[list[str]] = []
        bad = np.zeros(len(cells), dtype=bool)
        for place, cell in enumerate(cells):
            try:
                parts = [text_of(part, empty_nan=True) for part in list_of_text(cell, how)]
            except ValueError:
                parts = [None]
            bad[place] = None in parts
            lists.append([part.strip() for part in parts if part and part.strip()])
        checks.reject(bad, column, "not_a_list")
        return lists

    def _times(self, column: str, cells: list[str], checks: ChunkChecks) -> list[np.ndarray]:
        """Seconds since 1970 in every cell: numbers, or ISO 8601."""
        parts = self._lists(column, cells, checks)
        lengths = np.array([len(each) for each in parts])
        flat = text_array(text for each in parts for text in each)
        seconds, is_number = parse_numbers(flat)
        seconds = seconds / UNITS_PER_SECOND["seconds"]
        if not is_number.all():
            seconds = np.where(is_number, seconds, parse_iso_times(flat))
        owners = np.repeat(np.arange(len(cells)), lengths)
        checks.reject(np.bincount(owners[~np.isfinite(seconds)], minlength=len(cells)) > 0, column, "not_a_time")
        return np.split(seconds, np.cumsum(lengths)[:-1]) if len(cells) else []
