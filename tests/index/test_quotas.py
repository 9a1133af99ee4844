"""Quotas by the largest remainder, and allotted candidates against a loop over interests."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.test_merging import rows_of
from tfmi.index.quotas import allot_interests, quotas


def quotas_of(shares: list[float], n: int, exponent: float, active: list[bool] | None = None) -> list[int]:
    present = [True] * len(shares) if active is None else active
    found: list[int] = quotas(tf.constant([shares]), tf.constant([present]), n, exponent).numpy()[0].tolist()
    return found


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, [4, 3, 3]), (1.0, [6, 3, 1]), (0.5, [5, 3, 2]), (3.0, [9, 1, 0])])
def test_goldens(exponent: float, expected: list[int]) -> None:
    assert quotas_of([0.6, 0.3, 0.1], 10, exponent) == expected


@pytest.mark.parametrize(("exponent", "expected"), [(0.5, [4727, 3343, 1930]), (3.0, [8852, 1107, 41])])
def test_what_is_due_before_rounding(exponent: float, expected: list[int]) -> None:
    """With a thousand times the places of the goldens, three digits of what they round are seen: 4.727, 3.343, 1.930 and so on."""
    assert quotas_of([0.6, 0.3, 0.1], 10_000, exponent) == expected


def test_ties_of_remainders_go_to_the_larger_share_then_to_the_lower_interest() -> None:
    assert quotas_of([0.25, 0.75], 2, 1.0) == [0, 2]  # due 0.5 and 1.5
    assert quotas_of([0.2, 0.2, 0.2], 4, 1.0) == [2, 1, 1]
    assert quotas_of([0.1, 0.4, 0.4, 0.1], 1, 2.0) == [0, 1, 0, 0]


def test_shares_of_zero() -> None:
    assert quotas_of([0.0, 1.0, 0.0], 5, 1.0) == [0, 5, 0]
    assert quotas_of([0.0, 1.0, 0.0], 6, 0.0) == [2, 2, 2]  # 0^0 is 1 for an active interest
    assert quotas_of([0.0, 1.0, 0.0], 6, 0.0, [True, True, False]) == [3, 3, 0]  # and nothing for an inactive one
    assert quotas_of([0.0, 0.0, 0.5], 5, 1.0, [True, True, False]) == [3, 2, 0]


def test_large_exponents_neither_vanish_nor_overflow() -> None:
    assert quotas_of([0.2, 0.3, 0.1], 50, 1000.0) == [0, 50, 0]
    assert quotas_of([2e-30, 1e-30], 30, 5.0) == [29, 1]


def test_nobody_active_gets_nothing() -> None:
    assert quotas_of([0.5, 0.5], 7, 1.0, [False, False]) == [0, 0]


SHARES = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0])


@settings(max_examples=80, deadline=None)
@given(
    users=st.lists(st.lists(st.tuples(SHARES, st.booleans()), min_size=4, max_size=4), min_size=1, max_size=4),
    n=st.integers(1, 200),
    exponent=st.sampled_from([0.0, 0.3, 1.0, 2.0, 7.5]),
)
def test_quotas_sum_to_n_never_fall_with_the_share_and_stay_within_one_of_the_due(
    users: list[list[tuple[float, bool]]], n: int, exponent: float
) -> None:
    shares, active = np.array([[s for s, _ in user] for user in users]), np.array([[a for _, a in user] for user in users])
    found = quotas(tf.constant(shares, tf.float32), tf.constant(active), n, exponent).numpy()
    assert found.dtype == np.int32
    for row_shares, row_active, row in zip(shares, active, found, strict=True):
        assert row.sum() == (n if row_active.any() else 0)
        assert (row >= 0).all()
        assert (row[~row_active] == 0).all()
        kept = row[row_active][np.argsort(row_shares[row_active], kind="stable")]
        by_share = dict(zip(sorted(row_shares[row_active]), kept, strict=True))
        assert (np.diff(list(by_share.values())) >= 0).all()
        if exponent == 0.0 and row_active.any():
            assert kept.max() - kept.min() <= 1
        if row_shares[row_active].sum() > 0:
            powers = (row_shares[row_active] / row_shares[row_active].max()) ** exponent
            assert (np.abs(row[row_active] - n * powers / powers.sum()) < 1 + 1e-6).all()


def allot_by_hand(
    scores: np.ndarray, items: np.ndarray, active: np.ndarray, shares: np.ndarray, *, n: int, exponent: float, excluded: set[int]
) -> list[tuple[int, float, int]]:
    """(item, score, interest) of one user as the rules are written, by falling score, then rising item."""
    allowed = quotas(tf.constant(shares[None]), tf.constant(active[None]), n, exponent).numpy()[0]
    lists = [
        [(int(item), float(score)) for item, score in zip(items[k], scores[k], strict=True) if item >= 2 and score > -np.inf] if on else []
        for k, on in enumerate(active)
    ]
    chosen: dict[int, tuple[float, int]] = {}
    for k in sorted(range(len(lists)), key=lambda k: (-shares[k], k)):
        unseen = [(item, score) for item, score in lists[k] if item not in chosen and item not in excluded]
        chosen |= {item: (score, k) for item, score in unseen[: allowed[k]]}
    rest = sorted(
        (-score, item, k) for k, found in enumerate(lists) for item, score in found if item not in chosen and item not in excluded
    )
    for score, item, k in rest:  # by falling score, then by item, then by interest
        if len(chosen) < n and item not in chosen:
            chosen[item] = (-score, k)
    return sorted(((item, score, k) for item, (score, k) in chosen.items()), key=lambda found: (-found[1], found[0]))


def random_searches(users: int, num_interests: int, per_interest: int, seed: int) -> tuple[np.ndarray, ...]:
    """Each user's K lists by falling score, often with the same items, some short; active interests, shares and exclusions."""
    random = np.random.default_rng(seed)
    shape = (users, num_interests, per_interest)
    items = np.argsort(random.random((users, num_interests, 10)), axis=2)[:, :, :per_interest].astype(np.int32) + 2
    scores = -np.sort(-random.integers(-6, 6, shape) / 4.0, axis=2).astype(np.float32)
    missing = np.arange(per_interest) >= random.integers(0, per_interest + 1, shape[:2])[:, :, None]
    active = random.random(shape[:2]) < 0.8
    shares = random.choice([0.0, 0.1, 0.3, 0.3, 0.6], shape[:2]).astype(np.float32)
    excluded = random.integers(0, 12, (users, 3)).astype(np.int32)
    return np.where(missing, -np.inf, scores), np.where(missing, 0, items), active, shares, excluded


