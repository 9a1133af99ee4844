"""A split that the log itself says: a column, or files of their own, for training, validation and test."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from tfmi.config import SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.assembly import Parts
from tfmi.data.dataset import EvaluationSet, Sequences
from tfmi.data.splitting.explicit_negatives import SeparatedEvents
from tfmi.data.splitting.slicing import cut_rows, sequences_from_ranges
from tfmi.data.tables import TRAIN, VALID, EventTable

log = logging.getLogger(__name__)


def split_given(separated: SeparatedEvents, config: SplitConfig) -> tuple[Sequences, Parts]:
    """Split a log as its ``parts`` say.

    A user's events of a held-out part are targets, and everything of the parts before it the history. Of a user who is in no earlier part,
    the first ``int(history_share x length)`` events are the history. Without a validation part, ``valid_share`` of the users who train
    validate: they train with the first ``history_share`` of their training events, and the rest are targets.

    Returns:
        All sequences, each in the order of its parts, and within them of time; and the parts.

    Raises:
        DataError: Nobody trains, or nobody is tested.
    """
    parts = separated.positives.parts
    if parts is None:
        raise ValueError("expected a log that says which part each event belongs to")
    # Parts decide the order before times do.
    events = separated.positives
    times = separated.places if events.timestamps is None else events.timestamps
    moments = np.unique(times, return_inverse=True)[1] + parts.astype(np.int64) * (len(times) + 1)
    by_part = replace(separated, positives=replace(events, timestamps=moments.astype(np.float64)))
    ordered = by_part.ordered(np.ones(len(events), dtype=bool))
    part_of_event = parts[np.lexsort((moments, events.user_codes))]
    ordered = replace(ordered, timestamps=_reordered(separated, moments), negatives=None, negative_places=None)
    ordered = _with_negatives_of(ordered, separated)

    starts, ends = ordered.offsets[:-1], ordered.offsets[1:]
    train_ends = starts + _per_row(ordered, part_of_event == TRAIN)
    valid_ends = train_ends + _per_row(ordered, part_of_event == VALID)
    for name, some in (("training", train_ends > starts), ("test", ends > valid_ends)):
        if not some.any():
            raise DataError(f"the log's split has no event of the {name} part; see data.log.columns.part and data.log.test_path")
    trained_until = train_ends
    if (valid_ends > train_ends).any():
        valid = _held_out(ordered, train_ends, valid_ends, config.history_share)
    else:
        valid, trained_until = _validation_of_training(ordered, train_ends, config)
    rows = np.flatnonzero(trained_until > starts)
    train = sequences_from_ranges(ordered, rows, starts[rows], trained_until[rows])
    return ordered, Parts(train=train, valid=valid, test=_held_out(ordered, valid_ends, ends, config.history_share))


def refuse_own_split(name: str, events: EventTable) -> None:
    """Raise ``ConfigError`` if a log says its split and what is made of it is split by time in any case."""
    if events.parts is not None:
        raise ConfigError(
            f"dataset {name!r}: the log says its own split (data.log.columns.part, data.log.test_path, or files train.* and test.*), but "
            "impressions and tags are split by time; give one log without it"
        )


def _reordered(separated: SeparatedEvents, moments: np.ndarray) -> np.ndarray | None:
    """The log's own times in the order of ``ordered``."""
    events = separated.positives
    return None if events.timestamps is None else events.timestamps[np.lexsort((moments, events.user_codes))]


def _with_negatives_of(ordered: Sequences, separated: SeparatedEvents) -> Sequences:
    """What each user has turned down beside sequences whose order is not that of time: all of it is known from the beginning."""
    by_time = separated.ordered(np.ones(len(separated.positives), dtype=bool))
    if by_time.negatives is None:
        return ordered
    return replace(ordered, negatives=by_time.negatives, negative_places=np.zeros_like(by_time.negatives))


def _per_row(ordered: Sequences, chosen: np.ndarray) -> np.ndarray:
    running = np.concatenate([[0], np.cumsum(chosen)])
    return running[ordered.offsets[1:]] - running[ordered.offsets[:-1]]


def _held_out(ordered: Sequences, first: np.ndarray, last: np.ndarray, history_share: float) -> EvaluationSet:
    """The users with events in ``[first, last)``, which are targets; without earlier ones the first of them are history."""
    starts = ordered.offsets[:-1]
    own_history = (history_share * (last - first)).astype(np.int64)
    history_ends = np.where(first > starts, first, first + own_history)
    rows = np.flatnonzero((last > first) & (history_ends > starts) & (history_ends < last))
    return cut_rows(ordered, rows, history_ends[rows], last[rows])


def _validation_of_training(ordered: Sequences, train_ends: np.ndarray, config: SplitConfig) -> tuple[EvaluationSet, np.ndarray]:
    starts = ordered.offsets[:-1]
    history_ends = starts + (config.history_share * (train_ends - starts)).astype(np.int64)
    able = np.flatnonzero((history_ends > starts) & (history_ends < train_ends))
    count = max(1, int(config.valid_share * len(able) + 1e-9)) if len(able) else 0
    chosen = np.sort(np.random.default_rng(config.seed).permutation(able)[:count])
    log.info("The log says no validation part: %s users validate with the last of their training events (data.split.valid_share)", count)
    trained_until = train_ends.copy()
    trained_until[chosen] = history_ends[chosen]
    return cut_rows(ordered, chosen, history_ends[chosen], train_ends[chosen]), trained_until
