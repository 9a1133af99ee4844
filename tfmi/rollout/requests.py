"""The users that two versions are asked about: values as people have them, before any model's request is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.bulk.user_file import UserFile
from tfmi.core.errors import DataError
from tfmi.export.item_details import PROFILE, WEIGHTS, read_sample_users
from tfmi.export.saving import Request


@dataclass(frozen=True)
class KnownUser:
    """What is known of one user.

    Attributes:
        history: Item ids, oldest first.
        timestamps: Seconds beside the history; empty where they are unknown.
        profile: By column: a string, a number, or weights by value.
    """

    history: list[str]
    timestamps: list[float] = field(default_factory=list)
    profile: dict[str, Any] = field(default_factory=dict)


class _RawFields:
    """Takes the columns of a users' file as they are; see ``tfmi.bulk.user_file.Fields``."""

    def __init__(self, profile_kinds: Mapping[str, str]) -> None:
        self.kinds = {"history": "ids", "timestamps": "times", **profile_kinds}

    def request(self, columns: Mapping[str, Sequence[Any] | np.ndarray], rows: int) -> Request:
        """One column of Python objects per field that the file has."""
        request: Request = {}
        for name, values in columns.items():
            column = np.empty(rows, dtype=object)
            column[:] = list(values)
            request[name] = column
        return request


def users_in_file(path: Path, profile_kinds: Mapping[str, str], *, most: int, user_column: str = "user_id") -> list[KnownUser]:
    """The first ``most`` users of a file as ``training/recommend_users.py`` reads it.

    Raises:
        DataError: The file cannot be read, or has nobody with a history.
    """
    source = UserFile(path, _RawFields(profile_kinds), user_column=user_column, rejects_path=Path(f"{path}.rejects.csv"))
    users: list[KnownUser] = []
    for chunk in source.chunks():
        for row in range(len(chunk)):
            values = {name: column[row] for name, column in chunk.request.items()}
            history = list(values.pop("history", []))
            times = [float(time) for time in values.pop("timestamps", [])]
            if history and len(users) < most:
                users.append(KnownUser(history, times, {name: _plain(value) for name, value in values.items()}))
    if not users:
        raise DataError(f"{path}: no user has a history; name the column of histories 'history'")
    return users


def sample_users(folder: Path, *, most: int) -> list[KnownUser]:
    """Users that were held out of a version's training, from its own folder.

    Raises:
        ExportError: The folder has none.
    """
    table = read_sample_users(folder).slice(0, most).to_pylist()
    users = []
    for row in table:
        names = [name for name in row if name.startswith(PROFILE) and not name.endswith(WEIGHTS)]
        profile = {}
        for name in names:
            value = row[name]
            weights = row.get(f"{name}{WEIGHTS}")
            profile[name.removeprefix(PROFILE)] = dict(zip(value, weights, strict=True)) if weights is not None else value
        users.append(KnownUser(row["history"], row.get("timestamps") or [], profile))
    return users


def _plain(value: Any) -> Any:
    """A cell as ``KnownUser.profile`` has it."""
    if isinstance(value, list):
        return dict(value)
    return None if isinstance(value, float) and np.isnan(value) else value
