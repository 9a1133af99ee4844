"""From checked events as text to an ``EventTable`` of codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tfmi.config import LogConfig
from tfmi.data.reading.codebook import CodeBook
from tfmi.data.reading.event_types import is_negative
from tfmi.data.reading.events import EventChunk
from tfmi.data.tables import EventTable, UserTable


class EventTableBuilder:
    """Collects chunks of events and makes the table: ids to codes, exact duplicates dropped, peculiarities counted."""

    def __init__(self, config: LogConfig) -> None:
        self._config = config
        self._drop_duplicates = config.duplicates == "drop"
        self._users, self._items, self._types = CodeBook(), CodeBook(), CodeBook()
        self._parts: list[dict[str, np.ndarray]] = []
        self._profiles: dict[str, _EarliestValues] = {}

    def add(self, events: EventChunk) -> None:
        """Append events that follow those before them in the file; what was earlier than the log stands before it."""
        part = {"user": self._users.encode(events.users), "item": self._items.encode(events.items)}
        if events.times is not None:
            part["time"] = events.times
        if events.weights is not None:
            part["weight"] = events.weights
        if events.types is not None:
            part["type"] = self._types.encode(events.types)
        if events.parts is not None:
            part["part"] = events.parts
        part["earlier"] = np.full(len(events), events.earlier)
        if events.earlier:
            self._parts.insert(0, part)
        else:
            self._parts.append(part)
        for name, values in events.profile.items():
            self._profiles.setdefault(name, _EarliestValues()).add(part["user"], events.times, values)

    def build(self, report: Mapping[str, Any]) -> EventTable:
        """The table of everything added, in file order. Its report is ``report`` and what is counted here."""
        columns = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        self._parts.clear()
        duplicate = exact_duplicates(columns) if self._drop_duplicates else np.zeros(len(columns["user"]), dtype=bool)
        if duplicate.any():
            columns = {name: values[~duplicate] for name, values in columns.items()}
        user_ids, item_ids = self._users.strings, self._items.strings
        negative = is_negative(columns.get("type"), self._types.strings, self._config)
        counted = {
            "events": len(columns["user"]),
            "users": len(user_ids),
            "items": len(item_ids),
            "duplicates_dropped": int(duplicate.sum()),
            "out_of_order": count_out_of_order(columns["user"], columns.get("time")),
            "users_with_one_event": int((np.bincount(columns["user"]) == 1).sum()),
            **({} if negative is None else {"negative_events": int(negative.sum())}),
            **({"earlier_events": int(columns["earlier"].sum())} if self._config.columns.history is not None else {}),
        }
        profiles = {name: values.for_users(len(user_ids)) for name, values in self._profiles.items()}
        return EventTable(
            user_ids=user_ids,
            item_ids=item_ids,
            user_codes=columns["user"],
            item_codes=columns["item"],
            timestamps=columns.get("time"),
            weights=columns.get("weight"),
            report={**report, **counted},
            profiles=UserTable(user_ids, profiles) if profiles else None,
            type_codes=columns.get("type"),
            type_names=self._types.strings,
            negative=negative,
            parts=columns.get("part"),
            earlier=columns["earlier"] if columns["earlier"].any() else None,
        )


class _EarliestValues:
    """Of each user's values that are not missing, the one with the smallest time; the first in the file where times are equal or absent."""

    def __init__(self) -> None:
        self._earliest: dict[int, tuple[float, Any]] = {}
        self._numeric = False

    def add(self, users: np.ndarray, times: np.ndarray | None, values: pa.Array | np.ndarray) -> None:
        self._numeric = isinstance(values, np.ndarray)
        present = ~np.isnan(values) if self._numeric else pc.not_equal(values, "").to_numpy(zero_copy_only=False)
        places = np.flatnonzero(present)
        if times is not None:
            places = places[np.argsort(times[places], kind="stable")]
        distinct, first = np.unique(users[places], return_index=True)
        chosen = places[first]
        taken = values[chosen].tolist() if self._numeric else values.take(pa.array(chosen)).to_pylist()
        taken_times = np.zeros(len(chosen)) if times is None else times[chosen]
        for user, time, value in zip(distinct.tolist(), taken_times.tolist(), taken, strict=True):
            known = self._earliest.get(user)
            if known is None or time < known[0]:
                self._earliest[user] = (time, value)

    def for_users(self, count: int) -> list[str] | np.ndarray:
        missing = (0.0, np.nan if self._numeric else "")
        values = [self._earliest.get(user, missing)[1] for user in range(count)]
        return np.array(values, dtype=np.float32) if self._numeric else values


def exact_duplicates(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """bool [events]: rows equal to an earlier one in user, item, time and, if there is one, event type.

    Without times nothing is a duplicate: a user may well do the same twice.
    """
    if "time" not in columns:
        return np.zeros(len(columns["user"]), dtype=bool)
    key = [name for name in ("user", "item", "time", "type") if name in columns]
    return pd.DataFrame({name: columns[name] for name in key}).duplicated(keep="first").to_numpy()


def count_out_of_order(users: np.ndarray, times: np.ndarray | None) -> int:
    """The number of events that stand in the file right after a later event of the same user."""
    if times is None:
        return 0
    order = np.argsort(users, kind="stable")
    users, times = users[order], times[order]
    return int(((users[1:] == users[:-1]) & (times[1:] < times[:-1])).sum())
