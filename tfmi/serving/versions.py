"""The versions of one model: which are served, how a new one takes over, and what to report about each.

A version is a folder named by a number below the model's folder. The newest one that loads is served. A newer one takes over only
after it has been loaded and warmed up; requests under way finish on the version they started on, which is unloaded afterwards. A
folder that is still changing waits, one that fails to load is reported and tried again only when its files change, and names that
are not numbers of 64 bits (``tmp-...``) are never looked at.

A folder that is replaced under the same number (a model's folder is deleted, and a new training publishes version 1) is loaded again. It
is noticed by the identity of its files, and believed only if their contents differ too: copying a folder onto itself reloads nothing.
"""

from __future__ import annotations

import enum
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tfmi.core.text import printable, shorten
from tfmi.core.version_numbers import version_number
from tfmi.serving.errors import Code, RequestError

logger = logging.getLogger(__name__)

_MAX_REPORTED_CHARACTERS = 600
_BLOCK_BYTES = 1 << 20

# Of each file: its name, device and number, size, and times of its content and of its entry.
Fingerprint = tuple[tuple[str | int, ...], ...]


class Closable(Protocol):
    """What a version is once loaded: something that can be closed."""

    def close(self) -> None:
        """Free its memory."""


S = TypeVar("S", bound=Closable)


class State(enum.Enum):
    """The states of ``tensorflow.serving.ModelVersionStatus``, by the same names."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True)
class VersionReport:
    """What is known of one version. An ``END`` with another code than ``OK`` is one that failed to load."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


@dataclass
class _Loaded(Generic[S]):
    """A servable and how many requests are running on it."""

    version: int
    servable: S
    fingerprint: Fingerprint
    digest: str
    in_flight: int = 0


