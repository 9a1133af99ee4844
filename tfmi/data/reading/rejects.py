"""The rejects file: every row that reading refused, where it stands and why."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tfmi.core.errors import DataError
from tfmi.core.files import file_appears_complete, writing
from tfmi.core.text import shown_name

logger = logging.getLogger(__name__)

# Every reason that reading gives, and what it had expected instead. docs/data.md lists them for users.
REASONS = {
    "bad_utf8": "text in UTF-8; if the file is in another encoding, set data.log.encoding, e.g. to latin-1",
    "malformed_row": "a well-formed row of this format (quotes closed and doubled inside quoted cells)",
    "malformed_json": "one JSON object per line",
    "wrong_field_count": "as many fields as the header has",
    "not_a_single_value": "a string or a number, not a list or an object; for a row per element of a list give the column as NAME[], for "
    "what an object has under a key as NAME.KEY",
    "not_a_list": "a list, or texts between separators",
    "not_an_object": "an object",
    "bad_element": "an element of as many parts as data.log.element_fields names",
    "lists_differ": "lists of one length, since their elements go side by side",
    "empty_user": "a user id",
    "empty_item": "an item id",
    "empty_time": "a time",
    "not_a_time": "a number or an ISO 8601 date and time, or set data.log.time_format",
    "time_out_of_range": "a time in the years 1 to 9999; if the numbers do not count seconds, set data.log.time_unit",
    "empty_number": "a number",
    "not_a_number": "a number",
    "not_a_vector": "a list of numbers, such as [0.1, -0.2]",
    "vector_of_another_length": "a vector as long as the first one of its column",
    "not_finite": "a finite number, not NaN or infinity",
    "not_positive": "a number above 0",
    "not_storable": "0 or a number between 1.2e-38 and 3.4e38 in size, which is what 32 bits can hold",
    "unknown_item": "an item of the catalogue",
    "not_a_part": "train, valid or test (or training, validation, val, dev, testing, or 0, 1, 2)",
    "bad_tag_weight": "'tag' or 'tag:weight' with a finite weight above 0 that 32 bits can hold; a tag that holds a colon needs a weight",
    "bad_tag_list": "a list of tags in JSON, with double quotes, or an object of tags and their weights",
    "repeated_item": "one row per item; the first one was kept",
    "repeated_user": "one row per user; the first one was kept",
}

FIELDS = ("file", "line", "column", "reason", "expected", "value")
LONGEST_VALUE = 200
# What a spreadsheet takes for the beginning of a formula. An apostrophe before it makes it text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Rejects:
    """Collects rejected rows of one file and writes them, one record per row, to a file that appears when the block ends.

    A context manager. The file appears also when the block raises, so that a run stopped by too many rejects leaves them to look at;
    if nothing was rejected, a file left by an earlier run is removed.

    Args:
        source: The file, or the folder or pattern of files, that is being read, for the records and messages.
        path: Where to write: ``.csv`` writes CSV, anything else JSON Lines. In CSV a cell that a spreadsheet would take for a formula
            begins with an apostrophe.

    Attributes:
        counts: Rejected rows by reason.
    """

    def __init__(self, source: str | Path, path: str | Path) -> None:
        self.source = Path(source)
        self.path = Path(path)
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._file = self.source
        self._stream: TextIO | None = None
        self._opened = contextlib.ExitStack()
        self._failed = False

    @property
    def total(self) -> int:
        """The number of rejected rows."""
        return self.counts.total()

    def begin_file(self, path: Path) -> None:
        """Say in which of several files the rows that follow stand."""
        self._file = path

    def add(self, line: int, column: str, reason: str, value: object, expected: str | None = None) -> None:
        """Record one rejected row.

        Args:
            line: The row's line in the file, from 1 with the header counted; in Parquet, which has no lines, the row from 1.
            column: The user's name of the column at fault, or "" if the whole row is.
            reason: A key of ``REASONS``.
            value: What stood there; only its first 200 characters are kept.
            expected: What was expected; default: the reason's own text.
        """
        self.counts[reason] += 1
        text = str(value)[:LONGEST_VALUE]
        record = {
            "file": str(self._file),
            "line": int(line),
            "column": column,
            "reason": reason,
            "expected": expected or REASONS[reason],
            "value": text,
        }
        if reason not in self._examples:
            where = (f"{self._file}, " if self._file != self.source else "") + f"line {line}" + (f", column {column!r}" if column else "")
            self._examples[reason] = f"{where}: {shown_name(text, LONGEST_VALUE)!r}; expected {record['expected']}"
        self._write(record)

    def tally(self) -> dict[str, Any]:
        """Counts and first examples, as JSON can hold them."""
        return {"counts": dict(self.counts), "examples": self._examples}

    def add_tally(self, tally: Mapping[str, Any], records: Path) -> None:
        """Take over what another process has rejected in a later part of the table.

        Args:
            tally: Its counts.
            records: Its file of rejected rows, in JSON Lines; there is none if it has rejected nothing.
        """
        self.counts.update(tally["counts"])
        for reason, example in tally["examples"].items():
            self._examples.setdefault(reason, example)
        if tally["counts"]:
            with records.open(encoding="utf-8") as lines:
                for line in lines:
                    self._write(json.loads(line))

    def stop_if_too_many(self, rows: int, max_share: float) -> None:
        """Raise ``DataError`` with the counts and one example per reason if more than ``max_share`` of ``rows`` were rejected."""
        if self.total <= max_share * rows:
            return
        raise DataError(
            f"{self.source}: {self.total:,} of {rows:,} rows ({self.total / rows:.1%}) were rejected, more than "
            f"data.log.max_reject_share = {max_share:g} allows:\n{self.reasons()}\nEvery rejected row is in {self.path}. "
            "Fix the file or the column mapping, or raise data.log.max_reject_share."
        )

    def reasons(self) -> str:
        """A line for each reason: how many rows, and the first of them."""
        return "\n".join(f"  {reason}: {count:,} (first: {self._examples[reason]})" for reason, count in self.counts.most_common())

    def log_summary(self, rows: int) -> None:
        """Log how many rows were read and how many were rejected, by reason."""
        if not self.total:
            logger.info("%s: %s rows read, none rejected", self.source, f"{rows:,}")
            return
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.counts.most_common())
        logger.warning("%s: %s rows read, %s rejected (%s); see %s", self.source, f"{rows:,}", f"{self.total:,}", reasons, self.path)

    def report(self, rows: int) -> dict[str, Any]:
        """Counts for a dataset's report: rows read, rejected in all and by reason, and where the rejected rows are."""
        return {
            "file": self.source.name,
            "rows": rows,
            "rejected": self.total,
            "rejected_by_reason": dict(self.counts.most_common()),
            "rejects_file": str(self.path) if self.total else None,
        }

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._stream is None:
            with writing(self.path):
                self.path.unlink(missing_ok=True)
            return
        # Whatever stopped the reading, the file appears, unless it could not be written itself.
        self._opened.__exit__(*((kind, error, trace) if self._failed else (None, None, None)))

    def _write(self, record: dict[str, object]) -> None:
        stream = self._stream or self._open()
        try:
            if self.path.suffix == ".csv":
                csv.writer(stream).writerow([_harmless(record[field]) for field in FIELDS])
            else:
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError:
            self._failed = True
            raise

    def _open(self) -> TextIO:
        temporary = self._opened.enter_context(file_appears_complete(self.path))
        # A value may hold half of a surrogate pair (from JSON escapes); it is written escaped rather than lost.
        self._stream = temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        self._opened.enter_context(self._stream)
        if self.path.suffix == ".csv":
            csv.writer(self._stream).writerow(FIELDS)
        return self._stream


def _harmless(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell
