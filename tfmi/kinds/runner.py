"""A whole run, of whatever kind its model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from tfmi.config import RunConfig
from tfmi.kinds import ranking, retrieval, user_tags
from tfmi.training.run_folder import RunFolder
from tfmi.training.run_result import RunResult


class RunKind(Protocol):
    """What a module that runs one kind of model offers."""

    def run(self, config: RunConfig, folder: RunFolder, target: Path | None, resume: bool = False) -> RunResult:
        """See ``run`` below; ``target`` is the model's own folder, in which versions are published."""

    def describe(self, config: RunConfig, metrics: dict[str, Any]) -> str:
        """The test metrics for people to read, as lines of text."""


KINDS: dict[str, RunKind] = {"interests": retrieval, "heuristic": retrieval, "ranking": ranking, "user_tags": user_tags}


def run(config: RunConfig, folder: RunFolder, savedmodels: Path | None, resume: bool = False) -> RunResult:
    """Do what a configuration describes.

    Args:
        config: Checked by ``load_config``.
        folder: Already started or resumed with this configuration.
        savedmodels: Where ``<name>/<version>`` is published; None exports nothing.
        resume: Continue from the folder's last checkpoint.

    Raises:
        TfmiError: The data, the configuration or the export has a problem that the user can mend.
    """
    target = None if savedmodels is None else savedmodels / (config.export.name or config.system)
    return KINDS[config.model.kind].run(config, folder, target, resume)


def describe(config: RunConfig, metrics: dict[str, Any]) -> str:
    """The test metrics of a finished run, for people to read."""
    return KINDS[config.model.kind].describe(config, metrics)
