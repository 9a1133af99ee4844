"""Errors that tell a user what to change. Programs print their message without a stack trace."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator

from tfmi.core.text import printable, shown_name


class TfmiError(Exception):
    """Base of every error that a user of tfmi can fix: the message says what was found, what was expected and what to do.

    What it cites of files, requests and settings may hold anything; control characters, which a terminal would obey, are escaped.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*(printable(part, keep="\n\t") if isinstance(part, str) else part for part in parts))


class ConfigError(TfmiError):
    """A configuration has an unknown key, a wrong type, or a combination that cannot work."""


@contextlib.contextmanager
def settings_at(path: str) -> Iterator[None]:
    """Turn a ``ValueError`` of the code inside into a ``ConfigError`` that begins with ``path``, where the settings at fault stand.

    Layers, losses and indexes know no configuration and raise ``ValueError``; who builds them from one says where to look.
    """
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


class DataError(TfmiError):
    """Input data cannot be used: a missing file or column, too many rejected rows, nothing left after filtering."""


class StorageError(TfmiError):
    """A file cannot be written: no space left, no permission, a file where a folder should be. Nothing half-written is left."""


class ClusterError(TfmiError):
    """An engine that spreads work over machines is missing, cannot be reached, or has lost its machines."""


class TrainingError(TfmiError):
    """Training cannot go on: a loss that is not finite, or a checkpoint that cannot be written."""


class IndexBuildError(TfmiError):
    """An index cannot be built: no items, vectors that are not finite, or a library that is missing here."""


class ExportError(TfmiError):
    """A model could not be exported, or its warm-up requests failed, so nothing was published."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the choice spelled most like ``word``, or an empty string if none is near."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" (did you mean {shown_name(matches[0])!r}?)" if matches else ""
