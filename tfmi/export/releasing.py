"""From signatures in memory to a published version: warm-up, description, folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmi.core.errors import ExportError, TfmiError
from tfmi.export.exported_model import ExportedModel
from tfmi.export.metadata import write_metadata
from tfmi.export.publishing import publish
from tfmi.export.saving import ReleasedSignatures, Signatures
from tfmi.export.warmup import compare_answers, read_warmup, write_warmup


def release(
    directory: Path,
    signatures: ReleasedSignatures,
    described: Mapping[str, Any],
    *,
    batch_sizes: Sequence[int],
    version: int | None = None,
    write_details: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Publish signatures, once their saved files answer requests as the model in memory does.

    Args:
        directory: The model's directory, ``savedmodels/<name>``.
        signatures: What is served.
        described: What the metadata says beside the signatures' own description.
        batch_sizes: Of the requests that warm a server up, and by which answers are compared.
        version: The version number; None takes 1 + the highest one.
        write_details: Writes what no server reads into the folder, see ``tfmi.export.item_details``.

    Returns:
        The published ``<directory>/<version>``.

    Raises:
        ExportError: The answers differ, or the folder cannot be written; nothing is left behind.
    """
    requests = signatures.requests(batch_sizes)

    def fill(folder: Path) -> None:
        signatures.save(folder)
        write_warmup(folder, directory.name, requests)
        write_metadata(folder, {**described, **signatures.describe()})
        write_details(folder)
        _replay(folder, signatures)

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


def _replay(folder: Path, signatures: Signatures) -> None:
    """Read the warm-up requests back and answer them from the saved files alone; any difference raises ``ExportError``."""
    saved = ExportedModel(folder)
    for request in read_warmup(folder):
        expected = signatures.answer(request.signature, request.inputs)
        compare_answers(request, expected, saved.predict(request.signature, request.inputs))