@pytest.mark.parametrize(("num_interests", "per_interest"), [(1, 5), (2, 1), (3, 8), (5, 6)])
@pytest.mark.parametrize(("n", "exponent"), [(1, 1.0), (4, 0.0), (5, 3.0), (9, 1.0)])
def test_allotted_candidates_are_those_of_the_rules_written_out(num_interests: int, per_interest: int, n: int, exponent: float) -> None:
    scores, items, active, shares, excluded = random_searches(60, num_interests, per_interest, seed=n)
    searched = (tf.constant(scores), tf.constant(items), tf.constant(active), tf.constant(shares))
    found = allot_interests(*searched, n, exponent=exponent, exclude=tf.constant(excluded))
    assert found.items.shape == (60, num_interests * per_interest)
    for user, row in enumerate(rows_of(found)):
        left_out = set(excluded[user].tolist())
        assert row == allot_by_hand(scores[user], items[user], active[user], shares[user], n=n, exponent=exponent, excluded=left_out)
        assert len(row) <= n


def test_each_interest_brings_in_its_quota_whatever_the_scores() -> None:
    scores = tf.constant([[[9.0, 8, 7, 6], [0.4, 0.3, 0.2, 0.1]]])
    items = tf.constant([[[2, 3, 4, 5], [6, 7, 8, 9]]])
    found = allot_interests(scores, items, tf.constant([[True, True]]), tf.constant([[0.25, 0.75]]), 4)
    assert [(item, interest) for item, _, interest in rows_of(found)[0]] == [(2, 0), (6, 1), (7, 1), (8, 1)]


def test_an_item_of_two_interests_counts_for_the_one_with_the_larger_share() -> None:
    scores, items = tf.constant([[[9.0, 8], [5, 4]]]), tf.constant([[[2, 3], [2, 4]]])
    found = allot_interests(scores, items, tf.constant([[True, True]]), tf.constant([[0.4, 0.6]]), 2)
    assert rows_of(found) == [[(3, 8.0, 0), (2, 5.0, 1)]]


def test_places_that_an_interest_cannot_fill_go_to_the_best_of_the_rest() -> None:
    scores = tf.constant([[[-1.0, -2, -3, -4], [5, float("-inf"), float("-inf"), float("-inf")]]])
    items = tf.constant([[[2, 3, 4, 5], [6, 0, 0, 0]]])
    found = allot_interests(scores, items, tf.constant([[True, True]]), tf.constant([[0.1, 0.9]]), 3)
    assert [item for item, _, _ in rows_of(found)[0]] == [6, 2, 3]


@pytest.mark.slow
def test_users_are_independent_and_one_trace_serves_every_batch_and_n() -> None:
    random = np.random.default_rng(0)
    items = np.stack([[random.permutation(np.arange(2, 22))[:12] for _ in range(3)] for _ in range(6)]).astype(np.int32)
    scores = -np.sort(-random.normal(size=(6, 3, 12)), axis=2).astype(np.float32)
    active, shares = random.random((6, 3)) < 0.7, random.random((6, 3)).astype(np.float32)
    exclude = random.integers(0, 22, (6, 5)).astype(np.int32)
    specification = [
        tf.TensorSpec([None, 3, None]),
        tf.TensorSpec([None, 3, None], tf.int32),
        tf.TensorSpec([None, 3], tf.bool),
        tf.TensorSpec([None, 3]),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([None, None], tf.int32),
    ]
    compiled = tf.function(
        lambda scores, items, active, shares, n, exclude: allot_interests(scores, items, active, shares, n, exclude=exclude),
        input_signature=specification,
        autograph=False,
    )
    for n in (1, 5, 12):
        together = rows_of(compiled(scores, items, active, shares, n, exclude))
        for user in range(6):
            row = slice(user, user + 1)
            assert rows_of(compiled(scores[row], items[row], active[row], shares[row], n, exclude[row])) == [together[user]]
    assert compiled(scores[:0], items[:0], active[:0], shares[:0], 4, exclude[:0]).items.shape == (0, 36)
