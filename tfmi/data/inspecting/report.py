"""What a log says once all of it is read by a guessed configuration: how much, from when to when, how popular, how often again."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tfmi.config import LogConfig, merge, validate_config
from tfmi.core.errors import DataError
from tfmi.data.inspecting.guessing import LogGuess
from tfmi.data.inspecting.sampling import column_names
from tfmi.data.public.public_sets import public_sets
from tfmi.data.reading.log import LogTables, find_log_files
from tfmi.data.reading.paths import ColumnPath
from tfmi.data.splitting.filtering import core_mask
from tfmi.data.tables import EventTable

# Where the popularity curve is read: the share of events that this share of the items, the most popular ones, have.
POPULAR_SHARES = (0.01, 0.1, 0.5)
DEFAULT_CORE = 5
SHOWN_VALUES = 3


@dataclass(frozen=True)
class Inspection:
    """What ``tfmi-inspect`` says.

    Attributes:
        lines: For people.
        configuration: YAML that would train on the log.
        figures: The same as numbers.
    """

    lines: list[str]
    configuration: str
    figures: dict[str, Any]


def describe_columns(guess: LogGuess) -> list[str]:
    """The log's columns with their roles and first values."""
    sample = guess.sample
    parts = f", {len(sample.source.parts)} files" if len(sample.source.parts) > 1 else ""
    first = sample.source.parts[0]
    packed = f", {first.compression}" if first.compression else ""
    lines = [f"{sample.source.path}: {first.format}{packed}{parts}"]
    role_of = {each.column: role for role, each in guess.roles.items()}
    width = max([len(name) for name in sample.columns], default=0)
    roles_said = {name: role_of.get(name, "") for name in sample.columns}
    if guess.time is not None and "time" in guess.roles:
        roles_said[guess.roles["time"].column] = f"time ({guess.time.said})"
    role_width = max(map(len, roles_said.values()), default=0)
    for name in sample.columns:
        values = (
            list(dict.fromkeys(value for value in sample.texts[name][:50].to_pylist() if value))[:SHOWN_VALUES]
            if name in sample.texts
            else []
        )
        said = ", ".join(value if len(value) <= 30 else f"{value[:29]}…" for value in values)
        lines.append(f"  {name:<{width}}  {roles_said[name]:<{role_width}}  {said}".rstrip())
    if guess.catalogue is not None:
        beside, roles = guess.catalogue
        known = ", ".join(f"{role} = {each.column!r}" for role, each in roles.items()) or "no known column"
        lines.append(f"{beside.source.path}: catalogue, {known}")
    return lines


def describe_tables(tables: LogTables) -> tuple[list[str], dict[str, Any]]:
    """How much there is, and how it is spread."""
    events = tables.events
    counts = np.sort(np.bincount(events.item_codes, minlength=len(events.item_ids)))[::-1]
    per_user = np.bincount(events.user_codes, minlength=len(events.user_ids))
    again = len(events) - len(np.unique(events.user_codes.astype(np.int64) * (len(events.item_ids) + 1) + events.item_codes))
    later = len(events) - len(events.user_ids)
    kept = core_mask(events.user_codes, events.item_codes, DEFAULT_CORE, DEFAULT_CORE, iterate=False)
    figures: dict[str, Any] = {
        "events": len(events),
        "users": len(events.user_ids),
        "items": len(events.item_ids),
        "events_per_user": {"median": float(np.median(per_user)), "most": int(per_user.max())},
        "first_time": events.report.get("first_time"),
        "last_time": events.report.get("last_time"),
        "repeats": again / later if later else 0.0,
        "popularity": {f"{share:.0%}": _share_of_events(counts, share) for share in POPULAR_SHARES},
        "left_by_default_core": {
            "events": int(kept.sum()),
            "users": len(np.unique(events.user_codes[kept])),
            "items": len(np.unique(events.item_codes[kept])),
        },
    }
    lines = [
        f"events     {len(events):,} of {len(events.user_ids):,} users and {len(events.item_ids):,} items",
        f"per user   {figures['events_per_user']['median']:g} in the middle, {per_user.max():,} at most",
    ]
    if figures["first_time"]:
        lines.append(f"times      {figures['first_time']} to {figures['last_time']}")
    curve = ", ".join(f"{share} of the items have {value:.0%} of the events" for share, value in figures["popularity"].items())
    core = figures["left_by_default_core"]
    lines += [
        f"repeats    {figures['repeats']:.1%} of a user's later events are of an item that the user has had",
        f"popular    {curve}",
        f"5-core     {core['events']:,} events of {core['users']:,} users and {core['items']:,} items are left by the default split",
    ]
    if events.type_codes is not None:
        types = np.bincount(events.type_codes, minlength=len(events.type_names))
        shown = sorted(zip(types.tolist(), events.type_names, strict=True), reverse=True)[:10]
        lines.append("types      " + ", ".join(f"{name} {int(count):,}" for count, name in shown))
        figures["types"] = {name: int(count) for count, name in shown}
    if tables.items is not None:
        known = set(tables.items.item_ids)
        joined = sum(identifier in known for identifier in events.item_ids)
        figures["joins"] = {"items_in_catalogue": joined, "catalogue": len(tables.items.item_ids)}
        lines.append(f"joins      {joined:,} of {len(events.item_ids):,} items are in the catalogue of {len(tables.items.item_ids):,}")
    rejected = int(events.report.get("rejected", 0))
    if rejected:
        lines.append(f"rejected   {rejected:,} of {events.report.get('rows', 0):,} rows: {events.report.get('rejected_by_reason')}")
    return lines, figures


