"""``assets.extra/tfmi_metadata.json``: what a version folder says about itself.

The run's configuration stands in it as YAML text: a configuration may hold infinite numbers, which JSON lacks.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tfmi.config import parse_yaml
from tfmi.core.errors import ExportError
from tfmi.core.files import write_json

CONFIGURATION = "configuration"
METADATA_PATH = Path("assets.extra") / "tfmi_metadata.json"
FORMAT = 2
# By what a run describes itself.
RUN_METADATA = ("system", "configuration", "metrics", "data")


def check_run_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise ``ExportError`` unless a run describes itself with the keys that there are."""
    odd_keys = sorted(set(metadata) - set(RUN_METADATA))
    if odd_keys:
        raise ExportError(f"metadata: unknown keys {odd_keys}; a run describes itself with {list(RUN_METADATA)}")


def write_metadata(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the metadata of a version, with its format number and the time."""
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    metadata = {"format": FORMAT, "created": created, **values}
    if CONFIGURATION in metadata:
        metadata[CONFIGURATION] = yaml.safe_dump(_plain(metadata[CONFIGURATION]), sort_keys=False, allow_unicode=True)
    write_json(folder / METADATA_PATH, as_json(metadata))


def load_metadata(version_folder: str | Path) -> dict[str, Any]:
    """Read the metadata of an exported version.

    Returns:
        ``system``, ``configuration``, ``metrics``, ``data`` as the training run gave them; ``index`` (kind, parameters, recall against
        exact search, and what became of the target recall), ``filters`` (what ``recommend_filtered`` takes, None without it),
        ``widths`` (history_length, num_results, exclusion_width), ``integration`` (how interests share an answer), ``stages``
        (retrieval, or retrieval and ranking), ``ranking`` (of two stages: backbone, size of the pool, what scores are),
        ``profile_inputs``, ``signatures``, ``latency`` (milliseconds of single requests in the exporting process, by signature), ``items``,
        ``versions``, ``created`` (UTC), ``format``.

    Raises:
        ExportError: The folder holds no metadata that this version of tfmi can read.
        ConfigError: The configuration in it is no longer YAML.
    """
    path = Path(version_folder) / METADATA_PATH
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ExportError(f"{path}: not a model that tfmi exported (expected savedmodels/<name>/<version>): {error}") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        found = metadata.get("format") if isinstance(metadata, dict) else None
        raise ExportError(f"{path}: this version of tfmi reads metadata of format {FORMAT}, found {found!r}; export the model again")
    if CONFIGURATION in metadata:
        metadata[CONFIGURATION] = parse_yaml(metadata[CONFIGURATION], f"{path}: {CONFIGURATION}")
    return metadata


def as_json(value: Any) -> Any:
    """Plain JSON values: NumPy numbers become numbers, arrays and tuples lists, and NaN and infinities, which JSON lacks, null."""
    return _plain(value, lambda number: number if math.isfinite(number) else None)


def _plain(value: Any, convert_float: Callable[[float], float | None] = float) -> Any:
    """Python's own mappings, lists, strings and numbers; whatever else there is becomes a string."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item, convert_float) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, convert_float) for item in value]
    if isinstance(value, float):
        return convert_float(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)
