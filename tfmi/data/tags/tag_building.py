"""From a log with tags to a ``TagDataset``: split by time, states strictly before their moments, vocabularies from training alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfmi.config import SplitConfig, TaggingConfig
from tfmi.core.errors import DataError
from tfmi.data.dataset import (
    FIRST_INDEX,
    PADDING_INDEX,
    UNKNOWN_INDEX,
    CategoricalFeature,
    Feature,
    MultiValuedFeature,
    NumericFeature,
    Sequences,
    Vocabulary,
)
from tfmi.data.features import build_profiles
from tfmi.data.first_times import FirstTimes
from tfmi.data.splitting.given import given_moments
from tfmi.data.splitting.splits import two_moments
from tfmi.data.tags.facts import NO_VALUE, Facts, heaviest_before, newest_before, totals_before
from tfmi.data.tags.tag_dataset import TagDataset, TagEvaluation, TagRows, TagUsers, UserStates
from tfmi.data.tags.tag_log import FieldSource, TagLog
from tfmi.data.tags.tag_negatives import NONE, draw_events, draw_tags


@dataclass(frozen=True)
class ValueCodes:
    """A vocabulary, and int32 [codes] the index in it of each value code of a log: 1 for those that it lacks."""

    vocabulary: Vocabulary
    index: np.ndarray

    def of(self, codes: np.ndarray) -> np.ndarray:
        """int32: indices of codes, padding for ``NO_VALUE``."""
        indices = self.index[np.maximum(codes, 0)] if len(self.index) else np.full(codes.shape, UNKNOWN_INDEX, np.int32)
        return np.where(codes == NO_VALUE, PADDING_INDEX, indices).astype(np.int32)


@dataclass(frozen=True)
class _Source:
    """A log with what every part of its dataset is made from.

    Attributes:
        log, config: As given.
        event_codes: int64 [events, N] tag codes of every event.
        met: The tags of events that are positives of any task, as facts of their users.
        tags: The vocabulary.
        moments: When validation and test begin.
    """

    log: TagLog
    config: TaggingConfig
    event_codes: np.ndarray
    met: Facts
    tags: ValueCodes
    moments: tuple[float, float]


@dataclass(frozen=True)
class _Rows:
    """Labelled rows of all parts, in time order of their events; the positive comes before its negatives.

    Attributes:
        users, times, tags, labels, weights: As in ``TagRows``.
        dropped: How many rows had no known tag.
    """

    users: np.ndarray
    times: np.ndarray
    tags: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    dropped: int


def build_tag_dataset(log: TagLog, config: TaggingConfig, split: SplitConfig) -> TagDataset:
    """Split a log and make everything that a user-tag model needs.

    Args:
        log: The log. Its events before a first moment train, those from there to a second validate, the rest tests; or as its parts say.
        config: Negatives, widths and thresholds.
        split: The shares of the events behind the two moments.

    Raises:
        DataError: A part would have no labelled row.
    """
    source = _prepare(log, config, split)
    rows = _label_rows(source)
    valid_moment, test_moment = source.moments
    periods = ((valid_moment, test_moment), (test_moment, np.inf))
    held_out = [_users_between(log, *period) for period in periods]
    states, (row_states, valid_states, test_states, newest) = _states(source, rows, held_out)
    chosen = {
        "training": rows.times < valid_moment,
        "validation": (rows.times >= valid_moment) & (rows.times < test_moment),
        "test": rows.times >= test_moment,
    }
    train, valid, test = (_part(f"dataset {log.name!r}: the {name} part", rows, row_states, which) for name, which in chosen.items())
    valid_tags, test_tags = (
        _evaluation(source, users, which, period)
        for users, which, period in zip(held_out, (valid_states, test_states), periods, strict=True)
    )
    dataset = TagDataset(
        name=log.name,
        tags=source.tags.vocabulary,
        tag_counts=_tag_counts(source),
        task_names=log.task_names,
        states=states,
        tag_fields=tuple(name for name, field in log.fields.items() if field.names is None),
        train=train,
        valid=valid,
        test=test,
        valid_tags=valid_tags,
        test_tags=test_tags,
        users=TagUsers(log.user_ids, newest),
    )
    return replace(dataset, report=_report(source, dataset, rows.dropped))


def ordered_values(names: Sequence[str], codes: np.ndarray, min_count: int) -> ValueCodes:
    """A vocabulary of the values that occur at least ``min_count`` times in ``codes`` of any shape, most frequent first, ties by name."""
    counts = np.bincount(codes[codes != NO_VALUE].astype(np.int64), minlength=len(names))
    kept = np.flatnonzero(counts >= min_count).tolist()
    kept.sort(key=lambda code: (-counts[code], names[code]))
    index = np.full(len(names), UNKNOWN_INDEX, np.int32)
    index[kept] = np.arange(FIRST_INDEX, FIRST_INDEX + len(kept))
    return ValueCodes(Vocabulary(names[code] for code in kept), index)


def _prepare(log: TagLog, config: TaggingConfig, split: SplitConfig) -> _Source:
    try:
        moments = two_moments(log.times, split) if log.parts is None else given_moments(log.times, log.parts, split)
    except DataError as error:
        raise DataError(f"dataset {log.name!r}: {error}") from None
    event_codes = _event_tags(log, np.arange(len(log)), log.times, config.max_item_tags)  # [events, N]
    positive = np.asarray(log.labels.any(axis=1))
    tags = ordered_values(log.tag_names, event_codes[positive & (log.times < moments[0])], config.min_tag_count)
    if not len(tags.vocabulary):
        raise DataError(
            f"dataset {log.name!r}: no tag occurs in at least data.tagging.min_tag_count = {config.min_tag_count} training events; lower "
            "it, or bring a catalogue with tags"
        )
    return _Source(log, config, event_codes, _facts_of_users(log, event_codes, positive), tags, moments)


def _event_tags(log: TagLog, events: np.ndarray, times: np.ndarray, width: int) -> np.ndarray:
    """int64 [rows, N]: tag codes of the events' items, as known before ``times``; or of the events, where tags belong to these."""
    keys = events if log.tags_belong_to == "events" else log.items[events]
    return heaviest_before(log.tags, keys, times, width).values


