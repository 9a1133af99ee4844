"""From a servable in memory to a published version: save, replay, describe, publish."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmi.core.errors import ExportError, TfmiError
from tfmi.export.exported_model import ExportedModel
from tfmi.export.metadata import write_metadata
from tfmi.export.publishing import publish
from tfmi.export.saving import Signatures
from tfmi.export.warmup import WarmupRequest, compare_answers, read_warmup, write_warmup

RUN_METADATA = ("system", "configuration", "metrics", "data")


def release(
    directory: Path,
    servable: Signatures,
    requests: Sequence[WarmupRequest],
    description: Mapping[str, Any],
    *,
    version: int | None = None,
    write_details: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Publish a servable, once its saved files answer the requests as the model in memory does.

    Args:
        directory: The model's directory, ``savedmodels/<name>``.
        servable: The signatures.
        requests: To warm a server up, and to compare answers by.
        description: The metadata.
        version: The version number; None takes 1 + the highest one.
        write_details: Writes what no server reads into the folder, see ``tfmi.export.item_details``.

    Returns:
        The published ``<directory>/<version>``.

    Raises:
        ExportError: The answers differ, or the folder cannot be written; nothing is left behind.
    """

    def fill(folder: Path) -> None:
        servable.save(folder)
        write_warmup(folder, directory.name, requests)
        write_metadata(folder, description)
        write_details(folder)
        _replay(folder, servable)

    return publish(directory, fill, version)


@contextlib.contextmanager
def export_errors(directory: Path) -> Iterator[None]:
    """Whatever goes wrong inside, as an ``ExportError`` that says what was not published."""
    try:
        yield
    except TfmiError:
        raise
    except Exception as error:
        raise ExportError(f"{directory}: the model could not be exported, so nothing was published: {error}") from error


def check_run_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise ``ExportError`` unless a run describes itself with the keys that there are."""
    odd_keys = sorted(set(metadata) - set(RUN_METADATA))
    if odd_keys:
        raise ExportError(f"metadata: unknown keys {odd_keys}; a run describes itself with {list(RUN_METADATA)}")


def _replay(folder: Path, servable: Signatures) -> None:
    """Read the warm-up requests back and answer them from the saved files alone; any difference raises ``ExportError``."""
    saved = ExportedModel(folder)
    for request in read_warmup(folder):
        expected = servable.answer(request.signature, request.inputs)
        compare_answers(request, expected, saved.predict(request.signature, request.inputs))
