"""``tfmi.load``: a run folder or an exported version, as what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfmi.api.estimator import Estimator
from tfmi.api.ranker import Ranker
from tfmi.api.recommender import Recommender
from tfmi.api.tag_model import TagModel
from tfmi.config import RunConfig, validate_config
from tfmi.core.errors import ConfigError
from tfmi.export.exported_model import ExportedModel
from tfmi.export.publishing import newest_version
from tfmi.kinds.base import kind_of
from tfmi.models.kind_settings import with_defaults_where_unread
from tfmi.training.run_folder import RunFolder

CLASSES: tuple[type[Estimator], ...] = (Recommender, Ranker, TagModel)


def load(path: str | Path) -> Any:
    """Load a model: a run folder, of ``save`` or of the program ``train.py``; or an exported version.

    Args:
        path: ``runs/<run>``; ``savedmodels/<name>/<version>``, or ``savedmodels/<name>`` for the newest version.

    Returns:
        A ``Recommender``, ``Ranker`` or ``TagModel``. Of a run it has its data again, and can be evaluated, exported and trained again; an
        exported version answers without its data or any of its Python code.

    Raises:
        ConfigError: The folder holds neither, or a run that has not come to its end; or a plugin that it needs is missing.
        DataError: The data of a run cannot be read, or has changed since.
        ExportError: The version is damaged.
    """
    path = Path(path)
    run = RunFolder(path)
    if run.holds_run:
        config = run.finished_config()
        return _class_of(config)._of_run(run, config)
    version = newest_version(path)
    if not (version / "saved_model.pb").exists():
        raise ConfigError(
            f"{path}: expected a run folder (with {run.config.name}) or an exported version (savedmodels/<name>/<version>), found neither"
        )
    exported = ExportedModel(version)
    if "configuration" not in exported.metadata:
        raise ConfigError(f"{version}: its metadata holds no configuration, which says what kind of model it is; export it with tfmi")
    # What answers is the version itself: a plugin's code is not needed, and may be absent.
    described = {key: value for key, value in exported.metadata["configuration"].items() if key != "plugins"}
    config = with_defaults_where_unread(validate_config(described))
    return _class_of(config)._of_export(exported, config)


def _class_of(config: RunConfig) -> type[Estimator]:
    kind = kind_of(config)
    return next(each for each in CLASSES if each.accepts(kind))
