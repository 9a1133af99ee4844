"""In which unit or format the times of a column are, as far as that can be told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmi.data.reading.checks import parse_numbers
from tfmi.data.reading.time_span import DAY, PLAUSIBLE_FROM
from tfmi.data.reading.times import UNITS_PER_SECOND, parse_iso_times, parse_times

# Formats of dates and times beside ISO 8601; of a pair that both fit, nobody knows which is meant.
FORMATS = (
    *("%Y%m%d", "%Y%m%d%H%M%S", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"),
    *("%m/%d/%Y %I:%M:%S %p", "%d-%m-%Y", "%d-%m-%Y %H:%M:%S", "%d %b %Y", "%b %d, %Y", "%a %b %d %H:%M:%S %Y"),
)
# So much of a column has to be times for it to be one.
SHARE = 0.98


@dataclass(frozen=True)
class TimeGuess:
    """How a column's times are to be read.

    Attributes:
        settings: ``time_unit`` or ``time_format``, where the defaults would not do.
        certain: Whether they cannot be read in another way.
        said: The same in words.
    """

    settings: dict[str, Any]
    certain: bool
    said: str


def guess_times(text: pa.Array) -> TimeGuess | None:
    """How to read a column's texts as times between 1990 and tomorrow; None if they are no times."""
    text = text.filter(pc.not_equal(pc.utf8_trim_whitespace(text), ""))
    if not len(text):
        return None
    numbers, is_number = parse_numbers(text)
    if is_number.mean() >= SHARE:
        return _of_numbers(text, numbers[is_number])
    if _plausible(parse_iso_times(text)) >= SHARE:
        return TimeGuess({}, True, "ISO 8601")
    return _of_formats(text)


def _of_numbers(text: pa.Array, numbers: np.ndarray) -> TimeGuess | None:
    # In at most one unit numbers lie between 1990 and tomorrow: the units are a thousand apart, the years are not.
    for unit, per_second in UNITS_PER_SECOND.items():
        if _plausible(numbers / per_second) >= SHARE:
            return TimeGuess({} if unit == "seconds" else {"time_unit": unit}, True, f"{unit} since 1970")
    return _of_formats(text)


def _of_formats(text: pa.Array) -> TimeGuess | None:
    sample = text[:2000]
    fitting = [each for each in FORMATS if _plausible(parse_times(sample, each)) >= SHARE]
    if not fitting:
        return None
    said = f"the format {fitting[0]!r}" + "".join(f", or {each!r}" for each in fitting[1:])
    return TimeGuess({"time_format": fitting[0]}, len(fitting) == 1, said)


def _plausible(seconds: np.ndarray) -> float:
    """The share of times between 1990 and tomorrow."""
    with np.errstate(invalid="ignore"):
        return float(((seconds >= PLAUSIBLE_FROM) & (seconds <= time.time() + DAY)).mean()) if len(seconds) else 0.0