class ModelVersions(Generic[S]):
    """Serves the newest versions of one model folder. Thread-safe.

    Args:
        name: The model's name in requests.
        base_path: The folder that holds the version folders; it may appear later.
        load: Turns a version folder into something ready to answer, or raises.
        num_versions: How many of the newest versions to keep loaded.
        labels: Names for versions, such as ``{"stable": 3}``.
    """

    def __init__(
        self, name: str, base_path: Path, load: Callable[[Path], S], num_versions: int = 1, labels: Mapping[str, int] | None = None
    ) -> None:
        self.name = name
        self.base_path = base_path
        self._load = load
        self._num_versions = num_versions
        self._labels = dict(labels or {})
        self._polling = threading.Lock()
        self._lock = threading.Lock()  # guards everything below, and is never held while loading or predicting
        self._serving: dict[int, _Loaded[S]] = {}
        self._retired: list[_Loaded[S]] = []
        self._statuses: dict[int, VersionReport] = {}
        self._failed: dict[int, Fingerprint | None] = {}
        self._pending: dict[int, Fingerprint | None] = {}
        self._closed = False

    def poll(self) -> None:
        """Look at the folder once: load what is new and complete, then retire what it replaces, then close what nobody uses any more."""
        with self._polling:
            if self._closed:
                return
            folders = self._version_folders()
            chosen = self._choose(folders)
            self._retire(chosen)
            self._forget_missing(folders)
            self._close_idle()

    @contextmanager
    def acquire(self, version: int | None = None, label: str | None = None) -> Iterator[tuple[int, S]]:
        """Hold a version for one request: the newest, or the one asked for by number or label. It stays loaded meanwhile.

        Raises:
            RequestError: ``NOT_FOUND`` if it is not being served, ``INVALID_ARGUMENT`` for an unknown label.
        """
        with self._lock:
            loaded = self._find(version, label)
            loaded.in_flight += 1
        try:
            yield loaded.version, loaded.servable
        finally:
            with self._lock:
                loaded.in_flight -= 1

    def statuses(self, version: int | None = None, label: str | None = None) -> list[VersionReport]:
        """The status of every version seen, newest first, or of the one asked for.

        Raises:
            RequestError: ``NOT_FOUND`` for a version never seen, or if no version has been seen at all.
        """
        with self._lock:
            version = self._labelled(label) if label else version
            if version is not None:
                if version not in self._statuses:
                    raise RequestError(Code.NOT_FOUND, f"Could not find version {version} of model {self.name}")
                return [self._statuses[version]]
            if not self._statuses:
                raise RequestError(Code.NOT_FOUND, f"Could not find any versions of model {self.name} in {self.base_path}")
            return [self._statuses[number] for number in sorted(self._statuses, reverse=True)]

    @property
    def available(self) -> list[int]:
        """The versions being served, newest first."""
        with self._lock:
            return sorted(self._serving, reverse=True)

    @property
    def waiting(self) -> bool:
        """Whether some version was still changing at the last poll."""
        return bool(self._pending)

    def close(self) -> bool:
        """Serve nothing any more and close what is idle. Returns whether all is closed; if requests are under way, call it again."""
        with self._polling:
            self._closed = True
            self._retire([])
            self._close_idle()
            return not self._retired

    def _version_folders(self) -> dict[int, Path]:
        try:
            entries = sorted(self.base_path.iterdir())
        except FileNotFoundError:
            return {}
        numbered = ((version_number(entry.name), entry) for entry in entries)
        return {number: entry for number, entry in numbered if number is not None and _is_folder(entry)}

    def _choose(self, folders: Mapping[int, Path]) -> list[int]:
        """The newest versions that are or can be loaded. A chosen one is serving when this returns."""
        chosen: list[int] = []
        still_pending: dict[int, Fingerprint | None] = {}
        for version in sorted(folders, reverse=True):
            if len(chosen) == self._num_versions:
                break
            fingerprint = _fingerprint(folders[version])
            serving = self._serving.get(version)
            if serving is not None:  # it goes on serving whatever becomes of the files that it was loaded from
                chosen.append(version)
                if fingerprint == serving.fingerprint:
                    continue
            if version in self._failed and self._failed[version] == fingerprint:
                continue
            if fingerprint is None or self._pending.get(version) != fingerprint:
                still_pending[version] = fingerprint
                if serving is None:
                    self._report(version, State.START, message="waiting until its files stop changing")
            elif serving is not None:
                self._try_to_replace(serving, folders[version], fingerprint)
            elif self._try_to_load(version, folders[version], fingerprint):
                chosen.append(version)
        self._pending = still_pending
        with self._lock:
            # A version that waited is not reported any more once a newer one has made it superfluous.
            waiting = {version for version, status in self._statuses.items() if status.state is State.START}
            for version in waiting - set(still_pending):
                del self._statuses[version]
        return chosen

    def _try_to_load(self, version: int, folder: Path, fingerprint: Fingerprint) -> bool:
        self._report(version, State.LOADING)
        loaded = self._loaded(version, folder, fingerprint)
        if isinstance(loaded, VersionReport):
            with self._lock:
                self._statuses[version] = loaded
            return False
        with self._lock:
            self._serving[version] = loaded
            self._statuses[version] = VersionReport(version, State.AVAILABLE)
        logger.info("model %s: serving version %d from %s", self.name, version, folder)
        return True

    def _try_to_replace(self, serving: _Loaded[S], folder: Path, fingerprint: Fingerprint) -> None:
        """Load a folder again whose files are others than they were when its version was loaded, if their contents are."""
        version = serving.version
        try:
            unchanged = _digest(folder) == serving.digest
        except OSError:  # as loading it will say
            unchanged = False
        if unchanged:
            serving.fingerprint = fingerprint
            self._report(version, State.AVAILABLE)
            return
        logger.info("model %s: version %d in %s has been replaced; loading it again", self.name, version, folder)
        loaded = self._loaded(version, folder, fingerprint)
        with self._lock:
            if isinstance(loaded, VersionReport):
                message = f"its folder has been replaced by one that {loaded.message}; the former one answers"
                self._statuses[version] = VersionReport(version, State.AVAILABLE, message=message)
                return
            self._retired.append(serving)
            self._serving[version] = loaded
            self._statuses[version] = VersionReport(version, State.AVAILABLE)
        logger.info("model %s: serving the new version %d from %s", self.name, version, folder)

    def _loaded(self, version: int, folder: Path, fingerprint: Fingerprint) -> _Loaded[S] | VersionReport:
        """The version, ready to serve, or why it is not."""
        try:
            digest = _digest(folder)
            servable = self._load(folder)
        except Exception as error:  # whatever is wrong with a version, the others are to be served
            code = error.code if isinstance(error, RequestError) else Code.INTERNAL
            message = shorten(printable(str(error)) or type(error).__name__, _MAX_REPORTED_CHARACTERS)
            self._failed[version] = fingerprint
            logger.error("model %s: version %d in %s cannot be served: %s", self.name, version, folder, message)
            return VersionReport(version, State.END, code, f"cannot be served: {message}")
        self._failed.pop(version, None)
        return _Loaded(version, servable, fingerprint, digest)

    def _retire(self, chosen: list[int]) -> None:
        with self._lock:
            if not chosen and not self._closed:
                return  # deleting the last folder leaves callers with the last good version
            for version in [number for number in self._serving if number not in chosen]:
                self._retired.append(self._serving.pop(version))
                self._statuses[version] = VersionReport(version, State.UNLOADING)

    def _close_idle(self) -> None:
        with self._lock:
            idle = [loaded for loaded in self._retired if not loaded.in_flight]
            self._retired = [loaded for loaded in self._retired if loaded.in_flight]
        for loaded in idle:
            loaded.servable.close()
            # A version can be unloaded and loaded again before its first copy is idle.
            with self._lock:
                if loaded.version not in self._serving:
                    self._statuses[loaded.version] = VersionReport(loaded.version, State.END)
            logger.info("model %s: unloaded version %d", self.name, loaded.version)

    def _forget_missing(self, folders: Mapping[int, Path]) -> None:
        """Drop the failures of folders that are gone."""
        with self._lock:
            for version in set(self._failed) - set(folders):
                del self._failed[version]
            failed = {version for version, status in self._statuses.items() if status.code is not Code.OK}
            for version in failed - set(folders):
                del self._statuses[version]

    def _report(self, version: int, state: State, code: Code = Code.OK, message: str = "") -> None:
        with self._lock:
            self._statuses[version] = VersionReport(version, state, code, message)

    def _find(self, version: int | None, label: str | None) -> _Loaded[S]:
        version = self._labelled(label) if label else version
        if version is None and self._serving:
            version = max(self._serving)
        loaded = self._serving.get(version) if version is not None else None
        if loaded is None:
            wanted = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
            serving = ", ".join(str(number) for number in sorted(self._serving, reverse=True)) or "none"
            raise RequestError(Code.NOT_FOUND, f"Servable not found for request: {wanted}; versions being served: {serving}")
        return loaded

    def _labelled(self, label: str) -> int:
        if label not in self._labels:
            known = ", ".join(sorted(self._labels)) or "none"
            raise RequestError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}; labels of {self.name}: {known}")
        return self._labels[label]


def _is_folder(path: Path) -> bool:
    """Also one that cannot be looked into: what is wrong with it is said when it is loaded."""
    try:
        return path.is_dir()
    except OSError:
        return True


def _files(folder: Path) -> list[Path]:
    """All files below a folder, sorted. Raises ``OSError`` if a folder cannot be read."""

    def fail(error: OSError) -> None:
        raise error

    found = os.walk(folder, onerror=fail)
    return sorted(Path(parent) / name for parent, _, names in found for name in names)


def _fingerprint(folder: Path) -> Fingerprint | None:
    """What tells a folder's files from others of the same names, or None if they change while being looked at."""
    try:
        files = [(path, path.stat()) for path in _files(folder)]
    except FileNotFoundError:
        return None
    except OSError as error:  # it will not get better by waiting
        return ((type(error).__name__, str(error.filename)),)
    return tuple(
        (str(path.relative_to(folder)), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in files
    )


def _digest(folder: Path) -> str:
    """A digest of the names and contents of all files; raises ``OSError`` if one cannot be read."""
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
