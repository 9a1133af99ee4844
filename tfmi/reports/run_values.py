"""What the files of a run say, read for a page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.config import read_config_file
from tfmi.core.errors import ConfigError
from tfmi.core.files import folder_size
from tfmi.evaluation.bootstrap import read_user_metrics
from tfmi.evaluation.metrics import LOWER_IS_BETTER
from tfmi.export.metadata import load_metadata
from tfmi.reports.gathering.stored import EXPORT, read_gathered, write_gathered
from tfmi.training.run_folder import RunFolder

# What of an export's metadata a page shows.
OF_EXPORT = ("index", "latency", "widths", "signatures", "items", "created", "stages", "exclude_history")


@dataclass(frozen=True)
class RunValues:
    """Everything that a page of a run is made of.

    Attributes:
        name: What the run is called on the page.
        path: Its folder, as commands name it.
        config: The settings that it reads, as a nested mapping.
        config_text: The same as YAML.
        metrics: ``metrics.json``.
        curve: ``curves.json``, a row for each validation; empty for what is not trained by steps.
        gathered: ``report.json``; empty where nothing was gathered.
        users: The metrics of each test user, by metric; empty where single users are not measured.
        baseline_users: The same of simple baselines, by system and metric.
    """

    name: str
    path: str
    config: dict[str, Any]
    config_text: str
    metrics: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)
    gathered: dict[str, Any] = field(default_factory=dict)
    users: dict[str, np.ndarray] = field(default_factory=dict)
    baseline_users: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @property
    def test(self) -> dict[str, float]:
        """The test metrics."""
        found: dict[str, float] = self.metrics.get("test", {})
        return found

    @property
    def headline(self) -> str:
        """The metric to speak of first, one that the run has."""
        wished = (self.gathered.get("metric"), self.metrics.get("train", {}).get("monitor"), f"recall@{self.longest_cutoff}")
        return next((name for name in wished if name in self.test), next(iter(self.test), ""))

    @property
    def compared_metric(self) -> str:
        """The metric by which the run is compared with simple baselines: the headline, if they have it."""
        known = {metric for values in self.baseline_metrics().values() for metric, value in values.items() if np.isfinite(value)}
        wished = (self.headline, f"ndcg@{self.longest_cutoff}", f"recall@{self.longest_cutoff}")
        return next((name for name in wished if name in self.test and name in known), self.headline)

    @property
    def longest_cutoff(self) -> int:
        """The largest N of the metrics @N."""
        cutoffs = [int(name.rpartition("@")[2]) for name in self.test if name.rpartition("@")[2].isdigit()]
        return max(cutoffs, default=0)

    @property
    def export(self) -> dict[str, Any]:
        """What is known of the exported version; empty without one."""
        found: dict[str, Any] = self.gathered.get(EXPORT) or {}
        return found

    def baseline_metrics(self) -> dict[str, dict[str, float]]:
        """The test metrics of simple systems on the same data, by name."""
        stored: dict[str, dict[str, float]] = (self.gathered.get("baselines") or {}).get("metrics", {})
        return stored | tag_baselines(self.metrics)


def tag_baselines(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of a model of tags, the means over tasks of the two ways of counting that it is measured beside."""
    found: dict[str, dict[str, float]] = {}
    per_task = [kinds["all"] for kinds in metrics.get("test_tags", {}).values()]
    for name in ("popular_tags", "own_tags"):
        values = [each[name] for each in per_task if name in each]
        if values:
            found[name] = {key: float(np.mean([value[key] for value in values])) for key in values[0] if key != "users"}
    return found


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better."""
    return metric.partition(":")[0] in LOWER_IS_BETTER


def read_run(folder: RunFolder, shown_path: str | None = None) -> RunValues:
    """The values of a finished run.

    Args:
        folder: The run's.
        shown_path: The folder as the page names it; None: as it is called.

    Raises:
        ConfigError: The folder holds no run, or one that has not come to its end.
    """
    if not folder.holds_run:
        raise ConfigError(f"{folder.path}: expected the folder of a run, but there is no {folder.config.name}")
    if not folder.metrics.exists():
        raise ConfigError(
            f"{folder.path}: this run has not come to its end; continue it with training/train.py --resume --output {folder.path}"
        )
    path = shown_path or str(folder.path)
    return RunValues(
        name=Path(path).name,
        path=path,
        config=read_config_file(folder.config),
        config_text=folder.config.read_text(encoding="utf-8"),
        metrics=folder.read_metrics(),
        curve=json.loads(folder.curves.read_text(encoding="utf-8")) if folder.curves.exists() else [],
        gathered=read_gathered(folder),
        users=read_user_metrics(folder.test_users) if folder.test_users.exists() else {},
        baseline_users=_by_system(read_user_metrics(folder.baseline_users)) if folder.baseline_users.exists() else {},
    )


def _by_system(values: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, each in values.items():
        system, _, metric = key.partition("/")
        found.setdefault(system, {})[metric] = each
    return found


def note_export(folder: RunFolder, version: Path) -> None:
    """Remember with a run what was published of it; raises ``ExportError`` if the version cannot be read."""
    steps = folder.read_metrics().get("train", {}).get("steps")
    write_gathered(folder, {**read_gathered(folder), EXPORT: {**describe_version(version), "steps": steps}})


def describe_version(version: Path) -> dict[str, Any]:
    """What a page shows of an exported version."""
    metadata = load_metadata(version)
    return {"path": str(version), "bytes": folder_size(version), **{key: metadata[key] for key in OF_EXPORT if key in metadata}}
