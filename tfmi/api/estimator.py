"""What models of every kind have in common: built from settings, fitted on a dataset, measured, saved, exported and loaded."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf

from tfmi.api.dataset import PARTS, Dataset, Part
from tfmi.api.settings import COMMON_SHORTCUTS, given_keys, keyword_settings
from tfmi.config import RunConfig, merge, validate_config
from tfmi.core.errors import ConfigError, DataError
from tfmi.core.files import folder_appears_complete, write_atomically, write_json
from tfmi.export.exported_model import ExportedModel
from tfmi.export.saving import Answering
from tfmi.kinds.base import ModelKind, TrainedKind, kind_of
from tfmi.models.kind_settings import read_settings, refuse_unread, settings_yaml, with_defaults_where_unread
from tfmi.models.systems import load_config
from tfmi.models.training_step import count_parameters, create_variables
from tfmi.reports import write_report
from tfmi.training.fitting import Fitted, set_precision
from tfmi.training.run_folder import LOCK, OWN_DATA, RunFolder
from tfmi.training.trainer import TrainingState

OWN_SYSTEM = "my_system"  # the name of a recipe that gives itself none
# Of the section data, what belongs to the model: how much of a history it sees, and which targets it learns from.
MODEL_DATA_KEYS = frozenset({"history_length", "min_history", "examples"})


class Estimator(ABC):
    """A model of one kind. Subclasses say which kinds, and what it answers.

    Args:
        system: A system's name (``tfmi.SYSTEMS``), the path of a YAML configuration, or a recipe as a mapping.
        **settings: Settings by short name (``dimension=64``), by dotted key (``**{"model.temperature": 0.1}``) or as a section
            (``training={"max_epochs": 5}``).

    Attributes:
        settings: What was set, as a nested mapping.
        dataset: What it was fitted on, None before.

    Raises:
        ConfigError: There is no such system, it is of another kind, or a setting is wrong or has no effect in it.
    """

    # Short names of settings, beside those of every kind.
    shortcuts: ClassVar[Mapping[str, str]] = {}
    # What such a model is called in messages.
    a_model: ClassVar[str]

    def __init__(self, system: str | Path | Mapping[str, Any] = "mind", **settings: Any) -> None:
        self.settings = keyword_settings(settings, {**COMMON_SHORTCUTS, **self.shortcuts})
        self._file, self._system = _named(system)
        if isinstance(system, Mapping):
            self.settings = merge({"system": OWN_SYSTEM, **system}, self.settings)
        self._begin(self._configured({}))

    def _begin(self, config: RunConfig) -> None:
        self._config = config
        self.dataset: Dataset | None = None
        self._model: Any = None
        self._fitted: Fitted[Any, Any] | None = None
        self._metrics: dict[str, Any] | None = None
        self._measured_at: tuple[Any, int] | None = None
        self._version_of_fit: tuple[Any, int] = (None, 0)
        # Where checkpoints and curves of the training are; a temporary one lives as long as this object.
        self._run: RunFolder | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._exported: ExportedModel | None = None
        self._answering: dict[Any, Answering] = {}
        self._saved: Path | None = None  # the run folder that outlives this object, if there is one

    @classmethod
    @abstractmethod
    def accepts(cls, kind: ModelKind[Any, Any, Any]) -> bool:
        """Whether models of a kind are of this class."""

    # Its parts

    @property
    def config(self) -> RunConfig:
        """The whole configuration, as ``config.yaml`` of a run would hold it."""
        return self._config

    @property
    def kind(self) -> ModelKind[Any, Any, Any]:
        """The kind of model."""
        return kind_of(self._config)

    @property
    def model(self) -> Any:
        """The model itself, a ``tfrs.Model`` for Keras' ``compile`` and ``fit``; a ``HeuristicModel`` for a heuristic system.

        Raises:
            ConfigError: There is none yet.
        """
        self._require("model")
        if self._model is None:
            raise ConfigError(
                "model: this was loaded from an exported version, which answers but holds no Keras model; load its run folder"
            )
        return self._model

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``: test and validation metrics, slices, what training took. Computed at the first look."""
        self._require("metrics")
        if self._exported is not None:
            return dict(self._exported.metadata.get("metrics", {}))
        assert self._fitted is not None  # noqa: S101 - there is a model
        if self._metrics is None or self._measured_at != self._version():
            data, plots = self._data(), None if self._run is None else self._run.plots
            # Nobody may ever see a report of what lies in a temporary folder: ``save`` gathers what it needs.
            config = self._config if self._temporary is None else _without_report(self._config)
            self._metrics, self._measured_at = self.kind.measure(self._fitted, data, config, plots), self._version()
        return self._metrics

    def __repr__(self) -> str:
        state = "exported" if self._exported is not None else "not fitted" if self._model is None else f"fitted on {self._data().name}"
        return f"<tfmi.{type(self).__name__} {self._config.system}, {state}>"

    # Training

    def config_for(self, dataset: Dataset) -> RunConfig:
        """The configuration with which this model is fitted on a dataset.

        Raises:
            ConfigError: A setting of the data was given to the model, or has no effect in it.
        """
        if not isinstance(dataset, Dataset):
            raise DataError(f"dataset: expected a tfmi.Dataset, got {type(dataset).__name__}; make one with tfmi.Dataset.from_events")
        if dataset is self.dataset:
            return self._config
        of_data = [key for key in given_keys(self.settings.get("data", {})) if key.partition(".")[0] not in MODEL_DATA_KEYS]
        if of_data:
            raise ConfigError(
                f"data.{of_data[0]}: belongs to the data; give it to what makes the dataset, tfmi.Dataset.from_events or load"
            )
        return self._configured(dataset.settings)

    def build(self, dataset: Dataset) -> Any:
        """Build the model with fresh weights, for a loop of your own: ``model.compile`` and ``model.fit`` on ``dataset.batches(self)``.

        Returns:
            ``self``.
        """
        config = self.config_for(dataset)
        data = dataset.loaded(config)
        kind = kind_of(config)
        if not isinstance(kind, TrainedKind):
            raise ConfigError(f"build: {config.system!r} counts, it is not trained by steps; call fit(dataset)")
        set_precision(config)
        model = kind.build(config, data)
        create_variables(model, next(iter(kind.batches(model, data, config).from_step(0).take(1))))
        took = {"steps": 0, "seconds": 0.0, "examples_per_second": 0.0, "parameters": count_parameters(model)}
        self._take(dataset, config, Fitted(model, kind.evaluator(model, data, config), took))
        return self

    def fit(self, dataset: Dataset, *, callbacks: Sequence[tf.keras.callbacks.Callback] = (), folder: str | Path | None = None) -> Any:
        """Train, with early stopping on the validation part; the best weights are kept. Shows progress.

        Args:
            dataset: What to train on.
            callbacks: Keras callbacks; an epoch is what lies between two validations.
            folder: A run folder for checkpoints, curves and plots, as of the program ``train.py``; None keeps them only until ``save``.

        Returns:
            ``self``.

        Raises:
            ConfigError, DataError: Settings and data do not go together, or ``folder`` holds a run already.
            TrainingError: The loss is no longer finite.
            KeyboardInterrupt: It was stopped; with a ``folder``, ``train.py --resume`` goes on from there.
        """
        config = self.config_for(dataset)
        data, kind = dataset.loaded(config), kind_of(config)
        temporary = tempfile.TemporaryDirectory(prefix="tfmi-run-") if folder is None else None
        run = RunFolder(temporary.name if temporary is not None else Path(folder))  # type: ignore[arg-type]
        run.start(_stored(config, dataset))
        try:
            if folder is not None:
                dataset.copy_tables(run.path / OWN_DATA)
            fitted = kind.fit(config, data, run, callbacks=callbacks)
        finally:
            run.release()
        if fitted is None:
            raise KeyboardInterrupt
        self._take(dataset, config, fitted)
        self._run, self._temporary = run, temporary
        if folder is not None:
            write_json(run.metrics, self.metrics)
            if config.evaluation.report:
                write_report(run)
            self._saved = run.path
        return self

    # Measuring

    def evaluate(self, data: Dataset | Part | None = None) -> dict[str, Any]:
        """Measure the model.

        Args:
            data: ``dataset.test`` or ``dataset.valid`` for the metrics of that part; a dataset, or None for the one it was fitted on, for
                everything that ``metrics.json`` holds of a model. Other data than it was fitted on has to have the same items.

        Raises:
            ConfigError: It is not fitted, or the part is the training part.
            DataError: The data has other items than the model.
        """
        self._require("evaluate")
        part = data.name if isinstance(data, Part) else None
        dataset = data.dataset if isinstance(data, Part) else data
        if part == PARTS[0]:
            raise ConfigError("evaluate: the training part has no targets of its own; measure dataset.valid or dataset.test")
        if not isinstance(dataset, Dataset | None):
            raise DataError(f"evaluate: expected dataset.test, dataset.valid or a tfmi.Dataset, got {type(data).__name__}")
        measured = self._evaluated(dataset)
        return measured if part is None else measured[part]

    def _evaluated(self, dataset: Dataset | None) -> dict[str, Any]:
        if self._exported is not None:
            raise ConfigError("evaluate: this model is an exported version; measure it with the program tfmi-evaluate")
        if dataset is None or dataset is self.dataset:
            return self.metrics
        config = self._configured(dataset.settings)
        data, own = dataset.loaded(config), self._data()
        if self.kind.vocabulary(data).ids != self.kind.vocabulary(own).ids:
            raise DataError(
                "evaluate: this data has other items, or items in another order, than the data that the model was fitted on; export the "
                "model and measure it by its answers, with the program tfmi-evaluate"
            )
        return self.kind.evaluate(self._model, data, config)

    # Keeping

    def save(self, folder: str | Path) -> Path:
        """Keep the model, its data (if it was made from tables) and its metrics as a run folder.

        ``tfmi.load`` reads it, and so do the programs: ``train.py --resume`` continues or exports it.

        Returns:
            The folder.

        Raises:
            ConfigError: It is not fitted, or the folder holds a run already.
            StorageError: The folder cannot be written.
        """
        self._require("save")
        folder = Path(folder)
        if self._exported is not None or self.dataset is None:
            raise ConfigError("save: this model is an exported version, whose folder is complete as it is; copy that")
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"save: {folder} is not empty; choose another folder")
        metrics = self.metrics
        with folder_appears_complete(folder) as temporary:
            run = RunFolder(temporary)
            if self._run is not None and not self._trained_further():
                shutil.copytree(self._run.path, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LOCK))
            elif isinstance(self._model, tf.keras.Model):
                tf.train.Checkpoint(model=self._model).write(str(run.best_weights))
                _, step = self._version()
                run.write_state(asdict(TrainingState(step=step, finished=True, data=self.kind.fingerprint(self._data()))))
            write_atomically(run.config, settings_yaml(_stored(self._config, self.dataset)))
            self.dataset.copy_tables(temporary / OWN_DATA)
            write_json(run.metrics, metrics)
            if self._config.evaluation.report:
                if not run.gathered.exists():
                    assert self._fitted is not None  # noqa: S101 - there is a model
                    self.kind.evaluate(self._model, self._data(), self._config, evaluator=self._fitted.evaluator, plots=run.plots)
                write_report(run, shown_path=str(folder))
        self._saved = folder
        return folder

    def export(self, path: str | Path, index: str | None = None) -> Path:
        """Publish the model for TensorFlow Serving, with its index inside.

        Args:
            path: The model's own folder, ``savedmodels/<name>``; versions are numbered folders in it.
            index: "scann" or "exact"; None takes ``index.kind`` of the settings.

        Returns:
            The new version's folder.

        Raises:
            ConfigError: It is not fitted.
            ExportError, IndexBuildError: The export cannot work; nothing is published.
        """
        self._require("export")
        if self._exported is not None:
            raise ConfigError("export: this model is an exported version already")
        config = self._config
        if index is not None:
            config = _changed(config, {"index": {"kind": index}})
        version = self.kind.export(self._model, self._data(), self._published(config), Path(path), metrics=self.metrics)
        if self._saved is not None and config.evaluation.report:
            write_report(RunFolder(self._saved), version)
        return version

    @classmethod
    def _of_run(cls, run: RunFolder, config: RunConfig) -> Any:
        """The estimator of a finished run."""
        kind = kind_of(config)
        own = run.path / OWN_DATA
        dataset = Dataset.of_run(config, own if own.is_dir() else None)
        loaded = cls._bare(config)
        data = dataset.loaded(config)
        model = kind.load_model(config, data, run)
        metrics = run.read_metrics()
        loaded._take(dataset, config, Fitted(model, kind.evaluator(model, data, config), metrics.get("train", {})))
        loaded._run, loaded._metrics, loaded._measured_at, loaded._saved = run, metrics, loaded._version(), run.path
        return loaded

    @classmethod
    def _of_export(cls, exported: ExportedModel, config: RunConfig) -> Any:
        """The estimator of an exported version."""
        loaded = cls._bare(config)
        loaded._exported = exported
        return loaded

    @classmethod
    def _bare(cls, config: RunConfig) -> Any:
        """An estimator with all settings of a finished run but those of its data."""
        loaded = cls.__new__(cls)
        settings = read_settings(config)
        of_model = {key: value for key, value in settings.get("data", {}).items() if key in MODEL_DATA_KEYS}
        loaded.settings = {**settings, "data": of_model}
        loaded._file, loaded._system = None, None
        loaded._begin(config)
        return loaded

    # For subclasses

    def _require(self, what: str) -> None:
        """Raise ``ConfigError`` unless there is a model."""
        if self._model is None and self._exported is None:
            raise ConfigError(f"{what}: this {type(self).__name__} is not fitted; call fit(dataset) first, or tfmi.load a fitted one")

    def _data(self) -> Any:
        assert self.dataset is not None  # noqa: S101 - callers have asked for a fitted model
        return self.dataset.loaded(self._config)

    def _configured(self, of_data: Mapping[str, Any]) -> RunConfig:
        config = load_config(self._file, self._system, overrides=self.settings, where_read={"data": dict(of_data)})
        if not self.accepts(kind_of(config)):
            raise ConfigError(f"{config.system!r} is {kind_of(config).a_model}; {type(self).__name__} is for {self.a_model}")
        return config

    def _take(self, dataset: Dataset, config: RunConfig, fitted: Fitted[Any, Any]) -> None:
        """Have a model now, with nothing known of the one before."""
        self._begin(config)
        self.dataset, self._model, self._fitted = dataset, fitted.model, fitted
        self._version_of_fit = self._version()

    def _version(self) -> tuple[Any, int]:
        """What changes when the model is trained: what was computed from its weights holds for one version."""
        optimizer = getattr(self._model, "optimizer", None)
        return optimizer, 0 if optimizer is None else int(optimizer.iterations)

    def _trained_further(self) -> bool:
        """Whether the model was trained by other means than ``fit`` since."""
        now, before = self._version(), self._version_of_fit
        return now[1] > 0 and (now[0] is not before[0] or now[1] != before[1])

    def _published(self, config: RunConfig) -> RunConfig:
        """The configuration as an export's metadata says it: tables in memory are found nowhere, unless they were saved."""
        assert self.dataset is not None  # noqa: S101 - callers have asked for a fitted model
        stored = _stored(config, self.dataset)
        if self.dataset.is_from_tables and self._saved is not None:
            stored = stored.model_copy(update={"data": stored.data.model_copy(update={"path": str(self._saved / OWN_DATA)})})
        return stored


def _named(system: str | Path | Mapping[str, Any]) -> tuple[Path | None, str | None]:
    """The configuration file or the system's name that was given."""
    if isinstance(system, Mapping):
        return None, None
    if isinstance(system, Path) or str(system).endswith((".yaml", ".yml")):
        return Path(system), None
    if not isinstance(system, str):
        raise ConfigError(f"system: expected a system's name, the path of a YAML file or a recipe (a mapping), got {system!r}")
    return None, system


def _stored(config: RunConfig, dataset: Dataset) -> RunConfig:
    """The configuration as a run folder keeps it: tables of its own are found there, wherever it is moved."""
    if not dataset.is_from_tables:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"path": None, "cache": None})})


def _without_report(config: RunConfig) -> RunConfig:
    """The configuration of a measure that gathers nothing for a report."""
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"report": False})})


def _changed(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """The configuration with other settings; raises ``ConfigError`` if one is wrong or has no effect."""
    changed = validate_config(merge(read_settings(config), settings))
    refuse_unread(changed, settings)
    return with_defaults_where_unread(changed)
