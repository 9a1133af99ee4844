"""Which items a request allows: conditions on the catalogue's columns, and lists of items.

Every condition answers for a few items of each user and, user by user, for the whole catalogue. A user without restrictions allows
everything.

Shapes: B users, C items of a user, N + 2 rows of the catalogue, V indices of a column's values, M values of an item, A entries of a list.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import is_among


class Condition(abc.ABC):
    """One restriction of every user's items.

    Attributes:
        restricts: bool [B]: whose items it restricts at all.
    """

    restricts: tf.Tensor

    @abc.abstractmethod
    def among(self, items: tf.Tensor) -> tf.Tensor:
        """bool [B, C]: which of ``items`` int32 [B, C] fit."""

    @abc.abstractmethod
    def everywhere(self, user: tf.Tensor) -> tf.Tensor:
        """bool [N + 2]: which items fit the user int32 []."""


class ValueCondition(Condition):
    """A column's values: at least one of those allowed, if any are, and none of those denied.

    An item without a value does not fit a list of allowed values.

    Args:
        values: int32 [N + 2, M], the values of each item; below 2 is none.
        num_values: V.
        allowed: int32 [B, A] values; 0 pads, and 1 is one that no item has.
        denied: int32 [B, A], likewise.
    """

    def __init__(self, values: tf.Tensor, num_values: int, allowed: tf.Tensor, denied: tf.Tensor) -> None:
        self._values = values
        self._allowed, self._denied = (_table(listed, num_values) for listed in (allowed, denied))
        self._has_allowed = tf.reduce_any(allowed != PADDING_INDEX, axis=1)
        self.restricts = self._has_allowed | tf.reduce_any(self._denied, axis=1)

    def among(self, items: tf.Tensor) -> tf.Tensor:
        """See ``Condition.among``."""
        values = tf.gather(self._values, items)  # [B, C, M]
        allowed, denied = (tf.reduce_any(tf.gather(table, values, batch_dims=1), axis=2) for table in (self._allowed, self._denied))
        return (allowed | ~self._has_allowed[:, None]) & ~denied

    def everywhere(self, user: tf.Tensor) -> tf.Tensor:
        """See ``Condition.everywhere``."""
        if self._values.shape[1] == 1:  # one look-up for each item, and nothing to reduce
            fits = (self._allowed[user] | ~self._has_allowed[user]) & ~self._denied[user]  # [V]
            return tf.gather(fits, tf.reshape(self._values, [-1]))
        allowed, denied = (tf.reduce_any(tf.gather(table[user], self._values), axis=1) for table in (self._allowed, self._denied))
        return (allowed | ~self._has_allowed[user]) & ~denied


class RangeCondition(Condition):
    """A column's number: at least ``low``, and at most ``high``; an item without a number fits no bound.

    Args:
        values: float32 [N + 2], NaN where an item has none.
        low: float32 [B]; NaN is no bound.
        high: float32 [B]; NaN is no bound.
    """

    def __init__(self, values: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> None:
        self._values, self._low, self._high = values, low, high
        self.restricts = ~(tf.math.is_nan(low) & tf.math.is_nan(high))

    def among(self, items: tf.Tensor) -> tf.Tensor:
        """See ``Condition.among``."""
        return _between(tf.gather(self._values, items), self._low[:, None], self._high[:, None])

    def everywhere(self, user: tf.Tensor) -> tf.Tensor:
        """See ``Condition.everywhere``."""
        return _between(self._values, self._low[user], self._high[user])


class ItemCondition(Condition):
    """A list of the items that are allowed, if there is one.

    Args:
        allowed: int32 [B, A] item indices; 0 pads, and 1 is an unknown item: a list of only these allows nothing.
        num_rows: N + 2.
    """

    def __init__(self, allowed: tf.Tensor, num_rows: int) -> None:
        self._allowed, self._num_rows = allowed, num_rows
        self.restricts = tf.reduce_any(allowed != PADDING_INDEX, axis=1)

    def among(self, items: tf.Tensor) -> tf.Tensor:
        """See ``Condition.among``."""
        return is_among(items, self._allowed) | ~self.restricts[:, None]

    def everywhere(self, user: tf.Tensor) -> tf.Tensor:
        """See ``Condition.everywhere``."""
        return _table(self._allowed[user][None], self._num_rows)[0] | ~self.restricts[user]


class ItemFilter:
    """All conditions of a batch of users together.

    Args:
        conditions: At least one.
        num_rows: N + 2.
        candidate_rows: Items from this row on are gone: no condition lets them in, and no index knows them. None: there are none.
    """

    def __init__(self, conditions: Sequence[Condition], num_rows: int, candidate_rows: int | None = None) -> None:
        self._conditions, self._num_rows = conditions, num_rows
        self._candidate_rows = num_rows if candidate_rows is None else candidate_rows
        self.restricts = tf.reduce_any(tf.stack([condition.restricts for condition in conditions]), axis=0)  # [B]

    def among(self, items: tf.Tensor) -> tf.Tensor:
        """bool [B, C]: which of ``items`` int32 [B, C] are real and fit."""
        fits = (items >= FIRST_INDEX) & (items < self._candidate_rows)
        for condition in self._conditions:
            fits &= condition.among(items)
        return fits

    def everywhere(self, user: tf.Tensor) -> tf.Tensor:
        """bool [N + 2]: which items are real and fit the user int32 []. Conditions that restrict nothing cost nothing."""
        rows = tf.range(self._num_rows)
        fits = (rows >= FIRST_INDEX) & (rows < self._candidate_rows)
        for condition in self._conditions:
            fits = _narrowed(fits, condition, user)
        return fits


def _narrowed(fits: tf.Tensor, condition: Condition, user: tf.Tensor) -> tf.Tensor:
    return tf.cond(condition.restricts[user], lambda: fits & condition.everywhere(user), lambda: fits)


def _table(listed: tf.Tensor, size: int) -> tf.Tensor:
    """bool [B, size]: which indices stand in the lists int32 [B, A]; never padding and unknown."""
    rows = tf.broadcast_to(tf.range(tf.shape(listed)[0])[:, None], tf.shape(listed))
    places = tf.reshape(tf.stack([rows, listed], axis=2), [-1, 2])
    counts = tf.scatter_nd(places, tf.ones([tf.size(listed)], tf.int32), [tf.shape(listed)[0], size])
    return (counts > 0) & (tf.range(size) >= FIRST_INDEX)


def _between(values: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    return (tf.math.is_nan(low) | (values >= low)) & (tf.math.is_nan(high) | (values <= high))
