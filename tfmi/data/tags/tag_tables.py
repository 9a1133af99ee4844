"""From checked tables, whatever their format, to a ``TagLog``: the catalogue's tags, and fields of what a user had to do with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from tfmi.config import TaggingConfig
from tfmi.core.errors import DataError
from tfmi.data.reading.log import LogTables
from tfmi.data.splitting.given import part_clock
from tfmi.data.tables import ItemTable
from tfmi.data.tags.facts import ALWAYS, NO_VALUE, Facts, ValueTable, heaviest_before
from tfmi.data.tags.tag_log import FieldSource, TagLog


def tag_log_from_tables(name: str, tables: LogTables, config: TaggingConfig, tasks: Mapping[str, float]) -> TagLog:
    """Any log with a catalogue.

    Fields: ``tags`` of the events' items; ``items``, ``categories`` and ``brands``; with several tasks ``<task>_tags`` of the events of
    each deeper one; and the profile. Without times a user's events are at even distances from 0 to 1, so that "before" holds within each
    user, and a split by time cuts everybody's sequence at the same share of its length. Times of a log that says its own split are
    moments of a ``PartClock``.

    Args:
        name: Short name for reports.
        tables: The checked log, whose ``weights`` decide the tasks (1 where it has none), with a catalogue and perhaps profiles.
        config: Which columns are tags.
        tasks: The least weight of an event of each task, rising.

    Raises:
        DataError: There are no tags.
    """
    events, items = tables.events, tables.items
    tags, tag_names = item_tags(name, events.item_ids, items, config.tag_columns)
    times = events.timestamps if events.timestamps is not None else even_times(events.user_codes)
    if events.parts is not None:
        times = part_clock(times, events.parts).moments
    order = np.argsort(times, kind="stable")
    user_codes, item_codes, times = events.user_codes[order], events.item_codes[order], np.asarray(times, np.float64)[order]
    task_names, labels = label_events(None if events.weights is None else events.weights[order], len(order), tasks)
    # What a user has turned down is a negative of every task, and says nothing of what the user is.
    taken = np.ones(len(order), bool) if events.negative is None else ~events.negative[order]
    labels &= taken[:, None]
    log = TagLog(
        name=name,
        user_ids=list(events.user_ids),
        num_items=len(events.item_ids),
        tag_names=tag_names,
        users=user_codes,
        items=item_codes,
        times=times,
        task_names=task_names,
        labels=labels,
        tags=tags,
        tags_belong_to="items",
        fields={"items": item_field(user_codes[taken], item_codes[taken], times[taken], events.item_ids)},
        profiles=tables.users,
        report=events.report,
        parts=None if events.parts is None else events.parts[order],
    )
    fields = dict(log.fields)
    known = heaviest_before(log.tags, log.items, log.times, config.max_item_tags)
    fields["tags"] = tag_field(log, known, taken)
    for task in range(1, len(task_names)):
        fields[f"{task_names[task]}_tags"] = tag_field(log, known, labels[:, task])
    if items is not None:
        fields |= {
            field: value_field(log, _by_item(column, items.item_ids, events.item_ids), taken)
            for field, column in (("categories", items.categories), ("brands", items.brands))
            if column is not None
        }
    return replace(log, fields=fields)


def _by_item(column: Sequence[str], column_ids: Sequence[str], item_ids: Sequence[str]) -> np.ndarray:
    """object [items]: the value of each item, "" where the catalogue lacks it."""
    value_of = dict(zip(column_ids, column, strict=True))
    return np.array([value_of.get(identifier, "") for identifier in item_ids], dtype=object)


def label_events(weights: np.ndarray | None, num_events: int, tasks: Mapping[str, float]) -> tuple[tuple[str, ...], np.ndarray]:
    """The tasks' names, and bool [events, A]: of which tasks an event is a positive."""
    given = np.ones(num_events) if weights is None else weights
    return tuple(tasks), np.stack([given >= least for least in tasks.values()], axis=1)


def even_times(user_codes: np.ndarray) -> np.ndarray:
    """float64 [events] in (0, 1): the position of each event among its user's, by their number."""
    order = np.argsort(user_codes, kind="stable")
    counts = np.bincount(user_codes)
    positions = np.empty(len(user_codes))
    positions[order] = np.arange(len(user_codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (positions + 0.5) / counts[user_codes]


def item_tags(name: str, item_ids: Sequence[str], items: ItemTable | None, columns: Sequence[str]) -> tuple[Facts, list[str]]:
    """What is always known of items (``keys`` are positions in ``item_ids``), and the tags' names.

    Raises:
        DataError: The catalogue has none of the columns.
    """
    given = {} if items is None else {"tags": items.tags, "category": items.categories, "brand": items.brands}
    there = [column for column in columns if given.get(column) is not None]
    if items is None or not there:
        raise DataError(
            f"dataset {name!r}: a model of tags needs a catalogue with tags, and there is none with any of {', '.join(columns)}; bring a "
            "catalogue (see docs/data.md), or name other columns in data.tagging.tag_columns"
        )
    single = [column for key, column in (("category", items.categories), ("brand", items.brands)) if key in there and column is not None]
    row_of = {identifier: row for row, identifier in enumerate(items.item_ids)}
    keys: list[int] = []
    pairs: list[tuple[str, float]] = []
    for code, identifier in enumerate(item_ids):
        row = row_of.get(identifier)
        if row is None:
            continue
        of_item = list(items.tags[row]) if items.tags is not None and "tags" in there else []
        of_item += [(column[row], 1.0) for column in single if column[row]]
        keys += [code] * len(of_item)
        pairs += of_item
    names, weights = [name for name, _ in pairs], [weight for _, weight in pairs]
    codes, distinct = pd.factorize(np.asarray(names, dtype=object))
    facts = Facts(np.asarray(keys, np.int64), np.full(len(keys), ALWAYS), codes.astype(np.int64), np.asarray(weights, np.float64))
    return facts, list(distinct)


def tag_field(log: TagLog, known: ValueTable, chosen: np.ndarray) -> FieldSource:
    """The tags of the chosen events, ``known`` of each event, as a user's field. A tag counts as its weight says, but at most 1."""
    event, column = np.nonzero((known.values != NO_VALUE) & chosen[:, None])
    weights = np.minimum(known.weights[event, column], 1.0)
    return FieldSource(Facts(log.users[event], log.times[event], known.values[event, column], weights))


def item_field(users: np.ndarray, items: np.ndarray, times: np.ndarray, item_ids: Sequence[str]) -> FieldSource:
    """The newest items of a user."""
    return FieldSource(Facts(users, times, items, np.ones(len(users))), item_ids, keep="newest")


def value_field(log: TagLog, item_values: np.ndarray, chosen: np.ndarray | None = None) -> FieldSource:
    """How often a user's items had each value; ``item_values`` object [items], "" where an item has none. ``chosen``: of these alone."""
    codes, names = pd.factorize(item_values)
    values = codes[log.items]
    there = item_values[log.items] != ""
    if chosen is not None:
        there &= chosen
    return FieldSource(Facts(log.users[there], log.times[there], values[there].astype(np.int64), np.ones(int(there.sum()))), list(names))
