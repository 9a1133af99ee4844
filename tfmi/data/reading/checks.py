"""Checks of a chunk's cells: what cannot be used is rejected, row by row, for the first reason found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import RowChunk

UNITS_PER_SECOND = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}

# 0001-01-01 and 10000-01-01 in seconds since 1970.
EARLIEST_TIME = -62_135_596_800.0
LATEST_TIME = 253_402_300_800.0

_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"
_ZONE = r"( ?(Z|[+-]\d{2}(:?\d{2})?))?"
_ISO_TIME = rf"^(\d{{4}}-\d{{2}}-\d{{2}}([T ]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d+)?)?{_ZONE})?|\d{{8}}T\d{{6}}(\.\d+)?{_ZONE})$"


class ChunkChecks:
    """The rows of one chunk that are still good.

    Each check looks at one column of all rows at once and rejects the bad ones that no earlier check has rejected.

    Attributes:
        kept: bool [rows].
    """

    def __init__(self, chunk: RowChunk, rejects: Rejects) -> None:
        self.chunk = chunk
        self.rejects = rejects
        self.kept = np.ones(len(chunk), dtype=bool)

    def reject(self, bad: np.ndarray, column: str, reason: str) -> None:
        """Reject the rows where ``bad`` is True."""
        places = np.flatnonzero(bad & self.kept)
        self.kept[places] = False
        cells = self.chunk.columns[column].take(pa.array(places)).to_pylist()
        for line, cell in zip(self.chunk.lines[places].tolist(), cells, strict=True):
            self.rejects.add(line, column, reason, cell)

    def drop(self, unwanted: np.ndarray) -> int:
        """Leave out rows without rejecting them; returns how many."""
        count = int((unwanted & self.kept).sum())
        self.kept &= ~unwanted
        return count

    def require_text(self, column: str, reason: str) -> None:
        """Reject rows whose cell is empty or blank."""
        self.reject(_is_blank(self.chunk.columns[column]), column, reason)

    def numbers(self, column: str, *, required: bool = False, positive: bool = False) -> np.ndarray:
        """The column as float64 [rows], NaN where the cell is empty; rejects what is not a finite number.

        Args:
            required: Reject empty cells too.
            positive: Reject numbers that are not above 0.
        """
        text = self.chunk.columns[column]
        blank = _is_blank(text)
        values, is_number = parse_numbers(text)
        if required:
            self.reject(blank, column, "empty_number")
        self.reject(~is_number & ~blank, column, "not_a_number")
        self.reject(is_number & ~np.isfinite(values), column, "not_finite")
        if positive:
            self.reject(is_number & (values <= 0), column, "not_positive")
        return values

    def times(self, column: str, unit: str) -> np.ndarray:
        """The column as float64 [rows] seconds since 1970; rejects empty cells, other texts, and years beyond 1 to 9999.

        Args:
            unit: A key of ``UNITS_PER_SECOND``, for times that are numbers.
        """
        text = self.chunk.columns[column]
        self.require_text(column, "empty_time")
        values, is_number = parse_numbers(text)
        self.reject(is_number & ~np.isfinite(values), column, "not_finite")
        seconds = values / UNITS_PER_SECOND[unit]
        places = np.flatnonzero(~is_number & self.kept)
        if len(places):
            seconds[places] = parse_iso_times(text.take(pa.array(places)))
        self.reject(np.isnan(seconds), column, "not_a_time")
        self.reject((seconds < EARLIEST_TIME) | (seconds >= LATEST_TIME), column, "time_out_of_range")
        return seconds


def parse_numbers(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Read decimal numbers.

    Returns:
        float64 [rows] values, NaN where the text is no number; and bool [rows], whether it is one (the words for NaN and infinity,
        which programs write for numbers, count as numbers).
    """
    text = pc.ascii_trim_whitespace(text)
    try:
        return pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False), np.ones(len(text), dtype=bool)
    except pa.ArrowInvalid:
        is_number = pc.match_substring_regex(text, _NUMBER)
    values = pc.cast(pc.if_else(is_number, text, None), pa.float64())
    return pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False).copy(), is_number.to_numpy(zero_copy_only=False)


def parse_iso_times(text: pa.Array) -> np.ndarray:
    """Read ISO 8601 dates and times as float64 [rows] seconds since 1970, to the microsecond; NaN where the text is none.

    A time without a zone is in UTC, a date without a time is its midnight.
    """
    text = pc.ascii_trim_whitespace(text)
    # pandas takes far more than ISO 8601, "today" among it, and switches to nanoseconds, which end in 2262, at a seventh digit.
    text = pc.if_else(pc.match_substring_regex(text, _ISO_TIME), text, None)
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    times = pd.to_datetime(text.to_numpy(zero_copy_only=False), format="ISO8601", utc=True, errors="coerce")
    microseconds = times.as_unit("us").asi8
    return np.where(times.isna(), np.nan, microseconds / 1e6)


def parse_tags(text: str, separator: str) -> list[tuple[str, float]] | None:
    """Split ``a|b:0.5`` into tags with weights, 1 where none is given; a repeated tag's weights add up.

    Returns:
        The tags in order, empty parts left out; None if a weight is not a finite number above 0 or a tag is empty.
    """
    tags: dict[str, float] = {}
    for part in text.split(separator):
        if not part.strip():
            continue
        tag, colon, weight_text = part.rpartition(":")
        if not colon:
            tag, weight = part, 1.0
        else:
            weight = _positive_number(weight_text)
        tag = tag.strip()
        if not tag or not weight:
            return None
        tags[tag] = tags.get(tag, 0.0) + weight
    return list(tags.items())


def _positive_number(text: str) -> float:
    """The number, or 0 if it is not a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < np.inf else 0.0


def filtered(values: pa.Array | np.ndarray, kept: np.ndarray) -> pa.Array | np.ndarray:
    """The rows of a column where ``kept`` is True."""
    if kept.all():
        return values
    return values[kept] if isinstance(values, np.ndarray) else values.filter(pa.array(kept))


def is_among(text: pa.Array, values: Sequence[str] | pa.Array) -> np.ndarray:
    """bool [rows]: whether each cell is one of ``values``."""
    return pc.is_in(text, value_set=pa.array(values, type=pa.large_string())).to_numpy(zero_copy_only=False)


def _is_blank(text: pa.Array) -> np.ndarray:
    return pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0).to_numpy(zero_copy_only=False)