def _facts_of_users(log: TagLog, event_codes: np.ndarray, chosen: np.ndarray) -> Facts:
    """The tags of the chosen events as facts of their users, one per event and tag."""
    event, column = np.nonzero((event_codes != NO_VALUE) & chosen[:, None])
    return Facts(log.users[event], log.times[event], event_codes[event, column], np.ones(len(event)))


def _label_rows(source: _Source) -> _Rows:
    log, config = source.log, source.config
    positives = source.tags.of(source.event_codes)  # [E, N]
    negatives = _negatives(source, positives)  # [E, count, N or more]
    positives = _widened(positives, negatives.shape[2])
    tags = np.concatenate([positives[:, None], negatives], axis=1).reshape(-1, negatives.shape[2])  # [E (1 + count), N]
    labels = np.zeros((len(log), 1 + config.negatives, len(log.task_names)), np.float32)
    labels[:, 0] = log.labels
    known = (tags >= FIRST_INDEX).any(axis=1)
    labels = labels.reshape(len(tags), -1)[known]
    weights = np.ones_like(labels)
    if config.label_space == "conditional":
        weights[:, 1:] = labels[:, :-1]
    return _Rows(
        users=np.repeat(log.users, 1 + config.negatives)[known],
        times=np.repeat(log.times, 1 + config.negatives)[known],
        tags=tags[known],
        labels=labels,
        weights=weights,
        dropped=int((~known).sum()),
    )


def _negatives(source: _Source, positives: np.ndarray) -> np.ndarray:
    """int32 [E, count, N or more]: tags of items that the users had not acted on."""
    log, config, count = source.log, source.config, source.config.negatives
    sampling = resolved_sampling(log, config)
    if sampling == "tags":
        first_met = FirstTimes(source.met.keys, source.tags.of(source.met.values), source.met.times, source.tags.vocabulary.num_rows)
        return draw_tags(log, positives, first_met, count=count, seed=config.seed)
    drawn = draw_events(log, count, uniform=sampling == "uniform", seed=config.seed).ravel()  # [E count]
    codes = _event_tags(log, np.maximum(drawn, 0), np.repeat(log.times, count), config.max_item_tags)
    codes = np.where(drawn[:, None] == NONE, NO_VALUE, codes)
    width = max(positives.shape[1], codes.shape[1])
    return _widened(source.tags.of(codes), width).reshape(len(log), count, width)


