"""Targets per second of SASRec with one pass over a history for all of its targets, beside one pass for each of them, and beside a plain
SASRec in PyTorch.

``data.examples: sequences`` and ``prefixes`` train the same model on the same synthetic histories, all as long as the window, with a
softmax over as many samples. The peer (``contenders/torch_sasrec.py``) has the same width, blocks, heads, dropout and samples, and one
pass over a history for all of its targets; its item table's gradient is dense with Adam, as PyTorch's is by default, or sparse with
SparseAdam. A step of each has as many targets. Processor time counts, which other processes on the machine do not add to.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from benchmarks.common import benchmark_arguments, limit_threads, report
from benchmarks.contenders.timing import stay_on_cores, time_rounds
from benchmarks.peer_environment import ROOT, TORCH_PYTHON, TORCH_REQUIREMENTS, peer_python
from benchmarks.step_time_by_catalogue import NumberedItems, step_runner
from benchmarks.synthetic import sequences_of_lengths
from benchmarks.training_speed import rate, run_contender
from tfmi.cli.program import run_program
from tfmi.config import RunConfig
from tfmi.data.dataset import FIRST_INDEX, Catalogue, EvaluationSet, InteractionDataset, Sequences
from tfmi.data.pipeline import ExampleOrder
from tfmi.layers.sequence_encoders.transformer_encoder import TransformerEncoder
from tfmi.models.systems import load_config
from tfmi.training.optimizers import build_optimizer

TARGET_RATIO = 2.0
ORDERS: tuple[ExampleOrder, ...] = ("prefixes", "sequences")


def make_dataset(users: int, length: int, items: int, random: np.random.Generator) -> InteractionDataset:
    """``users`` histories of ``length`` items, each with a target after it."""
    train = sequences_of_lengths(np.full(users, length + 1), items, random)
    nobody = Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32), None, None, np.zeros(0, np.int32))
    vocabulary = NumberedItems(items)
    counts = np.bincount(train.items, minlength=vocabulary.num_rows)
    untested = EvaluationSet(nobody, nobody)
    return InteractionDataset("synthetic", Catalogue(vocabulary, {}, None, counts), train, untested, untested)


def configuration(order: ExampleOrder, length: int, options: argparse.Namespace) -> RunConfig:
    """SASRec with so many targets in a step, whichever the order."""
    batch = options.targets // length if order == "sequences" else options.targets
    settings = [
        f"data.examples={order}",
        f"data.history_length={length}",
        f"training.batch_size={max(batch, 1)}",
        f"model.dimension={options.dimension}",
        f"model.objective={{name: sampled_softmax, num_sampled: {options.num_sampled}}}",
        "model.extractor.encoder.positions=oldest",
    ]
    return load_config(system="sasrec", settings=settings)


def targets_per_second(order: ExampleOrder, length: int, dataset: InteractionDataset, options: argparse.Namespace) -> float:
    """By processor time; the median of the rounds."""
    tf.keras.backend.clear_session()
    config = configuration(order, length, options)
    optimizer = build_optimizer(config.optimizer, total_steps=options.steps * (options.repeats + 1))
    train_steps = step_runner(config, dataset, optimizer, options.steps)
    seconds = time_rounds(lambda: train_steps(0), options.repeats)["processor_seconds"]
    targets = config.training.batch_size * (length if order == "sequences" else 1) * options.steps
    return targets / statistics.median(seconds)


def peer_setting(length: int, options: argparse.Namespace) -> dict[str, Any]:
    """What the peer is told: sizes of ``configuration``, and what our encoder takes by default."""
    encoder, config = TransformerEncoder(), configuration("sequences", length, options)
    return {
        "length": length,
        "batch_size": config.training.batch_size,
        "dimension": options.dimension,
        "num_rows": options.items + FIRST_INDEX,
        "num_sampled": options.num_sampled,
        "temperature": config.model.temperature,
        "blocks": encoder.num_blocks,
        "heads": encoder.num_heads,
        "feed_forward": encoder.inner_dimension or 4 * options.dimension,
        "dropout": encoder.dropout,
    }


def peer_targets_per_second(python: Path, length: int, options: argparse.Namespace) -> dict[str, float]:
    """Of the peer with a dense gradient of the item table and with a sparse one."""
    command = [
        str(python),
        str(ROOT / "benchmarks" / "contenders" / "torch_sasrec.py"),
        "--setting",
        json.dumps(peer_setting(length, options)),
    ]
    command += ["--threads", str(options.threads), "--rounds", str(options.repeats), "--steps", str(options.steps)]
    variants = {"torch": command, "torch_sparse": [*command, "--sparse"]}
    return {name: rate([run_contender(variant, options.threads)], "processor_seconds") for name, variant in variants.items()}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = benchmark_arguments(__doc__ or "", repeats=3)
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 50, 200], help="lengths of the histories")
    parser.add_argument("--dimension", type=int, default=64, help="width of the vectors")
    parser.add_argument("--targets", type=int, default=1000, help="targets in a step")
    parser.add_argument("--num-sampled", type=int, default=1024, help="draws of the sampled softmax")
    parser.add_argument("--users", type=int, default=2000, help="synthetic histories")
    parser.add_argument("--items", type=int, default=20_000, help="items of the catalogue")
    parser.add_argument("--steps", type=int, default=8, help="training steps per timed round")
    parser.add_argument("--peer-environment", type=Path, default=ROOT / ".venv-torch", help="PyTorch's environment, made if need be")
    parser.add_argument("--no-peer", action="store_true", help="leave PyTorch out")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Measure and report."""
    stay_on_cores(options.threads)
    limit_threads(options.threads)
    python = None if options.no_peer else peer_python(options.peer_environment, TORCH_REQUIREMENTS, TORCH_PYTHON)
    results: dict[str, dict[str, float]] = {}
    for length in options.lengths:
        dataset = make_dataset(options.users, length, options.items, np.random.default_rng(options.seed))
        found: dict[str, float] = {order: targets_per_second(order, length, dataset, options) for order in ORDERS}
        if python is not None:
            found |= peer_targets_per_second(python, length, options)
        ours = found["sequences"]
        times = {f"times_{name}": round(ours / speed, 2) for name, speed in found.items() if name != "sequences"}
        results[str(length)] = {**{name: round(speed) for name, speed in found.items()}, **times}
        print(f"histories of {length}: {results[str(length)]}", flush=True)
    names = ("dimension", "targets", "num_sampled", "users", "items", "threads")
    setting = {name: getattr(options, name) for name in names}
    ratios = [] if python is None else [min(found["times_torch"], found["times_torch_sparse"]) for found in results.values()]
    targets = {f"at least {TARGET_RATIO:g} times PyTorch": min(ratios) >= TARGET_RATIO} if ratios else {}
    report("sequence_training_speed", {"setting": setting, "targets_per_processor_second": results}, targets)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    options = parse_arguments(arguments)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
