"""From a log's files to the configuration that would read them: what is likely, and what is certain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from tfmi.config import FileConfig, LogColumns, LogConfig
from tfmi.core.errors import DataError
from tfmi.data.inspecting.roles import CATALOGUE_NAMES, LOG_NAMES, Guess, guess_roles
from tfmi.data.inspecting.sampling import Sample, take_sample
from tfmi.data.inspecting.times import TimeGuess, guess_times
from tfmi.data.reading.log import find_log_files

# A column of event types has few values.
MOST_EVENT_TYPES = 50


@dataclass(frozen=True)
class LogGuess:
    """What a log's columns are taken to be.

    Attributes:
        sample: The log's first rows.
        roles: The column of each role.
        time: How its times are to be read, if it has any.
        settings: ``data.log`` as far as it differs from the defaults.
        doubts: Why the guess is not certain; empty if it is.
        catalogue: The catalogue's first rows, and the columns of its roles; None without a catalogue.
    """

    sample: Sample
    roles: Mapping[str, Guess]
    time: TimeGuess | None
    settings: dict[str, Any]
    doubts: list[str] = field(default_factory=list)
    catalogue: tuple[Sample, Mapping[str, Guess]] | None = None

    def says(self, columns: Mapping[str, str | None]) -> str:
        """What is taken for the ``columns`` of each role, in one line."""
        time = f" ({self.time.said})" if self.time is not None else ""
        said = [f"{role} = {column!r}{time if role == 'time' else ''}" for role, column in columns.items() if column is not None]
        return ", ".join([*said, *(f"no {role}" for role, column in columns.items() if column is None)])


def guess_log(path: str | Path, config: LogConfig | None = None) -> LogGuess:
    """Look at a log, and at the catalogue beside it, and guess what its columns are.

    Args:
        path: As for ``--data``.
        config: What is said already: how the files are written, and where the catalogue is.

    Raises:
        DataError: There is no log, or it cannot be read.
    """
    config = config or LogConfig()
    log_path, catalogue_path, _ = find_log_files(path, config)
    sample = take_sample(log_path, config.log_file())
    mapped = config.columns != LogColumns()
    doubts: list[str] = []
    settings: dict[str, Any] = _written(sample.options)
    if sample.looks_headerless:
        settings["header"] = False
        doubts.append(
            f"the first line looks like data, {sample.looks_headerless!r} is a value and not a name: if the file has no header, set "
            "data.log.header: false and give the columns by number, from 1"
        )
        roles, time = _by_content(sample)
    elif mapped:
        said = {role: Guess(column, True) for role, column in config.columns.model_dump().items() if column is not None}
        roles, time = said, None
    else:
        roles, time = _by_name(sample)
        doubts += [
            f"{role}: {guess.column!r} or {', '.join(map(repr, guess.others))}" for role, guess in roles.items() if not guess.certain
        ]
    doubts += [f"column {name!r} stands several times in the header: rename all but one" for name in sample.repeated]
    doubts += [f"no column looks like {said}" for role, said in (("user", "a user"), ("item", "an item")) if role not in roles]
    if "time" in roles and time is not None:
        settings |= time.settings
        if not time.certain:
            doubts.append(f"time: {time.said}")
    columns: dict[str, str | None] = {role: guess.column for role, guess in roles.items() if role != "weight"}
    if "time" not in roles:
        columns["time"] = None
    defaults = LogColumns().model_dump()
    settings["columns"] = {role: column for role, column in columns.items() if defaults[role] != column}
    catalogue = None
    if catalogue_path is not None:
        beside = take_sample(catalogue_path, config.side_file(config.catalogue_file))
        catalogue = (beside, guess_roles(beside.columns, CATALOGUE_NAMES))
        settings |= _of_catalogue(*catalogue)
    return LogGuess(sample, roles, time, {key: value for key, value in settings.items() if value != {}}, doubts, catalogue)


def complete(path: str | Path, config: LogConfig) -> tuple[dict[str, Any], LogGuess] | None:
    """What to add to a configuration that maps no columns, where the log has none of the default names and the guess is certain.

    Args:
        path: As for ``--data``.
        config: ``data.log``.

    Returns:
        ``data.log`` settings and the guess; None where nothing has to be added.

    Raises:
        DataError: The log cannot be read, or what its columns are is not certain: with what was guessed and how to say it.
    """
    if config.columns != LogColumns():
        return None
    guess = guess_log(path, config)
    names = [*guess.sample.columns, *guess.sample.nested]
    if all(name in names for name in (config.columns.user, config.columns.item, config.columns.time)):
        return None
    if guess.doubts:
        raise DataError(
            f"{guess.sample.source.path}: its columns are not mapped, and what they are is not certain ({'; '.join(guess.doubts)}). It "
            f"has: {', '.join(names)}. Name them in data.log.columns; tfmi-inspect {path} writes a configuration to start from"
        )
    added = {key: value for key, value in guess.settings.items() if key in ("columns", "time_unit", "time_format", "delimiter")}
    roles = ("user", "item", "time")
    said_columns = {role: guess.roles[role].column if role in guess.roles else None for role in roles}
    return {**added, "columns": said_columns}, guess


def _written(options: FileConfig) -> dict[str, Any]:
    """How the files are written, where that is not the default."""
    return {key: value for key, value in options.model_dump().items() if value != FileConfig.model_fields[key].default}


def _by_name(sample: Sample) -> tuple[dict[str, Guess], TimeGuess | None]:
    roles = guess_roles(sample.columns, LOG_NAMES)
    time = None
    if "time" in roles:
        # Of several columns called like times, the first whose values are some.
        for column in (roles["time"].column, *roles["time"].others):
            time = guess_times(sample.texts[column]) if column in sample.texts else None
            if time is not None or column not in sample.texts:
                roles["time"] = Guess(column, roles["time"].certain or time is not None)
                break
        else:
            del roles["time"]
    if "event" in roles and _distinct(sample, roles["event"].column) > MOST_EVENT_TYPES:
        del roles["event"]
    return roles, time


def _by_content(sample: Sample) -> tuple[dict[str, Guess], TimeGuess | None]:
    """Roles of unnamed columns: the first times are the time; of the other two with the most values the first is the user."""
    roles: dict[str, Guess] = {}
    time = None
    for name, text in sample.texts.items():
        time = guess_times(text)
        if time is not None:
            roles["time"] = Guess(name, False)
            break
    others = [name for name in sample.texts if name != (roles["time"].column if "time" in roles else None)]
    many = sorted(sorted(others, key=lambda name: -_distinct(sample, name))[:2], key=others.index)
    roles |= {role: Guess(name, False) for role, name in zip(("user", "item"), many, strict=False)}
    return roles, time


def _distinct(sample: Sample, column: str) -> int:
    return int(pc.count_distinct(sample.texts[column]).as_py()) if column in sample.texts else 0


def _of_catalogue(sample: Sample, roles: Mapping[str, Guess]) -> dict[str, Any]:
    defaults = {role: role for role in CATALOGUE_NAMES}
    columns: dict[str, str | None] = {role: guess.column for role, guess in roles.items() if defaults[role] != guess.column}
    written = _written(sample.options)
    return {**({"catalogue_columns": columns} if columns else {}), **({"catalogue_file": written} if written else {})}
