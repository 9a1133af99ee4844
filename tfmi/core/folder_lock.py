"""Locks by which processes share a folder: many may use what is there, one alone may change it.

The operating system holds the lock and lets go of it when its process ends, however that happens, so that nothing is left to be cleared
away after a crash. The file that the lock is held on also names its holder, for messages.

On Linux and macOS it is ``flock``. Windows has exclusive locks only (``msvcrt.locking``): there, those who only read wait for each other.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import weakref
from pathlib import Path
from typing import Literal

from tfmi.core.errors import ConfigError, StorageError
from tfmi.core.files import report_no_space
from tfmi.core.processes import this_process

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_TRIES = 0.2
# A line of the log so often, while somebody else holds the lock.
SECONDS_BETWEEN_MESSAGES = 60.0

LockKind = Literal["shared", "exclusive"]
# What Windows locks: a byte far behind the holder's name, since nobody else can read one that is locked.
_LOCKED_BYTE = 1 << 30


class FolderLock:
    """A lock on a folder, held until ``release``, until nothing refers to this object, or until the process ends.

    Two locks exclude each other also within one process, unless both are shared.

    Args:
        path: The lock's file; it is made if it is absent.
        kind: ``shared`` among those who read, ``exclusive`` for who writes.
        purpose: What is waited for, for messages, e.g. the name of the log.
        wait: Whether to wait, saying so, while others hold the lock.

    Raises:
        BlockingIOError: Others hold the lock, and ``wait`` is False.
        StorageError: The lock's file cannot be made.
        OSError: Its folder cannot be made.
    """

    def __init__(self, path: Path, kind: LockKind, purpose: str, *, wait: bool = True) -> None:
        self.path = path
        with report_no_space(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        next_message = time.monotonic()
        while True:
            try:
                descriptor = _try(path, kind)
                break
            except BlockingIOError:
                if not wait:
                    raise
            except OSError as error:
                raise StorageError(f"{path}: cannot be locked: {error.strerror or error}") from None
            if time.monotonic() >= next_message:
                logger.info("%s: waiting for %s to finish with %s; Ctrl-C gives up", purpose, holder(path), path.with_suffix(""))
                next_message += SECONDS_BETWEEN_MESSAGES
            time.sleep(SECONDS_BETWEEN_TRIES)
        if kind == "exclusive":
            _write(descriptor, this_process())
        self._descriptor = descriptor
        self._finalizer = weakref.finalize(self, os.close, descriptor)

    def share(self) -> None:
        """Let others read as well. Somebody may have had the lock for himself in between: what it guards is to be looked at again."""
        _write(self._descriptor, "")
        _change_to_shared(self._descriptor)

    def release(self) -> None:
        """Let go of the lock; a second call does nothing."""
        self._finalizer()

    def release_and_remove(self) -> None:
        """Let go of an exclusive lock whose folder is gone, and remove its file."""
        if sys.platform == "win32":  # where what is open cannot be removed
            self.release()
        self.path.unlink(missing_ok=True)
        self.release()


def only_holder(path: Path, refusal: str) -> FolderLock:
    """An exclusive lock that nobody else has.

    Args:
        path: The lock's file.
        refusal: What to say if somebody has it; the process that does is added to it.

    Raises:
        ConfigError: Another process, or another part of this one, holds the lock.
    """
    try:
        return FolderLock(path, "exclusive", refusal, wait=False)
    except BlockingIOError:
        raise ConfigError(f"{refusal}: {holder(path)} is working there; wait until it has ended, or choose another place") from None


def holder(path: Path) -> str:
    """Who holds an exclusive lock, in words."""
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"


def _try(path: Path, kind: LockKind) -> int:
    """The descriptor of the locked file; raises ``BlockingIOError`` if others hold the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, kind)
            # Somebody may have removed the file in between: then the lock is on a file that nobody else can find.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _write(descriptor: int, text: str) -> None:
    """A holder's name is a courtesy: with a full disk the lock holds all the same."""
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text.encode())
    except OSError:
        logger.debug("the holder of a lock could not be written down", exc_info=True)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, kind: LockKind) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from None

    def _change_to_shared(descriptor: int) -> None:
        """There is no shared lock here: it stays exclusive."""

else:
    import fcntl

    def _lock(descriptor: int, kind: LockKind) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if kind == "shared" else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def _change_to_shared(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
