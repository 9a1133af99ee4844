"""Events that say that a user turned an item down: apart from the others, and back beside the sequences of their users."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tfmi.data.dataset import Sequences
from tfmi.data.splitting.ordering import order_events
from tfmi.data.tables import EventTable

# Of what a user has turned down, so many of the newest are known: rows of negatives are as wide as the longest.
MOST_NEGATIVES = 50
# The place of what came after everything.
_AFTER_ALL = np.iinfo(np.int64).max


@dataclass(frozen=True)
class SeparatedEvents:
    """A log whose negatives stand apart.

    Attributes:
        positives: The events that teach and are predicted.
        negatives: The others, at float64 times that ``places`` can be compared with where the log has none; None without any.
        places: float64 [positives], the place of each positive in the log.
    """

    positives: EventTable
    negatives: EventTable | None
    places: np.ndarray

    def ordered(self, kept: np.ndarray) -> Sequences:
        """The positives where ``kept`` [positives], one row per user, oldest first, with what each user has turned down; as codes."""
        ordered = order_events(self.positives, kept)
        if self.negatives is None or not len(ordered):
            return ordered
        timed = ordered if ordered.timestamps is not None else order_events(replace(self.positives, timestamps=self.places), kept)
        return replace(_with_negatives(timed, self.negatives), timestamps=ordered.timestamps)


def separate_negatives(events: EventTable) -> SeparatedEvents:
    """Tell a log's positives from what users have turned down."""
    places = np.arange(len(events), dtype=np.float64)
    if events.negative is None or not events.negative.any():
        return SeparatedEvents(events, None, places)
    timed = events if events.timestamps is not None else replace(events, timestamps=places)
    positives = replace(events.take(~events.negative), negative=None)
    return SeparatedEvents(positives, timed.take(events.negative), places[~events.negative])


def _with_negatives(ordered: Sequences, negatives: EventTable) -> Sequences:
    times, moments = _times(ordered.timestamps), _times(negatives.timestamps)
    row_of_user = np.full(int(max(ordered.users.max(initial=0), negatives.user_codes.max(initial=0))) + 1, -1, dtype=np.int64)
    row_of_user[ordered.users] = np.arange(len(ordered))
    rows = row_of_user[negatives.user_codes]
    order = np.lexsort((moments, rows))
    order = order[rows[order] >= 0]
    rows, codes, moments = rows[order], negatives.item_codes[order], moments[order]
    lengths = np.bincount(rows, minlength=len(ordered))
    from_end = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(rows)) - 1  # 0 at a row's newest
    width = int(min(lengths.max(initial=0), MOST_NEGATIVES))
    items = np.full((len(ordered), width), -1, dtype=np.int64)
    places = np.full((len(ordered), width), _AFTER_ALL, dtype=np.int64)
    kept = from_end < width
    rows, codes, moments, columns = rows[kept], codes[kept], moments[kept], from_end[kept]
    items[rows, columns] = codes
    places[rows, columns] = _events_before(ordered, times, rows, moments)
    return replace(ordered, negatives=items, negative_places=places)


def _times(times: np.ndarray | None) -> np.ndarray:
    if times is None:
        raise ValueError("negatives need times, or places in an order")
    return times


def _events_before(ordered: Sequences, times: np.ndarray, rows: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """int64 [n]: how many events of each of ``rows`` lie at ``moments`` or before."""
    distinct = np.unique(np.concatenate([times, moments]))
    width = len(distinct) + 1
    event_rows = np.repeat(np.arange(len(ordered)), ordered.lengths())
    keys = event_rows * width + np.searchsorted(distinct, times)  # sorted: rows one after the other, oldest first in each
    wanted = rows * width + np.searchsorted(distinct, moments)
    return np.searchsorted(keys, wanted, side="right") - ordered.offsets[rows]