def resolved_sampling(log: TagLog, config: TaggingConfig) -> str:
    """How negatives are drawn, ``auto`` resolved."""
    if config.negative_sampling != "auto":
        return config.negative_sampling
    # Who gives tags chooses among all tags; who acts on an item chooses among items.
    return "tags" if log.tags_belong_to == "events" else "uniform"


def _widened(values: np.ndarray, width: int) -> np.ndarray:
    return np.pad(values, ((0, 0), (0, max(width - values.shape[1], 0))), constant_values=PADDING_INDEX)


def _users_between(log: TagLog, start: float, end: float) -> np.ndarray:
    """int64: the users with a positive event in [start, end)."""
    return np.unique(log.users[(log.times >= start) & (log.times < end) & log.labels.any(axis=1)])


def _states(source: _Source, rows: _Rows, held_out: Sequence[np.ndarray]) -> tuple[UserStates, list[np.ndarray]]:
    """The distinct states of rows, of held-out users at their moments, and of everybody at the end; and for each of these its states."""
    log = source.log
    everybody = np.arange(len(log.user_ids))
    groups = [(rows.users, rows.times)]
    groups += [(users, np.full(len(users), start)) for users, start in zip(held_out, source.moments, strict=True)]
    groups.append((everybody, np.full(len(everybody), np.inf)))
    users, times = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    order = np.lexsort((times, users))
    opens = np.concatenate([[True], (users[order][1:] != users[order][:-1]) | (times[order][1:] != times[order][:-1])])
    state_of = np.empty(len(users), np.int32)
    state_of[order] = np.cumsum(opens) - 1
    users, times = users[order][opens], times[order][opens]
    fields = {name: _field(source, field, users, times) for name, field in log.fields.items()}
    fields |= _profile_fields(source, users)
    states = np.split(state_of, np.cumsum([len(group[0]) for group in groups])[:-1])
    return UserStates(fields, users.astype(np.int32), times), states


def _field(source: _Source, field: FieldSource, users: np.ndarray, times: np.ndarray) -> Feature:
    config, facts, codes = source.config, field.facts, source.tags
    if field.names is not None:
        codes = ordered_values(field.names, facts.values[facts.times < source.moments[0]], config.min_value_count)
    # Values that training does not know are one and the same.
    indexed = facts.with_values(codes.of(facts.values).astype(np.int64))
    best = (heaviest_before if field.keep == "heaviest" else newest_before)(indexed, users, times, config.max_values)
    return MultiValuedFeature(
        vocabulary=codes.vocabulary,
        values=np.where(best.values == NO_VALUE, PADDING_INDEX, best.values).astype(np.int32),
        weights=_value_weights(best.weights, config).astype(np.float32),
    )


def _value_weights(totals: np.ndarray, config: TaggingConfig) -> np.ndarray:
    if config.value_weights == "log":
        # A model may multiply embeddings by it: 1 for what occurred once, and hardly ever above 10.
        return np.log2(1.0 + totals)
    return totals if config.value_weights == "count" else (totals > 0).astype(np.float64)


def _profile_fields(source: _Source, users: np.ndarray) -> dict[str, Feature]:
    log = source.log
    if log.profiles is None:
        return {}
    training_users = 1 + np.unique(log.users[log.times < source.moments[0]])
    fields: dict[str, Feature] = {}
    for name, feature in build_profiles(log.user_ids, training_users, log.profiles).features.items():
        if name in log.fields:
            raise DataError(f"dataset {log.name!r}: the profile column {name!r} has the name of another field; rename it")
        values = feature.values[users + 1]  # row 0 of profiles is nobody
        if isinstance(feature, NumericFeature):
            fields[name] = NumericFeature(values, feature.mean, feature.deviation)
        else:
            fields[name] = CategoricalFeature(feature.vocabulary, values)
    return fields


