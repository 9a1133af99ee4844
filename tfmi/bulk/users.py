"""Users in bulk: who is asked about, in an order that is the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from tfmi.export.saving import Request


class Users(NamedTuple):
    """Some users: their ids, and what a model is asked about them: one row of every request input each."""

    ids: list[str]
    request: Request

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> Users:
        """Some of them."""
        return Users(self.ids[start:stop], {name: values[start:stop] for name, values in self.request.items()})


class UserSource(Protocol):
    """Users in an order that is the same every time."""

    def chunks(self) -> Iterator[Users]:
        """All of them, in chunks of any size."""

    def total(self) -> int | None:
        """How many there are, if that is known beforehand."""

    def fingerprint(self) -> dict[str, Any]:
        """What tells these users from others."""


@dataclass(frozen=True)
class UsersInMemory:
    """Users that are there already, such as those of a dataset."""

    name: str
    users: Users

    def chunks(self) -> Iterator[Users]:
        """See ``UserSource``."""
        yield self.users

    def total(self) -> int | None:
        """See ``UserSource``."""
        return len(self.users)

    def fingerprint(self) -> dict[str, Any]:
        """See ``UserSource``."""
        return {"dataset": self.name, "users": len(self.users)}


def in_parts(chunks: Iterator[Users], part_rows: int) -> Iterator[Users]:
    """The same users, ``part_rows`` at a time."""
    waiting: list[Users] = []
    count = 0
    for chunk in chunks:
        waiting.append(chunk)
        count += len(chunk)
        if count < part_rows:
            continue
        joined = _joined(waiting)
        whole = count - count % part_rows
        yield from (joined.rows(start, start + part_rows) for start in range(0, whole, part_rows))
        waiting, count = [joined.rows(whole, count)], count - whole
    if count:
        yield _joined(waiting)


def _joined(users: list[Users]) -> Users:
    request = {name: _stacked([each.request[name] for each in users]) for name in users[0].request}
    return Users([identifier for each in users for identifier in each.ids], request)


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    """Rows below each other; where chunks have lists of different widths, "" fills the shorter ones up."""
    if arrays[0].ndim == 1 or len({array.shape[1] for array in arrays}) == 1:
        return np.concatenate(arrays)
    width = max(array.shape[1] for array in arrays)
    return np.concatenate([padded_columns(array, width) for array in arrays])


def padded_columns(array: np.ndarray, width: int) -> np.ndarray:
    """Strings [B, width] of strings [B, fewer], "" in the columns that are new."""
    filled = np.full((len(array), width), "", dtype=object)
    filled[:, : array.shape[1]] = array
    return filled
