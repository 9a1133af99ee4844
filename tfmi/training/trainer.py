"""The training loop: plain ``fit`` between validations, early stopping, checkpoints that continue exactly."""

from __future__ import annotations

import logging
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, DataError, TrainingError
from tfmi.core.files import write_json, writing
from tfmi.core.heartbeat import doing
from tfmi.evaluation.metrics import LOWER_IS_BETTER
from tfmi.models.kind_settings import reads
from tfmi.models.training_step import Batch
from tfmi.training.monitors import Monitor
from tfmi.training.run_folder import RunFolder
from tfmi.training.steps import BatchStream, LocalSteps, StepRunner, ready_to_train

log = logging.getLogger(__name__)

RunnerOf = Callable[[tf.keras.Model, Batch, int], StepRunner]


@dataclass(frozen=True)
class TrainingTask:
    """What a model learns from and is judged by, whatever kind of model it is.

    Attributes:
        dataset: The data's name, for messages.
        fingerprint: A digest of the data: a run is not continued with other data.
        num_examples: Examples of an epoch, at least 1.
        batches: What ``fit`` gets.
        validate: The metrics of the model as it is now, the monitor among them.
        monitor: Which of them decides; None: ``training.monitor``.
        observe: Further metrics of the model as it is now, of which more is better. They are looked at after every validation and choose
            nothing: neither when training ends nor which weights are kept. None: there are none.
        targets_per_example: How many targets an example holds on average: speeds are told in targets, which cost and teach the same
            however they are put together.
        settle: Chooses by a validation metric, the monitor, what is not learned, once training has ended and the model has its best
            weights, and says what it has chosen, by name. What it changes in the model is kept with these weights. None: there is nothing
            to choose.
    """

    dataset: str
    fingerprint: str
    num_examples: int
    batches: BatchStream
    validate: Callable[[], dict[str, float]]
    monitor: Monitor | None = None
    observe: Callable[[], dict[str, float]] | None = None
    targets_per_example: float = 1.0
    settle: Callable[[str], dict[str, float]] | None = None


@dataclass
class TrainingState:
    """How far training has come. Written after every checkpoint, so that the two always agree.

    Attributes:
        step: Steps taken.
        seconds: Time spent in training steps, validations left out.
        best_value, best_step: The best validation so far; None and 0 before the first.
        rounds_without_improvement: Validations since then.
        finished: Training has ended by itself (not by Ctrl-C).
        stopped: The user has asked to stop; the run can be resumed.
        checkpoint: The checkpoint that belongs to this state.
        curve: One row per validation.
        data: The fingerprint of what the run trains on.
        observed_best: The largest value so far of each metric of ``TrainingTask.observe``.
        monitor: The metric that decides, where training has turned to another than it began with; else empty.
        round_steps, round_losses: Steps since the last validation, and sums of the losses over them; not 0 where a round was stopped.
    """

    step: int = 0
    seconds: float = 0.0
    best_value: float | None = None
    best_step: int = 0
    rounds_without_improvement: int = 0
    finished: bool = False
    stopped: bool = False
    checkpoint: str = ""
    curve: list[dict[str, float]] = field(default_factory=list)
    data: str = ""
    observed_best: dict[str, float] = field(default_factory=dict)
    monitor: str = ""
    round_steps: int = 0
    round_losses: dict[str, float] = field(default_factory=dict)

    def add_losses(self, losses: dict[str, float], steps: int) -> None:
        """Count the mean ``losses`` of ``steps`` further steps of the current round."""
        self.round_steps += steps
        self.round_losses = {name: self.round_losses.get(name, 0.0) + value * steps for name, value in losses.items()}

    def finish_round(self) -> dict[str, float]:
        """The mean losses of the round's steps, wherever it was stopped in between; the next round begins."""
        means = {name: value / self.round_steps for name, value in self.round_losses.items()}
        self.round_steps, self.round_losses = 0, {}
        return means


class _Progress(tf.keras.callbacks.Callback):
    """Moves the bar, stops ``fit`` after the current execution when asked to, and at once when the loss is no longer finite."""

    def __init__(self, bar: tqdm, config: RunConfig, targets_per_step: float, stops_within_rounds: bool = True) -> None:
        super().__init__()
        self.bar, self.config = bar, config
        self.targets_per_step = targets_per_step
        self.stop_requested = False
        self.stops_within_rounds = stops_within_rounds
        self.first_step = self.steps = 0
        self._round_started = 0.0
        self._said = "compiling"

    def speaking(self) -> str:
        """Loss and speed for people."""
        return self._said

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.steps, self._round_started = 0, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # With steps_per_execution above 1, `batch` is the last step of the execution.
        done = batch + 1
        if not all(math.isfinite(value) for value in (logs or {}).values()):
            raise _diverged(self.first_step + done, logs or {}, self.config)
        self.bar.update(done - self.steps)
        self.steps = done
        speed = self.steps * self.targets_per_step / max(time.perf_counter() - self._round_started, 1e-9)
        self._said = f"loss {(logs or {}).get('loss', float('nan')):.4f}, {speed:,.0f} examples/s"
        self.bar.set_postfix_str(self._said, refresh=False)
        if self.stop_requested and self.stops_within_rounds:
            self.model.stop_training = True