def configuration(path: str | Path, settings: Mapping[str, Any], events: EventTable | None, known: str | None = None) -> str:
    """YAML that trains on the log: what was guessed, or the ``known`` public set, and limits that leave something of a small log."""
    data: dict[str, Any] = {"dataset": known or "log", "path": str(path)}
    if settings:
        data["log"] = dict(settings)
    if events is not None:
        limits = {**public_sets()[known].data.get("split", {})} if known is not None else {}
        least_user, least_item = (int(limits.get(f"min_{what}_events", DEFAULT_CORE)) for what in ("user", "item"))
        iterate = bool(limits.get("iterate_core", False))
        kept = core_mask(events.user_codes, events.item_codes, least_user, least_item, iterate=iterate)
        if len(np.unique(events.user_codes[kept])) < max(3, len(events.user_ids) // 10):
            data["split"] = {"min_user_events": 2, "min_item_events": 1}
    return yaml.safe_dump({"system": "sasrec", "data": data}, sort_keys=False, allow_unicode=True, width=120)


def log_config(settings: Mapping[str, Any]) -> LogConfig:
    """Guessed settings as a configuration; raises ``ConfigError`` if they do not fit together."""
    return validate_config({"data": {"log": merge({}, settings)}}).data.log


def known_sets(path: str | Path) -> list[str]:
    """The public sets whose files lie at a path, by their names: files that are called so, and have the columns.

    First the set of which no file is missing, and of those the one with the most: ML-1M has a file of users, which ML-10M has not.
    """
    path = Path(path)
    if not path.exists():
        return []
    found: list[tuple[int, int, str]] = []
    for name, known in public_sets().items():
        pattern = str(known.data["log"]["file"])
        if pattern[0] in "*[?" or (path.is_file() and not fnmatch.fnmatch(path.name, pattern)):
            continue  # a name that begins with anything tells nothing
        config = log_config(known.data["log"])
        try:
            # The log alone: what else a set would have is only looked for.
            log, _, _ = find_log_files(path, config.model_copy(update={"catalogue_path": None, "users_path": None}))
            columns = {*column_names(log, config.log_file())}
        except DataError:
            continue
        named = {ColumnPath.parse(column).base for column in config.columns.model_dump().values() if column is not None}
        if named <= columns and (config.column_names is None or len(config.column_names) == len(columns)):
            beside = [log.parent / file for file in (config.catalogue_path, config.users_path) if file is not None]
            absent = sum(not any(True for _ in file.parent.glob(file.name)) for file in beside)
            found.append((absent, absent - len(beside), name))
    return [name for _, _, name in sorted(found)]


def _share_of_events(counts: np.ndarray, share: float) -> float:
    """The share of all events that the most popular items have; ``counts`` falling."""
    top = max(1, round(share * len(counts)))
    return float(counts[:top].sum() / max(counts.sum(), 1))
