"""Coarse labels are made of training rows alone, whatever their order."""

from __future__ import annotations

import numpy as np
import pytest

from tfmi.data.impressions.coarse_labels import pseudo_coarse_labels, shuffled_within_users

A, B = 2, 3


def _rows(count: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 20, count) * 10**12, (rng.random(count) < 0.2).astype(np.float32), rng.integers(0, 9, count)


def test_toy_log() -> None:
    users = np.array([1, 1, 1, 2])
    labels, values = np.array([1, 0, 0, 0]), np.array([A, A, B, A])
    np.testing.assert_array_equal(pseudo_coarse_labels(users, labels, values), [1, 1, 0, 0])


def test_every_row_has_the_maximum_of_its_group() -> None:
    users, labels, values = _rows()
    expected = [
        labels[(users == user) & (values == value)].max() if value >= 2 else label
        for user, label, value in zip(users, labels, values, strict=True)
    ]
    found = pseudo_coarse_labels(users, labels, values)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert (found >= labels).all()
    assert found.sum() > labels.sum()


def test_order_of_rows_does_not_matter() -> None:
    users, labels, values = _rows()
    order = np.random.default_rng(1).permutation(len(users))
    shuffled = pseudo_coarse_labels(users[order], labels[order], values[order])
    np.testing.assert_array_equal(shuffled, pseudo_coarse_labels(users, labels, values)[order])


def test_unknown_values_share_with_nothing() -> None:
    users, labels = np.zeros(4, np.int64), np.array([1, 0, 0, 1])
    for unknown in (0, 1):
        np.testing.assert_array_equal(pseudo_coarse_labels(users, labels, np.full(4, unknown)), labels)


def test_a_smaller_training_part_has_labels_of_its_own() -> None:
    # The only positive of user 1 in B is cut off for validation.
    users, labels, values = np.array([1, 1, 1]), np.array([0, 0, 1]), np.array([A, B, B])
    np.testing.assert_array_equal(pseudo_coarse_labels(users, labels, values), [0, 1, 1])
    np.testing.assert_array_equal(pseudo_coarse_labels(users[:2], labels[:2], values[:2]), [0, 0])


def test_no_rows_and_unequal_rows() -> None:
    nothing = np.zeros(0, np.int64)
    assert pseudo_coarse_labels(nothing, nothing, nothing).shape == (0,)
    with pytest.raises(ValueError, match="got 1, 0 and 0"):
        pseudo_coarse_labels(np.zeros(1), nothing, nothing)


def test_shuffling_keeps_how_many_each_user_has_and_is_repeatable() -> None:
    users, labels, values = _rows()
    coarse = pseudo_coarse_labels(users, labels, values)
    shuffled = shuffled_within_users(users, coarse, seed=3)
    assert (shuffled != coarse).any()
    for user in np.unique(users):
        assert shuffled[users == user].sum() == coarse[users == user].sum()
    np.testing.assert_array_equal(shuffled, shuffled_within_users(users, coarse, seed=3))
    assert (shuffled != shuffled_within_users(users, coarse, seed=4)).any()
