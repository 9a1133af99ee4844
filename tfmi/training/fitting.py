"""From a configuration to a trained model, the same for every kind of model that is trained by steps."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError
from tfmi.models.training_step import count_parameters
from tfmi.plots.training_plots import plot_curves
from tfmi.training.distribution.joining import Distribution, current_distribution
from tfmi.training.distribution.twin import TwinPlan
from tfmi.training.run_folder import RunFolder
from tfmi.training.trainer import RunnerOf, Trainer, TrainingTask, budget, run_here

log = logging.getLogger(__name__)

Model = TypeVar("Model")
Evaluator = TypeVar("Evaluator")


@dataclass(frozen=True)
class Fitted(Generic[Model, Evaluator]):
    """A trained model.

    Attributes:
        model: With the weights that were best on validation.
        evaluator: What measured it in training; it measures the model as it is now just as well.
        took: What training took, for ``metrics.json``: steps, the best one, seconds, examples per second, parameters,
            what was watched, and what was chosen at the end (``TrainingTask.settle``).
        observed_best: See ``TrainingState``.
    """

    model: Model
    evaluator: Evaluator
    took: dict[str, Any]
    observed_best: dict[str, float] = field(default_factory=dict)


def fit_model(
    build: Callable[[], Model],
    evaluator_of: Callable[[Model], Evaluator],
    task_of: Callable[[Model, Evaluator], TrainingTask],
    config: RunConfig,
    folder: RunFolder | None,
    *,
    resume: bool = False,
    about: Callable[[Model], str] | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    begin: Callable[[Trainer], None] = lambda trainer: None,
) -> Fitted[Model, Evaluator] | None:
    """Build a model as the run's determinism and precision ask for, train it, and draw its curves.

    Args:
        build: Makes the model.
        evaluator_of: Makes what measures it.
        task_of: What the model learns from and is judged by.
        config: The run.
        folder: Already started or resumed with this configuration; None leaves nothing behind.
        resume: Continue from the folder's last checkpoint.
        about: What to say of the model beside the number of its parameters.
        callbacks: Keras callbacks for ``fit``.
        begin: Called before the first step of a run that is not continued, for weights from elsewhere.

    Returns:
        The trained model, or None if training was stopped, or if this process only helped the chief of a cluster.
    """
    with _kept_or_thrown_away(folder) as place:
        # Under determinism TensorFlow picks kernels whose sums do not depend on thread timing: the same seed gives the same weights.
        tf.config.experimental.enable_op_determinism()
        set_precision(config)
        model = build()
        evaluator = evaluator_of(model)
        task = task_of(model, evaluator)
        distribution = current_distribution()
        if distribution is not None and not distribution.is_chief:
            _help(distribution, build, task, config)
            return None
        trainer = Trainer(model, task, config, place, callbacks=callbacks, runner_of=_runner_of(distribution, build, config))
        if resume and trainer.restore():
            where = f"step {trainer.state.step:,} of {trainer.total_steps:,}"
            log.info("Training had finished at %s" if trainer.state.finished else "Resuming at %s", where)
        else:
            begin(trainer)
        parameters = count_parameters(model)
        more = "" if about is None else about(model)
        log.info(
            "Training %s: %s parameters, %s%s steps per epoch of %s examples, at most %s steps",
            config.system,
            f"{parameters:,}",
            more and f"{more}; ",
            f"{trainer.steps_per_epoch:,}",
            f"{trainer.steps_per_epoch * config.training.batch_size:,}",
            f"{trainer.total_steps:,}",
        )
        state = trainer.train()
        if state.curve and folder is not None:
            plot_curves(state.curve, trainer.monitor, folder.plots / "training.png")
        if state.stopped:
            log.info(
                "Stopped at step %s. Continue with --resume --output %s; with --max-steps %s as well, it ends with the best weights so far",
                f"{state.step:,}",
                place.path,
                state.step,
            )
            return None
        took = {
            "steps": state.step,
            "best_step": state.best_step,
            "seconds": state.seconds,
            "examples_per_second": state.step * trainer.targets_per_step / max(state.seconds, 1e-9),
            "parameters": parameters,
            "monitor": trainer.monitor,
            **trainer.settled,
        }
        return Fitted(model, evaluator, took, state.observed_best)


def _runner_of(distribution: Distribution | None, build: Callable[[], Any], config: RunConfig) -> RunnerOf:
    """Who takes the trainer's steps."""
    if distribution is None:
        return run_here
    return lambda model, batch, total_steps: distribution.runner(TwinPlan(build, batch, config, total_steps), model)


def _help(distribution: Distribution, build: Callable[[], Any], task: TrainingTask, config: RunConfig) -> None:
    """Take the steps that the chief asks for, until it is done."""
    batch = next(iter(task.batches.from_step(0).take(1)))
    _, total_steps = budget(task, config)
    distribution.helper(TwinPlan(build, batch, config, total_steps)).follow(task.batches)


@contextmanager
def _kept_or_thrown_away(folder: RunFolder | None) -> Iterator[RunFolder]:
    """The folder, or one that is gone afterwards: the best weights outlive the steps after them in checkpoints."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="tfmi-fit-") as temporary:
        yield RunFolder(temporary)


def set_precision(config: RunConfig) -> None:
    """Make Keras compute in the run's precision: float32, or mixed with what the machine is fast with."""
    policy = "float32"
    if config.training.mixed_precision:
        policy = "mixed_float16" if tf.config.list_physical_devices("GPU") else "mixed_bfloat16"
    tf.keras.mixed_precision.set_global_policy(policy)


def restore_best(model: tf.keras.Model, run: RunFolder) -> None:
    """Give the model the weights that were best on validation; raises ``ConfigError`` if they cannot be read."""
    checkpoint = tf.train.Checkpoint(model=model)
    try:
        checkpoint.read(str(run.best_weights)).expect_partial().assert_existing_objects_matched()
    except (tf.errors.OpError, AssertionError) as error:
        raise ConfigError(f"{run.best_weights}: the weights of this run cannot be read: {str(error).splitlines()[0]}") from None
