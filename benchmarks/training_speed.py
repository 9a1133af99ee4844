"""Training examples per second of MIND at the reference setting on one core, beside DeepMatch's MIND and the machine's float32 rate.

Every run is a process of its own that stays on one core; the contenders take turns. Both train on the same sequences (synthetic ones in
the size of Amazon Beauty's training part, or ``--data``), choose examples by the same rule, and have the same width, interests, layers,
negatives, batch and optimizer. Ours also normalises its vectors and drops out of the history, as its configuration says, and makes its
batches while the clock runs; DeepMatch's arrays are made before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.common import benchmark_arguments, report
from benchmarks.flops import mind_step_flops
from benchmarks.peer_environment import DEEPMATCH_PYTHON, DEEPMATCH_REQUIREMENTS, ROOT, peer_python
from benchmarks.synthetic import write_comirec_files
from tfmi.cli.program import run_program
from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, TfmiError
from tfmi.data.public.comirec import load_comirec
from tfmi.layers.base import EXTRACTORS
from tfmi.layers.extractors.multi_interest.capsule_routing import CapsuleRouting
from tfmi.losses.base import OBJECTIVES
from tfmi.losses.objectives.sampled_softmax import SampledSoftmax
from tfmi.models.systems import load_config

CONTENDERS = ROOT / "benchmarks" / "contenders"
REFERENCE = ROOT / "training" / "configs" / "reference" / "mind.yaml"
TARGET_RATIO = 5.0
TARGET_SHARE = 0.3
DEEPMATCH_ITERATIONS = 3

Result = dict[str, Any]


def run_contender(command: Sequence[str], threads: int) -> Result:
    """Run one contender's program and read the JSON object of its last line; raises ``TfmiError`` with its last words if it fails."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS") if threads}
    environment = {**os.environ, **limits, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS", None)  # set by importing tfmi; each contender chooses its own Keras
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise TfmiError(f"{' '.join(command)} failed: " + "\n".join(done.stderr.strip().splitlines()[-15:]))
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def shared_setting(config: RunConfig, num_items: int) -> dict[str, Any]:
    """What both contenders have in common, from our configuration; raises ``ConfigError`` if DeepMatch's MIND has no such setting."""
    extractor = EXTRACTORS.build(config.model.extractor, "model.extractor")
    objective = OBJECTIVES.build(config.model.objective, "model.objective")
    routes = isinstance(extractor, CapsuleRouting) and extractor.iterations == DEEPMATCH_ITERATIONS
    if not routes or not isinstance(objective, SampledSoftmax) or objective.sampler != "uniform":
        raise ConfigError(
            f"--config: expected capsule_routing with {DEEPMATCH_ITERATIONS} iterations and sampled_softmax with the uniform sampler, "
            "which is what DeepMatch's MIND has"
        )
    return {
        "batch_size": config.training.batch_size,
        "history_length": config.data.history_length,
        "min_history": config.data.min_history,
        "dimension": config.model.dimension,
        "num_interests": extractor.num_interests,
        "iterations": extractor.iterations,
        "adaptive": extractor.adaptive,
        "hidden": config.model.user_tower.hidden,
        "num_sampled": objective.num_sampled,
        "num_items": num_items,
    }


def step_flops(setting: Mapping[str, Any]) -> float:
    """The arithmetic of one of our training steps."""
    return mind_step_flops(**{name: value for name, value in setting.items() if name not in ("adaptive", "min_history")})


def commands(options: argparse.Namespace, data: Path, setting: dict[str, Any]) -> dict[str, list[str]]:
    """The contenders' command lines, by name."""
    every = ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    steps = ["--data", str(data), "--steps", str(options.steps)]
    found = {
        "tfmi": [sys.executable, str(CONTENDERS / "tfmi_mind.py"), *every, *steps, "--config", str(options.config)],
        "float32_matmul": [sys.executable, str(CONTENDERS / "float32_matmul.py"), *every, "--size", str(options.matrix_size)],
    }
    if not options.no_peer:
        python = peer_python(options.peer_environment, DEEPMATCH_REQUIREMENTS, DEEPMATCH_PYTHON)
        found["deepmatch"] = [str(python), str(CONTENDERS / "deepmatch_mind.py"), *every, *steps, "--setting", json.dumps(setting)]
    return found


def measure(found: dict[str, list[str]], repeats: int, threads: int) -> dict[str, list[Result]]:
    """Run the contenders in turn, ``repeats`` times."""
    results: dict[str, list[Result]] = {name: [] for name in found}
    for repeat in range(repeats):
        for name, command in found.items():
            results[name].append(run_contender(command, threads))
            print(f"run {repeat + 1} of {repeats}: {name} {rate(results[name][-1:], 'seconds'):,.0f} per second", flush=True)
    return results


def rate(results: Sequence[Result], clock: str) -> float:
    """Work per second, from the median of all rounds by ``clock`` ("seconds" or "processor_seconds")."""
    return float(results[0]["work_per_round"] / statistics.median(seconds for result in results for seconds in result[clock]))


def summarize(results: dict[str, list[Result]], flops_per_example: float) -> dict[str, Any]:
    """The figures of the report."""
    speeds = {name: rate(found, "seconds") for name, found in results.items()}
    by_processor = {name: rate(found, "processor_seconds") for name, found in results.items()}
    operations, operations_by_processor = (found.pop("float32_matmul") for found in (speeds, by_processor))
    summary: dict[str, Any] = {
        # Below 1 where other processes were on the same core: then the figures by processor time say more than those by the clock.
        "share_of_core": {name: round(speeds[name] / by_processor[name], 2) for name in speeds},
        "examples_per_second": {name: round(speed) for name, speed in speeds.items()},
        "examples_per_processor_second": {name: round(speed) for name, speed in by_processor.items()},
        "float32_matmul_gflop_per_second": round(operations / 1e9, 1),
        "matrix_product_mflop_per_example": round(flops_per_example / 1e6, 3),
        "share_of_float32_matmul": round(speeds["tfmi"] * flops_per_example / operations, 3),
        "share_of_float32_matmul_by_processor_time": round(by_processor["tfmi"] * flops_per_example / operations_by_processor, 3),
    }
    if "deepmatch" in results:
        summary["times_deepmatch"] = round(speeds["tfmi"] / speeds["deepmatch"], 2)
        summary["times_deepmatch_by_processor_time"] = round(by_processor["tfmi"] / by_processor["deepmatch"], 2)
        summary["deepmatch_tensorflow"] = results["deepmatch"][0]["tensorflow"]
    return summary


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = benchmark_arguments(__doc__ or "", repeats=5)
    parser.add_argument(
        "--config", type=Path, default=REFERENCE, help="a configuration of MIND with sampled softmax on ComiRec's split files"
    )
    parser.add_argument("--data", type=Path, help="folder of ComiRec's split files; synthetic sequences without it")
    parser.add_argument("--users", type=int, default=17_890, help="training users of the synthetic sequences")
    parser.add_argument("--items", type=int, default=12_101, help="items of the synthetic sequences")
    parser.add_argument("--steps", type=int, default=500, help="training steps per round")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of each run, after one to warm up")
    parser.add_argument("--matrix-size", type=int, default=2048, help="rows of the matrices that measure the float32 rate")
    parser.add_argument("--peer-environment", type=Path, default=ROOT / ".venv-deepmatch", help="DeepMatch's environment, made if need be")
    parser.add_argument("--no-peer", action="store_true", help="leave DeepMatch out")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Measure and report."""
    with tempfile.TemporaryDirectory() as temporary:
        data = options.data or Path(temporary)
        if options.data is None:
            write_comirec_files(data, options.users, options.items, np.random.default_rng(options.seed))
        config = load_config(options.config, settings=[f"data.path={data}"])
        dataset = load_comirec(data, config.data.split)
        setting = shared_setting(config, len(dataset.catalogue.vocabulary))
        results = measure(commands(options, data, setting), options.repeats, options.threads)
    flops_per_example = step_flops(setting) / config.training.batch_size
    summary = summarize(results, flops_per_example)
    targets = {}
    if not options.no_peer:
        share = summary["share_of_float32_matmul_by_processor_time"]
        targets[f"at least {TARGET_RATIO:g} times DeepMatch"] = summary["times_deepmatch_by_processor_time"] >= TARGET_RATIO
        targets[f"at least {TARGET_SHARE:.0%} of the matrix-product rate"] = share >= TARGET_SHARE
    shown = {"data": str(options.data or "synthetic"), "threads": options.threads, "setting": setting}
    report("training_speed", {**shown, **summary}, targets)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    options = parse_arguments(arguments)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
