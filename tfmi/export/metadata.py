"""``assets.extra/tfmi_metadata.json``: what a version folder says about itself."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.errors import ExportError
from tfmi.files import write_json

METADATA_PATH = Path("assets.extra") / "tfmi_metadata.json"
FORMAT = 1


def write_metadata(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the metadata of a version, with its format number and the time."""
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(folder / METADATA_PATH, as_json({"format": FORMAT, "created": created, **values}))


def load_metadata(version_folder: str | Path) -> dict[str, Any]:
    """Read the metadata of an exported version.

    Returns:
        ``system``, ``configuration``, ``metrics``, ``data`` as the training run gave them; ``index`` (kind, parameters, recall against
        exact search), ``widths`` (history_length, num_results, exclusion_width), ``profile_inputs``, ``signatures``, ``items``,
        ``versions``, ``created`` (UTC), ``format``.

    Raises:
        ExportError: The folder holds no metadata that this version of tfmi can read.
    """
    path = Path(version_folder) / METADATA_PATH
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ExportError(f"{path}: not a model that tfmi exported (expected savedmodels/<name>/<version>): {error}") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        found = metadata.get("format") if isinstance(metadata, dict) else None
        raise ExportError(f"{path}: this version of tfmi reads metadata of format {FORMAT}, found {found!r}; export the model again")
    return metadata


def as_json(value: Any) -> Any:
    """Plain JSON values: NumPy numbers become numbers, arrays and tuples lists, and NaN and infinities, which JSON lacks, null."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
