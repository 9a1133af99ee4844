"""Several runs as values: which are seeds of one configuration, their means, and which differences are more than chance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmi.core.errors import ConfigError
from tfmi.evaluation.bootstrap import Difference, differences_from
from tfmi.reports.run_values import RunValues, lower_is_better
from tfmi.training.run_folder import differing_keys

# What makes runs no other configuration: test metrics are by exact search, however an export searches.
NOT_COMPARED = ("seed", "export", "plugins")
OF_INDEX = ("integration", "quota_exponent")
# Metrics that are drawn and tested, of lists and of rows.
OF_LISTS = ("recall", "hr", "ndcg", "mrr")
OF_ROWS = ("auc", "gauc", "log_loss", "calibration_error")


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, one for each seed.

    Attributes:
        label: What it is called.
        runs: At least one.
    """

    label: str
    runs: Sequence[RunValues]

    def values(self, metric: str) -> np.ndarray:
        """float64 [runs]: the test metric."""
        return np.array([run.test[metric] for run in self.runs], np.float64)

    def deviation(self, metric: str) -> float:
        """The standard deviation over seeds; NaN for a single one."""
        values = self.values(metric)
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    def each_user(self, metric: str) -> np.ndarray | None:
        """float64 [users]: the metric of each test user, the mean over seeds; None where single users are not measured."""
        found = [run.users.get(metric) for run in self.runs]
        known = [values for values in found if values is not None]
        if len(known) != len(found) or any(len(values) != len(known[0]) for values in known):
            return None
        mean: np.ndarray = np.mean(known, axis=0)
        return mean


def grouped(runs: Sequence[RunValues]) -> list[Group]:
    """The runs by configuration, in the order in which they were given."""
    by_settings: dict[str, list[RunValues]] = {}
    for run in runs:
        by_settings.setdefault(json.dumps(_compared(run), sort_keys=True, default=str), []).append(run)
    members = list(by_settings.values())
    return [Group(label, each) for label, each in zip(_labels(members), members, strict=True)]


def _compared(run: RunValues) -> dict[str, Any]:
    settings = {key: value for key, value in run.config.items() if key not in NOT_COMPARED}
    if "index" in settings:
        settings["index"] = {key: value for key, value in settings["index"].items() if key in OF_INDEX}
    if "evaluation" in settings:
        settings["evaluation"] = {key: value for key, value in settings["evaluation"].items() if not key.startswith("report")}
    return settings


def _labels(groups: Sequence[Sequence[RunValues]]) -> list[str]:
    """The systems' names; where one stands for several groups, with what differs."""
    labels = []
    for members in groups:
        system = str(members[0].metrics.get("system", members[0].name))
        alike = [other for other in groups if str(other[0].metrics.get("system", "")) == system]
        if len(alike) == 1:
            labels.append(system)
            continue
        own = _compared(members[0])
        keys = dict.fromkeys(key for other in alike for key in differing_keys(own, _compared(other[0])))
        said = ", ".join(f"{key.rpartition('.')[2]} {_at(own, key)}" for key in list(keys)[:2])
        labels.append(f"{system} ({said}{', …' if len(keys) > 2 else ''})")
    return [label if labels.count(label) == 1 else f"{label}, {members[0].name}" for label, members in zip(labels, groups, strict=True)]


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def settings_that_differ(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """By dotted key, the value of each group, where they are not all the same."""
    settings = [_compared(group.runs[0]) for group in groups]
    keys = dict.fromkeys(key for other in settings[1:] for key in differing_keys(settings[0], other))
    return {key: [_at(each, key) for each in settings] for key in keys}


def common_metrics(groups: Sequence[Group]) -> list[str]:
    """The metrics to compare by, those of the longest common list first.

    Raises:
        ConfigError: The runs have no metric in common.
    """
    shared = set.intersection(*(set(run.test) for group in groups for run in group.runs))
    cutoffs = [int(name.rpartition("@")[2]) for name in shared if name.rpartition("@")[2].isdigit()]
    wished = [f"{name}@{max(cutoffs)}" for name in OF_LISTS] if cutoffs else []
    found = [name for name in (*wished, *OF_ROWS) if name in shared]
    if not found:
        names = ", ".join(run.path for group in groups for run in group.runs)
        raise ConfigError(f"{names}: these runs have no metric in common; compare retrievers with retrievers and rankers with rankers")
    return found


def same_data(groups: Sequence[Group]) -> bool:
    """Whether all runs were tested on the same data, as far as their counts say."""
    seen = {
        json.dumps(
            [run.metrics.get("dataset"), [run.metrics.get("data", {}).get(part) for part in ("items", "train", "test")]], sort_keys=True
        )
        for group in groups
        for run in group.runs
    }
    return len(seen) == 1


def reference_of(groups: Sequence[Group], metric: str) -> Group:
    """The group that is best on validation: the test users choose nothing."""

    def on_validation(group: Group) -> float:
        values = [float(run.metrics.get("valid", {}).get(metric, float("nan"))) for run in group.runs]
        mean = float(np.mean(values))
        return -np.inf if np.isnan(mean) else (-mean if lower_is_better(metric) else mean)

    return max(groups, key=on_validation)


def differences(groups: Sequence[Group], metrics: Sequence[str]) -> tuple[Group, dict[str, dict[str, Difference]]]:
    """The group to compare with, and by metric each other group less it, user by user; p-values are corrected within a metric (Holm).

    Metrics of which no single users are known are left out.
    """
    reference = reference_of(groups, metrics[0])
    found: dict[str, dict[str, Difference]] = {}
    for metric in metrics:
        best = reference.each_user(metric)
        others = {group.label: group.each_user(metric) for group in groups if group is not reference}
        known = {label: values for label, values in others.items() if values is not None and best is not None and len(values) == len(best)}
        if best is not None and known:
            found[metric] = differences_from(best, known)
    return reference, found
