"""Checks of a chunk's cells: what cannot be used is rejected, row by row, for the first reason found."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import RowChunk, text_of
from tfmi.data.reading.times import EARLIEST_TIME, LATEST_TIME, UNITS_PER_SECOND, parse_iso_times, parse_times

_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"
# 1.234.567,8: the groups are complete, since 1.23 would otherwise be a hundred and twenty-three.
_GROUPED = r"^([+-]?\d{1,3})((\.\d{3})+)(,\d*)?$"

Decimal = Literal[".", ","]
ParsedTags = list[tuple[str, float]]

SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


class ChunkChecks:
    """The rows of one chunk that are still good.

    Each check looks at one column of all rows at once and rejects the bad ones that no earlier check has rejected.

    Args:
        chunk: The rows.
        rejects: Takes those that are rejected.
        decimal: What separates the fraction of numbers.

    Attributes:
        kept: bool [rows].
    """

    def __init__(self, chunk: RowChunk, rejects: Rejects, decimal: Decimal = ".") -> None:
        self.chunk = chunk
        self.rejects = rejects
        self.decimal = decimal
        self.kept = np.ones(len(chunk), dtype=bool)

    def reject(self, bad: np.ndarray, column: str, reason: str, expected: str | None = None) -> None:
        """Reject the rows where ``bad`` is True."""
        places = np.flatnonzero(bad & self.kept)
        if not len(places):
            return
        self.kept[places] = False
        cells = self.chunk.columns[column].take(pa.array(places)).to_pylist()
        for line, cell in zip(self.chunk.lines[places].tolist(), cells, strict=True):
            self.rejects.add(line, column, reason, cell, expected)

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
        values, is_number = parse_numbers(text, self.decimal)
        if required:
            self.reject(blank, column, "empty_number")
        self.reject(~is_number & ~blank, column, "not_a_number", _number_expected(self.decimal))
        self.reject(is_number & ~np.isfinite(values), column, "not_finite")
        if positive:
            self.reject(is_number & (values <= 0), column, "not_positive")
        self.reject(is_number & ~is_storable(values), column, "not_storable")
        return values

    def times(self, column: str, unit: str, time_format: str | None = None) -> np.ndarray:
        """The column as float64 [rows] seconds since 1970; rejects empty cells, other texts, and years beyond 1 to 9999.

        Args:
            unit: A key of ``UNITS_PER_SECOND``, for times that are numbers.
            time_format: strptime's format that all times have; None: numbers, ISO 8601 and RFC 2822.
        """
        text = self.chunk.columns[column]
        self.require_text(column, "empty_time")
        if time_format is not None:
            seconds = parse_times(text, time_format)
            self.reject(np.isnan(seconds), column, "not_a_time", f"a time written as {time_format} (data.log.time_format)")
            return seconds
        # Trying what most cells are first, since the other way costs a look at each.
        if _starts_like_a_date(text):
            seconds = parse_iso_times(text)
            others = np.flatnonzero(np.isnan(seconds) & self.kept)
            if len(others):
                rest = text.take(pa.array(others))
                values, is_number = parse_numbers(rest, self.decimal)
                self._reject_infinite(others, values, is_number, column)
                seconds[others] = np.where(is_number, values / UNITS_PER_SECOND[unit], np.nan)
        else:
            values, is_number = parse_numbers(text, self.decimal)
            self.reject(is_number & ~np.isfinite(values), column, "not_finite")
            seconds = values / UNITS_PER_SECOND[unit]
            places = np.flatnonzero(~is_number & self.kept)
            if len(places):
                seconds[places] = parse_iso_times(text.take(pa.array(places)))
        self.reject(np.isnan(seconds), column, "not_a_time")
        self.reject((seconds < EARLIEST_TIME) | (seconds >= LATEST_TIME), column, "time_out_of_range")
        return seconds

    def tags(self, column: str, separator: str) -> list[ParsedTags]:
        """The column as tags with weights, see ``parse_tags``; rejects cells that are none."""
        tags: list[ParsedTags] = []
        bad: dict[str, list[int]] = {}
        for place, text in enumerate(self.chunk.columns[column].to_pylist()):
            try:
                tags.append(_read_tags(text, separator, self.decimal))
            except _BadTagsError as error:
                tags.append([])
                bad.setdefault(error.reason, []).append(place)
        for reason, places in bad.items():
            self.reject(np.isin(np.arange(len(self.chunk)), places), column, reason)
        return tags

    def _reject_infinite(self, places: np.ndarray, values: np.ndarray, is_number: np.ndarray, column: str) -> None:
        bad = np.zeros(len(self.chunk), dtype=bool)
        bad[places[is_number & ~np.isfinite(values)]] = True
        self.reject(bad, column, "not_finite")


def is_storable(values: np.ndarray | float) -> np.ndarray:
    """Whether the 32 bits in which models hold numbers can hold each of these: neither infinite in them, nor 0 without being 0.

    NaN, which stands for a missing number, can be held.
    """
    size = np.abs(values)
    return ~(size > LARGEST) & ~((size < SMALLEST) & (size > 0))


def parse_numbers(text: pa.Array, decimal: Decimal = ".") -> tuple[np.ndarray, np.ndarray]:
    """Read decimal numbers.

    Returns:
        float64 [rows] values, NaN where the text is no number; and bool [rows], whether it is one (the words for NaN and infinity,
        which programs write for numbers, count as numbers).
    """
    text = pc.ascii_trim_whitespace(text)
    if decimal == ",":
        text = _with_decimal_point(text)
    try:
        return pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False), np.ones(len(text), dtype=bool)
    except pa.ArrowInvalid:
        is_number = pc.match_substring_regex(text, _NUMBER)
    values = pc.cast(pc.if_else(is_number, text, None), pa.float64())
    return pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False).copy(), is_number.to_numpy(zero_copy_only=False)


def parse_tags(text: str, separator: str, decimal: Decimal = ".") -> ParsedTags | None:
    """Read the tags of a cell: ``a|b:0.5`` with weights, 1 where none is given; or a list or an object in JSON.

    The elements of a list are tags as they are, whatever they hold, or pairs of a tag and its weight; an object has weights of its tags.
    A repeated tag's weights add up.

    Returns:
        The tags in order, empty parts left out; None if a weight is not a number above 0 that can be stored, a tag is empty, or a list
        is not one of tags.
    """
    try:
        return _read_tags(text, separator, decimal)
    except _BadTagsError:
        return None


def _read_tags(text: str, separator: str, decimal: Decimal) -> ParsedTags:
    stripped = text.strip()
    if (stripped.startswith("[") and stripped.endswith("]")) or (stripped.startswith("{") and stripped.endswith("}")):
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError):
            if set(stripped) & {"'", '"'}:
                raise _BadTagsError("bad_tag_list") from None
            # Brackets and nothing that looks like JSON: a tag such as [live].
        else:
            return _summed(_pairs_of_json(value))
    return _summed(_pairs_of_text(text, separator, decimal))


class _BadTagsError(ValueError):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _pairs_of_text(text: str, separator: str, decimal: Decimal) -> list[tuple[str, float]]:
    pairs: list[tuple[str, float]] = []
    for part in text.split(separator):
        if not part.strip():
            continue
        tag, colon, weight = part.rpartition(":")
        tag, number = (tag.strip(), _number_of(weight, decimal)) if colon else (part.strip(), 1.0)
        if not tag:
            raise _BadTagsError("bad_tag_weight")
        pairs.append((tag, number))
    return pairs


def _pairs_of_json(value: Any) -> list[tuple[str, float]]:
    elements: list[Any] = [[tag, weight] for tag, weight in value.items()] if isinstance(value, dict) else value
    pairs: list[tuple[str, float]] = []
    for element in elements:
        tag, weight = element, 1.0
        if isinstance(element, list):
            if len(element) != 2:
                raise _BadTagsError("bad_tag_list")
            tag, weight = element
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise _BadTagsError("bad_tag_weight")
        text = text_of(tag, empty_nan=True)
        if text is None:
            raise _BadTagsError("bad_tag_list")
        if text.strip():
            pairs.append((text.strip(), float(weight)))
        elif isinstance(element, list):
            raise _BadTagsError("bad_tag_weight")
    return pairs


def _summed(pairs: list[tuple[str, float]]) -> ParsedTags:
    tags: dict[str, float] = {}
    for tag, weight in pairs:
        if not weight > 0 or not is_storable(weight):
            raise _BadTagsError("bad_tag_weight")
        tags[tag] = tags.get(tag, 0.0) + weight
    if not all(is_storable(weight) for weight in tags.values()):
        raise _BadTagsError("bad_tag_weight")
    return list(tags.items())


def _number_of(text: str, decimal: Decimal) -> float:
    """The number, or NaN if it is none."""
    text = text.strip()
    try:
        return float(text.replace(",", ".") if decimal == "," else text)
    except ValueError:
        return math.nan


def looks_like_data(names: Sequence[str]) -> str | None:
    """The first of a header's names that is rather a value, a number or a time; None if there is none.

    Numbers that count the columns, as programs call columns without a name, are names.
    """
    counted = {str(number) for number in range(len(names) + 1)}
    if set(names) <= counted:
        return None
    text = pa.array([name for name in names if name.strip()], pa.large_string())
    if not len(text):
        return None
    _, is_number = parse_numbers(text)
    times = parse_iso_times(text)
    values = [name for name, number, time in zip(text.to_pylist(), is_number, times, strict=True) if number or not np.isnan(time)]
    values = [name for name in values if name.lower() not in {"nan", "inf", "infinity"}]
    return next(iter(values), None)


def _with_decimal_point(text: pa.Array) -> pa.Array:
    """Numbers with a decimal comma as those with a point; one with a point that groups no thousands is no number."""
    grouped = pc.match_substring_regex(text, _GROUPED)
    ungrouped = pc.if_else(grouped, pc.replace_substring(text, ".", ""), pc.replace_substring(text, ".", "?"))
    return pc.replace_substring(ungrouped, ",", ".")


def _number_expected(decimal: Decimal) -> str | None:
    return "a number with a decimal comma, such as 1.234,5 (data.log.decimal)" if decimal == "," else None


def _starts_like_a_date(text: pa.Array) -> bool:
    """Whether the first cell that is not empty looks like an ISO date."""
    for cell in text[:20].to_pylist():
        if cell.strip():
            return cell.strip()[4:5] == "-"
    return False


def filtered(values: pa.Array | np.ndarray, kept: np.ndarray) -> pa.Array | np.ndarray:
    """The rows of a column where ``kept`` is True."""
    if kept.all():
        return values
    return values[kept] if isinstance(values, np.ndarray) else values.filter(pa.array(kept))


def is_one_of(text: pa.Array, values: Sequence[str] | pa.Array) -> np.ndarray:
    """bool [rows]: whether each cell is one of ``values``."""
    return pc.is_in(text, value_set=pa.array(values, type=pa.large_string())).to_numpy(zero_copy_only=False)


def _is_blank(text: pa.Array) -> np.ndarray:
    return pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0).to_numpy(zero_copy_only=False)
