"""From a configuration to a trained model, the same for every kind of model that is trained by steps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.kinds.finished_run import set_precision
from tfmi.models.retrieval.build_retriever import count_parameters
from tfmi.plots.training_plots import plot_curves
from tfmi.training.run_folder import RunFolder
from tfmi.training.trainer import Trainer, TrainingTask

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=tf.keras.Model)


@dataclass(frozen=True)
class Fitted(Generic[Model]):
    """A trained model.

    Attributes:
        model: With the weights that were best on validation.
        took: What training took, for ``metrics.json``: steps, the best one, seconds, examples per second, parameters.
        observed_best: See ``TrainingState``.
    """

    model: Model
    took: dict[str, float]
    observed_best: dict[str, float]


def fit_model(
    build: Callable[[], Model],
    task_of: Callable[[Model], TrainingTask],
    config: RunConfig,
    folder: RunFolder,
    *,
    resume: bool,
    about: Callable[[Model], str] | None = None,
) -> Fitted[Model] | None:
    """Build a model as the run's determinism and precision ask for, train it, and draw its curves.

    Args:
        build: Makes the model.
        task_of: What the model learns from and is judged by.
        config: The run.
        folder: Already started or resumed with this configuration.
        resume: Continue from the folder's last checkpoint.
        about: What to say of the model beside the number of its parameters.

    Returns:
        The trained model, or None if training was stopped.
    """
    # Under determinism TensorFlow picks kernels whose sums do not depend on thread timing: the same seed gives the same weights.
    tf.config.experimental.enable_op_determinism()
    set_precision(config)
    model = build()
    trainer = Trainer(model, task_of(model), config, folder)
    if resume and trainer.restore():
        where = f"step {trainer.state.step:,} of {trainer.total_steps:,}"
        log.info("Training had finished at %s" if trainer.state.finished else "Resuming at %s", where)
    parameters = count_parameters(model)
    log.info(
        "Training %s: %s parameters, %s%s steps per epoch of %s examples, at most %s steps",
        config.system,
        f"{parameters:,}",
        "" if about is None else f"{about(model)}; ",
        f"{trainer.steps_per_epoch:,}",
        f"{trainer.steps_per_epoch * config.training.batch_size:,}",
        f"{trainer.total_steps:,}",
    )
    state = trainer.train()
    if state.curve:
        plot_curves(state.curve, config.training.monitor, folder.plots / "training.png")
    if state.stopped:
        log.info("Stopped at step %s. Continue with --resume --output %s", f"{state.step:,}", folder.path)
        return None
    took = {
        "steps": state.step,
        "best_step": state.best_step,
        "seconds": state.seconds,
        "examples_per_second": state.step * config.training.batch_size / max(state.seconds, 1e-9),
        "parameters": parameters,
    }
    return Fitted(model, took, state.observed_best)
