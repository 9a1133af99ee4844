"""Times of text: ISO 8601, RFC 2822, or any format that is said."""

from __future__ import annotations

import datetime
import email.utils
import re
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

UNITS_PER_SECOND = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}

# 0001-01-01 and 10000-01-01 in seconds since 1970.
EARLIEST_TIME = -62_135_596_800.0
LATEST_TIME = 253_402_300_800.0
# The last moment that float64 can tell from the year 10000: its steps are 3e-5 s there.
_LAST_SECOND = float(np.nextafter(LATEST_TIME, 0.0))

# Digits of strptime's directives that have the same number of them everywhere.
_WIDTHS = {"%Y": 4, "%m": 2, "%d": 2, "%H": 2, "%M": 2, "%S": 2}

_ZONE = r"( ?(Z|UTC|GMT|[+-]\d{2}(:?\d{2})?))?"
_ISO_TIME = rf"^(\d{{4}}-\d{{2}}-\d{{2}}([T ]\d{{2}}(:\d{{2}}(:\d{{2}}(\.\d+)?)?)?{_ZONE})?|\d{{8}}T\d{{6}}(\.\d+)?{_ZONE})$"
# Fri, 14 Jul 2017 07:59:49 +0000
_RFC_2822 = r"^([A-Za-z]{3}, ?)?\d{1,2} [A-Za-z]{3} \d{4} \d{2}:\d{2}(:\d{2})? ([+-]\d{4}|[A-Z]{1,3}|\(?[A-Z]{3}\)?)$"


def parse_iso_times(text: pa.Array) -> np.ndarray:
    """Read ISO 8601 dates and times, and those of RFC 2822, as float64 [rows] seconds since 1970, to the microsecond; NaN where the
    text is neither.

    A time without a zone is in UTC, a date without a time is its midnight.
    """
    text = pc.ascii_trim_whitespace(text)
    seconds = _with_arrow(_with_short_zone(text))
    if seconds is not None:
        return seconds
    is_iso = pc.match_substring_regex(text, _ISO_TIME)
    seconds = _iso_times(pc.if_else(is_iso, text, None))
    others = np.flatnonzero(~is_iso.to_numpy(zero_copy_only=False))
    if len(others):
        seconds[others] = _rfc_2822_times(text.take(pa.array(others)))
    return seconds


def parse_times(text: pa.Array, time_format: str) -> np.ndarray:
    """Read times in strptime's ``time_format`` as float64 [rows] seconds since 1970, to the microsecond; NaN where the text is none.

    Without a zone in the format the times are in UTC.
    """
    text = pc.ascii_trim_whitespace(text)
    seconds = _fixed_width_times(text, time_format)
    others = np.flatnonzero(np.isnan(seconds))
    if len(others):
        rest = text.take(pa.array(others))
        if "%f" in time_format:  # pandas switches to nanoseconds, which end in 2262, at a seventh digit
            rest = pc.replace_substring_regex(rest, r"(\.\d{6})\d+", r"\1")
        encoded = rest.dictionary_encode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that pandas reads one by one
            times = pd.to_datetime(pd.Index(encoded.dictionary.to_pylist(), dtype=object), format=time_format, utc=True, errors="coerce")
        seconds[others] = _seconds(times)[encoded.indices.to_numpy(zero_copy_only=False)]
    return seconds


def _fixed_width_times(text: pa.Array, time_format: str) -> np.ndarray:
    """The times whose every number has all of its digits, fifty times faster than one by one; NaN for all others, good or not."""
    seconds = np.full(len(text), np.nan)
    pieces = re.findall(r"%.|[^%]", time_format)
    widths = [_WIDTHS.get(piece, 0) if piece.startswith("%") else 1 for piece in pieces]
    if not time_format.isascii() or not all(widths) or len(set(pieces) & set(_WIDTHS)) != sum(piece in _WIDTHS for piece in pieces):
        return seconds
    places = np.flatnonzero(pc.equal(pc.binary_length(text), sum(widths)).to_numpy(zero_copy_only=False))
    taken = text.take(pa.array(places))
    if not len(taken):
        return seconds
    characters = np.frombuffer(_bytes(taken), np.uint8).reshape(len(taken), -1)
    good = np.ones(len(taken), dtype=bool)
    values: dict[str, np.ndarray] = {}
    start = 0
    for piece, width in zip(pieces, widths, strict=True):
        cells = characters[:, start : start + width]
        start += width
        if piece in _WIDTHS:
            digits = cells.astype(np.int64) - ord("0")
            good &= ((digits >= 0) & (digits <= 9)).all(axis=1)
            values[piece] = digits @ (10 ** np.arange(width - 1, -1, -1))
        else:
            good &= cells[:, 0] == ord(piece)
    moments = _moments(values, good)
    seconds[places[good]] = moments[good]
    return seconds


