"""Text of unknown origin (requests, headers, cells, file names) on its way to a log, a terminal or a message."""

from __future__ import annotations

import logging
from collections.abc import Iterable

LONGEST_NAME = 80
MOST_NAMES = 30


def printable(text: str, keep: str = "") -> str:
    r"""Return ``text`` with every character that does not show as one written as an escape, e.g. ``\x1b``.

    These are control characters, with which a terminal can be steered and lines of a log be forged, characters that change the direction
    of text or are invisible, and halves of surrogate pairs, which cannot be encoded.

    Args:
        text: Anything.
        keep: Characters to leave as they are, e.g. ``"\n"`` for a message of several lines.

    Example:
        >>> print(printable("caf\u00e9\x1b[2J\r\n"))
        café\x1b[2J\r\n
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def shorten(text: str, limit: int) -> str:
    """Return ``text``, cut with an ellipsis if it is longer than ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def shown_name(name: str, limit: int = LONGEST_NAME) -> str:
    """A name or cell for a message: on one line, without control characters, cut where it is long."""
    return shorten(printable(name[: 2 * limit]), limit)


def shown_names(names: Iterable[str], most: int = MOST_NAMES) -> str:
    """Names for a message, separated by commas; of many, the first ones and how many more there are."""
    names = list(names)
    shown = ", ".join(shown_name(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


class PrintableFormatter(logging.Formatter):
    """A formatter whose lines hold no control characters, whoever wrote the text; tabs and the newlines of several lines stay."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter.format``."""
        return printable(super().format(record), keep="\n\t")
