"""Ids and the like: one rule for whole numbers, in every format.

Programs write a whole number as a fraction where a column has gaps (``12.0``), comes from a decimal type (``7.000000000000000000``) or is
large (``1.2E7``). All of these are the number itself, ``12``, ``7`` and ``12000000``, so that a log and a catalogue that were written by
different programs join. Every other text is taken exactly as it is written: ``007``, ``+7``, ``12.50`` and ``1e3`` (which programs do not
write for a number, but people do for a code) stay.
"""

from __future__ import annotations

import re
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

# With a decimal point, or with an exponent that has a sign or follows a decimal point.
_FRACTION = r"-?(0|[1-9]\d*)\.0*"
_EXPONENT = r"-?([1-9](\.\d*)?[eE]\+\d{1,2}|[1-9]\.\d*[eE]\d{1,2}|0(\.0*)?[eE][+-]?\d{1,2})"
_WHOLE = f"^({_FRACTION}|{_EXPONENT})$"
_WHOLE_PATTERN = re.compile(_WHOLE)


def plain_code(text: str) -> str:
    """The text of an id: that of the whole number if it is one written as a fraction or with an exponent, else the text itself."""
    if not _WHOLE_PATTERN.match(text) or text.endswith("\n"):
        return text
    number = Decimal(text)
    return str(int(number)) if number == number.to_integral_value() else text


def plain_codes(text: pa.Array) -> pa.Array:
    """``plain_code`` of each string [rows]."""
    if not _may_hold_whole_numbers(text):
        return text
    matches = pc.match_substring_regex(text, _WHOLE)
    if not pc.any(matches).as_py():
        return text
    encoded = text.filter(matches).dictionary_encode()
    plain = pa.array([plain_code(value) for value in encoded.dictionary.to_pylist()], text.type)
    return pc.replace_with_mask(text, matches, plain.take(encoded.indices))


def _may_hold_whole_numbers(text: pa.Array) -> bool:
    """Whether any of the strings has a character that the rule needs; many times faster than the rule."""
    data = text.buffers()[2]
    if data is None:
        return False
    raw = data.to_pybytes()
    return any(mark in raw for mark in (b".", b"+", b"0e", b"0E"))