def _moments(values: dict[str, np.ndarray], good: np.ndarray) -> np.ndarray:
    """Seconds since 1970 of years, months and so on; those that do not exist are marked in ``good``."""
    absent = np.zeros(len(good), dtype=np.int64)
    year, month, day = values.get("%Y", absent + 1900), values.get("%m", absent + 1), values.get("%d", absent + 1)
    hour, minute, second = (values.get(piece, absent) for piece in ("%H", "%M", "%S"))
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24) & (minute < 60) & (second < 60)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    good &= days.astype("datetime64[M]") == months
    return days.astype(np.int64) * 86400.0 + hour * 3600 + minute * 60 + second


def _bytes(text: pa.Array) -> bytes:
    """All strings of an array one after the other."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int64)[[text.offset, text.offset + len(text)]]
    return data.to_pybytes()[bounds[0] : bounds[1]]


def _with_arrow(text: pa.Array) -> np.ndarray | None:
    """All of the times, NaN for nulls, if they have a zone, or if none has, and no more digits than microseconds; else None. Ten times
    faster."""
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            times = pc.cast(text, kind).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
        microseconds = pc.fill_null(times, 0).to_numpy(zero_copy_only=False)
        if (microseconds < EARLIEST_TIME * 1e6).any():
            return None
        return np.where(times.is_null().to_numpy(zero_copy_only=False), np.nan, _clamped(microseconds))
    return None


def _with_short_zone(text: pa.Array) -> pa.Array:
    """The texts with Z for the zone's name, if the first of them has one; none of them is a time for that which was none."""
    first = next((cell for cell in text[:20].to_pylist() if cell), "")
    zone = next((name for name in (" UTC", " GMT", " Z", "UTC", "GMT") if first.endswith(name)), None)
    return text if zone is None else pc.replace_substring(text, zone, "Z")


def _iso_times(text: pa.Array) -> np.ndarray:
    """Texts that match ``_ISO_TIME``, and nulls."""
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    text = pc.replace_substring_regex(text, r" ?(UTC|GMT|Z)$", "Z")
    seconds = _with_arrow(text)
    if seconds is not None:
        return seconds
    # pandas takes far more than ISO 8601, "today" among it, and switches to nanoseconds, which end in 2262, at a seventh digit: hence the
    # pattern before and the digits cut off.
    return _seconds(pd.to_datetime(text.to_numpy(zero_copy_only=False), format="ISO8601", utc=True, errors="coerce"))


def _rfc_2822_times(text: pa.Array) -> np.ndarray:
    encoded = pc.if_else(pc.match_substring_regex(text, _RFC_2822), text, "").dictionary_encode()
    seconds = np.array([_rfc_2822_time(value) for value in encoded.dictionary.to_pylist()], dtype=np.float64)
    return seconds[encoded.indices.to_numpy(zero_copy_only=False)]


def _rfc_2822_time(text: str) -> float:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return np.nan
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


def _seconds(times: pd.DatetimeIndex) -> np.ndarray:
    return np.where(times.isna(), np.nan, _clamped(times.as_unit("us").asi8))


def _clamped(microseconds: np.ndarray) -> np.ndarray:
    """Seconds; the last moments of the year 9999 are rounded down, not into the year 10000."""
    seconds = microseconds / 1e6
    return np.where((seconds >= LATEST_TIME) & (microseconds < int(LATEST_TIME) * 1_000_000), _LAST_SECOND, seconds)
