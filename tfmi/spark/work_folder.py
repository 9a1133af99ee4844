"""What the driver tells tasks and tasks tell the driver: small files in a folder that all of them see.

Tasks may run twice, side by side (speculation) or one after the other (a lost machine). Whatever a task writes it writes atomically and
under a name that depends on nothing but its share of the work, so that the last one to finish changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmi.core import errors
from tfmi.core.errors import StorageError, TfmiError
from tfmi.core.files import write_json

JOB = "job.json"
_ERRORS = "errors"


@functools.cache
def read_job(folder: str) -> dict[str, Any]:
    """What the driver has written; read once by every process.

    Raises:
        StorageError: The folder cannot be seen from here.
    """
    try:
        job: dict[str, Any] = json.loads((Path(folder) / JOB).read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}; driver and executors have to see one file system, under one name") from None
    return job


@contextlib.contextmanager
def telling(folder: str, task: str) -> Iterator[None]:
    """In a task: write down what a user can fix, for the driver, before Spark makes a stack trace of it."""
    try:
        yield
    except TfmiError as error:
        if Path(folder).is_dir():
            write_json(Path(folder) / _ERRORS / f"{task}.json", {"kind": type(error).__name__, "message": str(error)})
        raise


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """In the driver: of a job that fails, raise what a task has told, the first in the order of the tasks' names."""
    try:
        yield
    except Exception:
        for path in sorted((folder / _ERRORS).glob("*.json")):
            found = json.loads(path.read_text(encoding="utf-8"))
            raise getattr(errors, found["kind"], TfmiError)(found["message"]) from None
        raise


def read_result(path: Path) -> dict[str, Any]:
    """What a task has written; raises ``StorageError`` if it is not there."""
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; driver and executors have to see one file system, under one name") from None
    return result
