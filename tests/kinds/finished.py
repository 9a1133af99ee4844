"""A run and its export that several test files look at, made once for all processes of a test session."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.exports import made_once
from tfmi.cli.train import main
from tfmi.kinds.runner import run
from tfmi.models.systems import load_config
from tfmi.training.run_folder import RunFolder

STEPS = 30
NAME = "mine"


@dataclass(frozen=True)
class FinishedRun:
    """MIND, trained with ``SETTINGS`` and exported afterwards by ``--resume``; not to be changed.

    Attributes:
        trained: The run as training has left it.
        returned: The metrics that ``run`` has returned.
        exported: The same run after its export.
        savedmodels: Where the export lies, in the folder ``NAME``.
        printed: What the export has printed.
    """

    trained: Path
    returned: dict[str, Any]
    exported: Path
    savedmodels: Path
    printed: str


def finished_run(factory: pytest.TempPathFactory, settings: list[str]) -> FinishedRun:
    """The run, made by whichever process asks first."""
    folder = made_once(factory, "finished_run", lambda path: _make(path, settings))
    returned = json.loads((folder / "returned.json").read_text())
    printed = (folder / "printed.txt").read_text()
    return FinishedRun(folder / "trained", returned, folder / "exported", folder / "savedmodels", printed)


def _make(folder: Path, settings: list[str]) -> None:
    trained = RunFolder(folder / "trained")
    config = load_config(system="mind", settings=settings)
    trained.start(config)
    metrics = run(config, trained, savedmodels=None).metrics
    (folder / "returned.json").write_text(json.dumps(metrics))
    shutil.copytree(trained.path, folder / "exported")
    flags = ["--resume", "--output", str(folder / "exported"), "--index", "exact", "--set", f"export.name={NAME}"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([*flags, "--savedmodels", str(folder / "savedmodels")]) == 0
    (folder / "printed.txt").write_text(printed.getvalue())
