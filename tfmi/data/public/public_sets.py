"""Public data sets by name, read as they are downloaded: one declarative file each, in ``sets/`` or wherever a user keeps their own.

Such a file says in YAML what a configuration would say of the log (``log``), its split (``split``) and its impressions (``impressions``),
with a ``summary`` in one line and the ``home`` to download it from::

    summary: Gowalla, 6,442,890 check-ins at places, 2009 to 2010
    home: https://snap.stanford.edu/data/loc-gowalla.html
    log: {file: loc-gowalla_totalCheckins.txt*, format: tsv, header: false, column_names: [user, time, latitude, longitude, item]}
    split: {method: leave_one_out}
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from tfmi.config import DatasetName, merge, parse_yaml
from tfmi.core.errors import ConfigError, nearest

KEYS = ("summary", "home", "log", "split", "impressions", "tagging")
# What a file of your own ends in, so that --dataset can tell it from a name.
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class PublicSet:
    """A data set that somebody has described.

    Attributes:
        name: What it is called.
        summary: One line.
        home: Where to download it.
        data: The ``data`` section of its configuration.
    """

    name: str
    summary: str
    home: str
    data: Mapping[str, Any]


@functools.cache
def public_sets() -> dict[str, PublicSet]:
    """Every set that comes with the package, by name."""
    files = [file for file in resources.files("tfmi.data.public").joinpath("sets").iterdir() if file.name.endswith(".yaml")]
    files.sort(key=lambda file: file.name)
    return {
        name: _parsed(name, file.read_text(encoding="utf-8"), file.name) for file in files for name in [file.name.removesuffix(".yaml")]
    }


def dataset_names() -> list[str]:
    """What ``--dataset`` takes beside a file."""
    return [*get_args(DatasetName), *public_sets()]


def find_set(dataset: str) -> PublicSet | None:
    """The set of a name, or of a file that ends in ``.yaml``; None for a name of another kind of dataset, or of none.

    Raises:
        ConfigError: The file is no such description.
    """
    if not dataset.endswith(SUFFIXES):
        return public_sets().get(dataset)
    try:
        text = Path(dataset).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"data.dataset: {dataset}: cannot be read: {error}") from None
    return _parsed(Path(dataset).stem, text, dataset)


def with_set(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Replace a set's name in a configuration by what it says.

    Args:
        values: What a user says: a nested mapping, in which ``data.dataset`` may name a set.

    Returns:
        What the set says, to be merged beneath; and the mapping with ``data.dataset: log`` in its place.

    Raises:
        ConfigError: There is no such set.
    """
    data = values.get("data")
    dataset = data.get("dataset") if isinstance(data, Mapping) else None
    if not isinstance(dataset, str) or dataset in get_args(DatasetName):
        return {}, dict(values)
    found = find_set(dataset)
    if found is None:
        *names, last = (repr(name) for name in get_args(DatasetName))
        raise ConfigError(
            f"data.dataset: expected {', '.join(names)} or {last}, got {dataset!r}{nearest(dataset, dataset_names())}; or a public set: "
            f"{', '.join(public_sets())}; or a YAML file that describes a data set (docs/public_datasets.md)"
        )
    return {"data": dict(found.data)}, merge(values, {"data": {"dataset": "log"}})


def _parsed(name: str, text: str, source: str) -> PublicSet:
    values = parse_yaml(text, source)
    if not isinstance(values, dict) or not isinstance(values.get("log"), dict):
        raise ConfigError(f"{source}: expected a data set's description, with a section 'log'; see docs/public_datasets.md")
    odd = next((key for key in values if key not in KEYS), None)
    if odd is not None:
        raise ConfigError(f"{source}: unknown key {odd!r}{nearest(str(odd), KEYS)}; a data set's description has {', '.join(KEYS)}")
    sections = {key: values[key] for key in KEYS[3:] if key in values}
    log = {"name": name, "optional_files": True, **values["log"]}
    home = str(values.get("home") or "")
    return PublicSet(name, str(values.get("summary", "")), home, {"dataset": "log", "log": log, **sections})
