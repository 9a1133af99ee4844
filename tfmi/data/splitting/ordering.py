"""A log's events as one sequence per user."""

from __future__ import annotations

import numpy as np

from tfmi.data.dataset import Sequences
from tfmi.data.tables import EventTable


def order_events(events: EventTable, kept: np.ndarray) -> Sequences:
    """The kept events, one row per user (in code order), oldest first, ties in file order. Items and users are codes."""
    positions = np.flatnonzero(kept)
    users = events.user_codes[positions]
    keys = (users,) if events.timestamps is None else (events.timestamps[positions], users)
    order = positions[np.lexsort(keys)]  # stable, last key first
    present, lengths = np.unique(users, return_counts=True)
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=events.item_codes[order],
        timestamps=None if events.timestamps is None else events.timestamps[order],
        weights=None if events.weights is None else events.weights[order],
        users=present,
    )