class _BatchEvents(tf.keras.callbacks.Callback):
    """Passes on what happens at batches: the other events of one ``fit`` are not those of training as a whole."""

    def __init__(self, callbacks: tf.keras.callbacks.CallbackList) -> None:
        super().__init__()
        self._callbacks = callbacks

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._callbacks.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._callbacks.on_train_batch_end(batch, logs)


def _diverged(step: int, losses: dict[str, float], config: RunConfig) -> TrainingError:
    named = ", ".join(f"{name} {value}" for name, value in losses.items())
    clip = "set optimizer.clip_norm (1.0, say)" if config.optimizer.clip_norm is None else "lower optimizer.clip_norm"
    warmer = f", or raise model.temperature (now {config.model.temperature:g})" if reads(config, "model.temperature") else ""
    return TrainingError(
        f"training stopped at step {step}: the loss is not finite ({named}). Lower optimizer.learning_rate "
        f"(now {config.optimizer.learning_rate:g}), {clip}{warmer}, and start a new run; a --resume would come to the same step"
    )


@contextmanager
def _writing(path: Path, wanted: int | None = None) -> Iterator[None]:
    """Turn errors of writing (no space left, no permission) into a message that names the folder; see ``writing``."""
    with writing(path, wanted=wanted, raises=TrainingError):
        yield


@contextmanager
def _writing_checkpoint(folder: Path, variables: Sequence[tf.Variable]) -> Iterator[None]:
    """``_writing`` for a checkpoint of ``variables``; what TensorFlow leaves of one that cannot be written is removed."""
    wanted = sum(math.prod(variable.shape) * variable.dtype.size for variable in variables)
    try:
        with _writing(folder, wanted):
            yield
    except TrainingError:
        for left in [*folder.glob("*_temp"), *folder.glob("*.tempstate*")]:
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        raise


