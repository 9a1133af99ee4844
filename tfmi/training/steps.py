"""Who takes the training steps between two validations: this process alone, or several devices and processes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.models.training_step import Batch, create_variables
from tfmi.training.optimizers import build_optimizer


class BatchStream(Protocol):
    """Training batches, each of which follows from the seed and its step alone."""

    def from_step(self, step: int) -> tf.data.Dataset:
        """An infinite dataset of the batches of ``step``, ``step + 1``, ..."""

    def part(self, index: int, count: int) -> BatchStream:
        """The ``index``-th of ``count`` equal parts of every batch; together the parts hold every example of an epoch once."""


class StepRunner(Protocol):
    """Takes the steps of a model, wherever its weights are while it learns.

    Attributes:
        stops_within_rounds: Whether training can stop between two validations; otherwise it goes on to the next one.
    """

    stops_within_rounds: bool

    def load(self) -> None:
        """Take over the weights and the optimizer's state of the model as they are now."""

    def run(self, batches: BatchStream, first_step: int, steps: int, callbacks: Sequence[tf.keras.callbacks.Callback]) -> dict[str, float]:
        """Take ``steps`` steps and bring the weights back to the model; returns the mean losses by name."""

    def close(self) -> None:
        """Training is over."""


def ready_to_train(model: tf.keras.Model, batch: Batch, config: RunConfig, total_steps: int) -> tf.keras.Model:
    """The model with all its variables, compiled with the optimizer that the configuration describes."""
    create_variables(model, batch)
    optimizer = build_optimizer(config.optimizer, total_steps)
    if config.training.mixed_precision and tf.keras.mixed_precision.global_policy().compute_dtype == "float16":
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=config.training.steps_per_execution)
    return model


class LocalSteps:
    """Plain ``fit`` of the model itself."""

    stops_within_rounds = True

    def __init__(self, model: tf.keras.Model) -> None:
        self._model = model

    def load(self) -> None:
        """The model learns where it is."""

    def run(self, batches: BatchStream, first_step: int, steps: int, callbacks: Sequence[tf.keras.callbacks.Callback]) -> dict[str, float]:
        """See ``StepRunner``."""
        history = self._model.fit(batches.from_step(first_step), epochs=1, steps_per_epoch=steps, callbacks=list(callbacks), verbose=0)
        return {name: float(values[-1]) for name, values in history.history.items()}

    def close(self) -> None:
        """Nothing is left open."""
