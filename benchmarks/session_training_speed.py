"""How much of the machine's float32 matrix-product rate training on sessions keeps busy, with the softmax over all items and with samples.

MTAW is trained, as a run's trainer trains it, on synthetic sessions in the size of Tmall's (65,286 sessions, 40,727 items). The useful
operations are those of the matrix products over real items (``flops.py``): padding, look-ups, exp and the optimizer are no use, only cost.
Before and after each timed round one large matrix product is timed in the same process, so that a machine whose clock or caches change
changes both. Shares by processor time leave out what other processes take.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from benchmarks.common import benchmark_arguments, limit_threads, report
from benchmarks.contenders.timing import stay_on_cores, time_rounds
from benchmarks.flops import distinct_draws, interest_trend_example_flops, softmax_example_flops
from benchmarks.step_time_by_catalogue import NumberedItems, step_runner
from benchmarks.synthetic import synthetic_sessions
from tfmi.cli.program import run_program
from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import Catalogue, EvaluationSet, InteractionDataset, Sequences
from tfmi.data.pipeline import examples_per_epoch
from tfmi.models.systems import load_config
from tfmi.training.optimizers import build_optimizer

SESSIONS = Path(__file__).resolve().parents[1] / "training" / "configs" / "sessions" / "mtaw.yaml"
TARGET_SHARE = 0.5


@dataclass(frozen=True)
class Case:
    """One setting to time.

    Attributes:
        objective: Its specification in a configuration.
        batch_size: Examples per step.
    """

    objective: dict[str, Any]
    batch_size: int

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.objective['name']}, batch {self.batch_size}"

    def config(self, file: Path, settings: Sequence[str]) -> RunConfig:
        """The run's configuration; raises ``ConfigError`` if it is not MTAW's, whose operations are counted."""
        config = load_config(file, settings=settings)
        if config.model.extractor["name"] != "interest_trend":
            raise ConfigError(f"{file}: model.extractor: expected interest_trend, got {config.model.extractor['name']}")
        model = config.model.model_copy(update={"objective": self.objective})
        training = config.training.model_copy(update={"batch_size": self.batch_size})
        return config.model_copy(update={"model": model, "training": training})


def make_dataset(sessions: int, items: int, random: np.random.Generator) -> InteractionDataset:
    """Training sessions of a catalogue of ``items``."""
    train = synthetic_sessions(sessions, items, random)
    nobody = Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32), None, None, np.zeros(0, np.int32))
    vocabulary = NumberedItems(items)
    counts = np.bincount(train.items, minlength=vocabulary.num_rows)
    return InteractionDataset(
        "synthetic", Catalogue(vocabulary, {}, None, counts), train, EvaluationSet(nobody, nobody), EvaluationSet(nobody, nobody)
    )


def example_flops(config: RunConfig, train: Sequences, num_items: int) -> float:
    """Useful operations of one training example on average."""
    lengths = train.lengths()
    # Every event after the first is a target with all events before it as history.
    histories = np.concatenate([np.arange(1, length) for length in lengths])
    objective, dimension = config.model.objective, config.model.dimension
    compared = float(num_items)
    if objective["name"] == "sampled_softmax":
        compared = distinct_draws(objective["num_sampled"], num_items) + 1
    encoder = interest_trend_example_flops(np.minimum(histories, config.data.history_length), dimension)
    return encoder + softmax_example_flops(compared, dimension)


def matrix_product(size: int) -> tuple[Callable[[], object], float]:
    """A large product to call, and its floating-point operations."""
    first, second = (tf.random.stateless_normal([size, size], seed=[seed, 0]) for seed in (1, 2))
    multiply = tf.function(lambda: tf.matmul(first, second), autograph=False)
    return lambda: multiply().numpy(), 2.0 * size**3


def measure(case: Case, config: RunConfig, dataset: InteractionDataset, options: argparse.Namespace) -> dict[str, float]:
    """One case's figures; medians over the rounds."""
    multiply, product_flops = matrix_product(options.matrix_size)
    optimizer = build_optimizer(config.optimizer, total_steps=options.steps * (options.repeats + 1))
    train_steps = step_runner(config, dataset, optimizer, options.steps)
    train_steps(0)  # compilation
    flops = example_flops(config, dataset.train.in_memory(), options.items) * case.batch_size
    seconds: list[float] = []
    rates: list[float] = []
    shares: dict[str, list[float]] = {"seconds": [], "processor_seconds": []}
    before = time_rounds(multiply, options.products)
    for repeat in range(options.repeats):
        timed = time_rounds(lambda: train_steps(repeat), 1, warm_up=False)  # noqa: B023 - called at once
        after = time_rounds(multiply, options.products)
        for clock, found in shares.items():
            rate = product_flops / statistics.median([*before[clock], *after[clock]])
            found.append(flops * options.steps / timed[clock][0] / rate)
        rates.append(rate)  # by processor time
        seconds.append(timed["processor_seconds"][0] / options.steps)
        before = after
    step = statistics.median(seconds)
    examples = examples_per_epoch(dataset.train, config.data.min_history)
    return {
        "processor_milliseconds_per_step": round(1e3 * step, 2),
        "processor_seconds_per_epoch": round(step * examples / case.batch_size, 1),
        "useful_gflop_per_step": round(flops / 1e9, 2),
        "float32_matmul_gflop_per_second": round(statistics.median(rates) / 1e9, 1),
        "share_of_float32_matmul": round(statistics.median(shares["seconds"]), 3),
        "share_of_float32_matmul_by_processor_time": round(statistics.median(shares["processor_seconds"]), 3),
    }


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = benchmark_arguments(__doc__ or "", repeats=5)
    parser.add_argument("--config", type=Path, default=SESSIONS, help="a configuration of MTAW")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="a setting, such as model.dimension=128")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[100, 512, 1024], help="examples per step")
    parser.add_argument("--num-sampled", type=int, default=4096, help="draws of the sampled softmax")
    parser.add_argument("--sessions", type=int, default=65_286, help="synthetic training sessions")
    parser.add_argument("--items", type=int, default=40_727, help="items of the catalogue")
    parser.add_argument("--steps", type=int, default=24, help="training steps per timed round")
    parser.add_argument("--matrix-size", type=int, default=2048, help="rows of the matrices that measure the float32 rate")
    parser.add_argument("--products", type=int, default=5, help="products of them before and after each round")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Measure and report."""
    stay_on_cores(options.threads)
    limit_threads(options.threads)
    dataset = make_dataset(options.sessions, options.items, np.random.default_rng(options.seed))
    objectives = [{"name": "full_softmax"}, {"name": "sampled_softmax", "num_sampled": options.num_sampled}]
    results: dict[str, dict[str, float]] = {}
    for case in [Case(objective, size) for objective in objectives for size in options.batch_sizes]:
        tf.keras.backend.clear_session()
        config = case.config(options.config, options.set)
        results[case.name] = {"dimension": config.model.dimension, **measure(case, config, dataset, options)}
        print(f"{case.name}: {results[case.name]}", flush=True)
    best = max(found["share_of_float32_matmul_by_processor_time"] for name, found in results.items() if name.startswith("full"))
    targets = {f"full softmax at {TARGET_SHARE:.0%} of the matrix-product rate, at its best batch size": best >= TARGET_SHARE}
    setting = {"threads": options.threads, "sessions": options.sessions, "items": options.items}
    report("session_training_speed", {**setting, "cases": results}, targets)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    options = parse_arguments(arguments)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
