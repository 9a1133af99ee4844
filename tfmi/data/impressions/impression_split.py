"""From labelled events to ranking data, cut by time: two moments decide for everybody what trains, validates and tests.

A log that says its own split is cut by time, too, on a clock of its parts (``tfmi.data.splitting.given.PartClock``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfmi.config import DataConfig, SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.assembly import Parts, evaluation_counts, number_items, training_counts
from tfmi.data.dataset import FIRST_INDEX, Catalogue, InteractionDataset, Sequences, UserProfiles
from tfmi.data.features import build_catalogue, build_profiles
from tfmi.data.impressions.click_histories import history_ends, order_clicks, times_of
from tfmi.data.impressions.impression_dataset import ImpressionRows, RankingDataset
from tfmi.data.impressions.impression_negatives import draw_negatives
from tfmi.data.splitting.filtering import Filtered, cold_items, filter_events, with_cold_items
from tfmi.data.splitting.given import NOT_GIVEN, PartClock, given_moments, held_out, own_split, part_clock
from tfmi.data.splitting.splits import cut_at_moments, two_moments
from tfmi.data.tables import EventTable, ItemTable, UserTable


@dataclass(frozen=True)
class LabelledEvents:
    """A log of impressions: ``table``, and which of its events are clicks, bool [events]."""

    table: EventTable
    clicked: np.ndarray


def split_impressions(
    name: str, events: LabelledEvents, config: DataConfig, *, items: ItemTable | None = None, users: UserTable | None = None
) -> RankingDataset:
    """Filter, split and index a log of impressions.

    Rare users and items are left out by their impressions. With ``data.impressions.sampled_negatives`` every click gets items that were not
    clicked, at its own time.

    Args:
        name: Short name for reports.
        events: The checked log. A row's id is its place in it; drawn rows come after the log's own.
        config: How to split, and what to draw.
        items: The catalogue, or None.
        users: The profiles, or None.

    Raises:
        ConfigError: Another split method than ``by_time``, or than ``given`` where the log says its parts.
        DataError: The log has no times, nothing is left after filtering, or a part would have no row.
    """
    check_method(config.split)
    table = own_split(events.table, config.split)
    clock = None
    if table.parts is not None:
        clock = part_clock(np.arange(len(table), dtype=np.float64) if table.timestamps is None else table.timestamps, table.parts)
        table = replace(table, timestamps=clock.moments)
    if table.timestamps is None:
        raise DataError(f"dataset {name!r}: impressions are split by time, and this log has none; name its column in data.log.columns.time")
    # Nobody is left out of a split that the log says itself.
    filtered = filter_events(name, table, config.split, "impressions") if clock is None else Filtered(np.ones(len(table), dtype=bool), {})
    row_ids = np.flatnonzero(filtered.kept)
    present, row_users = np.unique(table.user_codes[row_ids], return_inverse=True)
    candidates = np.unique(table.item_codes[row_ids])
    rows = ImpressionRows(
        row_ids=row_ids,
        users=row_users.astype(np.int32),
        items=table.item_codes[row_ids].astype(np.int32),
        labels=events.clicked[row_ids].astype(np.float32),
        timestamps=table.timestamps[row_ids],
        history_ends=np.zeros(len(row_ids), dtype=np.int64),
    )
    clicked = rows.labels > 0
    clicks = order_clicks(rows.users[clicked], rows.items[clicked], rows.timestamps[clicked], len(present))
    if table.earlier is not None:  # in histories, but nobody knows what was shown beside them
        rows = rows.take(~table.earlier[rows.row_ids])
    rows = replace(rows, history_ends=history_ends(clicks, rows.users, rows.timestamps))
    if config.impressions.sampled_negatives:
        drawing = {"per_click": config.impressions.sampled_negatives, "seed": config.impressions.seed}
        rows = with_drawn_rows(rows, clicks, candidates, first_id=len(table), **drawing)
    first, second = _moments(rows, table, config.split)
    masks = rows.timestamps < first, (rows.timestamps >= first) & (rows.timestamps < second), rows.timestamps >= second

    cold = cold_items(name, items, [table.item_ids[code] for code in candidates], config.split)
    item_ids, with_cold = with_cold_items(table.item_ids, candidates, cold.candidates)
    cut = cut_at_moments(clicks, times_of(clicks), first, second)
    if clock is not None:
        cut = _given_clicks(clicks, cut, (first, second), clock, config.split)
        rows = replace(rows, timestamps=clock.own_times(rows.timestamps))
        clicks = replace(clicks, timestamps=clock.own_times(clicks.timestamps))
    parts, vocabulary = number_items(cut, item_ids, with_cold)
    index_of_code = vocabulary.indices(item_ids)
    rows = replace(rows, items=index_of_code[rows.items])
    clicks = replace(clicks, items=index_of_code[clicks.items])
    profiles = None
    if users is not None and users.columns:
        training_users = np.unique(rows.users[masks[0]]) + 1  # profile row 0 is nobody
        profiles = build_profiles([table.user_ids[code] for code in present], training_users, users)
    parts = parts.with_sequences([_with_profile_rows(sequences, profiles) for sequences in parts.all_sequences()])
    catalogue = build_catalogue(vocabulary, training_counts(parts.train, vocabulary.num_rows), items)
    return ranking_dataset(
        catalogue,
        _with_profile_rows(clicks, profiles),
        [rows.take(mask) for mask in masks],
        retrieval=InteractionDataset(name, catalogue, parts.train, parts.valid, parts.test, profiles),
        report={
            "split": "by_time" if clock is None else "given",
            "left_out_as_rare": int((~filtered.kept).sum()),
            **filtered.report,
            **cold.report,
            "read": dict(table.report),
        },
        drawn_per_click=config.impressions.sampled_negatives,
    )


def check_method(config: SplitConfig) -> None:
    """Raise ``ConfigError`` for a split that impressions cannot have."""
    if config.method not in ("auto", "by_time", "given"):
        raise ConfigError(
            f"data.split.method: impressions are split by_time, or as the log says itself, which auto is, got {config.method!r}"
        )


def check_not_given(config: SplitConfig) -> None:
    """As ``check_method``, for data that says no parts."""
    check_method(config)
    if config.method == "given":
        raise ConfigError(NOT_GIVEN)


def _moments(rows: ImpressionRows, table: EventTable, config: SplitConfig) -> tuple[float, float]:
    if table.parts is None or table.timestamps is None:
        return two_moments(rows.timestamps, config)
    return given_moments(table.timestamps, table.parts, config)


def _given_clicks(clicks: Sequences, cut: Parts, moments: tuple[float, float], clock: PartClock, config: SplitConfig) -> Parts:
    """The clicks of a split that the log says itself, as data for a retriever: as ``split_given`` has them, at the log's own times."""
    places = np.arange(clicks.num_events)
    times = times_of(clicks)
    rows = np.repeat(np.arange(len(clicks)), clicks.lengths())
    train_ends, valid_ends = (clicks.offsets[:-1] + np.bincount(rows[places[times < at]], minlength=len(clicks)) for at in moments)
    own = replace(clicks, timestamps=clock.own_times(times))
    return Parts(
        train=replace(cut.train, timestamps=clock.own_times(cut.train.timestamps)),
        valid=held_out(own, train_ends, valid_ends, config.history_share),
        test=held_out(own, valid_ends, clicks.offsets[1:], config.history_share),
    )


