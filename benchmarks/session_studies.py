"""Two studies of MTAW on sessions: how much its loss weighs hard examples, and what its training costs beside other systems'.

    python benchmarks/session_studies.py gamma --data DIR --seeds 1 2 3
    python benchmarks/session_studies.py efficiency --data DIR

``gamma`` trains it once per seed for each gamma of the adaptive weight, and without that weight, by the protocol of --config, and draws
P@20 and MRR@20 over gamma. ``efficiency`` trains each configuration for some steps, all of them in turns, each time in a process of its
own, and reports seconds per epoch by the median of all rounds, parameters, and how many times those of MTAW they are.

Both write OUTPUT/table.md and results.json, and can be stopped and started again: finished runs and rounds are kept, and never taken for
those of another configuration. The last line is one JSON object with every figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.figure import Figure

from benchmarks.common import report
from benchmarks.comparison.entries import Entry
from benchmarks.comparison.jobs import ROOT, run_jobs
from benchmarks.comparison.plan import Comparison
from benchmarks.comparison.summary import Row, summarize
from benchmarks.comparison.tables import markdown, spread
from benchmarks.training_speed import run_contender
from tfmi.cli.program import run_program
from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError
from tfmi.core.files import write_atomically, write_json
from tfmi.models.kind_settings import reads, settings_yaml
from tfmi.plots.training_plots import save_figure

CONFIGS = ROOT / "training" / "configs" / "sessions"
METRICS = ("p@10", "mrr@10", "p@20", "mrr@20")
DRAWN = ("p@20", "mrr@20")
WITHOUT_WEIGHT = "w/o AW"
GAMMAS = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
PEERS = ("sr_gnn", "gce_gnn", "s2_dhcn")
DATA = "sessions"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a run has failed or the user can fix something, 130 stopped by Ctrl-C."""
    options = parse_arguments(arguments)
    return run_program(lambda: options.study(options))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = parser.add_subparsers(required=True, metavar="STUDY")
    gamma = studies.add_parser("gamma", help="quality over gamma", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    gamma.set_defaults(study=study_gamma)
    gamma.add_argument("--config", type=Path, default=CONFIGS / "mtaw.yaml", help="a configuration with the adaptive weight")
    gamma.add_argument("--gammas", type=float, nargs="+", default=list(GAMMAS), help="values to try")
    gamma.add_argument("--seeds", type=int, nargs="+", default=[1], help="one run of each value under each")
    gamma.add_argument("--jobs", type=int, default=2, help="runs side by side, each on one core")
    gamma.add_argument("--output", type=Path, default=Path("runs/session_gamma"), help="runs, table and plot")
    efficiency = studies.add_parser("efficiency", help="cost of training", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    efficiency.set_defaults(study=study_efficiency)
    efficiency.add_argument("--reference", type=Path, default=CONFIGS / "mtaw.yaml", help="what the others are compared with")
    peers = [CONFIGS / f"{name}.yaml" for name in PEERS]
    efficiency.add_argument("--configs", type=Path, nargs="+", default=peers, help="the others")
    efficiency.add_argument("--steps", type=int, default=100, help="training steps per round")
    efficiency.add_argument("--rounds", type=int, default=1, help="timed rounds per turn, after one to warm up")
    efficiency.add_argument("--turns", type=int, default=3, help="processes of each configuration")
    efficiency.add_argument("--threads", type=int, default=1, help="threads inside an op, ops at a time, and cores to stay on")
    efficiency.add_argument("--output", type=Path, default=Path("runs/session_efficiency"), help="rounds and table")
    for study in (gamma, efficiency):
        study.add_argument("--data", required=True, help="folder of train_sessions.txt and test_examples.txt")
        study.add_argument("--set", action="append", default=[], metavar="a.b=value", help="a setting for all runs; may be repeated")
    return parser.parse_args(arguments)


def _comparison(entries: Sequence[Entry], options: argparse.Namespace, seeds: Sequence[int]) -> Comparison:
    return Comparison(
        entries=entries,
        data={DATA: options.data},
        kind="sessions",
        seeds=seeds,
        settings=options.set,
        trial_settings=(),
        output=options.output,
    )


# Gamma


def gamma_entries(file: Path, gammas: Sequence[float]) -> dict[float | None, Entry]:
    """The configuration under each gamma, and under None without the adaptive weight."""
    plain = Entry.of_file(file)
    entries: dict[float | None, Entry] = {}
    for gamma in gammas:
        settings = (f"model.weighting.gamma={gamma}",)
        entries[gamma] = replace(plain, label=f"gamma {gamma:g}", base=f"gamma {gamma:g}", final_settings=settings)
    settings = ("model.weighting={name: cross_entropy}",)
    return entries | {None: replace(plain, label=WITHOUT_WEIGHT, base=WITHOUT_WEIGHT, final_settings=settings)}


def study_gamma(options: argparse.Namespace) -> int:
    """Train, tabulate and draw."""
    entries = gamma_entries(options.config, options.gammas)
    comparison = _comparison(list(entries.values()), options, options.seeds)
    _check_weighting(comparison.plain_config(entries[options.gammas[0]]), options.config)
    jobs = [job for entry in entries.values() for job in comparison.final_jobs(entry, DATA)]
    for job in jobs:
        job.check_stored()
    failures = run_jobs(jobs, options.jobs, "runs")
    rows = {row["config"]: row for row in summarize(jobs, "test")}
    gamma_of = {entry.label: gamma for gamma, entry in entries.items()}
    lines = [[label, str(row["seeds"]), *(spread(row, row, metric) for metric in METRICS)] for label, row in rows.items()]
    table = markdown(["loss", "runs", *METRICS], lines)
    write_atomically(options.output / "table.md", table)
    results = [
        {"gamma": gamma_of[label], "seeds": row["seeds"], "mean": _metrics(row, "mean"), "deviation": _metrics(row, "deviation")}
        for label, row in rows.items()
    ]
    write_json(options.output / "results.json", {"results": results})
    if rows:
        draw_gamma({gamma_of[label]: row for label, row in rows.items()}, options.output / "gamma.png")
    print(table)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    print(json.dumps({"results": results}))
    return 1 if failures else 0


def _check_weighting(config: RunConfig, file: Path) -> None:
    if config.model.weighting["name"] != "adaptive_weight":
        raise ConfigError(f"--config {file}: model.weighting: expected adaptive_weight, got {config.model.weighting['name']}")


def _metrics(row: Row, of: str) -> dict[str, float]:
    return {metric: row[of][metric] for metric in METRICS if metric in row[of]}


def draw_gamma(rows: dict[float | None, Row], path: Path) -> Path:
    """A panel per metric: its mean over gamma, deviations as bars, and a level line for what has no adaptive weight."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    gammas = sorted(gamma for gamma in rows if gamma is not None)
    for axis, metric in zip(figure.subplots(1, len(DRAWN)), DRAWN, strict=True):
        means = [100 * rows[gamma]["mean"][metric] for gamma in gammas]
        deviations = [100 * rows[gamma]["deviation"][metric] for gamma in gammas]
        axis.errorbar(gammas, means, yerr=deviations, marker="o", capsize=3, label="MTAW")
        if None in rows:
            axis.axhline(100 * rows[None]["mean"][metric], color="tab:gray", linestyle="--", label=WITHOUT_WEIGHT)
        axis.set(xlabel="gamma", ylabel=f"test {metric.upper()}, percent", xticks=gammas)
        axis.grid(alpha=0.3)
        axis.legend()
    return save_figure(figure, path)


# Efficiency


def study_efficiency(options: argparse.Namespace) -> int:
    """Time and tabulate."""
    reference = Entry.of_file(options.reference)
    entries = list({entry.label: entry for entry in [reference, *(Entry.of_file(file) for file in options.configs)]}.values())
    comparison = _comparison(entries, options, [1])
    configs = {entry: comparison.plain_config(entry) for entry in entries}
    for entry, config in configs.items():
        if not reads(config, "training"):
            raise ConfigError(f"{entry.label}: counts, it is not trained by steps: leave it out of --configs")
    turns: dict[str, list[dict[str, Any]]] = {entry.label: [] for entry in entries}
    for turn in range(options.turns):
        for entry, config in configs.items():
            turns[entry.label].append(_timed(entry, config, turn, options))
    rows = efficiency_rows(turns, reference.label)
    header = [
        "configuration",
        "batch",
        "steps per epoch",
        "seconds per epoch",
        f"times {reference.label}",
        "parameters",
        f"times {reference.label}",
    ]
    lines = [
        [
            label,
            str(row["batch_size"]),
            f"{row['steps_per_epoch']:,}",
            f"{row['seconds_per_epoch']:.1f} ({row['processor_seconds_per_epoch']:.1f} of processor time)",
            f"{row['times_seconds']:.2f}",
            f"{row['parameters']:,}",
            f"{row['times_parameters']:.2f}",
        ]
        for label, row in rows.items()
    ]
    table = markdown(header, lines)
    write_atomically(options.output / "table.md", table)
    write_json(options.output / "results.json", {"results": rows})
    print(table)
    setting = {name: getattr(options, name) for name in ("data", "threads", "steps", "rounds", "turns")}
    report("session_efficiency", {**setting, "results": rows}, {})
    return 0


def _timed(entry: Entry, config: RunConfig, turn: int, options: argparse.Namespace) -> dict[str, Any]:
    """One turn of a configuration, measured now unless it has been measured before."""
    folder = options.output / "turns"
    asked = {"configuration": settings_yaml(config), "steps": options.steps, "rounds": options.rounds, "threads": options.threads}
    kept = folder / f"{entry.folder_name}-{turn}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if found["asked"] != asked:
            raise ConfigError(f"{kept}: measured with another configuration or other options. Remove it, or choose another --output")
        return dict(found["measured"])
    file = write_atomically(folder / f"{entry.folder_name}.yaml", settings_yaml(config))
    program = ROOT / "benchmarks" / "contenders" / "training_steps.py"
    numbers = [f"--{name}={asked[name]}" for name in ("steps", "rounds", "threads")]
    measured = run_contender([sys.executable, str(program), "--config", str(file), *numbers], options.threads)
    write_json(kept, {"asked": asked, "measured": measured})
    print(f"turn {turn + 1} of {options.turns}: {entry.label} {measured['seconds'][-1]:.1f} s", flush=True)
    return measured


def efficiency_rows(turns: dict[str, list[dict[str, Any]]], reference: str) -> dict[str, dict[str, float]]:
    """Seconds per epoch by the median round of all turns, parameters, and both over those of ``reference``."""
    rows: dict[str, dict[str, float]] = {}
    for label, found in turns.items():
        first = found[0]
        rows[label] = {name: first[name] for name in ("batch_size", "steps_per_epoch", "parameters")}
        for clock in ("seconds", "processor_seconds"):
            median = statistics.median(value for turn in found for value in turn[clock])
            rows[label][f"{clock}_per_epoch"] = median / first["work_per_round"] * first["steps_per_epoch"]
    for row in rows.values():
        # By processor time, which other processes on the machine do not add to.
        row["times_seconds"] = row["processor_seconds_per_epoch"] / rows[reference]["processor_seconds_per_epoch"]
        row["times_parameters"] = row["parameters"] / rows[reference]["parameters"]
    return rows


if __name__ == "__main__":
    sys.exit(main())
