"""What a comparison does beside its runs: tuning before them, latency and diversity sweeps after them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.comparison.entries import Entry
from benchmarks.comparison.jobs import ROOT, Failure, Job, Task, run_jobs, run_tasks
from benchmarks.comparison.latency import BATCH_SIZES
from benchmarks.comparison.plan import Comparison
from benchmarks.comparison.tuning import AS_IT_IS, Trial, choose, is_loss, validation_value
from tfmi.config import validate_config
from tfmi.core.errors import ConfigError, ExportError
from tfmi.export.metadata import CONFIGURATION, load_metadata
from tfmi.export.publishing import published_versions

# The systems that latencies are compared with, the first that is there.
LATENCY_REFERENCES = ("item_knn", "youtube_dnn")


@dataclass
class Tuning:
    """What a search has found.

    Attributes:
        budget: What was spent, in words.
        trials: One row per trial, for the table and ``tuning.json``.
        chosen: The trial whose settings are reported, by dataset, by label; None where every trial has failed.
        failures: Trials that have failed.
    """

    budget: str
    trials: list[dict[str, Any]] = field(default_factory=list)
    chosen: dict[str, dict[str, Trial | None]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def no_tuning(comparison: Comparison) -> Tuning:
    """Every entry as it is."""
    chosen: dict[str, dict[str, Trial | None]] = {
        dataset: {entry.label: AS_IT_IS for entry in comparison.entries} for dataset in comparison.data
    }
    return Tuning("No tuning in this comparison: every configuration is run as it is.", chosen=chosen)


def tune(comparison: Comparison, trials: Mapping[str, Sequence[Trial]], datasets: Sequence[str], count: int, parallel: int) -> Tuning:
    """Run every entry's trials and choose on validation.

    Args:
        comparison: What is compared.
        trials: By label.
        datasets: Where to try. Each of them gets what is best on it; the others get what is best on all of these together.
        count: The budget, which a small space may leave unspent.
        parallel: Runs at a time.
    """
    jobs = {
        (dataset, entry.label, trial.number): comparison.trial_job(entry, dataset, trial)
        for dataset in datasets
        for entry in comparison.entries
        for trial in trials[entry.label]
    }
    for job in jobs.values():
        job.check_stored()
    tuning = Tuning(_budget(comparison, trials, datasets, count))
    tuning.failures = run_jobs(list(jobs.values()), parallel, "tuning")
    values = {key: validation_value(job) for key, job in jobs.items()}
    for dataset in comparison.data:
        looked_at = [dataset] if dataset in datasets else datasets
        tuning.chosen[dataset] = {}
        for entry in comparison.entries:
            tried = trials[entry.label]
            of_entry = {name: {trial.number: values[name, entry.label, trial.number] for trial in tried} for name in looked_at}
            number = choose(of_entry, is_loss(jobs[looked_at[0], entry.label, tried[0].number]))
            tuning.chosen[dataset][entry.label] = None if number is None else tried[number]
    for (dataset, label, number), job in jobs.items():
        chosen = tuning.chosen[dataset][label]
        row = {"dataset": dataset, "config": label, "trial": number, "settings": list(trials[label][number].settings)}
        row |= {"monitor": job.watched, "value": values[dataset, label, number]}
        row |= {"seconds": job.metrics()["train"]["seconds"] if job.finished else None}
        tuning.trials.append(row | {"folder": str(job.folder.path), "chosen": chosen is not None and chosen.number == number})
    return tuning


def _budget(comparison: Comparison, trials: Mapping[str, Sequence[Trial]], datasets: Sequence[str], count: int) -> str:
    monitors = sorted({comparison.monitor(comparison.plain_config(entry)) for entry in comparison.entries})
    sentences = [
        f"Tuning: at most {count} trials for every configuration on {' and on '.join(datasets)}, the configuration as it is among them, "
        f"drawn at random from its space; one run each with seed {comparison.seeds[0]}; chosen by validation {', '.join(monitors)}."
    ]
    if comparison.trial_settings:
        sentences.append(f"In trials: {', '.join(comparison.trial_settings)}.")
    fewer = [f"{label} {len(tried)}" for label, tried in trials.items() if len(tried) < count]
    if fewer:
        sentences.append(f"Fewer, as their spaces have no more combinations: {', '.join(fewer)}.")
    others = [dataset for dataset in comparison.data if dataset not in datasets]
    if others:
        sentences.append(f"{' and '.join(others)}: what is best on {' and '.join(datasets)}.")
    return " ".join(sentences)


def export_missing(jobs: Sequence[Job], parallel: int) -> tuple[dict[Path, Path], list[Failure]]:
    """Publish each finished run beside it, unless that has been done; returns version folders by run folder, and failures."""
    waiting = [job for job in jobs if job.finished and _exported(job) is None]
    program = str(ROOT / "training" / "train.py")
    tasks = [
        Task(
            f"export of {job.name}",
            (sys.executable, program, "--resume", "--output", str(job.folder.path), "--savedmodels", str(_savedmodels(job))),
            job.beside(".export.log"),
        )
        for job in waiting
    ]
    failures = run_tasks(tasks, parallel, "exporting") if tasks else []
    exported = {job.folder.path: version for job in jobs if job.finished and (version := _exported(job)) is not None}
    return exported, failures


def _savedmodels(job: Job) -> Path:
    return job.folder.path.parent / "savedmodels" / job.folder.path.name


def _exported(job: Job) -> Path | None:
    """The newest version that was exported from a run of this configuration."""
    model = _savedmodels(job) / (job.config.export.name or job.config.system)
    for version in reversed(published_versions(model)):
        try:
            if validate_config(load_metadata(model / str(version))[CONFIGURATION]) == job.config:
                return model / str(version)
        except (ExportError, ConfigError):
            continue
    return None


def compare_latency(
    labelled: Mapping[str, Path], output: Path, repeats: int, reference: str
) -> tuple[dict[str, dict[str, Any]], list[Failure]]:
    """Measure exported models in one process.

    Args:
        labelled: Version folders by label.
        output: A JSON file; what it holds is taken if it was measured of the same folders.
        repeats: Requests of each batch size to each model.
        reference: The label whose latency is 1.

    Returns:
        By label, by batch size ("1"): ``p50_ms``, ``p95_ms``, and ``ratio`` of the medians to the reference's, None without one.
    """
    folders = [str(path) for path in labelled.values()]
    measured = _read_json(output)
    if not folders:
        return {}, []
    failures: list[Failure] = []
    if measured.get("repeats") != repeats or set(measured.get("milliseconds", {})) != set(folders):
        command = (
            sys.executable,
            str(ROOT / "benchmarks" / "comparison" / "latency.py"),
            "--output",
            str(output),
            "--repeats",
            str(repeats),
            *folders,
        )
        failures = run_tasks([Task("latency of the exported models", command, output.with_suffix(".log"))], 1, "latency")
        if failures:
            return {}, failures
        measured = _read_json(output)
    milliseconds = measured["milliseconds"]
    one = milliseconds.get(str(labelled.get(reference)), {})
    compared: dict[str, dict[str, Any]] = {}
    for label, path in labelled.items():
        figures = {str(size): milliseconds[str(path)][str(size)] for size in BATCH_SIZES}
        compared[label] = {
            size: {**each, "ratio": each["p50_ms"] / one[size]["p50_ms"] if size in one else None} for size, each in figures.items()
        }
    return compared, failures


def latency_reference(jobs: Sequence[Job]) -> str:
    """The label that latencies are divided by: that of the first of ``LATENCY_REFERENCES`` among the jobs, else the first job's."""
    for system in LATENCY_REFERENCES:
        for job in jobs:
            if job.config.system == system:
                return job.label
    return jobs[0].label