def with_drawn_rows(
    rows: ImpressionRows, clicks: Sequences, candidates: np.ndarray, *, first_id: int, per_click: int, seed: int
) -> ImpressionRows:
    """``rows`` and, after them, ``per_click`` drawn items per clicked row that its user has not clicked up to then, at the same time.

    Args:
        rows: The log's rows.
        clicks: All clicks, one row per user, with times.
        candidates: int [m] items to draw from.
        first_id: The id of the first drawn row.
        per_click, seed: See ``draw_negatives``.
    """
    positives = np.flatnonzero(rows.labels > 0)
    if not len(positives):
        return rows
    sources, items = draw_negatives(clicks, rows.users[positives], rows.timestamps[positives], candidates, per_click=per_click, seed=seed)
    drawn = replace(
        rows.take(positives[sources]),
        row_ids=first_id + np.arange(len(items)),
        items=items.astype(np.int32),
        labels=np.zeros(len(items), dtype=np.float32),
    )
    return ImpressionRows(**{name: np.concatenate([getattr(rows, name), values]) for name, values in vars(drawn).items()})


def ranking_dataset(
    catalogue: Catalogue,
    clicks: Sequences,
    parts: list[ImpressionRows],
    *,
    retrieval: InteractionDataset,
    report: Mapping[str, Any],
    drawn_per_click: int,
) -> RankingDataset:
    """Check that every part holds something to learn from or to judge by, count, and build the ``RankingDataset``.

    Args:
        catalogue: The items.
        clicks: All clicks, one row per user.
        parts: The rows of the three parts, drawn ones among them.
        retrieval: The clicks as data for a retriever.
        report: What else is to be said of the data.
        drawn_per_click: ``data.impressions.sampled_negatives``, which a message of rows without an unclicked one must not ask for again.

    Raises:
        DataError: A part has no row, or all training rows have one outcome.
    """
    train, valid, test = parts
    for part, rows in (("training", train), ("validation", valid), ("test", test)):
        if not len(rows):
            raise DataError(f"dataset {retrieval.name!r}: the {part} part has no impression; give more data, or change data.split's shares")
    clicked = float(train.labels.sum())
    if clicked in (0.0, float(len(train))):
        raise DataError(
            f"dataset {retrieval.name!r}: its training impressions hold {_one_outcome(clicked > 0, drawn_per_click, catalogue)}"
        )
    counts = np.bincount(train.items, minlength=catalogue.num_rows).astype(np.int64)
    counts[:FIRST_INDEX] = 0
    counted = {
        "dataset": retrieval.name,
        "items": len(catalogue.vocabulary),
        "items_not_in_train": int((counts[FIRST_INDEX:] == 0).sum()),
        "users": len(clicks),
        **{part: _counts(rows, train) for part, rows in (("train", train), ("valid", valid), ("test", test))},
    }
    retrieval_counts = {
        "train": {"sequences": len(retrieval.train), "events": retrieval.train.num_events},
        "valid": evaluation_counts(retrieval.valid, catalogue),
        "test": evaluation_counts(retrieval.test, catalogue),
    }
    return RankingDataset(
        catalogue=replace(catalogue, counts=counts),
        clicks=clicks,
        train=train,
        valid=valid,
        test=test,
        retrieval=replace(retrieval, report={**counted, **retrieval_counts, **report}),
        report={**counted, **report},
    )


