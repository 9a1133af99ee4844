"""Where histories end: after the last click strictly before a row."""

from __future__ import annotations

import numpy as np

from tfmi.data.dataset import Sequences


def order_clicks(users: np.ndarray, items: np.ndarray, timestamps: np.ndarray, num_users: int) -> Sequences:
    """Clicks [n] as one row per user 0, 1, ... (also those without), in time order, ties in the order given."""
    order = np.lexsort((timestamps, users))  # stable
    lengths = np.bincount(users, minlength=num_users)
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=items[order],
        timestamps=timestamps[order],
        weights=None,
        users=np.arange(num_users, dtype=np.int32),
    )


def times_of(clicks: Sequences) -> np.ndarray:
    """The times [events] of clicks that must have some."""
    if clicks.timestamps is None:
        raise ValueError("clicks need times, or places in an order")
    return clicks.timestamps


def history_ends(clicks: Sequences, users: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
    """int64 [n]: for each row the position in ``clicks.items`` after its user's last click strictly before it.

    Args:
        clicks: One row per user, in time order, with times.
        users, timestamps: [n], each row's user, a row of ``clicks``, and time.
    """
    click_times = times_of(clicks)
    moments = np.unique(np.concatenate([click_times, timestamps]))
    width = len(moments) + 1

    def key(of_user: np.ndarray, time: np.ndarray) -> np.ndarray:
        return of_user.astype(np.int64) * width + np.searchsorted(moments, time)

    click_users = np.repeat(np.arange(len(clicks)), clicks.lengths())
    return np.searchsorted(key(click_users, click_times), key(users, timestamps), side="left").astype(np.int64)
