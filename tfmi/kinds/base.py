"""What a kind of model is: one object that knows its data, its training, its measures and its exports."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.core.versions import versions
from tfmi.data.dataset import InteractionDataset, Vocabulary
from tfmi.export.preflight import check_export
from tfmi.models.kind_settings import MODEL_KINDS, KindSettings, read_settings, settings_of_kind
from tfmi.models.training_step import create_variables
from tfmi.training.fitting import Fitted, fit_model, restore_best, set_precision
from tfmi.training.run_folder import RunFolder
from tfmi.training.steps import BatchStream
from tfmi.training.trainer import Trainer, TrainingTask


class LoadedData(Protocol):
    """What every kind's data has: a name, and counts of what was read."""

    @property
    def name(self) -> str:
        """Short name for messages."""

    @property
    def report(self) -> Mapping[str, Any]:
        """Counts for ``metrics.json``."""


Data = TypeVar("Data", bound=LoadedData)
Model = TypeVar("Model")
Evaluator = TypeVar("Evaluator")


@dataclass(frozen=True)
class LoadedRun(Generic[Data, Model]):
    """What a finished run trained, on what, and how it was described."""

    config: RunConfig
    dataset: Data
    model: Model


class Exporter(ABC, Generic[Model]):
    """How a run publishes its model. Made before training, so that nobody learns after hours what cannot be exported."""

    def prepare(self, model: Model) -> dict[str, Any] | None:
        """Make what else an export needs; returns metrics to add to the run's, None if the user has stopped it."""
        del model
        return {}

    @abstractmethod
    def publish(self, model: Model, metrics: Mapping[str, Any]) -> Path:
        """Publish a version; returns its folder."""