def _one_outcome(clicked: bool, drawn_per_click: int, catalogue: Catalogue) -> str:
    """What is wrong with training rows that are all clicked, or none of them, and what to do."""
    told = "say what is a click with data.impressions.positive_events or data.impressions.positive_weight"
    if not clicked:
        return f"no click, so there is nothing to learn; {told}"
    if not drawn_per_click:
        return f"clicks alone; set data.impressions.sampled_negatives, or {told}"
    items = len(catalogue.vocabulary)
    return (
        f"clicks alone, and data.impressions.sampled_negatives={drawn_per_click} could draw nothing: every user has clicked all "
        f"that there is to draw ({items:,} item{'s' if items != 1 else ''}) by then. A model that ranks needs more items"
    )


def _counts(rows: ImpressionRows, train: ImpressionRows) -> dict[str, int]:
    return {
        "impressions": len(rows),
        "clicks": int(rows.labels.sum()),
        "users": len(np.unique(rows.users)),
        "users_not_in_train": len(np.setdiff1d(rows.users, train.users)),
    }


def _with_profile_rows(sequences: Sequences, profiles: UserProfiles | None) -> Sequences:
    """Sequences whose users are rows of profiles, or ``arange`` where there are none."""
    users = np.arange(len(sequences), dtype=np.int32) if profiles is None else sequences.users + np.int32(1)
    return replace(sequences, users=users)
