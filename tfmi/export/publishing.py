"""Version folders that appear complete or not at all, as TensorFlow Serving needs them.

TensorFlow Serving loads a folder as soon as its name is a number, half-copied or not; it ignores one named ``tmp-...``. So a version is
written to ``<directory>/tmp-<version>-<process>-<token>-<host>`` and renamed. A process that is killed leaves such a folder behind; it is
never served, and the next export on the same host removes it.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from tfmi.core.errors import ExportError
from tfmi.core.files import flush, folder_size, report_no_space, writing
from tfmi.core.folder_lock import FolderLock
from tfmi.core.processes import is_running
from tfmi.core.version_numbers import MAX_VERSION, version_number

log = logging.getLogger(__name__)

# Held while a number is chosen and taken, and gone afterwards.
LOCK = ".publish.lock"
TEMPORARY_NAME = re.compile(r"tmp-\d+-(?P<process>\d+)-[0-9a-f]+-(?P<host>.+)")


def published_versions(directory: Path) -> list[int]:
    """The versions in a model's directory, rising; none if it does not exist."""
    if not directory.is_dir():
        return []
    return sorted(number for entry in directory.iterdir() if (number := version_number(entry.name)) is not None and entry.is_dir())


def newest_version(path: Path) -> Path:
    """The version folder that ``path`` is, or the newest in it; ``path`` itself if there is none."""
    versions = [] if (path / "saved_model.pb").exists() else published_versions(path)
    return path / str(versions[-1]) if versions else path


def publish(directory: Path, fill: Callable[[Path], None], version: int | None = None) -> Path:
    """Let ``fill`` write a version into a temporary folder, then make it visible.

    Args:
        directory: The model's directory; made if needed.
        fill: Writes the content of the folder it is given, and checks it.
        version: The version number; None takes 1 + the highest one, even if another export publishes at the same time.

    Returns:
        The version folder.

    Raises:
        ExportError: The given version exists, or the directory cannot be written. Nothing is left behind.
        StorageError: There is no space; nothing is left behind.
    """
    if version is not None and (directory / str(version)).exists():
        raise _version_exists(directory, version)
    _sweep(directory)
    temporary = _make_temporary(directory, version if version is not None else _next_version(directory))
    try:
        with report_no_space(directory / str(version or "a new version"), lambda: folder_size(temporary)):
            fill(temporary)
            _flush_to_disk(temporary)
            return _rename(temporary, directory, version)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _next_version(directory: Path) -> int:
    newest = max(published_versions(directory), default=0)
    if newest == MAX_VERSION:
        raise ExportError(f"{directory / str(newest)}: no version number is left above it; rename it")
    return newest + 1


def _make_temporary(directory: Path, version: int) -> Path:
    temporary = directory / f"tmp-{version}-{os.getpid()}-{secrets.token_hex(4)}-{socket.gethostname()}"
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise ExportError(f"{directory}: cannot write a model here: {error}; choose another folder with --savedmodels") from None
    return temporary


def _sweep(directory: Path) -> None:
    """Remove the temporary folders of processes of this host that are gone; nothing can be known of those of others."""
    for folder in directory.glob("tmp-*"):
        match = TEMPORARY_NAME.fullmatch(folder.name)
        if match and match["host"] == socket.gethostname() and not is_running(int(match["process"])):
            log.info("Removing %s, left behind by an export that was killed", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _rename(temporary: Path, directory: Path, version: int | None) -> Path:
    """Make a complete folder visible. One process at a time chooses a number and takes it; the others wait for that moment."""
    lock = FolderLock(directory / LOCK, "exclusive", str(directory))
    try:
        target = directory / str(version if version is not None else _next_version(directory))
        if target.exists():  # rename() would replace an empty folder
            raise _version_exists(directory, target.name)
        with writing(target, raises=ExportError):
            os.rename(temporary, target)
            flush(directory)
        return target
    finally:
        lock.release_and_remove()


def _version_exists(directory: Path, version: int | str) -> ExportError:
    return ExportError(f"{directory / str(version)}: this version exists already; published versions never change, so choose a new number")


def _flush_to_disk(folder: Path) -> None:
    """Make sure that a rename cannot become durable before the files it shows."""
    for parent, _, names in os.walk(folder):
        for name in names:
            flush(Path(parent) / name)
        flush(Path(parent))
