"""Users in a file: one row each, columns called as what the model reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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


class UserRows:
    """Rows of text as users: which columns are read, and what is checked in them.

    Args:
        fields: The model's fields.
        user_column: The column of ids.
        columns: The column of a field whose name in the file is another.
        separator: Between the values of a cell that holds several, ``value|value`` or ``value:weight``.

    Attributes:
        columns: The column of every field.

    Raises:
        DataError: The column of ids is that of a field.
    """

    def __init__(self, fields: Fields, *, user_column: str, columns: Mapping[str, str] | None = None, separator: str = "|") -> None:
        self.columns = {name: (columns or {}).get(name, name) for name in fields.kinds}
        if user_column in self.columns.values():
            raise DataError(f"--user-column: {user_column!r} is a field of the model, not the users' id")
        self.user_column, self.separator = user_column, separator
        self._fields = fields

    def request(self) -> ColumnRequest:
        """The columns that are read."""
        several = {"multi_valued", "ids", "times"}
        kinds = self._fields.kinds.items()
        return ColumnRequest(
            required=[self.user_column],
            optional=list(self.columns.values()),
            codes=frozenset([self.user_column, *(self.columns[name] for name, kind in kinds if kind == "categorical")]),
            lists=frozenset(self.columns[name] for name, kind in kinds if kind in several),
            hints={self.user_column: "Name the column of user ids with --user-column"},
        )

    def require_fields(self, source: object, found: Iterable[str]) -> None:
        """Raise ``DataError`` if a table has none of the model's fields."""
        if not set(found) & set(self.columns.values()):
            raise DataError(f"{source}: none of the model's fields is there: {', '.join(sorted(self.columns.values()))}")

    def settings(self) -> dict[str, Any]:
        """What a result depends on besides the rows."""
        return {"user_column": self.user_column, "columns": self.columns, "separator": self.separator}

    def checked(self, rows: RowChunk, checks: ChunkChecks) -> Users:
        """The users of the rows that are good; ``checks.kept`` says which those are."""
        checks.require_text(self.user_column, "empty_user")
        columns: dict[str, Any] = {}
        for name, kind in self._fields.kinds.items():
            column = self.columns[name]
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
                columns[name] = checks.tags(column, self.separator)
        kept = np.flatnonzero(checks.kept)
        ids = rows.columns[self.user_column].to_pylist()
        request = self._fields.request(columns, len(rows))
        return Users([ids[place] for place in kept], {name: values[kept] for name, values in request.items()})

    def _lists(self, column: str, cells: list[str], checks: ChunkChecks) -> list[list[str]]:
        """The parts of every cell: between separators, or of a list in JSON, as typed formats have them."""
        how = ListText(self.separator)
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
        self._rows = UserRows(fields, user_column=user_column, columns=columns, separator=separator)
        self._rejects_path, self._delimiter = rejects_path, delimiter

    def chunks(self) -> Iterator[Users]:
        """See ``UserSource``; logs at the end what was rejected."""
        seen = 0
        path = self._source.path
        with Rejects(path, self._rejects_path) as rejects:
            for rows in read_rows(self._source, self._rows.request(), rejects):
                if not seen:
                    self._rows.require_fields(path, rows.columns)
                seen += rows.seen
                if len(rows):
                    yield self._rows.checked(rows, ChunkChecks(rows, rejects))
            rejects.log_summary(seen)

    def total(self) -> int | None:
        """See ``UserSource``."""
        if any(part.format != "parquet" for part in self._source.parts):
            return None
        return sum(pyarrow.parquet.read_metadata(part.path).num_rows for part in self._source.parts)

    def fingerprint(self) -> dict[str, Any]:
        """See ``UserSource``."""
        return {**self._source.state(), **self._rows.settings(), "delimiter": self._delimiter}
