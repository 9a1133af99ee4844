"""Train any set of systems on any datasets over seeds, on equal terms, and write tables and plots of what they reach and cost.

    python benchmarks/compare_systems.py --data beauty=DIR video_games=DIR --seeds 1 2 3 --jobs 2 \\
        --systems item_knn mind comirec_sa --configs my_own.yaml \\
        --trials 8 --space space.yaml --trial-set training.max_epochs=3 --ablate-k1 --latency --sweep

With --trials, every system gets the same number of tries of its hyper-parameters, one run each, judged by validation alone; the best
settings are then run under every seed. See benchmarks/comparison/tuning.py for what a space looks like. With --tune the tries are those
of a search by Optuna (extra: tune) over ranges, which ends poor runs early and goes on where it was stopped: see
benchmarks/comparison/search.py.

Each run is a run folder of training/train.py. Finished runs are kept and broken ones resumed, so the program can be stopped and started
again, also with more seeds, systems or trials. A run that an earlier call left with another configuration is never taken for this one:
the program says how they differ and stops. A run that fails does not stop the others: it is reported at the end, and the exit code is 1.
Several runs side by side, each on one core, finish sooner than one after the other on all cores.

OUTPUT/table.md, results.json, tuning.md and tuning.json hold the results, OUTPUT/NAME/plots the pictures of each dataset. The last line
is one JSON object with every mean and standard deviation.
"""

from __future__ import annotations

import argparse
import json
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparison.entries import Entry
from benchmarks.comparison.jobs import Failure, Job, run_jobs
from benchmarks.comparison.plan import Comparison, followed_by_variants
from benchmarks.comparison.plots import draw_all
from benchmarks.comparison.search import DEFAULT_SPACE, tune_by_search
from benchmarks.comparison.significance import add_differences, differences_table
from benchmarks.comparison.stages import (
    Tuning,
    compare_latency,
    export_missing,
    jobs_to_report,
    latency_reference,
    no_tuning,
    sweep_diversity,
    tune,
)
from benchmarks.comparison.summary import Notes, Row, summarize
from benchmarks.comparison.tables import interests_table, results_table, slices_table, sweeps_table, trials_table
from benchmarks.comparison.tuning import Space
from tfmi.cli.program import run_program
from tfmi.config import DatasetName
from tfmi.core.errors import ConfigError
from tfmi.core.files import write_atomically, write_json
from tfmi.kinds.base import kind_of

DEFAULT_METRICS = ("recall@20", "hr@20", "ndcg@20", "recall@50", "hr@50", "ndcg@50")


