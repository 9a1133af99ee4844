"""Locks by which processes share a folder: many may use what is there, one alone may change it.

The operating system holds the lock (``flock``) and lets go of it when its process ends, however that happens, so that nothing is left
to be cleared away after a crash. The file beside the folder that the lock is held on also names its holder, for messages.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
import weakref
from pathlib import Path
from typing import Literal

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_TRIES = 0.2
# A line of the log so often, while somebody else holds the lock.
SECONDS_BETWEEN_MESSAGES = 60.0

_OPERATIONS = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX}


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
    """

    def __init__(self, path: Path, kind: Literal["shared", "exclusive"], purpose: str, *, wait: bool = True) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        next_message = time.monotonic()
        while True:
            try:
                descriptor = _try(path, _OPERATIONS[kind])
                break
            except BlockingIOError:
                if not wait:
                    raise
            if time.monotonic() >= next_message:
                logger.info("%s: waiting for %s to finish with %s; Ctrl-C gives up", purpose, _holder(path), path.with_suffix(""))
                next_message += SECONDS_BETWEEN_MESSAGES
            time.sleep(SECONDS_BETWEEN_TRIES)
        if kind == "exclusive":
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
        self._descriptor = descriptor
        self._finalizer = weakref.finalize(self, os.close, descriptor)

    def share(self) -> None:
        """Let others read as well. Somebody may have had the lock for himself in between: what it guards is to be looked at again."""
        os.ftruncate(self._descriptor, 0)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def release(self) -> None:
        """Let go of the lock; a second call does nothing."""
        self._finalizer()

    def release_and_remove(self) -> None:
        """Let go of an exclusive lock whose folder is gone, and remove its file."""
        self.path.unlink(missing_ok=True)
        self.release()


def _try(path: Path, operation: int) -> int:
    """The descriptor of the locked file; raises ``BlockingIOError`` if others hold the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            # Somebody may have removed the file in between: then the lock is on a file that nobody else can find.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
