"""Ranking data out of data that holds clicks alone, in whatever way it is split: with items drawn for each click."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfmi.config import DataConfig
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import FIRST_INDEX, EvaluationSet, InteractionDataset, Sequences
from tfmi.data.impressions.click_histories import history_ends, times_of
from tfmi.data.impressions.impression_dataset import ImpressionRows, RankingDataset
from tfmi.data.impressions.impression_split import ranking_dataset, with_drawn_rows
from tfmi.data.pipeline import target_positions


def impressions_from_clicks(dataset: InteractionDataset, config: DataConfig) -> RankingDataset:
    """Make every target of a dataset a clicked row, and draw rows that are not clicked.

    A history is what precedes the target in its own sequence. Negatives are drawn among all items of the catalogue. A "user" of the
    result is one sequence: a user that trains and is tested counts as two.

    Args:
        dataset: Split already; ``retrieval`` of the result.
        config: ``impressions.sampled_negatives`` says how many to draw per click, ``min_history`` which clicks train.

    Raises:
        ConfigError: ``sampled_negatives`` is 0.
        DataError: A part has no row.
    """
    per_click = config.impressions.sampled_negatives
    if not per_click:
        raise ConfigError(
            f"data.impressions.sampled_negatives: {dataset.name} holds clicks alone; a model that ranks needs items that were not clicked: "
            "set it to how many to draw per click, 4 say"
        )
    train = dataset.train.in_memory()
    pieces = [train, _joined(dataset.valid), _joined(dataset.test)]
    targets = [target_positions(train, config.min_history), _target_places(dataset.valid), _target_places(dataset.test)]
    clicks = _stacked(pieces, has_profiles=dataset.profiles is not None)
    if clicks.timestamps is None:  # then a click's place in its sequence is its time
        places = np.arange(clicks.num_events) - np.repeat(clicks.offsets[:-1], clicks.lengths())
        clicks = replace(clicks, timestamps=places.astype(np.float64))
    times = times_of(clicks)
    click_users = np.repeat(np.arange(len(clicks)), clicks.lengths()).astype(np.int32)
    catalogue = dataset.catalogue
    candidates = np.arange(FIRST_INDEX, catalogue.num_rows)
    parts = []
    begin = next_id = 0
    for part, (piece, places) in enumerate(zip(pieces, targets, strict=True)):
        positions = begin + places
        begin += piece.num_events
        rows = ImpressionRows(
            row_ids=next_id + np.arange(len(positions)),
            users=click_users[positions],
            items=clicks.items[positions],
            labels=np.ones(len(positions), dtype=np.float32),
            timestamps=times[positions],
            history_ends=history_ends(clicks, click_users[positions], times[positions]),
        )
        rows = with_drawn_rows(
            rows, clicks, candidates, first_id=next_id + len(rows), per_click=per_click, seed=config.impressions.seed + part
        )
        next_id += len(rows)
        parts.append(rows)
    report = {**dataset.report, "sampled_negatives": per_click}
    report = {"split": report.get("split"), "read": report}
    return ranking_dataset(catalogue, clicks, parts, retrieval=dataset, report=report, drawn_per_click=per_click)


def _joined(examples: EvaluationSet) -> Sequences:
    """Each example's history and then its targets, as one row."""
    parts = (examples.histories, examples.targets)
    lengths = np.stack([part.lengths() for part in parts])  # [2, examples]
    rows = np.concatenate([np.repeat(np.arange(len(examples)), length) for length in lengths])
    order = np.argsort(rows, kind="stable")  # a row's history stands before its targets
    timestamps = [part.timestamps for part in parts]
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths.sum(axis=0))]).astype(np.int64),
        items=np.concatenate([part.items for part in parts])[order],
        timestamps=None if any(t is None for t in timestamps) else np.concatenate(timestamps)[order],  # type: ignore[arg-type]
        weights=None,
        users=examples.histories.users,
    )


def _target_places(examples: EvaluationSet) -> np.ndarray:
    """Where the known targets stand in the items of ``_joined``."""
    joined = _joined(examples)
    in_row = np.arange(joined.num_events) - np.repeat(joined.offsets[:-1], joined.lengths())
    return np.flatnonzero((in_row >= np.repeat(examples.histories.lengths(), joined.lengths())) & (joined.items >= FIRST_INDEX))


def _stacked(pieces: list[Sequences], *, has_profiles: bool) -> Sequences:
    """The rows of all pieces, one below the other."""
    timestamps = [piece.timestamps for piece in pieces]
    lengths = np.concatenate([piece.lengths() for piece in pieces])
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.concatenate([piece.items for piece in pieces]).astype(np.int32),
        timestamps=None if any(t is None for t in timestamps) else np.concatenate(timestamps),  # type: ignore[arg-type]
        weights=None,
        users=np.concatenate([piece.users for piece in pieces]) if has_profiles else np.arange(len(lengths), dtype=np.int32),
    )