class ModelKind(KindSettings, Generic[Data, Model, Evaluator]):
    """A kind of model, from a configuration to a published SavedModel. Nothing else asks what kind a model is of.

    A new kind is one class in ``tfmi.kinds``, registered with ``register_kind``. ``tfmi.kinds.runner`` puts the methods together; a
    program of your own may call them one by one, with data that is already in memory:

        kind = kind_of(config)
        data = kind.load_data(config)
        fitted = kind.fit(config, data)
        metrics = kind.evaluate(fitted.model, data, config)
        folder = kind.export(fitted.model, data, config, Path("savedmodels/mine"), metrics=metrics)

    Attributes:
        answers: What an export answers requests with.
        is_retriever: Whether it finds items for users in the whole catalogue, so that a ranker can stand behind it.
        data_that_counts: What ``fingerprint`` looks at, in messages.
    """

    answers = "items"
    is_retriever = False
    data_that_counts = "items, counts or held-out users"

    # Data

    @abstractmethod
    def load_data(self, config: RunConfig) -> Data:
        """Load and split what ``config.data`` names; raises ``ConfigError`` or ``DataError``."""

    def decisions(self, config: RunConfig, data: Data) -> list[str]:
        """What the data has decided where the configuration leaves it open, and why, a line each."""
        del config, data
        return []

    @abstractmethod
    def describe_data(self, data: Data) -> str:
        """How much data there is, in one line."""

    @abstractmethod
    def fingerprint(self, data: Data) -> str:
        """A digest of what weights and metrics depend on: a run is never continued with other data."""

    def vocabulary(self, data: Data) -> Vocabulary:
        """What answers are made of: the items, or the tags."""
        vocabulary: Vocabulary = cast(Any, data).catalogue.vocabulary
        return vocabulary

    def load_clicks(self, config: RunConfig) -> InteractionDataset:
        """The users and items on which an export that recommends items is measured.

        Raises:
            ConfigError: This kind does not answer with items.
        """
        raise ConfigError(f"{config.system!r} is {self.a_model}, which answers with {self.answers}, not with items")

    def load_everybody(self, config: RunConfig) -> InteractionDataset:
        """Everybody in a file as somebody to test, by the rule of the configuration's split; raises as ``load_clicks``."""
        return self.load_clicks(config)

    # Training

    @abstractmethod
    def build(self, config: RunConfig, data: Data) -> Model:
        """A model for the data with fresh weights; sets the global random seed. Raises ``ConfigError``."""

    @abstractmethod
    def evaluator(self, model: Model, data: Data, config: RunConfig) -> Evaluator:
        """What measures the model with the weights it has at each call, in training and afterwards; compiled once."""

    @abstractmethod
    def fit(
        self,
        config: RunConfig,
        data: Data,
        folder: RunFolder | None = None,
        *,
        resume: bool = False,
        callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    ) -> Fitted[Model, Evaluator] | None:
        """Build and train a model.

        Args:
            config: The run.
            data: What to train it on, whatever ``config.data`` names.
            folder: Started or resumed with this configuration, for checkpoints and plots. None leaves nothing behind.
            resume: Continue from the folder's last checkpoint.
            callbacks: Keras callbacks for ``fit``; an epoch is what lies between two validations.

        Returns:
            The model with the weights that were best on validation; None if training was stopped.

        Raises:
            TrainingError: The loss is no longer finite, or the folder cannot be written.
        """

    # Measuring

    @abstractmethod
    def evaluate(
        self, model: Model, data: Data, config: RunConfig, *, evaluator: Evaluator | None = None, plots: Path | None = None
    ) -> dict[str, Any]:
        """The metrics of ``metrics.json`` that depend on the model and its data.

        Args:
            model: A trained model.
            data: Its data.
            config: Cutoffs and options.
            evaluator: Of this model, if there is one already.
            plots: A folder for what is drawn of the model; None draws nothing.
        """

    def measure(self, fitted: Fitted[Model, Evaluator], data: Data, config: RunConfig, plots: Path | None = None) -> dict[str, Any]:
        """The whole content of ``metrics.json`` of a run."""
        return {
            **self.evaluate(fitted.model, data, config, evaluator=fitted.evaluator, plots=plots),
            "train": fitted.took,
            "data": dict(data.report),
            "versions": versions(),
            "system": config.system,
            "dataset": data.name,
            "seed": config.seed,
        }

    @abstractmethod
    def describe(self, config: RunConfig, metrics: Mapping[str, Any]) -> str:
        """The test metrics for people to read, as lines of text."""

    # Export

    needs_index = True

    def check_export(self, config: RunConfig, target: Path) -> None:
        """Refuse an export that cannot work, before anything is loaded; raises ``ConfigError`` or ``ExportError``."""
        check_export(config.index, target, needs_index=self.needs_index)

    @abstractmethod
    def exporter(self, config: RunConfig, data: Data, folder: RunFolder, target: Path) -> Exporter[Model]:
        """What publishes the run's model under ``target``, ``savedmodels/<name>``."""

    def export(
        self,
        model: Model,
        data: Data,
        config: RunConfig,
        target: Path,
        *,
        metrics: Mapping[str, Any] | None = None,
        folder: RunFolder | None = None,
    ) -> Path:
        """Publish a trained model.

        Args:
            model: The model.
            data: What it was trained on.
            config: The run.
            target: The model's own folder, in which versions are published.
            metrics: What to say of it in the metadata; None says nothing.
            folder: For what else the export trains, as a ranker's does; None leaves nothing of it behind.

        Raises:
            TfmiError: The export cannot work; nothing is published.
        """
        self.check_export(config, target)
        with tempfile.TemporaryDirectory(prefix="tfmi-export-") as temporary:
            exporter = self.exporter(config, data, folder or RunFolder(temporary), target)
            added = exporter.prepare(model)
            if added is None:
                raise KeyboardInterrupt
            return exporter.publish(model, {**(metrics or {}), **added})

    # Finished runs

    def load_model(self, config: RunConfig, data: Data, folder: RunFolder) -> Model:
        """The model that a finished run trained on ``data``, with the weights that were best on validation.

        Sets the global precision policy to the run's.

        Raises:
            ConfigError: The weights cannot be read.
            DataError: The data is not what the run was trained on.
        """
        if (folder.read_state() or {}).get("data") != self.fingerprint(data):
            raise DataError(f"{folder.path}: the data {data.name!r} has changed since this run: its {self.data_that_counts} differ")
        return self._restored(config, data, folder)

    @abstractmethod
    def _restored(self, config: RunConfig, data: Data, folder: RunFolder) -> Model:
        """The model with the run's weights; the data is known to fit."""

    def load_finished(self, path: str | Path) -> LoadedRun[Data, Model]:
        """Load a run folder of this kind: its data again, and its model.

        Raises:
            ConfigError: The folder holds no run of this kind, or one that has not come to its end.
            DataError: The data cannot be read, or is not what the run was trained on.
        """
        folder = RunFolder(path)
        if folder.holds_run and (config := folder.stored_config()).model.kind != self.name:
            raise ConfigError(f"{folder.path}: expected the run of {self.a_model}, but {config.system!r} is of kind {config.model.kind!r}")
        config = folder.finished_config()
        data = self.load_data(config)
        return LoadedRun(config, data, self.load_model(config, data, folder))


