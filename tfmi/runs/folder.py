"""What a run leaves behind, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfmi.config import RunConfig, read_config_file, validate_config
from tfmi.errors import ConfigError
from tfmi.files import write_atomically, write_json


class RunFolder:
    """The files of one run.

    Attributes:
        path: The folder.
        config, metrics, state: ``config.yaml`` (resolved), ``metrics.json``, ``state.json`` (how far training has come).
        curves: ``curves.json``, one row per validation.
        checkpoints, best, tensorboard, plots: Folders.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.json"
        self.state = self.path / "state.json"
        self.curves = self.path / "curves.json"
        self.checkpoints = self.path / "checkpoints" / "latest"
        self.best = self.path / "checkpoints" / "best"
        self.tensorboard = self.path / "tensorboard"
        self.plots = self.path / "plots"

    @property
    def holds_run(self) -> bool:
        """Whether a run has been started here."""
        return self.config.exists()

    def start(self, config: RunConfig) -> None:
        """Claim the folder for a new run; raises ``ConfigError`` if it holds one already."""
        if self.holds_run:
            raise ConfigError(f"--output {self.path}: this folder already holds a run; continue it with --resume or choose another folder")
        write_atomically(self.config, config.to_yaml())

    def resume(self, config: RunConfig | None) -> RunConfig:
        """The configuration to continue with: the stored one; ``config``, if given, must equal it.

        Raises:
            ConfigError: There is nothing to continue, or ``config`` differs.
        """
        if not self.holds_run:
            raise ConfigError(f"--resume: {self.path} holds no run (no {self.config.name}); start one without --resume")
        stored = validate_config(read_config_file(self.config))
        if config is not None and config != stored:
            different = ", ".join(differing_keys(stored.model_dump(), config.model_dump()))
            raise ConfigError(f"--resume: the run in {self.path} was started with other values of: {different}")
        return stored

    def read_state(self) -> dict[str, Any] | None:
        """What ``write_state`` wrote last, or None."""
        if not self.state.exists():
            return None
        state: dict[str, Any] = json.loads(self.state.read_text(encoding="utf-8"))
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        """Record how far training has come."""
        write_json(self.state, state)


def differing_keys(first: dict[str, Any], second: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys at which two nested mappings differ."""
    keys: list[str] = []
    for key in sorted(first.keys() | second.keys()):
        a, b = first.get(key), second.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            keys += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            keys.append(f"{prefix}{key}")
    return keys
