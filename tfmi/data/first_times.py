"""Since when a user has known a thing: what negatives are drawn against, so that what happens later decides nothing."""

from __future__ import annotations

import numpy as np


class FirstTimes:
    """When a pair of a user and a thing first occurred.

    Args:
        users: int64 [pairs].
        things: int64 [pairs], below ``num_things``.
        times: float64 [pairs], never falling.
        num_things: Bound of the things.
    """

    def __init__(self, users: np.ndarray, things: np.ndarray, times: np.ndarray, num_things: int) -> None:
        self.num_things = num_things
        self._pairs, first = np.unique(users.astype(np.int64) * num_things + things, return_index=True)
        self._times = times[first]

    def by(self, users: np.ndarray, things: np.ndarray, times: np.ndarray) -> np.ndarray:
        """bool: whether the pairs had occurred by ``times``, that very moment included."""
        pairs = users.astype(np.int64) * self.num_things + things
        place = np.minimum(np.searchsorted(self._pairs, pairs), max(len(self._pairs) - 1, 0))
        return (self._pairs[place] == pairs) & (self._times[place] <= times) if len(self._pairs) else np.zeros(pairs.shape, bool)