class TrainedKind(ModelKind[Data, Model, Evaluator]):
    """A kind whose models are Keras models that are trained by steps."""

    @abstractmethod
    def batches(self, model: Model, data: Data, config: RunConfig) -> BatchStream:
        """Training batches."""

    @abstractmethod
    def task(self, model: Model, data: Data, config: RunConfig, evaluator: Evaluator | None = None) -> TrainingTask:
        """What a model learns from and is judged by."""

    def about(self, model: Model) -> str:
        """What to say of a model beside the number of its parameters when training begins."""
        del model
        return ""

    def fit(
        self,
        config: RunConfig,
        data: Data,
        folder: RunFolder | None = None,
        *,
        resume: bool = False,
        callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    ) -> Fitted[Model, Evaluator] | None:
        """See ``ModelKind.fit``."""
        return fit_model(
            lambda: self.build(config, data),
            lambda model: self.evaluator(model, data, config),
            lambda model, evaluator: self.task(model, data, config, evaluator),
            config,
            folder,
            resume=resume,
            about=self.about,
            callbacks=callbacks,
            begin=lambda trainer: self.begin(trainer, data, config),
        )

    def begin(self, trainer: Trainer, data: Data, config: RunConfig) -> None:
        """Called before the first step of a new run; a kind may bring weights from elsewhere."""
        del trainer, data, config

    def _restored(self, config: RunConfig, data: Data, folder: RunFolder) -> Model:
        set_precision(config)
        model = self.build(config, data)
        create_variables(cast(tf.keras.Model, model), next(iter(self.batches(model, data, config).from_step(0).take(1))))
        restore_best(cast(tf.keras.Model, model), folder)
        return model


def kind_of(config: RunConfig) -> ModelKind[Any, Any, Any]:
    """The kind of model that a configuration describes."""
    return kind_named(config.model.kind)


def kind_named(name: str) -> ModelKind[Any, Any, Any]:
    """The kind that is called ``name`` in ``model.kind``."""
    return cast("ModelKind[Any, Any, Any]", settings_of_kind(name))


def all_kinds() -> list[ModelKind[Any, Any, Any]]:
    """Every kind of model."""
    return [kind_named(name) for name in MODEL_KINDS.names()]


def load_finished(path: str | Path) -> LoadedRun[Any, Any]:
    """Load a run folder, of whatever kind its model is; see ``ModelKind.load_finished``."""
    return kind_of(RunFolder(path).finished_config()).load_finished(path)


def run_metadata(config: RunConfig, data: LoadedData, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What an export says about the run that it comes from."""
    return {"system": config.system, "configuration": read_settings(config), "metrics": metrics, "data": dict(data.report)}
