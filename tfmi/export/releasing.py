"""From signatures in memory to a published version: warm-up, description, folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.core.errors import ExportError, TfmiError
from tfmi.export.exported_model import ExportedModel
from tfmi.export.metadata import write_metadata
from tfmi.export.publishing import publish
from tfmi.export.saving import ReleasedSignatures
from tfmi.export.warmup import WarmupRequest, compare_answers, read_warmup, write_warmup

# Which answers are timed, how many requests of each at most, and for how long.
TIMED_SIGNATURES = ("recommend", "rank", "user_tags")
TIMED_REQUESTS = 9
TIMING_SECONDS = 0.25


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

    The signatures are used up: what they hold is freed before the saved files are loaded, so that there are not two of each index.

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
        description = {**described, **signatures.describe()}
        write_metadata(folder, description)
        write_details(folder)
        read = list(read_warmup(folder))
        expected = [signatures.answer(request.signature, request.inputs) for request in read]
        signatures.free()
        saved = ExportedModel(folder)
        for request, answer in zip(read, expected, strict=True):
            compare_answers(request, answer, saved.predict(request.signature, request.inputs))
        write_metadata(folder, {**description, "latency": measure_latency(saved, requests)})

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


def measure_latency(model: ExportedModel, requests: Sequence[WarmupRequest]) -> dict[str, dict[str, float]]:
    """Milliseconds that the saved model takes for the smallest request of each of ``TIMED_SIGNATURES`` that it has, in this process:
    ``p50``, the largest of at most ``TIMED_REQUESTS`` (``max``) and their number (``requests``). A server adds what its protocol and its
    load cost."""
    measured: dict[str, dict[str, float]] = {}
    for request in requests:
        if request.signature not in TIMED_SIGNATURES or request.signature in measured:  # those of larger batches follow
            continue
        took: list[float] = []
        began = time.perf_counter()
        while len(took) < TIMED_REQUESTS and (not took or time.perf_counter() - began < TIMING_SECONDS):
            started = time.perf_counter()
            model.predict(request.signature, request.inputs)
            took.append(1e3 * (time.perf_counter() - started))
        measured[request.signature] = {"p50": float(np.median(took)), "max": max(took), "requests": len(took)}
    return measured