@dataclass
class Outcome:
    """What went otherwise than asked for."""

    notes: Notes = field(default_factory=Notes)
    failures: list[Failure] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a run has failed or the user can fix something, 130 stopped by Ctrl-C."""
    options = _parser().parse_args(arguments)
    return run_program(lambda: _compare(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("what is compared; the order given is that of the tables").add_argument
    add("--systems", dest="entries", action="extend", nargs="+", type=Entry.of_system, metavar="NAME", help="named systems")
    add("--configs", dest="entries", action="extend", nargs="+", type=_file_entry, metavar="FILE", help="configurations of train.py")
    add(
        "--data",
        type=_named_path,
        nargs="+",
        required=True,
        metavar="NAME=DIR",
        help="data by a name of your choice; NAME=- where there is no DIR",
    )
    add("--dataset", choices=typing.get_args(DatasetName), default="comirec", help="what the data is (default: comirec)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3; the first is that of trials, exports and sweeps")
    add("--set", action="append", default=[], metavar="a.b=value", help="a setting for all runs; may be repeated")
    add("--ablate-k1", action="store_true", help="each system with several interests also with one, settings otherwise the same")
    add("--variant-seeds", type=_positive, metavar="N", help="run variants with one interest under the first N seeds only (default: all)")
    add = parser.add_argument_group("tuning").add_argument
    add("--trials", type=_positive, default=1, metavar="N", help="tries for each system, itself as it is included (default: 1, no search)")
    add("--tune", action="store_true", help="search with Optuna over ranges instead of drawing from lists (extra: tune)")
    add(
        "--space",
        type=Path,
        metavar="FILE",
        help=f"YAML file of the values to try; with --tune of ranges (default then: {DEFAULT_SPACE.name})",
    )
    add("--tune-on", nargs="+", metavar="NAME", help="datasets to search on, the others take what is best there (default: each its own)")
    add("--trial-set", action="append", default=[], metavar="a.b=value", help="a setting for trials only, such as fewer epochs")
    add = parser.add_argument_group("what is reported").add_argument
    add("--part", choices=("test", "valid"), default="test", help="choose hyper-parameters on valid")
    add("--metrics", nargs="+", default=list(DEFAULT_METRICS), help=f"columns of the table (default: {' '.join(DEFAULT_METRICS)})")
    add(
        "--main-metric",
        metavar="METRIC",
        help="metric of slices and plots (default: recall at their largest cutoff, or the first)",
    )
    add("--latency", action="store_true", help="export each system and measure requests to it")
    add("--latency-repeats", type=_positive, default=200, metavar="N", help="requests of each batch size (default: 200)")
    add("--sweep", type=float, nargs="*", metavar="λ", help="measure recall against diversity over λ; default: by each model's scores")
    add("--no-plots", dest="plots", action="store_false", help="tables only")
    parser.add_argument("--jobs", type=_positive, default=2, help="runs side by side, each on one core (default: 2)")
    parser.add_argument("--output", type=Path, default=Path("runs/compare"), help="default: runs/compare")
    return parser


def _file_entry(text: str) -> Entry:
    return Entry.of_file(Path(text))


def _named_path(text: str) -> tuple[str, str | None]:
    name, separator, path = text.partition("=")
    if not (separator and name and path):
        raise argparse.ArgumentTypeError(f"expected NAME=DIR, got {text!r}")
    return name, None if path == "-" else path


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _compare(options: argparse.Namespace) -> int:
    comparison = _comparison(options)
    _check_measured(comparison, [*options.metrics, options.main_metric])
    outcome = Outcome()
    entries = followed_by_variants(comparison, outcome.notes) if options.ablate_k1 else list(comparison.entries)

    tuning = _tune(comparison, options)
    jobs = jobs_to_report(comparison, entries, tuning)
    outcome.failures += tuning.failures + run_jobs(jobs, options.jobs, "runs")
    rows = summarize(jobs, options.part)
    for metric in dict.fromkeys([*options.metrics, options.main_metric]):
        outcome.notes.missing(metric, (row for row in rows if metric not in row["mean"]))
    _add_settings(rows, tuning, entries)

    sections = [tuning.budget]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        of_dataset = [row for row in rows if row["dataset"] == dataset]
        if options.part == "test":
            add_differences(of_dataset, [job for job in jobs if job.dataset == dataset], options.main_metric, outcome.notes)
        sections.append(_report(of_dataset, _first_runs(jobs, dataset), options, outcome))
    return _finish(rows, tuning, sections, options, outcome)


def _comparison(options: argparse.Namespace) -> Comparison:
    """What the options ask for; raises ``ConfigError`` where they contradict each other."""
    if not options.entries:
        raise ConfigError("nothing to compare: give --systems NAME or --configs FILE")
    for option, values in {"--data": [name for name, _ in options.data], "--seeds": options.seeds}.items():
        if len(set(values)) != len(values):
            raise ConfigError(f"{option}: expected each one once, got {' '.join(map(str, values))}")
    if options.main_metric is None:
        cutoffs = [cutoff for metric in options.metrics if (cutoff := _cutoff(metric)) is not None]
        options.main_metric = f"recall@{max(cutoffs)}" if len(cutoffs) == len(options.metrics) else options.metrics[0]
    if options.tune and options.trials == 1:
        raise ConfigError("--tune needs a number of tries for each system: --trials N, above 1")
    if not options.tune and (options.trials > 1) != (options.space is not None):
        raise ConfigError("--trials and --space need each other: a number of tries above 1, and the values to try")
    if options.trials == 1 and (options.tune_on or options.trial_set):
        raise ConfigError("--tune-on and --trial-set are for a search: give --trials and --space too")
    unknown = set(options.tune_on or ()) - {name for name, _ in options.data}
    if unknown:
        raise ConfigError(f"--tune-on {', '.join(sorted(unknown))}: expected names of --data")
    return Comparison(
        entries=options.entries,
        data=dict(options.data),
        kind=options.dataset,
        seeds=options.seeds,
        settings=options.set,
        trial_settings=options.trial_set,
        output=options.output,
        variant_seeds=options.variant_seeds,
    )


def _cutoff(metric: str) -> int | None:
    """The N of a metric @N, None of a metric without, such as auc."""
    name, separator, cutoff = metric.partition("@")
    if not name or (separator and not cutoff.isdigit()):
        raise ConfigError(f"--metrics {metric}: expected a name, with a cutoff if it has one, such as recall@50")
    return int(cutoff) if separator else None


def _check_measured(comparison: Comparison, metrics: Sequence[str]) -> None:
    """Raise ``ConfigError`` now, not after hours of training, if a configuration does not measure at a metric's cutoff."""
    for entry in comparison.entries:
        config = comparison.plain_config(entry)
        cutoffs = config.evaluation.cutoffs
        # Retrievers have no metrics without a cutoff.
        retrieves = kind_of(config).is_retriever
        odd = [metric for metric in metrics if (cutoff := _cutoff(metric)) not in cutoffs and (retrieves or cutoff is not None)]
        if odd:
            raise ConfigError(f"{entry.label}: {odd[0]} is asked for, but evaluation.cutoffs are {cutoffs}; see --set and --metrics")


