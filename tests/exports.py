"""Exported versions as tests read them."""

from __future__ import annotations

import functools
from pathlib import Path

from tfmi.export import ExportedModel


def loaded(version: str | Path) -> ExportedModel:
    """A published version, which does not change, loaded once: every load, and the first answer after it, takes seconds."""
    return _loaded(Path(version).resolve())


@functools.lru_cache(maxsize=8)
def _loaded(version: Path) -> ExportedModel:
    return ExportedModel(version)
