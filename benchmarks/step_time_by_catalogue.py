"""Time of one training step of MIND by the size of the catalogue: row-sparse Adam beside tf-keras' Adam.

The whole step that ``fit`` takes: a batch from the pipeline, sampled softmax, gradients, optimizer. All items are equally popular, so that
a larger catalogue also means fewer repeated rows and fewer that are still in a cache.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import tfmi  # noqa: F401 - selects Keras 2 before TensorFlow is imported

import tensorflow as tf  # isort: skip

from benchmarks.common import benchmark_arguments, limit_threads, median_seconds, report
from benchmarks.synthetic import synthetic_sequences
from tfmi.config import RunConfig
from tfmi.data.dataset import FIRST_INDEX, Catalogue, EvaluationSet, InteractionDataset, Sequences, Vocabulary
from tfmi.data.pipeline import TrainingBatches
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.systems import load_config
from tfmi.models.training_step import create_variables
from tfmi.training.optimizers import build_optimizer

REFERENCE = Path(__file__).resolve().parents[1] / "training" / "configs" / "reference" / "mind.yaml"
TARGET_RATIO = 2.5

Optimizer: TypeAlias = tf.keras.optimizers.Optimizer


class NumberedItems(Vocabulary):
    """Items known by their numbers alone: millions of strings would say nothing here and take a gigabyte."""

    def __init__(self, count: int) -> None:
        super().__init__([])
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def num_rows(self) -> int:
        """Indices in use."""
        return self._count + FIRST_INDEX


def make_dataset(users: int, items: int, random: np.random.Generator) -> InteractionDataset:
    """Training sequences of a catalogue of ``items``."""
    train = synthetic_sequences(users, items, random, skewed=False)
    nobody = Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32), None, None, np.zeros(0, np.int32))
    untested = EvaluationSet(nobody, nobody)
    vocabulary = NumberedItems(items)
    counts = np.bincount(train.items, minlength=vocabulary.num_rows)
    return InteractionDataset("synthetic", Catalogue(vocabulary, {}, None, counts), train, untested, untested)


def step_runner(config: RunConfig, dataset: InteractionDataset, optimizer: Optimizer, steps: int) -> Callable[[int], object]:
    """A function that takes ``steps`` training steps, as a run's trainer takes them."""
    data = config.data
    batches = TrainingBatches(
        dataset.train,
        history_length=data.history_length,
        min_history=data.min_history,
        batch_size=config.training.batch_size,
        seed=config.seed,
        order=data.examples,
    ).from_step(0)
    model = build_model(config, dataset)
    create_variables(model, next(iter(batches.take(1))))
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=min(config.training.steps_per_execution, steps))
    return lambda run: model.fit(batches, steps_per_epoch=steps, verbose=0)


def keras_adam(config: RunConfig) -> Optimizer:
    """tf-keras' own Adam with the same settings."""
    settings = config.optimizer
    return tf.keras.optimizers.Adam(settings.learning_rate, settings.beta_1, settings.beta_2, settings.epsilon, jit_compile=False)


def measure(
    options: argparse.Namespace, config: RunConfig, sizes: Sequence[int], make_optimizer: Callable[[], Optimizer], steps: int
) -> dict[str, float]:
    """Median milliseconds of a step, by catalogue size. All sizes are in memory together, so that they can take turns."""
    random = np.random.default_rng(options.seed)
    runners = {str(items): step_runner(config, make_dataset(options.users, items, random), make_optimizer(), steps) for items in sizes}
    seconds = median_seconds(runners, options.repeats)
    return {items: 1e3 * value / steps for items, value in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = benchmark_arguments(__doc__ or "", repeats=7)
    parser.add_argument("--config", type=Path, default=REFERENCE, help="a configuration of a system of interests")
    parser.add_argument("--small", type=int, default=10_000, help="items of the small catalogue")
    parser.add_argument("--large", type=int, default=5_000_000, help="items of the large catalogue")
    parser.add_argument("--peer-items", type=int, nargs="*", default=[100_000, 1_000_000], help="catalogues to measure tf-keras' Adam at")
    parser.add_argument("--users", type=int, default=50_000, help="users of the synthetic sequences")
    parser.add_argument("--steps", type=int, default=400, help="training steps per timed run")
    parser.add_argument("--peer-steps", type=int, default=8, help="training steps per timed run of tf-keras' Adam")
    options = parser.parse_args(arguments)
    limit_threads(options.threads)
    config = load_config(options.config)

    print(f"row-sparse Adam at {options.small:,} and {options.large:,} items ...", flush=True)
    sizes = (options.small, options.large)
    ours = measure(options, config, sizes, lambda: build_optimizer(config.optimizer, total_steps=options.steps), options.steps)
    peers: dict[str, float] = {}
    for items in options.peer_items:
        print(f"tf-keras' Adam at {items:,} items ...", flush=True)
        tf.keras.backend.clear_session()
        peers.update(measure(options, config, [items], lambda: keras_adam(config), options.peer_steps))
    ratio = ours[str(options.large)] / ours[str(options.small)]
    results = {
        "threads": options.threads,
        "dimension": config.model.dimension,
        "batch_size": config.training.batch_size,
        "milliseconds_per_step": {items: round(value, 3) for items, value in ours.items()},
        "large_over_small": round(ratio, 3),
        "keras_adam_milliseconds_per_step": {items: round(value, 3) for items, value in peers.items()},
        # Linux counts kibibytes.
        "peak_memory_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }
    report("step_time_by_catalogue", results, {f"at most {TARGET_RATIO} times the step of the small catalogue": ratio <= TARGET_RATIO})


if __name__ == "__main__":
    main()
