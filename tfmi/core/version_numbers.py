"""What is a version of a model: a folder named by a number that servers can hold."""

from __future__ import annotations

# Servers and their protocols hold a version in a signed integer of 64 bits.
MAX_VERSION = 2**63 - 1
_MAX_DIGITS = 255  # file names are no longer, and Python refuses to read numbers of thousands of digits


def version_number(name: str) -> int | None:
    """The number that a folder's name is, or None if it is no version: other characters than 0 to 9, or 2^63 and more."""
    if not (name.isascii() and name.isdigit() and len(name) <= _MAX_DIGITS):
        return None
    number = int(name)
    return number if number <= MAX_VERSION else None
