"""A finished run, back in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.dataset import Dataset
from tfmi.data.loading import load_dataset
from tfmi.data.pipeline import training_batches
from tfmi.models.recommender import Recommender
from tfmi.models.retrieval.build_retriever import build_heuristic, build_model, create_variables
from tfmi.training.fingerprint import data_fingerprint
from tfmi.training.run_folder import RunFolder


@dataclass(frozen=True)
class LoadedRun:
    """What a run trained, on what, and how it was described."""

    config: RunConfig
    dataset: Dataset
    recommender: Recommender


def load_run(folder: str | Path) -> LoadedRun:
    """Load a run folder: its data again, and the weights that were best on validation; a counting system counts again.

    Sets the global precision policy to the run's.

    Raises:
        ConfigError: The folder holds no run of a retriever, or one that has not come to its end.
        DataError: The data cannot be read, or is not what the run was trained on.
    """
    config = finished_config(RunFolder(folder))
    if config.model.kind not in {"interests", "heuristic"}:
        raise ConfigError(f"{folder}: expected the run of a retriever, but {config.system!r} is of kind {config.model.kind!r}")
    dataset = load_dataset(config.data)
    return LoadedRun(config, dataset, load_recommender(folder, dataset))


def finished_config(run: RunFolder) -> RunConfig:
    """The configuration of a run that has come to its end; raises ``ConfigError`` if the folder holds none."""
    if not run.holds_run:
        raise ConfigError(f"{run.path}: expected the folder of a run, but there is no {run.config.name}")
    if not run.metrics.exists():
        raise ConfigError(f"{run.path}: this run has not come to its end; continue it with training/train.py --resume --output {run.path}")
    return run.stored_config()


def load_recommender(folder: str | Path, dataset: Dataset) -> Recommender:
    """What a finished run trained on ``dataset``; see ``load_run``, which loads that, too."""
    run = RunFolder(folder)
    config = finished_config(run)
    if config.model.kind == "heuristic":
        return build_heuristic(config, dataset)
    state = run.read_state() or {}
    if state.get("data") != data_fingerprint(dataset):
        raise DataError(
            f"{run.path}: the data {dataset.name!r} has changed since this run: its items, their counts or the held-out users differ"
        )
    set_precision(config)
    model = build_model(config, dataset)
    create_variables(model, _one_batch(config, dataset))
    restore_best(model, run)
    return model


def set_precision(config: RunConfig) -> None:
    """Make Keras compute in the run's precision: float32, or mixed with what the machine is fast with."""
    policy = "float32"
    if config.training.mixed_precision:
        policy = "mixed_float16" if tf.config.list_physical_devices("GPU") else "mixed_bfloat16"
    tf.keras.mixed_precision.set_global_policy(policy)


def _one_batch(config: RunConfig, dataset: Dataset) -> dict[str, tf.Tensor]:
    batches = training_batches(
        dataset.train,
        history_length=config.data.history_length,
        min_history=config.data.min_history,
        batch_size=config.training.batch_size,
        seed=config.seed,
        profiles=dataset.profiles,
    )
    batch: dict[str, tf.Tensor] = next(iter(batches.take(1)))
    return batch


def restore_best(model: tf.keras.Model, run: RunFolder) -> None:
    """Give the model the weights that were best on validation; raises ``ConfigError`` if they cannot be read."""
    checkpoint = tf.train.Checkpoint(model=model)
    try:
        checkpoint.read(str(run.best_weights)).expect_partial().assert_existing_objects_matched()
    except (tf.errors.OpError, AssertionError) as error:
        raise ConfigError(f"{run.best_weights}: the weights of this run cannot be read: {str(error).splitlines()[0]}") from None
