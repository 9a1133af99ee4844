"""What is left out of a log before it is split: rare items and users, the oldest events of users with very many; and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmi.config import SplitConfig
from tfmi.core.errors import DataError
from tfmi.data.tables import EventTable, ItemTable

log = logging.getLogger(__name__)

# A user with this share of all events, and with so many times the median user's, makes the model its own.
GIANT_SHARE = 0.1
GIANT_FACTOR = 20


@dataclass(frozen=True)
class Filtered:
    """The events that count.

    Attributes:
        kept: bool [events].
        report: Who and what was left out, for ``metrics.json``.
    """

    kept: np.ndarray
    report: dict[str, Any]


def filter_events(name: str, events: EventTable, config: SplitConfig, what: str = "events") -> Filtered:
    """Leave out the oldest events of users with more than ``max_user_events``, then rare items and users; the log says how many.

    Args:
        name: The dataset's, for messages.
        events: The checked log.
        config: The limits.
        what: What a row of the log is called.

    Raises:
        DataError: Nothing is left.
    """
    newest = newest_events(events.user_codes, events.timestamps, config.max_user_events)
    kept = core_mask(
        events.user_codes, events.item_codes, config.min_user_events, config.min_item_events, config.iterate_core, among=newest
    )
    if not kept.any():
        raise DataError(
            f"dataset {name!r}: none of its {len(events)} {what} is left after leaving out items with fewer than {config.min_item_events} "
            f"and users with fewer than {config.min_user_events} {what}; lower data.split.min_item_events or data.split.min_user_events"
        )
    users, items = len(np.unique(events.user_codes)), len(np.unique(events.item_codes))
    report = {
        f"{what}_over_max_user_events": int((~newest).sum()),
        f"{what}_left_out_as_rare": int((newest & ~kept).sum()),
        "users_left_out_as_rare": users - len(np.unique(events.user_codes[kept])),
        "items_left_out_as_rare": items - len(np.unique(events.item_codes[kept])),
    }
    say_left_out(name, config, report, users=users, items=items, events=len(events), what=what)
    counts = np.bincount(events.user_codes[kept])
    largest = int(counts.argmax())
    say_giant(name, f"user {events.user_ids[largest]!r}", counts[counts > 0], config, what)
    return Filtered(kept, report)


def say_left_out(
    name: str, config: SplitConfig, report: dict[str, Any], *, users: int, items: int, events: int, what: str = "events"
) -> None:
    """Log who was left out, with the settings that did it; nothing if nobody was. ``users``, ``items``, ``events``: before that."""
    over, rare = report[f"{what}_over_max_user_events"], report[f"{what}_left_out_as_rare"]
    if over:
        log.info(
            "%s: the oldest %s of users with more than %s are left out: %s of %s (data.split.max_user_events)",
            name, what, f"{config.max_user_events:,}", f"{over:,}", f"{events:,}",
        )  # fmt: skip
    if rare:
        log.info(
            "%s: left out as rare: %s of %s items (data.split.min_item_events: %s), %s of %s users (data.split.min_user_events: %s), and "
            "with them %s of %s %s",
            name,
            *(f"{report['items_left_out_as_rare']:,}", f"{items:,}", config.min_item_events),
            *(f"{report['users_left_out_as_rare']:,}", f"{users:,}", config.min_user_events),
            *(f"{rare:,}", f"{events:,}", what),
        )


def say_giant(name: str, user: str, counts: np.ndarray, config: SplitConfig, what: str = "events") -> None:
    """Warn if a single user has a large part of all events.

    Args:
        name: The dataset's.
        user: What to call the user with the most events.
        counts: int [users] events of every user.
        config: Has ``max_user_events``, which the warning names.
        what: What a row of the log is called.
    """
    largest, total = int(counts.max(initial=0)), int(counts.sum())
    if largest >= GIANT_SHARE * total and largest >= GIANT_FACTOR * float(np.median(counts)) and len(counts) > 1:
        limited = (
            "; lower data.split.max_user_events" if config.max_user_events else "; data.split.max_user_events keeps the newest ones only"
        )
        log.warning("%s: %s has %s of %s %s (%.0f %%)%s", name, user, f"{largest:,}", f"{total:,}", what, 100 * largest / total, limited)


def newest_events(user_codes: np.ndarray, timestamps: np.ndarray | None, limit: int | None) -> np.ndarray:
    """bool [events]: whether an event is among its user's newest ``limit``; ties, and logs without times, in file order."""
    if limit is None or not len(user_codes):
        return np.ones(len(user_codes), dtype=bool)
    order = np.lexsort((user_codes,) if timestamps is None else (timestamps, user_codes))  # stable, last key first
    _, lengths = np.unique(user_codes, return_counts=True)
    from_end = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(order))  # 1 at a user's newest
    kept = np.empty(len(order), dtype=bool)
    kept[order] = from_end <= limit
    return kept