def _part(name: str, rows: _Rows, states: np.ndarray, chosen: np.ndarray) -> TagRows:
    if not (rows.labels[chosen] > 0).any():
        raise DataError(
            f"{name} has no positive row with a tag that training knows; give more data, raise data.split.valid_share or "
            "data.split.test_share, or lower data.tagging.min_tag_count"
        )
    return TagRows(
        states=states[chosen].astype(np.int32),
        tags=rows.tags[chosen],
        labels=rows.labels[chosen],
        weights=rows.weights[chosen],
        users=rows.users[chosen].astype(np.int32),
        times=rows.times[chosen],
    )


def _evaluation(source: _Source, users: np.ndarray, states: np.ndarray, period: tuple[float, float]) -> TagEvaluation:
    log, tags = source.log, source.tags
    later = (log.times >= period[0]) & (log.times < period[1])
    starts, ends = (np.full(len(users), moment) for moment in (period[0], np.inf))
    by_time = source.met.where(np.argsort(source.met.times, kind="stable"))
    first_met = FirstTimes(by_time.keys, by_time.values, by_time.times, len(log.tag_names))
    targets, new, own = [], [], []
    for task in range(len(log.task_names)):
        positive = log.labels[:, task]
        offsets, codes, _ = totals_before(_facts_of_users(log, source.event_codes, positive & later), users, ends)
        targets.append(Sequences(offsets, tags.of(codes), None, None, users.astype(np.int32)))
        # What a user meets right at the moment is new.
        just_before = np.full(len(codes), np.nextafter(period[0], -np.inf))
        new.append(~first_met.by(np.repeat(users, np.diff(offsets)), codes, just_before))
        own.append(_own_tags(source, positive, users, starts))
    return TagEvaluation(states.astype(np.int32), targets, new, own)


def _own_tags(source: _Source, positive: np.ndarray, users: np.ndarray, times: np.ndarray) -> Sequences:
    """The known tags of the positive events of users before ``times``, with the number of events as weight."""
    offsets, codes, counts = totals_before(_facts_of_users(source.log, source.event_codes, positive), users, times)
    indices = source.tags.of(codes)
    kept = indices >= FIRST_INDEX
    running = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return Sequences(running[offsets], indices[kept], None, counts[kept].astype(np.float32), users.astype(np.int32))


def _tag_counts(source: _Source) -> np.ndarray:
    """int64 [A, tag rows]: training positives of each task by tag."""
    log, num_rows = source.log, source.tags.vocabulary.num_rows
    trains = log.times < source.moments[0]
    positives = [source.tags.of(source.event_codes[trains & log.labels[:, task]]).ravel() for task in range(len(log.task_names))]
    counts = np.stack([np.bincount(indices, minlength=num_rows) for indices in positives])
    counts[:, :FIRST_INDEX] = 0
    return counts.astype(np.int64)


def _report(source: _Source, dataset: TagDataset, dropped: int) -> dict[str, Any]:
    log, config = source.log, source.config
    report: dict[str, Any] = {
        "dataset": log.name,
        # The moments of a split that the log says itself are places in its order.
        **({"split": "by_time", "moments": list(source.moments)} if log.parts is None else {"split": "given"}),
        "users": len(log.user_ids),
        "events": len(log),
        "tags": len(dataset.tags),
        "tags_left_out_as_rare": len(log.tag_names) - len(dataset.tags),
        "states": len(dataset.states),
        "fields": {
            name: 1 if isinstance(feature, NumericFeature) else len(feature.vocabulary) for name, feature in dataset.states.fields.items()
        },
        "rows_without_known_tag": dropped,
        "negatives": f"{config.negatives} per event, {resolved_sampling(log, config)}",
        "read": dict(log.report),
    }
    for name, part in (("train", dataset.train), ("valid", dataset.valid), ("test", dataset.test)):
        positives = {f"positive_{task}": int(part.labels[:, position].sum()) for position, task in enumerate(log.task_names)}
        report[name] = {"rows": len(part), **positives}
    for name, examples in (("valid_tags", dataset.valid_tags), ("test_tags", dataset.test_tags)):
        report[name] = {
            "users": len(examples),
            "users_with_history": int(examples.has_history().sum()),
            "targets": {task: len(targets.items) for task, targets in zip(log.task_names, examples.targets, strict=True)},
        }
    return report
