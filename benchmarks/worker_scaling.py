"""Time of an epoch with two workers over that with one, each on one core: how much of a second worker reaches training.

Runs of ``training/launch_local.py`` in a setting where computing takes nearly all of a step: a transformer, 256 dimensions, large batches.
The batch is the same, so that two workers take half of it each.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import benchmark_arguments, report

ROOT = Path(__file__).resolve().parents[1]
# Above this a second worker costs more than it brings.
TARGET_RATIO = 0.7


def seconds_of_training(workers: int, steps: int, batch_size: int, threads: int, seed: int) -> float:
    """Seconds that the steps after the first validation took, in which nothing is compiled any more."""
    one = {name: str(max(threads, 1)) for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")}
    with tempfile.TemporaryDirectory(prefix="tfmi-workers-") as folder:
        settings = [
            "model.dimension=256",
            "model.objective={name: sampled_softmax, num_sampled: 512}",
            "model.extractor.encoder.positions=oldest",
            "data.examples=sequences",
            "data.history_length=50",
            f"training.batch_size={batch_size}",
            f"training.evaluate_every={steps}",
            "training.tensorboard=false",
        ]
        run = ["--system", "sasrec", "--seed", str(seed), "--max-steps", str(2 * steps), "--no-export", "--output", f"{folder}/run"]
        for setting in settings:
            run += ["--set", setting]
        launch = [sys.executable, str(ROOT / "training" / "launch_local.py"), "--workers", str(workers), "--", "--strategy", "multi_worker"]
        environment = {**os.environ, **one}
        subprocess.run([*launch, *run], check=True, env=environment, stdout=subprocess.DEVNULL)
        curve = json.loads((Path(folder) / "run" / "curves.json").read_text(encoding="utf-8"))
    return float(curve[1]["seconds"] - curve[0]["seconds"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = benchmark_arguments(__doc__ or "", repeats=3)
    parser.add_argument("--steps", type=int, default=20, help="timed training steps of each run")
    parser.add_argument("--batch-size", type=int, default=256, help="examples of a step, of all workers together")
    options = parser.parse_args(arguments)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(options.repeats):
        for workers, taken in seconds.items():
            print(f"{workers} worker(s), run {repeat + 1} ...", flush=True)
            taken.append(seconds_of_training(workers, options.steps, options.batch_size, options.threads, options.seed))
    medians = {workers: statistics.median(taken) for workers, taken in seconds.items()}
    ratio = medians[2] / medians[1]
    results = {
        "threads_per_worker": options.threads,
        "batch_size": options.batch_size,
        "seconds": {str(workers): [round(each, 3) for each in taken] for workers, taken in seconds.items()},
        "two_over_one": round(ratio, 3),
    }
    report("worker_scaling", results, {f"at most {TARGET_RATIO} times the time of one worker": ratio <= TARGET_RATIO})


if __name__ == "__main__":
    main()
