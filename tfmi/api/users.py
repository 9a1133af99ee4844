"""Who is asked about: users of the data by their ids, or histories and profiles of anybody."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmi.api.answers import id_list, lists_of_ids, profile_columns
from tfmi.core.errors import ConfigError, DataError

log = logging.getLogger(__name__)

NAMED = 3  # unknown items that a warning names


@dataclass(frozen=True)
class AskedUsers:
    """Some users.

    Attributes:
        names: Their ids, or their places from 0 where histories or profiles were given.
        columns: What is known of them, one entry each, by field: ``history``, ``timestamps``, and profile fields.
    """

    names: Sequence[Any]
    columns: dict[str, Any]

    def __len__(self) -> int:
        return len(self.names)


def asked_users(
    users: Any,
    histories: Any,
    profiles: Any,
    timestamps: Any,
    *,
    known: Any,
    kinds: Mapping[str, str],
    method: str,
) -> AskedUsers:
    """Find out who is meant.

    Args:
        users: Ids of users of the data, or None.
        histories: A list of item ids for each user, oldest first, or None.
        profiles: A mapping from field to value for each user, or a table; may stand alone or beside ``histories``.
        timestamps: Seconds at which the items of each history were seen, or None.
        known: From user ids to columns, see ``Dataset.histories``; None where no data is at hand.
        kinds: The model's profile fields.
        method: What was called, for messages.

    Raises:
        ConfigError: Neither or both ways were taken, or users cannot be known here.
        DataError: An unknown user, or lists of different lengths.
    """
    others = histories is not None or profiles is not None or timestamps is not None
    if (users is not None) == others:
        raise ConfigError(f"{method}: give either users, ids of the data, or histories= (and profiles=), what is known of anybody")
    if users is not None:
        if known is None:
            raise ConfigError(f"{method}: an exported version does not know users by their ids; give histories= (and profiles=)")
        names = id_list(users, "users")
        columns = known(names)
        return AskedUsers(names, {name: values for name, values in columns.items() if name in {"history", "timestamps", *kinds}})
    rows = lists_of_ids(histories, "histories") if histories is not None else None
    count = len(rows) if rows is not None else 1 if isinstance(profiles, Mapping) else len(profiles if profiles is not None else timestamps)
    found: dict[str, Any] = {"history": rows if rows is not None else [[] for _ in range(count)]}
    if timestamps is not None:
        found["timestamps"] = _times(timestamps, found["history"])
    return AskedUsers(range(count), {**found, **profile_columns(profiles, kinds, count)})


def _times(timestamps: Any, histories: Sequence[Sequence[str]]) -> list[np.ndarray]:
    rows = [np.asarray(row, np.float64) for row in timestamps]
    if [len(row) for row in rows] != [len(history) for history in histories]:
        raise DataError("timestamps: expected a time in seconds for each item of each history")
    return rows


def warn_of_unknown_items(histories: Sequence[Sequence[str]], items: Collection[str], method: str) -> None:
    """Log what of the histories the model does not know; it is left out of them."""
    unknown = sorted({item for history in histories for item in history if item not in items})
    if unknown:
        named = ", ".join(repr(item) for item in unknown[:NAMED]) + (", ..." if len(unknown) > NAMED else "")
        log.warning("%s: the model does not know %d items of the histories and leaves them out: %s", method, len(unknown), named)


def require_known(values: Sequence[str], known: Mapping[str, Any] | Collection[str], argument: str, suggest: Any) -> None:
    """Raise ``DataError`` if one of ``values`` is not ``known``, with the nearest spelling."""
    unknown = next((value for value in values if value not in known), None)
    if unknown is not None:
        raise DataError(f"{argument}: the model does not know {unknown!r}{suggest(unknown)}")