def _tune(comparison: Comparison, options: argparse.Namespace) -> Tuning:
    if options.trials == 1:
        return no_tuning(comparison)
    datasets = list(dict.fromkeys(options.tune_on or comparison.data))
    if options.tune:
        tuning = tune_by_search(comparison, options.space or DEFAULT_SPACE, datasets, options.trials, options.jobs)
    else:
        space = Space.read(options.space, comparison.entries)
        trials = {entry.label: comparison.trials(entry, space, options.trials) for entry in comparison.entries}
        tuning = tune(comparison, trials, datasets, options.trials, options.jobs)
    write_json(options.output / "tuning.json", {"budget": tuning.budget, "trials": tuning.trials})
    write_atomically(options.output / "tuning.md", f"{tuning.budget}\n\n{trials_table(tuning.trials)}")
    return tuning


def _first_runs(jobs: Sequence[Job], dataset: str) -> list[Job]:
    """The run of each configuration on a dataset that is exported and swept: that of the first seed."""
    first: dict[str, Job] = {}
    for job in jobs:
        if job.dataset == dataset:
            first.setdefault(job.label, job)
    return list(first.values())


def _report(rows: Sequence[Row], first_runs: Sequence[Job], options: argparse.Namespace, outcome: Outcome) -> str:
    """One dataset's tables; measures latency and diversity if asked to, adding both to the rows, and draws."""
    dataset, metric = rows[0]["dataset"], options.main_metric
    folder = options.output / dataset
    reference = latency_reference(first_runs)
    latency: dict[str, dict[str, Any]] = {}
    if options.latency:
        exported, failed = export_missing(first_runs, options.jobs)
        labelled = {job.label: exported[job.folder.path] for job in first_runs if job.folder.path in exported}
        latency, broken = compare_latency(labelled, folder / "latency.json", options.latency_repeats, reference)
        outcome.failures += failed + broken
    sweeps: dict[str, dict[str, Any]] = {}
    if options.sweep is not None:
        cutoff = _cutoff(metric)
        if cutoff is not None and any(f"diversity@{cutoff}" in row["mean"] for row in rows):
            sweeps, failed = sweep_diversity(first_runs, cutoff, options.sweep, options.jobs)
            outcome.failures += failed
        else:
            outcome.notes.add(f"recall against diversity of {dataset} left out: its items have no categories, or {metric} no cutoff")
    for row in rows:
        row |= {"latency": latency.get(row["config"], {}), "sweep": sweeps.get(row["config"], {})}
    if options.plots:
        draw_all(rows, metric, sweeps, folder / "plots", outcome.notes)

    tables = {f"### {dataset}": results_table(rows, options.metrics, latency, reference)}
    if options.part == "test":
        outcome.notes.missing("slices", (row for row in rows if not row["slices"]))
        tables[f"#### Differences on {dataset}, user by user"] = differences_table(rows)
        tables[f"#### Slices of the test users of {dataset}"] = slices_table(rows, metric)
    tables[f"#### Interests on {dataset}"] = interests_table(rows)
    tables[f"#### Diversity on {dataset}"] = sweeps_table(sweeps)
    return "\n".join(f"{title}\n\n{table}" for title, table in tables.items() if table)


def _add_settings(rows: Sequence[Row], tuning: Tuning, entries: Sequence[Entry]) -> None:
    """Say in each row which settings it was run with."""
    base = {entry.label: entry.base for entry in entries}
    for row in rows:
        trial = tuning.chosen[row["dataset"]][base[row["config"]]]
        row |= {"trial": trial.number if trial else None, "settings": list(trial.settings) if trial else []}


def _finish(rows: Sequence[Row], tuning: Tuning, sections: list[str], options: argparse.Namespace, outcome: Outcome) -> int:
    """Write and print everything; returns the exit code."""
    chosen = [f"- {row['config']} on {row['dataset']}: {', '.join(row['settings'])}" for row in rows if row["settings"]]
    if chosen:
        sections.append("Chosen settings (all others as they are):\n\n" + "\n".join(chosen) + "\n")
    said = [*outcome.notes.lines, *(f"FAILED: {failure}" for failure in outcome.failures)]
    if said:
        sections.append("\n".join(f"- {line}" for line in said) + "\n")
    table = "\n\n".join(sections)
    write_atomically(options.output / "table.md", table)
    failed = [{"name": failure.name, "reason": failure.reason, "log": str(failure.log)} for failure in outcome.failures]
    results = {"runs": sum(row["seeds"] for row in rows), "results": rows, "failures": failed}
    write_json(options.output / "results.json", {"budget": tuning.budget, **results, "notes": outcome.notes.lines, "trials": tuning.trials})
    print(table)
    for failure in outcome.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    print(json.dumps(results))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
