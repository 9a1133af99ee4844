"""Any filters over any small catalogue let through what a slow reference lets through, asked item by item and for all items at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmi.index.filters import ItemCondition, ItemFilter, RangeCondition, ValueCondition

ROWS, VALUES, WIDTH = 8, 6, 3  # rows 0 and 1 are padding and unknown, and so are values 0 and 1
# Few distinct numbers make bounds that items lie on.
NUMBERS = st.sampled_from([np.nan, -np.inf, -1.0, -0.0, 0.0, 1.0, np.inf])


class Filters(NamedTuple):
    values: np.ndarray
    numbers: np.ndarray
    allowed: np.ndarray
    denied: np.ndarray
    low: np.ndarray
    high: np.ndarray
    items: np.ndarray


@st.composite
def filters(draw: st.DrawFn) -> Filters:
    users = draw(st.integers(1, 3))

    def integers(most: int, *shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(st.integers(0, most), min_size=size, max_size=size)), np.int32).reshape(shape)

    def numbers(size: int) -> np.ndarray:
        return np.array(draw(st.lists(NUMBERS, min_size=size, max_size=size)), np.float32)

    per_item = draw(st.integers(1, 2))
    return Filters(
        integers(VALUES - 1, ROWS, per_item),
        numbers(ROWS),
        integers(VALUES - 1, users, WIDTH),
        integers(VALUES - 1, users, WIDTH),
        numbers(users),
        numbers(users),
        integers(ROWS - 1, users, WIDTH),
    )


def fits(given_filters: Filters, user: int, item: int) -> bool:
    """As the documentation says it, for one item."""
    real_values = {int(value) for value in given_filters.values[item] if value >= 2}
    allowed, denied = ({int(value) for value in listed[user] if value} for listed in (given_filters.allowed, given_filters.denied))
    number, low, high = (float(given_filters.numbers[item]), float(given_filters.low[user]), float(given_filters.high[user]))
    listed = {int(value) for value in given_filters.items[user] if value}
    return (
        item >= 2
        and (not allowed or bool(real_values & allowed))
        and not real_values & denied
        and (np.isnan(low) or number >= low)
        and (np.isnan(high) or number <= high)
        and (not listed or item in listed)
    )


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(filters())
def test_filters_let_through_what_the_reference_does(given_filters: Filters) -> None:
    values, numbers, allowed, denied, low, high, items = (tf.constant(array) for array in given_filters)
    together = ItemFilter(
        [ValueCondition(values, VALUES, allowed, denied), RangeCondition(numbers, low, high), ItemCondition(items, ROWS)], ROWS
    )
    users = len(given_filters.low)
    expected = np.array([[fits(given_filters, user, item) for item in range(ROWS)] for user in range(users)])
    everything = tf.tile(tf.range(ROWS)[None], [users, 1])
    np.testing.assert_array_equal(together.among(everything).numpy(), expected)
    np.testing.assert_array_equal(np.stack([together.everywhere(tf.constant(user)).numpy() for user in range(users)]), expected)
