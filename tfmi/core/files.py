"""Writing files so that they appear complete or not at all, and so that a full disk is one clear message.

Everything that tfmi writes goes through here. A temporary file or folder stands beside the final one under a hidden name that says which
process of which machine writes it; what a killed process leaves can therefore be told from what another one is writing just now.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import secrets
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfmi.core.errors import StorageError, TfmiError
from tfmi.core.processes import is_running

# A disk that is full, a quota that is used up, a limit on the size of one file.
_NO_SPACE = frozenset({errno.ENOSPC, errno.EFBIG} | ({errno.EDQUOT} if hasattr(errno, "EDQUOT") else set()))
_NO_SPACE_TEXTS = ("no space left", "quota exceeded", "file too large")
_TEMPORARY = re.compile(r"\..*\.tmp-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}")
# Names may have 255 bytes: 4 for each of these characters, and 35 of our own.
_NAME_CHARACTERS = 40

Size = int | Callable[[], int]


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Write a file beside ``path`` and rename it into place; folders are made. Returns the path.

    Raises:
        StorageError: It cannot be written; a file that was there before is unchanged.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with file_appears_complete(path, wanted=len(data)) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write readable JSON atomically; raises ``StorageError`` as ``write_atomically`` does."""
    return write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def file_appears_complete(path: str | Path, *, wanted: Size | None = None) -> Iterator[Path]:
    """Yield the path of a temporary sibling to write; it becomes ``path``, replacing an older file, if the block succeeds.

    If the block fails the temporary file vanishes and an older ``path`` stays as it is. New files have the permissions that the umask
    of the process leaves.

    Args:
        path: The file; folders are made.
        wanted: The bytes that the file needs, for the message; None: as many as had been written when the space ended.

    Raises:
        StorageError: There is no space, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.parent / _temporary_name(path)
    try:
        with report_no_space(path, wanted if wanted is not None else lambda: folder_size(temporary)):
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.touch()
            yield temporary
            with writing(path):
                flush(temporary)
                os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def folder_appears_complete(path: str | Path, *, wanted: Size | None = None) -> Iterator[Path]:
    """Yield a temporary sibling folder to fill; it becomes ``path``, replacing an older one, if the block succeeds, else it vanishes.

    Raises:
        StorageError: There is no space, or the folder cannot be made.
    """
    path = Path(path)
    temporary = path.parent / _temporary_name(path)
    try:
        with report_no_space(path, wanted if wanted is not None else lambda: folder_size(temporary)):
            with writing(path):
                temporary.mkdir(parents=True)
            yield temporary
            with writing(path):
                _replace_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def writing(path: str | Path, *, wanted: Size | None = None, raises: type[TfmiError] = StorageError) -> Iterator[None]:
    """Turn what the operating system, TensorFlow or Arrow says about a write that fails into one line with the path.

    Everything in the block that fails with an ``OSError`` or an error of a TensorFlow op is taken for a failure to write, so it holds
    writes only; ``report_no_space`` is for blocks that read as well.

    Args:
        path: What is being written.
        wanted: The bytes that it needs, for the message.
        raises: The class of the error.

    Raises:
        StorageError: Or ``raises``.
    """
    try:
        yield
    except Exception as error:
        message = _describe(error, Path(path), wanted)
        if message is None:
            raise
        raise raises(message) from None


@contextlib.contextmanager
def report_no_space(path: str | Path, wanted: Size | None = None) -> Iterator[None]:
    """As ``writing``, but for a full disk alone: whatever else goes wrong passes as it is."""
    try:
        yield
    except Exception as error:
        message = _describe(error, Path(path), wanted) if _is_no_space(error) else None
        if message is None:
            raise
        raise StorageError(message) from None


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove the temporary files and folders in ``folder`` whose processes, of this machine, are gone. Returns what was removed."""
    removed: list[Path] = []
    with contextlib.suppress(OSError):
        for entry in Path(folder).iterdir():
            match = _TEMPORARY.fullmatch(entry.name)
            if match is None or match["host"] != _this_host() or is_running(int(match["process"])):
                continue
            with contextlib.suppress(OSError):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                removed.append(entry)
    return removed


def flush(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk; where folders cannot be opened, as on Windows, theirs are left out."""
    folder = path.is_dir()
    if folder and sys.platform == "win32":
        return
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if folder or sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    total = 0
    with contextlib.suppress(OSError):
        for file in path.rglob("*") if path.is_dir() else [path]:
            with contextlib.suppress(OSError):
                total += file.stat().st_size if file.is_file() else 0
    return total


def readable_size(size: int) -> str:
    """A number of bytes for people, e.g. ``"1.5 GB"``."""
    value, unit = float(size), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{size:,} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def _temporary_name(path: Path) -> str:
    return f".{path.name[:_NAME_CHARACTERS]}.tmp-{_this_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def _this_host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _replace_folder(temporary: Path, path: Path) -> None:
    """Folders cannot be exchanged in one step: the older one is moved aside first, so that it is never seen half deleted."""
    if not path.exists():
        os.replace(temporary, path)
        return
    older = path.parent / _temporary_name(path)
    os.replace(path, older)
    os.replace(temporary, path)
    shutil.rmtree(older, ignore_errors=True)


def _op_error(error: Exception) -> bool:
    """Whether it is TensorFlow's. TensorFlow is not imported for that: what was never imported raised nothing."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(error, tensorflow.errors.OpError)


def _is_no_space(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _NO_SPACE
    return _op_error(error) and any(text in str(error).lower() for text in _NO_SPACE_TEXTS)


def _describe(error: Exception, path: Path, wanted: Size | None) -> str | None:
    """The message for an error of writing, or None if it is of something else."""
    if not isinstance(error, OSError) and not _op_error(error):
        return None
    if not _is_no_space(error):
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(getattr(error, "message", error))
        return f"{path}: cannot write here: {reason.splitlines()[0] if reason else type(error).__name__}"
    needed = "more space" if wanted is None else readable_size(wanted) if isinstance(wanted, int) else f"at least {readable_size(wanted())}"
    return (
        f"{path}: cannot write here, no space left: {needed} wanted, {_free(path)}; "
        "make space (or raise the quota), then start the same again"
    )


def _free(path: Path) -> str:
    for folder in [path, *path.absolute().parents]:
        with contextlib.suppress(OSError):
            return f"{readable_size(shutil.disk_usage(folder).free)} free"
    return "none free"
