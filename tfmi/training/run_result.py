"""What a run comes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfmi.training.run_folder import RunFolder


@dataclass(frozen=True)
class RunResult:
    """What a run produced.

    Attributes:
        metrics: The content of ``metrics.json``; None if the run was stopped before its end.
        folder: The run folder.
        savedmodel: The published version folder, or None if nothing was exported.
    """

    metrics: dict[str, Any] | None
    folder: RunFolder
    savedmodel: Path | None
