"""What can be known of an export before training: nobody should learn after hours that the model cannot be written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tfmi.config import NAME_PATTERN, IndexConfig
from tfmi.core.errors import ConfigError, ExportError, IndexBuildError
from tfmi.index.scann import ScannIndex, load_scann_ops


def check_export(index: IndexConfig, directory: Path, needs_index: bool) -> None:
    """Check that a model can be published under ``directory`` later. Leaves nothing behind.

    Args:
        index: The kind of index to build.
        directory: The model's directory, ``savedmodels/<name>``; it need not exist.
        needs_index: Whether the model is searched with an index; those that rank by themselves are not.

    Raises:
        ConfigError: The model's name cannot be served, or the index cannot be built on this machine.
        ExportError: The directory cannot be made or written.
    """
    if not NAME_PATTERN.fullmatch(directory.name):
        raise ConfigError(
            f"export.name: a model cannot be served as {directory.name!r}; expected ASCII letters, digits, '.', '_' and '-', beginning "
            "with a letter or digit, e.g. --set export.name=my-model"
        )
    if needs_index and index.kind == ScannIndex.kind:
        try:
            load_scann_ops()
        except IndexBuildError as error:
            raise ConfigError(f"index.kind: {error}: --index exact or --index partitioned; or without an export: --no-export") from None
    _check_writable(directory)


def _check_writable(directory: Path) -> None:
    existing = next(folder for folder in (directory, *directory.absolute().parents) if folder.exists())
    try:
        # Permissions, read-only file systems and quotas all speak when a folder is made, and only then.
        tempfile.TemporaryDirectory(prefix="tmp-check-", dir=existing).cleanup()
    except OSError as error:
        raise ExportError(
            f"{directory}: a model cannot be written here: {error}; choose another folder with --savedmodels, or train without an "
            "export: --no-export"
        ) from None
