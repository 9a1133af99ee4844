"""Train any set of configurations on any datasets over seeds, and write the table: mean and spread of every metric.

Each run is a run folder of ``training/train.py``; finished runs are kept and broken ones resumed, so the program can be stopped and
started again. A run that an earlier call left with another configuration is never taken for this one: the program says how they differ
and stops. Several runs side by side, each on one core, finish sooner than one after the other on all cores.

    python benchmarks/compare_systems.py --data beauty=DIR video_games=DIR --seeds 1 2 3 --jobs 2 \\
        --configs training/configs/mind.yaml training/configs/item_knn.yaml

The last line is one JSON object with every mean and standard deviation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import typing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfmi.config import DatasetName, RunConfig
from tfmi.errors import ConfigError, TfmiError
from tfmi.files import write_atomically, write_json
from tfmi.models.systems import load_config
from tfmi.runs.folder import RunFolder, differing_keys
from tfmi.runs.program import run_program

ROOT = Path(__file__).resolve().parents[1]

DEFAULT_METRICS = ("recall@20", "hr@20", "ndcg@20", "recall@50", "hr@50", "ndcg@50")


@dataclass(frozen=True)
class Job:
    """One run: a configuration on a dataset under a seed."""

    label: str
    dataset: str
    config: RunConfig
    folder: RunFolder

    @property
    def finished(self) -> bool:
        """Whether the run has been measured."""
        return self.folder.metrics.exists()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    options = _parser().parse_args(arguments)
    return run_program(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    jobs = [job for config in options.configs for dataset, data in options.data for job in _seeds(config, dataset, data, options)]
    for job in jobs:
        _check_stored(job)
    with ThreadPoolExecutor(options.jobs) as pool, tqdm(total=len(jobs), unit="run", disable=None) as bar:
        for _ in pool.map(lambda job: _run(job, options.jobs), jobs):
            bar.update()
    rows = _summarize(jobs, options.part, options.metrics)
    table = _table(rows, options.metrics)
    write_atomically(options.output / "table.md", table)
    write_json(options.output / "results.json", rows)
    print(table)
    print(json.dumps({"runs": len(jobs), "results": rows}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=Path, nargs="+", required=True, help="YAML configurations of training/train.py")
    parser.add_argument("--data", type=_named_path, nargs="+", required=True, metavar="NAME=DIR", help="data by a name of your choice")
    parser.add_argument("--dataset", choices=typing.get_args(DatasetName), default="comirec", help="what the data is (default: comirec)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="a setting for all runs; may be repeated")
    parser.add_argument("--part", choices=("test", "valid"), default="test", help="what to report; choose hyper-parameters on valid")
    parser.add_argument("--metrics", nargs="+", default=list(DEFAULT_METRICS))
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, each on one core")
    parser.add_argument("--output", type=Path, default=Path("runs/compare"))
    return parser


def _named_path(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not (separator and name and path):
        raise argparse.ArgumentTypeError(f"expected NAME=DIR, got {text!r}")
    return name, path


def _seeds(file: Path, dataset: str, data: str, options: argparse.Namespace) -> list[Job]:
    label = file.stem if file.parent.name == "configs" else f"{file.parent.name}/{file.stem}"
    jobs = []
    for seed in options.seeds:
        config = load_config(file, settings=options.set, overrides={"seed": seed, "data": {"dataset": options.dataset, "path": data}})
        folder = RunFolder(options.output / dataset / f"{label.replace('/', '-')}-{seed}")
        jobs.append(Job(label, dataset, config, folder))
        if config.model.kind == "counting":
            break  # Counting gives the same answer under every seed.
    return jobs


def _check_stored(job: Job) -> None:
    """Raise ``ConfigError`` if the job's folder holds a run with another configuration."""
    if not job.folder.holds_run:
        return
    different = differing_keys(job.folder.stored_config().model_dump(), job.config.model_dump())
    if different:
        raise ConfigError(
            f"{job.folder.path}: an earlier run is here with other values of: {', '.join(different)}. Remove the folder, or choose another "
            "one with --output"
        )


def _run(job: Job, jobs: int) -> None:
    if job.finished:
        return
    command = [sys.executable, str(ROOT / "training" / "train.py"), "--no-export", "--output", str(job.folder.path)]
    if job.folder.holds_run:
        command.append("--resume")
    else:
        resolved = job.folder.path.with_suffix(".yaml")
        write_atomically(resolved, job.config.to_yaml())
        command += ["--config", str(resolved)]
    environment = dict(os.environ)
    if jobs > 1:
        environment |= {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TfmiError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _summarize(jobs: Sequence[Job], part: str, metrics: Sequence[str]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for job in jobs:
        measured = json.loads(job.folder.metrics.read_text(encoding="utf-8"))
        groups.setdefault((job.dataset, job.label), []).append(measured)
    return [
        {
            "dataset": dataset,
            "config": label,
            "seeds": len(runs),
            "parameters": runs[0]["train"]["parameters"],
            "seconds": _mean([run["train"]["seconds"] for run in runs]),
            "examples_per_second": _mean([run["train"]["examples_per_second"] for run in runs]),
            "mean": {metric: _mean([run[part][metric] for run in runs]) for metric in metrics},
            "deviation": {metric: _deviation([run[part][metric] for run in runs]) for metric in metrics},
        }
        for (dataset, label), runs in groups.items()
    ]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _table(rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> str:
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        lines += [f"### {dataset}", "", f"| configuration | runs | {' | '.join(metrics)} | parameters | training s |"]
        lines.append("|---|---|" + "---|" * (len(metrics) + 2))
        for row in rows:
            if row["dataset"] == dataset:
                lines.append(_line(row, metrics))
        lines.append("")
    return "\n".join(lines)


def _line(row: dict[str, Any], metrics: Sequence[str]) -> str:
    cells = [f"{row['mean'][metric]:.4f}" + (f" ± {row['deviation'][metric]:.4f}" if row["seeds"] > 1 else "") for metric in metrics]
    return f"| {row['config']} | {row['seeds']} | {' | '.join(cells)} | {row['parameters']:,} | {row['seconds']:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
