"""Items that a user was not seen to act on, drawn from what was there at the time.

A log holds only what users did. Each event brings some draws of things that had occurred in the log *before* it; one that the user has
acted on by then is drawn again, a few times, and then given up. What happens later decides nothing: an item that the user will come to
may be drawn, as it would have been then.
"""

from __future__ import annotations

import numpy as np

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.data.first_times import FirstTimes
from tfmi.data.tags.facts import ALWAYS, Facts, ranges_before
from tfmi.data.tags.tag_log import TagLog

# Draws before a negative is given up.
TRIES = 8
EVENTS_PER_BLOCK = 50_000
NONE = -1


def draw_events(log: TagLog, count: int, *, uniform: bool, seed: int) -> np.ndarray:
    """Earlier events whose items are negatives of each event.

    Args:
        log: The log.
        count: How many per event.
        uniform: All items that had occurred are equally likely; otherwise all events are, so that an item is drawn as often as it was
            popular until then.
        seed: Decides the draws. An event's draws do not depend on later ones.

    Returns:
        int64 [events, count] positions of events, ``NONE`` where there was nothing to draw.
    """
    acted = FirstTimes(log.users, log.items, log.times, log.num_items)
    choose = _UniformItems(log) if uniform else _EarlierEvents(log)
    random = np.random.default_rng(seed)
    drawn = np.full((len(log), count), NONE, np.int64)
    for first in range(0, len(log), EVENTS_PER_BLOCK):
        block = slice(first, first + EVENTS_PER_BLOCK)
        users, times = log.users[block, None, None], log.times[block, None, None]
        candidates = choose.draw(block, random.random((users.shape[0], count, TRIES, 2)))  # [b, count, TRIES]
        allowed = (candidates >= 0) & ~acted.by(users, log.items[np.maximum(candidates, 0)], times)
        drawn[block] = _first_allowed(candidates, allowed)
    return drawn


def draw_tags(log: TagLog, tags: np.ndarray, met: FirstTimes, *, count: int, seed: int) -> np.ndarray:
    """Made-up items for each event: as many tags as its own item has, each drawn uniformly from those that the user has not seen.

    Args:
        log: The log.
        tags: int32 [events, N] tag indices of the events' own items.
        met: When a user first saw a tag index, of which it knows the number.
        count: How many items per event.
        seed: Decides the draws.

    Returns:
        int32 [events, count, N] tag indices, 0 where there is none.
    """
    random = np.random.default_rng(seed)
    num_tags = (tags >= FIRST_INDEX).sum(axis=1)
    drawn = np.zeros((len(log), count, tags.shape[1]), np.int32)
    for first in range(0, len(log), EVENTS_PER_BLOCK):
        block = slice(first, first + EVENTS_PER_BLOCK)
        shape = (len(tags[block]), count, tags.shape[1], TRIES)
        candidates = FIRST_INDEX + (random.random(shape) * (met.num_things - FIRST_INDEX)).astype(np.int64)
        wanted = (np.arange(tags.shape[1]) < num_tags[block, None])[:, None, :, None]
        allowed = wanted & ~met.by(log.users[block, None, None, None], candidates, log.times[block, None, None, None])
        drawn[block] = np.maximum(_first_allowed(candidates, allowed), PADDING_INDEX)
    return drawn


def _first_allowed(candidates: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The first allowed candidate along the last axis, ``NONE`` where there is none."""
    chosen = np.take_along_axis(candidates, allowed.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return np.where(allowed.any(axis=-1), chosen, NONE)


class _EarlierEvents:
    def __init__(self, log: TagLog) -> None:
        self._available = np.searchsorted(log.times, log.times)  # [events] how many are strictly earlier

    def draw(self, block: slice, draws: np.ndarray) -> np.ndarray:
        available = self._available[block, None, None]
        return np.where(available > 0, (draws[..., 0] * available).astype(np.int64), NONE)


class _UniformItems:
    """An item that has occurred, and one of its events until then."""

    def __init__(self, log: TagLog) -> None:
        _, first = np.unique(log.items, return_index=True)
        by_appearance = np.sort(first)  # events
        self._items = log.items[by_appearance]
        self._available = np.searchsorted(log.times[by_appearance], log.times)
        self._by_item = np.argsort(log.items, kind="stable")
        self._of_items = Facts(log.items[self._by_item], log.times[self._by_item], self._by_item, np.zeros(len(log)))
        self._times = log.times

    def draw(self, block: slice, draws: np.ndarray) -> np.ndarray:
        available = self._available[block, None, None]
        items = self._items[(draws[..., 0] * available).astype(np.int64)]
        times = np.broadcast_to(np.where(available > 0, self._times[block, None, None], ALWAYS), items.shape)
        starts, ends = ranges_before(self._of_items, items.ravel(), times.ravel())
        place = (starts + draws[..., 1].ravel() * (ends - starts)).astype(np.int64)
        return np.where(ends > starts, self._by_item[np.minimum(place, len(self._by_item) - 1)], NONE).reshape(items.shape)