def core_mask(
    user_codes: np.ndarray,
    item_codes: np.ndarray,
    min_user_events: int,
    min_item_events: int,
    iterate: bool,
    *,
    among: np.ndarray | None = None,
) -> np.ndarray:
    """bool [events]: True at the events of frequent items and users.

    Args:
        user_codes, item_codes: int [events].
        min_user_events, min_item_events: Fewer events than this leave a user or an item out.
        iterate: Repeat until every remaining user and item has enough events. Otherwise one pass, items first, in which a user's
            events are counted after the items have gone (ComiRec); an item may then end with fewer events.
        among: bool [events]; the others are left out already. None: all count.
    """
    kept = np.ones(len(item_codes), dtype=bool) if among is None else among.copy()
    while True:
        before = int(kept.sum())
        kept &= _counts_at(item_codes, kept) >= min_item_events
        kept &= _counts_at(user_codes, kept) >= min_user_events
        if not iterate or int(kept.sum()) == before:
            return kept


def _counts_at(codes: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """int [events]: how many kept events share each event's code."""
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    return np.bincount(codes[kept], minlength=int(codes.max()) + 1)[codes]


def has_features(table: ItemTable) -> np.ndarray:
    """bool [items]: whether a catalogue says more of each item than its id and title."""
    told = np.zeros(len(table.item_ids), dtype=bool)
    for column in (table.categories, table.brands, table.tags, *table.texts.values()):
        if column is not None:
            told |= np.fromiter((bool(value) for value in column), dtype=bool, count=len(told))
    for numbers in table.numbers.values():
        told |= np.isfinite(numbers)
    return told


@dataclass(frozen=True)
class ColdItems:
    """Items of the catalogue that no event of the split log is of.

    Attributes:
        candidates: The ids of those that are candidates by their features.
        report: Counts, for ``metrics.json``.
    """

    candidates: Sequence[str]
    report: dict[str, int]


def cold_items(name: str, table: ItemTable | None, with_events: Sequence[str], config: SplitConfig) -> ColdItems:
    """Find the catalogue's items that are in no event that is left, and decide whether they are candidates; the log says so.

    Args:
        name: The dataset's; a user's own "log" takes them in by default.
        table: The catalogue, or None.
        with_events: The ids of the items with events that are left.
        config: ``cold_items``.
    """
    if table is None:
        return ColdItems([], {})
    known = set(with_events)
    cold = np.fromiter((item not in known for item in table.item_ids), dtype=bool, count=len(table.item_ids))
    told = has_features(table)
    wanted = config.cold_items == "candidates" or (config.cold_items == "auto" and name == "log")
    chosen = np.flatnonzero(cold & told) if wanted else np.empty(0, np.int64)
    report = {"cold_items": int(cold.sum()), "cold_items_as_candidates": len(chosen)}
    if len(chosen):
        log.info(
            "%s: %s items of the catalogue without enough events (data.split.min_item_events: %s) are candidates by their features "
            "(data.split.cold_items)",
            name,
            f"{len(chosen):,}",
            config.min_item_events,
        )
    left = int(cold.sum()) - len(chosen)
    if left:
        reason = "for they have nothing but an id" if wanted else "data.split.cold_items: candidates takes those with features in"
        log.info("%s: %s items of the catalogue without enough events are left out (%s)", name, f"{left:,}", reason)
    return ColdItems([table.item_ids[row] for row in chosen.tolist()], report)


def with_cold_items(item_ids: Sequence[str], candidates: np.ndarray, cold: Sequence[str]) -> tuple[Sequence[str], np.ndarray]:
    """Ids and candidate codes with those of ``cold`` items added; an item of the log that was left out as rare keeps its code."""
    if not len(cold):
        return item_ids, candidates
    code_of = {identifier: code for code, identifier in enumerate(item_ids)}
    new = [identifier for identifier in cold if identifier not in code_of]
    code_of.update(zip(new, range(len(item_ids), len(item_ids) + len(new)), strict=True))
    codes = np.array([code_of[identifier] for identifier in cold], dtype=np.int64)
    return [*item_ids, *new], np.concatenate([candidates, codes])