def sweep_diversity(
    jobs: Sequence[Job], num_results: int, lambdas: Sequence[float], parallel: int
) -> tuple[dict[str, dict[str, Any]], list[Failure]]:
    """What ``diversity_sweep.py`` finds for each finished run, by label; sweeps that are there already are kept.

    Args:
        jobs: Of one dataset.
        num_results: N of the metrics.
        lambdas: The λs; empty lets each run's scores decide.
        parallel: Sweeps at a time.
    """
    finished = [job for job in jobs if job.finished]
    arguments = ["--num-results", str(num_results), *(["--lambdas", *map(str, lambdas)] if lambdas else [])]
    tasks = [
        Task(
            f"diversity sweep of {job.name}",
            (sys.executable, str(ROOT / "benchmarks" / "diversity_sweep.py"), str(job.folder.path), *arguments),
            job.beside(".diversity.log"),
        )
        for job in finished
        if not _swept(job, num_results, lambdas)
    ]
    failures = run_tasks(tasks, parallel, "diversity") if tasks else []
    return {job.label: found for job in finished if (found := _swept(job, num_results, lambdas))}, failures


def _swept(job: Job, num_results: int, lambdas: Sequence[float]) -> dict[str, Any]:
    """What a sweep of a run has written, if it was asked for the same; empty otherwise."""
    found = _read_json(job.folder.path / "diversity" / "sweep.json")
    if found.get("num_results") != num_results:
        return {}
    asked_for = {row["lambda"] for row in found["rows"]} == {0.0, *lambdas} if lambdas else found["lambdas_by_scale"]
    return found if asked_for else {}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def jobs_to_report(comparison: Comparison, entries: Sequence[Entry], tuning: Tuning) -> list[Job]:
    """The reported runs of entries, variants included, with the chosen settings; nothing for those of which every trial has failed."""
    jobs: list[Job] = []
    for dataset in comparison.data:
        for entry in entries:
            trial = tuning.chosen[dataset][entry.base]
            if trial is not None:
                jobs += comparison.final_jobs(entry, dataset, trial)
    for job in jobs:
        job.check_stored()
    return jobs
