"""Runs and exported versions that several tests read: made once, loaded once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tfmi.core.folder_lock import FolderLock
from tfmi.export import ExportedModel


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder ``name`` of a test session, which whatever process asks first makes for all of them; not to be changed by tests."""
    base = factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name
    lock = FolderLock(folder.with_suffix(".lock"), "exclusive", f"the tests' {name}")
    try:
        if not folder.with_suffix(".made").exists():
            make(folder)
            folder.with_suffix(".made").touch()
    finally:
        lock.release()
    return folder


def loaded(version: str | Path) -> ExportedModel:
    """A published version, which does not change, loaded once: every load, and the first answer after it, takes seconds."""
    return _loaded(Path(version).resolve())


@functools.lru_cache(maxsize=8)
def _loaded(version: Path) -> ExportedModel:
    return ExportedModel(version)
