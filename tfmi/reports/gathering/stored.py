"""Where gathered values are kept: ``report.json`` of a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tfmi.core.files import write_json
from tfmi.export.metadata import as_json
from tfmi.training.run_folder import RunFolder

FORMAT = 1
EXPORT = "export"


def write_gathered(folder: RunFolder, values: Mapping[str, Any]) -> None:
    """Store the values of a run instead of earlier ones; what is known of an export of it stays, unless they hold another."""
    exported = read_gathered(folder).get(EXPORT)
    write_json(folder.gathered, as_json({"format": FORMAT, **({EXPORT: exported} if exported else {}), **values}))


def read_gathered(folder: RunFolder) -> dict[str, Any]:
    """What ``write_gathered`` has stored; nothing where there is no such file, or one of another version."""
    try:
        values = json.loads(folder.gathered.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    return values if isinstance(values, dict) and values.get("format") == FORMAT else {}
