"""What reading produces and splitting consumes: checked raw columns, before indices are given out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

# The parts of a log that says itself how it is split.
TRAIN, VALID, TEST = 0, 1, 2
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class EventTable:
    """A checked log in file order.

    Attributes:
        user_ids, item_ids: The distinct ids; a code is a position in them.
        user_codes, item_codes: int64 [events].
        timestamps: float64 [events] seconds since the epoch (or any consistent number), or None if the file's order is the time order.
        weights: float32 [events], or None.
        report: Counts of what was read, rejected (by reason) and dropped.
        negative: bool [events], whether an event says that the user turned the item down (``negative_events``); None: none does.
        parts: int8 [events], 0 training, 1 validation, 2 test, where the log says it; else None.
        earlier: bool [events], whether an event is of a column of earlier items rather than a row's own; None: none is.
        type_codes, type_names: int64 [events] and the names of the event types; None and nothing in a log without types.
        profiles: Profile columns that stood in the log itself, row by row as ``user_ids``; None if none were asked for.
    """

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    user_codes: np.ndarray
    item_codes: np.ndarray
    timestamps: np.ndarray | None
    weights: np.ndarray | None
    report: Mapping[str, Any] = field(default_factory=dict)
    profiles: UserTable | None = None
    type_codes: np.ndarray | None = None
    type_names: Sequence[str] = ()
    negative: np.ndarray | None = None
    parts: np.ndarray | None = None
    earlier: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user_codes)

    def take(self, kept: np.ndarray) -> EventTable:
        """The events where ``kept`` [events] is True; ids and codes stay."""

        def taken(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[kept]

        return replace(
            self,
            user_codes=self.user_codes[kept],
            item_codes=self.item_codes[kept],
            timestamps=taken(self.timestamps),
            weights=taken(self.weights),
            type_codes=taken(self.type_codes),
            negative=taken(self.negative),
            parts=taken(self.parts),
            earlier=taken(self.earlier),
        )


@dataclass(frozen=True)
class ItemTable:
    """A checked catalogue, row by row as ``item_ids``. None where the catalogue lacks the column; "" or an empty list where a row does.

    Attributes:
        tags: One list of (tag, weight) per item; weights are positive.
        texts: Further features of one value per item, by name.
        numbers: float32 [items] per column, NaN where missing.
        vectors: float32 [items, width] per column, NaN rows where missing.
    """

    item_ids: Sequence[str]
    titles: Sequence[str] | None = None
    categories: Sequence[str] | None = None
    brands: Sequence[str] | None = None
    tags: Sequence[Sequence[tuple[str, float]]] | None = None
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UserTable:
    """Checked user profiles, row by row as ``user_ids``: strings per column ("" missing), or float32 arrays (NaN missing)."""

    user_ids: Sequence[str]
    columns: Mapping[str, Sequence[str] | np.ndarray]
    report: Mapping[str, Any] = field(default_factory=dict)
