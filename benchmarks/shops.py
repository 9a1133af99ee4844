"""Logs as tables of ids, for benchmarks of catalogues and logs that change, and recall by ids: models may know different items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tfmi.config import EmbeddedConfig
from tfmi.data.public.sequence_files import read_sequence_files
from tfmi.data.synthetic.shop import generate
from tfmi.data.tables import EventTable, ItemTable

USERS_AT_ONCE = 512


@dataclass(frozen=True)
class Shop:
    """Events in order of time (columns ``user``, ``item``, and ``time`` where it is known), and the catalogue, as users would give them."""

    name: str
    events: pd.DataFrame
    items: pd.DataFrame
    item_columns: dict[str, list[str]]

    @property
    def time(self) -> str | None:
        """The column of times, if there is one."""
        return "time" if "time" in self.events else None

    def histories(self) -> dict[str, list[str]]:
        """Every user's items, oldest first."""
        return {str(user): list(items) for user, items in self.events.groupby("user", sort=False)["item"]}


def embedded_shop(users: int, items: int, seed: int) -> Shop:
    """The embedded data, with category, brand, tags and price."""
    log = generate(EmbeddedConfig(users=users, items=items, seed=seed))
    return Shop(f"embedded, {users:,} users", _events(log.events), _items(log.items), {"numbers": ["price"]})


def shop_of_sequences(path: Path) -> Shop:
    """A folder with ``sequences.txt`` and ``item_attributes.json``."""
    events, items = read_sequence_files(path)
    if items is None:
        raise SystemExit(f"{path}: there is no item_attributes.json, and without features new items cannot be placed")
    return Shop(path.name, _events(events), _items(items), {})


def _events(table: EventTable) -> pd.DataFrame:
    users, items = np.array(table.user_ids, dtype=object), np.array(table.item_ids, dtype=object)
    frame = pd.DataFrame({"user": users[table.user_codes], "item": items[table.item_codes]})
    if table.timestamps is not None:
        frame["time"] = table.timestamps
        frame = frame.sort_values("time", kind="stable", ignore_index=True)
    return frame


def _items(table: ItemTable) -> pd.DataFrame:
    columns = {"item": table.item_ids, "title": table.titles, "category": table.categories, "brand": table.brands, **table.numbers}
    frame = pd.DataFrame({name: list(values) for name, values in columns.items() if values is not None})
    if table.tags is not None:
        frame["tags"] = ["|".join(f"{tag}:{weight}" for tag, weight in each) for each in table.tags]
    return frame


def recalls(found: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> np.ndarray:
    """float64 [users]: the share of each one's distinct targets that was found; NaN without a target."""
    shares = []
    for items, wanted in zip(found, targets, strict=True):
        distinct = set(wanted)
        shares.append(len(distinct & set(items)) / len(distinct) if distinct else np.nan)
    return np.array(shares)


def answers(recommender: object, histories: Sequence[Sequence[str]], n: int) -> list[list[str]]:
    """The best ``n`` items of each history, by a ``tfmi.Recommender``."""
    found: list[list[str]] = []
    for start in range(0, len(histories), USERS_AT_ONCE):
        some = histories[start : start + USERS_AT_ONCE]
        frame = recommender.recommend(histories=[list(each) for each in some], n=n)  # type: ignore[attr-defined]
        rows = {int(user): list(items) for user, items in frame.groupby("user")["item"]}
        found += [rows.get(place, []) for place in range(len(some))]
    return found


def popular(counts: pd.Series, histories: Sequence[Sequence[str]], n: int, *, leaves_out_history: bool) -> list[list[str]]:
    """The items with the largest ``counts`` for each history."""
    longest = max(map(len, histories), default=0)
    best = [str(item) for item in counts.sort_values(ascending=False, kind="stable").index[: n + longest]]
    answered = []
    for history in histories:
        own = set(history) if leaves_out_history else set()
        answered.append([item for item in best if item not in own][:n])
    return answered
