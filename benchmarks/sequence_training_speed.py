"""Targets per second of SASRec with one pass over a history for all of its targets, beside one pass for each of them.

``data.examples: sequences`` and ``prefixes`` train the same model on the same synthetic histories, all as long as the window, with a
softmax over the same samples. A step of either has as many targets. Processor time counts, which other processes on the machine do not
add to.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from benchmarks.common import benchmark_arguments, limit_threads, report
from benchmarks.contenders.timing import stay_on_cores, time_rounds
from benchmarks.step_time_by_catalogue import NumberedItems, step_runner
from benchmarks.synthetic import sequences_of_lengths
from tfmi.cli.program import run_program
from tfmi.config import RunConfig
from tfmi.data.dataset import Catalogue, EvaluationSet, InteractionDataset, Sequences
from tfmi.data.pipeline import ExampleOrder
from tfmi.models.systems import load_config
from tfmi.training.optimizers import build_optimizer

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
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Measure and report."""
    stay_on_cores(options.threads)
    limit_threads(options.threads)
    results: dict[str, dict[str, float]] = {}
    for length in options.lengths:
        dataset = make_dataset(options.users, length, options.items, np.random.default_rng(options.seed))
        found = {order: targets_per_second(order, length, dataset, options) for order in ORDERS}
        times = found["sequences"] / found["prefixes"]
        results[str(length)] = {**{order: round(rate) for order, rate in found.items()}, "times": round(times, 2)}
        print(f"histories of {length}: {results[str(length)]}", flush=True)
    names = ("dimension", "targets", "num_sampled", "users", "items", "threads")
    setting = {name: getattr(options, name) for name in names}
    report("sequence_training_speed", {"setting": setting, "targets_per_processor_second": results}, {})
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    options = parse_arguments(arguments)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
