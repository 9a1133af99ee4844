"""What a run leaves behind, and where."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from tfmi.config import RunConfig, read_config_file, validate_config
from tfmi.core.errors import ConfigError
from tfmi.core.files import remove_leftovers, write_atomically, write_json
from tfmi.core.folder_lock import FolderLock, only_holder
from tfmi.models.kind_settings import settings_yaml, with_defaults_where_unread

log = logging.getLogger(__name__)

LOCK = ".lock"
# Sections and keys that a resumed run may have otherwise than it was started with: they do nothing to training.
MAY_CHANGE = (
    "index",
    "export",
    "evaluation.batch_size",
    "evaluation.report",
    "evaluation.report_users",
    "training.strategy",
    "training.replicas",
)
# Limits that a resumed run may raise, and lower once it has trained: one that has used them up is finished with what it has.
LIMITS = ("training.max_steps", "training.max_epochs")
# The folder in a run's folder with the tables that it was trained on, where these came from memory.
OWN_DATA = "data"


class RunFolder:
    """The files of one run.

    One process at a time works in it: whoever starts or resumes a run holds the folder until ``release``, or until nothing refers to this
    object any more. Reading a finished run needs no such claim.

    Attributes:
        path: The folder.
        config, metrics, state: ``config.yaml`` (all that the run reads), ``metrics.json``, ``state.json`` (how far training has come).
        curves: ``curves.json``, one row per validation.
        test_users: ``test_users.npz``, the metrics of each test user of a retriever, for paired comparisons.
        report: ``report.html``, the page of a finished run.
        gathered, baseline_users: ``report.json``, what the page shows beside the metrics, and ``baselines.npz``, the metrics of each test
            user by the simple baselines.
        checkpoints, best, tensorboard, plots: Folders.
        best_weights: The checkpoint with the weights that were best on validation.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.json"
        self.state = self.path / "state.json"
        self.curves = self.path / "curves.json"
        self.test_users = self.path / "test_users.npz"
        self.report = self.path / "report.html"
        self.gathered = self.path / "report.json"
        self.baseline_users = self.path / "baselines.npz"
        self.checkpoints = self.path / "checkpoints" / "latest"
        self.best = self.path / "checkpoints" / "best"
        self.best_weights = self.best / "weights"
        self.tensorboard = self.path / "tensorboard"
        self.plots = self.path / "plots"
        self._lock: FolderLock | None = None

    def claim(self) -> None:
        """Hold the folder; a second call does nothing. Raises ``ConfigError``, which names the process, if another one holds it."""
        if self._lock is None:
            self._lock = only_holder(self.path / LOCK, f"--output {self.path}")
            remove_leftovers(self.path)

    def release(self) -> None:
        """Let others work in the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def holds_run(self) -> bool:
        """Whether a run has been started here."""
        return self.config.exists()

    def start(self, config: RunConfig) -> None:
        """Claim the folder for a new run; raises ``ConfigError`` if it holds one already, or another process works in it."""
        self.claim()
        if self.holds_run:
            raise ConfigError(f"--output {self.path}: this folder already holds a run; continue it with --resume or choose another folder")
        write_atomically(self.config, settings_yaml(config))

    def stored_config(self) -> RunConfig:
        """The configuration of the run in this folder; raises ``ConfigError`` if there is none.

        What did nothing to the run is at its default, whatever an earlier version has stored of it.
        """
        if not self.holds_run:
            raise ConfigError(f"--resume: {self.path} holds no run (no {self.config.name}); start one without --resume")
        return self._with_own_data(with_defaults_where_unread(validate_config(read_config_file(self.config))))

    def _with_own_data(self, config: RunConfig) -> RunConfig:
        """The configuration, with the path of the run's own tables if it has any: they move with the folder."""
        own = self.path / OWN_DATA
        if config.data.dataset != "log" or not own.is_dir():
            return config
        return config.model_copy(update={"data": config.data.model_copy(update={"path": str(own)})})

    def read_metrics(self) -> dict[str, Any]:
        """What a finished run's ``metrics.json`` holds."""
        metrics: dict[str, Any] = json.loads(self.metrics.read_text(encoding="utf-8"))
        return metrics

    def finished_config(self) -> RunConfig:
        """The configuration of a run that has come to its end; raises ``ConfigError`` if the folder holds none."""
        if not self.holds_run:
            raise ConfigError(f"{self.path}: expected the folder of a run, but there is no {self.config.name}")
        if not self.metrics.exists():
            raise ConfigError(
                f"{self.path}: this run has not come to its end; continue it with training/train.py --resume --output {self.path}"
            )
        return self.stored_config()

    def resume(self, config: RunConfig) -> None:
        """Continue with ``config``, which may differ from the stored one where training does not depend on it (``MAY_CHANGE``).

        The stored configuration is updated, and what has changed is logged.

        Raises:
            ConfigError: There is nothing to continue, ``config`` differs elsewhere, or another process works in the folder.
        """
        if self.holds_run:
            self.claim()
        stored = self.stored_config().model_dump()
        wanted = config.model_dump()
        different = differing_keys(stored, wanted)
        refused = [key for key in different if not self._may_change(key, _value(stored, key), _value(wanted, key))]
        if refused:
            raise ConfigError(
                f"--resume: the run in {self.path} was started with other values of: {', '.join(refused)}. Leave them out to continue "
                f"it, or start a new run in another folder; only {', '.join(MAY_CHANGE)} may change, {' and '.join(LIMITS)} "
                "grow and, of a run that has trained, shrink"
            )
        if different:
            write_atomically(self.config, settings_yaml(config))
            changes = (f"{key}: {_value(wanted, key)!r} instead of {_value(stored, key)!r}" for key in different)
            log.info("Continuing with %s; %s says so from now on", "; ".join(changes), self.config)

    def read_state(self) -> dict[str, Any] | None:
        """What ``write_state`` wrote last, or None."""
        if not self.state.exists():
            return None
        state: dict[str, Any] = json.loads(self.state.read_text(encoding="utf-8"))
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        """Record how far training has come."""
        write_json(self.state, state)

    def _may_change(self, key: str, stored: Any, wanted: Any) -> bool:
        if key in LIMITS:
            # None is no limit.
            return self.state.exists() or wanted is None or (stored is not None and wanted > stored)
        return any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


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