@contextmanager
def _stop_on_interrupt(progress: _Progress) -> Iterator[None]:
    """Turn the first Ctrl-C into a request to stop after the current execution; a second one interrupts at once."""

    def request(number: int, frame: FrameType | None) -> None:
        if progress.stop_requested:
            raise KeyboardInterrupt
        progress.stop_requested = True
        when = "this step" if progress.stops_within_rounds else "the next validation, where all processes are at the same step,"
        tqdm.write(f"Stopping after {when} and saving; press Ctrl-C again to stop at once without saving.")

    try:
        previous = signal.signal(signal.SIGINT, request)
    except ValueError:  # Not the main thread: whoever runs us there handles signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class Trainer:
    """Trains a model as its configuration says, from the start or from where a run folder's checkpoint left off.

    Args:
        model: A ``tf.keras.Model`` with ``compute_loss(batch, training)``, not yet compiled.
        task: What to train and validate on.
        config: The run.
        folder: Where checkpoints, state and curves go.
        callbacks: Further Keras callbacks for ``fit``, for which an epoch is what lies between two validations.
        runner_of: From the model, any batch and the number of all steps to who takes them; this process, if it is not given.

    Raises:
        TrainingError: The folder cannot be written.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        task: TrainingTask,
        config: RunConfig,
        folder: RunFolder,
        *,
        callbacks: Sequence[tf.keras.callbacks.Callback] = (),
        runner_of: RunnerOf | None = None,
    ) -> None:
        self.model, self.task, self.config, self.folder = model, task, config, folder
        self._callbacks = tf.keras.callbacks.CallbackList(list(callbacks), model=model)
        self.targets_per_step = config.training.batch_size * task.targets_per_example
        self.steps_per_epoch, self.total_steps = budget(task, config)
        self.steps_per_round = min(config.training.evaluate_every or self.steps_per_epoch, self.total_steps)
        batch = next(iter(task.batches.from_step(0).take(1)))
        ready_to_train(model, batch, config, self.total_steps)
        self._steps = (runner_of or run_here)(model, batch, self.total_steps)
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        with _writing(folder.checkpoints):
            self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder.checkpoints), max_to_keep=2)
        self._best = tf.train.Checkpoint(model=model)
        self.state = TrainingState(data=task.fingerprint)
        self.settled: dict[str, float] = {}  # see TrainingTask.settle
        self._asked = task.monitor or Monitor(config.training.monitor)
        if self._asked.why:
            log.info("Watching validation %s: %s", self._asked.name, self._asked.why)
        if self.total_steps <= config.optimizer.warmup_steps:
            log.warning(
                "optimizer.warmup_steps: %s steps of warm-up fill all %s training steps, so that the learning rate never reaches %g",
                f"{config.optimizer.warmup_steps:,}",
                f"{self.total_steps:,}",
                config.optimizer.learning_rate,
            )

    @property
    def monitor(self) -> str:
        """The validation metric that decides when training ends and which weights are kept."""
        return self.state.monitor or self._asked.name

    def restore(self) -> bool:
        """Continue from the folder's last checkpoint; returns False, changing nothing, if there is none yet.

        Raises:
            ConfigError: What is there was not trained by this loop.
            DataError: The data is not what the run was started with.
        """
        stored = self.folder.read_state()
        if stored is None:
            return False
        state = TrainingState(**{**stored, "stopped": False})
        if state.data != self.state.data:
            raise DataError(
                f"--resume: the data {self.task.dataset!r} has changed since the run in {self.folder.path} was started: its items, their "
                "counts or the held-out users differ. Bring the former data back, or start a new run in another folder"
            )
        if not state.checkpoint:
            raise ConfigError(
                f"--resume: the model in {self.folder.path} was trained by a loop of its own, which left no state of the optimizer to "
                "continue with; read it with tfmi.load, and export or train it from there"
            )
        # Limits may have been raised since.
        state.finished = self._is_finished(state)
        self.state = state
        self._checkpoint.restore(str(self.folder.checkpoints / self.state.checkpoint)).assert_existing_objects_matched()
        return True

    def train(self) -> TrainingState:
        """Train until the steps are used up, validation stops improving, or Ctrl-C; the best weights are in the model afterwards.

        Raises:
            TrainingError: The loss is no longer finite, or the folder cannot be written.
        """
        state = self.state
        description = f"{self.config.system} on {self.task.dataset}"
        with tqdm(total=self.total_steps, initial=state.step, desc=description, unit="step", disable=None) as bar:
            progress = _Progress(bar, self.config, self.targets_per_step, self._steps.stops_within_rounds)
            with _stop_on_interrupt(progress), self._tensorboard() as write_scalars, self._training_events():
                self._steps.load()
                while not state.finished and not state.stopped:
                    epoch = len(state.curve)
                    if self._steps_left_of_round():
                        self._callbacks.on_epoch_begin(epoch)
                        self._run_round(progress)
                    state.stopped = progress.stop_requested
                    if not state.stopped:
                        row = self._validate()
                        write_scalars(row, state.step)
                        tqdm.write(self._summary(row))
                        self._callbacks.on_epoch_end(epoch, self._logs(row))
                        # A callback may end training, as Keras' EarlyStopping does.
                        state.finished = self._is_finished(state) or bool(self.model.stop_training)
                    self._save()
                self._steps.close()
        if state.finished:
            self._warn_if_nothing_moved()
        if not state.stopped and state.best_step:
            self._best.restore(str(self.folder.best_weights)).expect_partial()
            self._settle()
        return state

    def _settle(self) -> None:
        if self.task.settle is None:
            return
        with doing("choosing on validation what is not learned"):
            self.settled = self.task.settle(self.monitor)
        with _writing_checkpoint(self.folder.best, self.model.variables):
            self._best.write(str(self.folder.best_weights))

    @contextmanager
    def _training_events(self) -> Iterator[None]:
        self._callbacks.on_train_begin()
        yield
        self._callbacks.on_train_end()

    def _logs(self, row: dict[str, float]) -> dict[str, float]:
        """A validation as Keras names it: losses by their names, what was measured on held-out data with ``val_`` before it."""
        known = {"step", "seconds", "loss", *(tracker.name for tracker in self.model.metrics)}
        return {name if name in known else f"val_{name}": value for name, value in row.items()}

    def _is_finished(self, state: TrainingState) -> bool:
        if state.round_steps:  # stopped before their validation
            return False
        return state.step >= self.total_steps or state.rounds_without_improvement >= self.config.training.patience

    def _steps_left_of_round(self) -> int:
        """Steps until the next validation. Rounds end at multiples of their length, wherever a stopped run begins again."""
        state = self.state
        # A resumed run may have a smaller budget than it has used up.
        left = max(0, min(self.steps_per_round - state.step % self.steps_per_round, self.total_steps - state.step))
        stopped_at_its_end = state.round_steps and left in (0, self.steps_per_round)
        return 0 if stopped_at_its_end else left

    def _run_round(self, progress: _Progress) -> None:
        state = self.state
        progress.first_step = state.step
        started = time.perf_counter()
        batches, steps = self.task.batches, self._steps_left_of_round()
        with doing(lambda: f"training: step {state.step + progress.steps:,} of {self.total_steps:,}, {progress.speaking()}"):
            losses = self._steps.run(batches, state.step, steps, [progress, _BatchEvents(self._callbacks)])
        state.seconds += time.perf_counter() - started
        state.step += progress.steps
        state.add_losses(losses, progress.steps)

    def _validate(self) -> dict[str, float]:
        state = self.state
        with doing(f"validating at step {state.step:,}"):
            metrics = self.task.validate()
        self._turn_to_what_moves(metrics)
        monitor = self.monitor
        value = metrics[monitor]
        if is_improvement(monitor, value, state.best_value):
            state.best_value, state.best_step, state.rounds_without_improvement = value, state.step, 0
            with _writing_checkpoint(self.folder.best, self.model.variables):
                self._best.write(str(self.folder.best_weights))
        else:
            state.rounds_without_improvement += 1
        if self.task.observe is not None:
            with doing(f"looking at the test users at step {state.step:,}"):
                observed = self.task.observe()
            state.observed_best = {name: max(value, state.observed_best.get(name, value)) for name, value in observed.items()}
        row = {"step": float(state.step), "seconds": state.seconds, **state.finish_round(), **metrics}
        state.curve.append(row)
        write_json(self.folder.curves, state.curve)
        return row

    def _turn_to_what_moves(self, metrics: dict[str, float]) -> None:
        """At the second validation, watch another metric where the first choice has not moved, or is not there, and the other has.

        Later it is too late: the weights of earlier validations are gone.
        """
        state, monitor = self.state, self.monitor
        others = [name for name in self._asked.others if name in metrics]
        if monitor not in metrics:
            if not others:
                raise TrainingError(
                    f"training.monitor: validation has no {monitor!r} (of rows of one outcome there is no AUC, say); it has: "
                    f"{', '.join(sorted(metrics))}. Choose one of these, or bring more validation data"
                )
            state.monitor = others[0]
            log.warning("Validation has no %s; watching %s instead", monitor, state.monitor)
            return
        if len(state.curve) != 1 or metrics[monitor] != state.curve[0].get(monitor):
            return
        first = state.curve[0]
        moved = next((name for name in others if name in first and metrics[name] != first[name]), None)
        if moved is not None:
            state.monitor, state.best_value = moved, first[moved]
            log.warning("Validation %s is %.4f again; watching %s, which moves, instead", monitor, metrics[monitor], moved)

    def _warn_if_nothing_moved(self) -> None:
        values = [row.get(self.monitor) for row in self.state.curve]
        if len(values) > 1 and len(set(values)) == 1:
            log.warning(
                "Validation %s was %.4f at all %s validations, so that training ended with the weights of the first. Choose another "
                "training.monitor or another model, or bring more validation data",
                self.monitor,
                values[0],
                len(values),
            )

    def _summary(self, row: dict[str, float]) -> str:
        monitor = self.monitor
        speed = row["step"] * self.targets_per_step / max(row["seconds"], 1e-9)
        state = self.state
        best = "best so far" if state.best_step == state.step else f"best {state.best_value:.4f} at step {state.best_step}"
        return (
            f"step {state.step:>6} of {self.total_steps}: loss {row['loss']:.4f}, validation {monitor} {row[monitor]:.4f} ({best}), "
            f"{speed:,.0f} examples/s"
        )

    def _save(self) -> None:
        with _writing_checkpoint(self.folder.checkpoints, [*self.model.variables, *self.model.optimizer.variables]):
            self.state.checkpoint = self._manager.save(checkpoint_number=self.state.step).rsplit("/", 1)[-1]
        self.folder.write_state(asdict(self.state))

    @contextmanager
    def _tensorboard(self) -> Iterator[Any]:
        if not self.config.training.tensorboard:
            yield lambda row, step: None
            return
        with _writing(self.folder.tensorboard):
            writer = tf.summary.create_file_writer(str(self.folder.tensorboard))

        def write(row: dict[str, float], step: int) -> None:
            with _writing(self.folder.tensorboard), writer.as_default():
                for name, value in row.items():
                    if name != "step":
                        tf.summary.scalar(name.replace("@", "_at_"), value, step=step)
                writer.flush()

        try:
            yield write
        finally:
            writer.close()


def run_here(model: tf.keras.Model, batch: Batch, total_steps: int) -> StepRunner:
    """Steps in this process alone."""
    del batch, total_steps
    return LocalSteps(model)


def budget(task: TrainingTask, config: RunConfig) -> tuple[int, int]:
    """Steps of an epoch, and the most that training may take."""
    each = max(1, round(task.num_examples / config.training.batch_size))
    return each, config.training.max_steps or each * config.training.max_epochs


def is_improvement(monitor: str, value: float, best: float | None) -> bool:
    """Whether ``value`` is the best of ``monitor`` so far: anything is better than nothing, and than what is not a number."""
    if best is None or math.isnan(best):
        return True
    return value < best if monitor in LOWER_IS_BETTER else value > best
