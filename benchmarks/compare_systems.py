"""Train any set of configurations on any datasets over seeds, and write the table: mean and spread of every metric.

Each run is a run folder of ``training/train.py``; finished runs are kept and broken ones resumed, so the program can be stopped and
started again. Several runs side by side, each on one core, finish sooner than one after the other on all cores.

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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfmi.files import write_atomically, write_json
from tfmi.models.systems import load_config

ROOT = Path(__file__).resolve().parents[1]

DEFAULT_METRICS = ("recall@20", "hr@20", "ndcg@20", "recall@50", "hr@50", "ndcg@50")


@dataclass(frozen=True)
class Job:
    """One run: a configuration on a dataset under a seed."""

    config: Path
    dataset: str
    data: Path
    seed: int
    output: Path
    settings: tuple[str, ...]

    @property
    def label(self) -> str:
        """The configuration's place in the table."""
        return self.config.stem if self.config.parent.name == "configs" else f"{self.config.parent.name}/{self.config.stem}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    options = _parser().parse_args(arguments)
    jobs = [
        job
        for config in options.configs
        for dataset, data in (pair.split("=", 1) for pair in options.data)
        for job in _seeds(config, dataset, Path(data), options)
    ]
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
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DIR", help="datasets by a name of your choice")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="a setting for all runs; may be repeated")
    parser.add_argument("--part", choices=("test", "valid"), default="test", help="what to report; choose hyper-parameters on valid")
    parser.add_argument("--metrics", nargs="+", default=list(DEFAULT_METRICS))
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, each on one core")
    parser.add_argument("--output", type=Path, default=Path("runs/compare"))
    return parser


def _seeds(config: Path, dataset: str, data: Path, options: argparse.Namespace) -> list[Job]:
    # Counting gives the same answer under every seed.
    counts = load_config(config, settings=options.set).model.kind == "counting"
    seeds = options.seeds[:1] if counts else options.seeds
    name = config.stem if config.parent.name == "configs" else f"{config.parent.name}-{config.stem}"
    return [Job(config, dataset, data, seed, options.output / dataset / f"{name}-{seed}", tuple(options.set)) for seed in seeds]


def _run(job: Job, jobs: int) -> None:
    if (job.output / "metrics.json").exists():
        return
    command = [sys.executable, str(ROOT / "training" / "train.py"), "--no-export", "--output", str(job.output)]
    if (job.output / "config.yaml").exists():
        command.append("--resume")
    else:
        command += ["--config", str(job.config), "--data", str(job.data), "--seed", str(job.seed)]
        command += [flag for setting in job.settings for flag in ("--set", setting)]
    environment = dict(os.environ)
    if jobs > 1:
        environment |= {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _summarize(jobs: Sequence[Job], part: str, metrics: Sequence[str]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for job in jobs:
        measured = json.loads((job.output / "metrics.json").read_text(encoding="utf-8"))
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
