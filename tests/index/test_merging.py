"""Merging K interests: every item once with its best score, whatever the order and the ties."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmi.index.merging import Candidates, merge_interests


def merge_by_hand(scores: np.ndarray, items: np.ndarray, active: np.ndarray) -> list[tuple[int, float, int]]:
    """(item, score, interest) of one user, by falling score, then rising item; the lower interest wins a tie."""
    best: dict[int, tuple[float, int]] = {}
    for interest, (row_scores, row_items) in enumerate(zip(scores, items, strict=True)):
        for score, item in zip(row_scores, row_items, strict=True):
            if active[interest] and item >= 2 and score > -np.inf and (item not in best or score > best[item][0]):
                best[item] = (score, interest)
    return sorted(((item, score, interest) for item, (score, interest) in best.items()), key=lambda c: (-c[1], c[0]))


def rows_of(candidates: Candidates) -> list[list[tuple[int, float, int]]]:
    """The candidates of each user without padding, which must be 0, -inf and -1 and stand at the end."""
    rows = []
    for items, scores, interests in zip(*(field.numpy() for field in candidates), strict=True):
        found = int((items > 0).sum())
        assert (items[:found] >= 2).all()
        assert np.isneginf(scores[found:]).all()
        assert (interests[found:] == -1).all()
        rows.append(list(zip(items[:found].tolist(), scores[:found].tolist(), interests[:found].tolist(), strict=True)))
    return rows


# Few distinct values make ties and repeated items common; -0.0 equals 0.0.
SCORES = st.sampled_from([-np.inf, np.nan, -2.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 3.5, 1e30])


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)))
    size = int(np.prod(shape))
    scores = np.array(draw(st.lists(SCORES, min_size=size, max_size=size)), dtype=np.float32).reshape(shape)
    items = np.array(draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)), dtype=np.int32).reshape(shape)
    active = np.array(draw(st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))).reshape(shape[:2])
    return scores, items, active


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(searches())
def test_merging_equals_merging_by_hand(search: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, items, active = search
    rows = rows_of(merge_interests(tf.constant(scores), tf.constant(items), tf.constant(active)))
    assert rows == [merge_by_hand(*user) for user in zip(scores, items, active, strict=True)]


def test_merged_list_equals_ranking_by_best_interest() -> None:
    """With exact searches, merging the interests' lists is ranking every item by its best interest."""
    random = np.random.default_rng(0)
    item_vectors, interests = random.normal(size=(30, 6)), random.normal(size=(2, 3, 6))
    all_scores = np.einsum("bkd,nd->bkn", interests, item_vectors).astype(np.float32)
    order = np.argsort(-all_scores, axis=2)
    merged = merge_interests(
        tf.constant(np.take_along_axis(all_scores, order, axis=2)), tf.constant(order + 2, tf.int32), tf.fill([2, 3], True)
    )
    expected = np.argsort(-all_scores.max(axis=1), axis=1) + 2
    np.testing.assert_array_equal(merged.items[:, :30], expected)
    np.testing.assert_array_equal(merged.interests[:, :30], np.take_along_axis(all_scores.argmax(axis=1), expected - 2, axis=1))
    assert not merged.items[:, 30:].numpy().any()


def test_inactive_interests_contribute_nothing() -> None:
    scores = tf.constant([[[2.0, 1.0], [9.0, 8.0]]])
    items = tf.constant([[[4, 5], [4, 6]]])
    assert rows_of(merge_interests(scores, items, tf.constant([[True, False]]))) == [[(4, 2.0, 0), (5, 1.0, 0)]]
    assert rows_of(merge_interests(scores, items, tf.constant([[False, False]]))) == [[]]


def test_an_empty_batch_is_merged_in_a_compiled_function() -> None:
    specification = [
        tf.TensorSpec([None, None, None]),
        tf.TensorSpec([None, None, None], tf.int32),
        tf.TensorSpec([None, None], tf.bool),
    ]
    compiled = tf.function(merge_interests, input_signature=specification, autograph=False)
    merged = compiled(tf.zeros([0, 4, 3]), tf.zeros([0, 4, 3], tf.int32), tf.zeros([0, 4], tf.bool))
    assert merged.items.shape == (0, 12)
