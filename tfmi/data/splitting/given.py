"""A split that the log itself says: a column, or files of their own, for training, validation and test."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from tfmi.config import SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.assembly import Parts
from tfmi.data.dataset import EvaluationSet, Sequences
from tfmi.data.splitting.explicit_negatives import SeparatedEvents
from tfmi.data.splitting.ordering import order_events
from tfmi.data.splitting.slicing import cut_rows, sequences_from_ranges
from tfmi.data.tables import TEST, TRAIN, VALID, EventTable

log = logging.getLogger(__name__)

NOT_GIVEN = (
    "data.split.method: 'given' is for data that comes split (dataset: comirec or sessions, or a log with data.log.columns.part or "
    "data.log.test_path); choose another method"
)


@dataclass(frozen=True)
class GivenSequences:
    """A log in the order of its parts.

    Attributes:
        ordered: One row per user, in the order of the parts, and within them of time.
        train_ends, valid_ends: int64 [rows] positions in ``ordered.items``: where each row's training and validation events end.
    """

    ordered: Sequences
    train_ends: np.ndarray
    valid_ends: np.ndarray


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
    given = order_given(separated)
    ordered, train_ends, valid_ends = given.ordered, given.train_ends, given.valid_ends
    starts, ends = ordered.offsets[:-1], ordered.offsets[1:]
    require_parts(train=bool((train_ends > starts).any()), test=bool((ends > valid_ends).any()))
    trained_until = train_ends
    if (valid_ends > train_ends).any():
        valid = held_out(ordered, train_ends, valid_ends, config.history_share)
    else:
        valid, trained_until = _validation_of_training(ordered, train_ends, config)
    rows = np.flatnonzero(trained_until > starts)
    train = sequences_from_ranges(ordered, rows, starts[rows], trained_until[rows])
    return ordered, Parts(train=train, valid=valid, test=held_out(ordered, valid_ends, ends, config.history_share))


def order_given(separated: SeparatedEvents) -> GivenSequences:
    """The positives of a log that says its parts, in the order of these; what users have turned down is known from the beginning."""
    events = separated.positives
    parts = events.parts
    if parts is None:
        raise ValueError("expected a log that says which part each event belongs to")
    times = separated.places if events.timestamps is None else events.timestamps
    clock = part_clock(times, parts)
    ordered = order_events(replace(events, timestamps=clock.moments), np.ones(len(events), dtype=bool))
    part_of_event = parts[np.lexsort((clock.moments, events.user_codes))]
    ordered = replace(ordered, timestamps=None if events.timestamps is None else clock.own_times(ordered.timestamps))
    ordered = _with_negatives_of(ordered, separated)
    train_ends = ordered.offsets[:-1] + _per_row(ordered, part_of_event == TRAIN)
    return GivenSequences(ordered, train_ends, train_ends + _per_row(ordered, part_of_event == VALID))


def require_parts(*, train: bool, test: bool) -> None:
    """Raise ``DataError`` if a log's own split lacks the training or the test part."""
    for name, there in (("training", train), ("test", test)):
        if not there:
            raise DataError(f"the log's split has no event of the {name} part; see data.log.columns.part and data.log.test_path")


@dataclass(frozen=True)
class PartClock:
    """A clock on which a log's own split is a split by time: one part after the other, and within a part the log's own order.

    Attributes:
        moments: float64 [events] whole numbers from 0.
        times: float64 [moments] the log's own time of each moment.
    """

    moments: np.ndarray
    times: np.ndarray

    def own_times(self, moments: np.ndarray | None) -> np.ndarray:
        """float64: the log's own times of some moments of this clock."""
        if moments is None:
            raise ValueError("expected moments")
        own: np.ndarray = self.times[moments.astype(np.int64)]
        return own


def part_clock(times: np.ndarray, parts: np.ndarray) -> PartClock:
    """The clock of events at ``times`` [events] of ``parts`` [events]."""
    keys = np.unique(times, return_inverse=True)[1] + parts.astype(np.int64) * (len(times) + 1)
    _, first, moments = np.unique(keys, return_index=True, return_inverse=True)
    return PartClock(moments.astype(np.float64), times[first])


def given_moments(moments: np.ndarray, parts: np.ndarray, config: SplitConfig) -> tuple[float, float]:
    """When validation and test begin on a ``PartClock``.

    Without a validation part it is the end of training: the moment that leaves ``valid_share`` of the training events behind it.

    Raises:
        DataError: There is no training or no test event, or no validation part and all training events are of one moment.
    """
    require_parts(train=bool((parts == TRAIN).any()), test=bool((parts == TEST).any()))
    test = float(moments[parts == TEST].min())
    if (parts == VALID).any():
        return float(moments[parts == VALID].min()), test
    training = np.sort(moments[parts == TRAIN])
    valid = float(training[min(len(training) - 1, max(1, int((1 - config.valid_share) * len(training) + 1e-9)))])
    if valid == training[0]:
        raise DataError(
            "the log's split has no validation part, and its training events are of one moment, so that none can be taken from them; say "
            "which events validate (data.log.columns.part, data.log.valid_path)"
        )
    log.info("The log says no validation part: the last of the training events validate (data.split.valid_share)")
    return valid, test


def own_split(events: EventTable, config: SplitConfig) -> EventTable:
    """A log with its parts, if they are to be used, or without any, where ``data.split.method`` names another way.

    Raises:
        ConfigError: The method is ``given``, and the log says no parts.
    """
    if config.method not in ("auto", "given"):
        return replace(events, parts=None)
    if config.method == "given" and events.parts is None:
        raise ConfigError(NOT_GIVEN)
    return events


def _with_negatives_of(ordered: Sequences, separated: SeparatedEvents) -> Sequences:
    """What each user has turned down beside sequences whose order is not that of time: all of it is known from the beginning."""
    by_time = separated.ordered(np.ones(len(separated.positives), dtype=bool))
    if by_time.negatives is None:
        return ordered
    return replace(ordered, negatives=by_time.negatives, negative_places=np.zeros_like(by_time.negatives))


def _per_row(ordered: Sequences, chosen: np.ndarray) -> np.ndarray:
    running = np.concatenate([[0], np.cumsum(chosen)])
    return running[ordered.offsets[1:]] - running[ordered.offsets[:-1]]


def held_out(ordered: Sequences, first: np.ndarray, last: np.ndarray, history_share: float) -> EvaluationSet:
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
