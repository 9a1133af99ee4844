"""From the metrics of finished runs to one row of figures per configuration and dataset."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.comparison.jobs import Job

log = logging.getLogger(__name__)

Row = dict[str, Any]
TRUTH = "truth"  # begins the parts of a run that are measured against what only a generator knows


class Notes:
    """What is missing, said once however many runs lack it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Say ``line``, unless it has been said before."""
        if line not in self.lines:
            self.lines.append(line)
            log.warning("note: %s", line)

    def missing(self, what: str, rows: Iterable[Row]) -> None:
        """Say that ``what`` is left out for the rows, if there are any."""
        names = [f"{row['config']} on {row['dataset']}" for row in rows]
        if names:
            self.add(f"{what} left out for {', '.join(names)}: their runs have none")


def summarize(jobs: Sequence[Job], part: str) -> list[Row]:
    """One row for each configuration and dataset of which at least one run is finished, in the order of ``jobs``.

    Returns:
        ``dataset``, ``config`` (the label), ``system``; ``seeds``: how many runs; ``runs``: their seeds and folders; ``parameters``;
        means of ``seconds`` and ``examples_per_second`` of training; ``mean`` and ``deviation`` of every metric of ``part``; ``valid``:
        the mean validation metrics; ``slices``: users or rows, mean and deviation by slice, of the test part; ``interests``: means of what
        ``tfmi.evaluation.diagnostics`` tells, with deviations in ``interests_deviation``; ``others``: mean and deviation of every figure
        of the parts called ``<part>_...`` or ``truth...``, by its place in them, such as ``test_tags/liked/all/model/recall@10``.
    """
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        if job.finished:
            groups.setdefault((job.dataset, job.label), []).append(job)
    return [_row(group) | _figures([job.metrics() for job in group], part) for group in groups.values()]


def _row(group: Sequence[Job]) -> Row:
    first = group[0]
    return {
        "dataset": first.dataset,
        "config": first.label,
        "system": first.config.system,
        "kind": first.config.model.kind,
        "monitor": first.watched,
        "seeds": len(group),
        "runs": [{"seed": job.config.seed, "folder": str(job.folder.path)} for job in group],
    }


def _figures(measured: Sequence[Mapping[str, Any]], part: str) -> Row:
    mean, deviation = mean_and_deviation([run[part] for run in measured])
    train, _ = mean_and_deviation([run["train"] for run in measured])
    valid, _ = mean_and_deviation([run["valid"] for run in measured])
    interests, interests_deviation = mean_and_deviation([run.get("interests", {}) for run in measured])
    return {
        "parameters": measured[0]["train"]["parameters"],
        "seconds": train["seconds"],
        "examples_per_second": train["examples_per_second"],
        "mean": mean,
        "deviation": deviation,
        "valid": valid,
        "slices": _slices([run.get("test_slices", {}) for run in measured]),
        "others": _others(measured, part),
        "interests": interests,
        "interests_deviation": interests_deviation,
    }


def _others(measured: Sequence[Mapping[str, Any]], part: str) -> dict[str, dict[str, float]]:
    def chosen(run: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in run.items() if name.startswith((f"{part}_", TRUTH)) and name != "test_slices"}

    mean, deviation = mean_and_deviation([dict(_figures_below("", chosen(run))) for run in measured])
    return {"mean": mean, "deviation": deviation}


def _figures_below(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every leaf of nested mappings, by its path."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _figures_below(f"{prefix}{name}/", below)
    else:
        yield prefix.rstrip("/"), value


def _slices(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    slices = {}
    for name in runs[0]:
        if all(name in run for run in runs):
            mean, deviation = mean_and_deviation([run[name] for run in runs])
            count = round(mean.pop("users") if "users" in mean else mean.pop("rows"))
            slices[name] = {"users": count, "mean": mean, "deviation": deviation}
    return slices


def mean_and_deviation(runs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and standard deviation over runs of every figure that all of them have; 0 is the deviation of a single run."""
    figures = {name: [float(run[name]) for run in runs] for name in runs[0] if all(_is_figure(run.get(name)) for run in runs)}
    return (
        {name: statistics.fmean(each) for name, each in figures.items()},
        {name: statistics.stdev(each) if len(each) > 1 else 0.0 for name, each in figures.items()},
    )


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
