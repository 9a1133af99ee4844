"""A whole run, of whatever kind its model is."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.core.files import write_json
from tfmi.core.heartbeat import doing
from tfmi.kinds.base import ModelKind, kind_of
from tfmi.models.training_step import free_optimizer
from tfmi.reports import write_report
from tfmi.training.distribution.joining import Distribution, losses_of_processes_said, under
from tfmi.training.run_folder import RunFolder
from tfmi.training.run_result import RunResult

log = logging.getLogger(__name__)


def run(
    config: RunConfig,
    folder: RunFolder,
    savedmodels: Path | None,
    resume: bool = False,
    *,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    distribution: Distribution | None = None,
) -> RunResult:
    """Do what a configuration describes: load, train, measure, publish.

    Args:
        config: Checked by ``load_config``.
        folder: Already started or resumed with this configuration.
        savedmodels: Where ``<name>/<version>`` is published; None exports nothing.
        resume: Continue from the folder's last checkpoint.
        callbacks: Keras callbacks for ``fit``.
        distribution: The devices and processes that train together, of which this process is the chief; None: this process alone.

    Raises:
        TfmiError: The data, the configuration or the export has a problem that the user can fix.
    """
    folder.claim()
    try:
        return _run(config, folder, savedmodels, resume=resume, callbacks=callbacks, distribution=distribution)
    finally:
        folder.release()


def _run(
    config: RunConfig,
    folder: RunFolder,
    savedmodels: Path | None,
    *,
    resume: bool,
    callbacks: Sequence[tf.keras.callbacks.Callback],
    distribution: Distribution | None,
) -> RunResult:
    kind = kind_of(config)
    target = None if savedmodels is None else savedmodels / (config.export.name or config.system)
    if target is not None:
        kind.check_export(config, target)
    started = time.perf_counter()
    with doing("loading the data"):
        data = kind.load_data(config)
    log.info("Loaded %s in %.1f s: %s", data.name, time.perf_counter() - started, kind.describe_data(data))
    for decision in kind.decisions(config, data):
        log.info("%s", decision)
    exporter = None if target is None else kind.exporter(config, data, folder, target)
    with under(distribution), losses_of_processes_said(distribution):
        trained = train(kind, config, data, folder, resume=resume, callbacks=callbacks)
    if trained is None:
        return RunResult(None, folder, None)
    model, metrics = trained
    added = {} if exporter is None else exporter.prepare(model)
    if added is None:
        return RunResult(None, folder, None)
    metrics |= added
    write_json(folder.metrics, metrics)
    published = None
    if exporter is not None:
        with doing("exporting"):
            published = exporter.publish(model, metrics)
    if config.evaluation.report:
        write_report(folder, published)
    return RunResult(metrics, folder, published)


def help_chief(config: RunConfig, distribution: Distribution) -> None:
    """Load the data and take the training steps that the chief of the cluster asks for, until it is done.

    Raises:
        TfmiError: The data or the configuration has a problem that the user can fix, or the chief is gone.
    """
    kind = kind_of(config)
    data = kind.load_data(config)
    with under(distribution), losses_of_processes_said(distribution):
        kind.fit(config, data)


def train(
    kind: ModelKind[Any, Any, Any],
    config: RunConfig,
    data: Any,
    folder: RunFolder,
    *,
    resume: bool = False,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
) -> tuple[Any, dict[str, Any]] | None:
    """Train a model on data that is already loaded, and measure it: the model and its metrics, None if training was stopped."""
    with doing("preparing the model"):
        fitted = kind.fit(config, data, folder, resume=resume, callbacks=callbacks)
    if fitted is None:
        return None
    if isinstance(fitted.model, tf.keras.Model):
        free_optimizer(fitted.model)
    with doing("measuring on the test users"):
        return fitted.model, kind.measure(fitted, data, config, folder.plots)


def describe_metrics(config: RunConfig, metrics: Mapping[str, Any]) -> str:
    """The test metrics of a finished run, for people to read."""
    return kind_of(config).describe(config, metrics)
