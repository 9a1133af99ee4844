"""Filtered answers are as long as there are items that fit, and hold the best of them, with every kind of index."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import NextInLine, make_catalogue
from tests.index.test_scann_index import DIMENSION, clustered_vectors
from tfmi.index import filtered_search
from tfmi.index.base import InterestIndex
from tfmi.index.build import build_index
from tfmi.index.filtered_search import search_filtered
from tfmi.index.filters import Condition, ItemCondition, ItemFilter, RangeCondition, ValueCondition
from tfmi.index.merging import MISSING_SCORE, best_of_interests
from tfmi.index.sources import DirectCandidates
from tfmi.models.recommender import UserInputs

NUM_ITEMS, NUM_USERS, NUM_INTERESTS, K = 6_000, 3, 2, 20
VECTORS = clustered_vectors(NUM_ITEMS)


@pytest.fixture(scope="module", params=["exact", "scann", "partitioned"])
def index(request: pytest.FixtureRequest) -> InterestIndex:
    return build_index(request.param, VECTORS)


@pytest.fixture(params=["scan", "search"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether what fits is scored exactly at once, or only where searching further finds too little."""
    if request.param == "search":
        monkeypatch.setattr(filtered_search, "SCANNED_ITEMS", 0)
        monkeypatch.setattr(filtered_search, "SCANNED_SHARE_OF_EXACT", 0.0)
    return str(request.param)


def interests_of_users() -> tf.Tensor:
    random = np.random.default_rng(7)
    near = VECTORS[random.integers(2, NUM_ITEMS, (NUM_USERS, NUM_INTERESTS))] + 0.1 * random.normal(
        size=(NUM_USERS, NUM_INTERESTS, DIMENSION)
    )
    return tf.constant(near / np.linalg.norm(near, axis=2, keepdims=True), tf.float32)


def allow(fits: np.ndarray) -> ItemFilter:
    """A filter that lets through what a table bool [B, N + 2] says."""

    class Given(Condition):
        restricts = tf.constant(~fits[:, 2:].all(axis=1))

        def among(self, items: tf.Tensor) -> tf.Tensor:
            return tf.gather(tf.constant(fits), items, batch_dims=1)

        def everywhere(self, user: tf.Tensor) -> tf.Tensor:
            return tf.constant(fits)[user]

    return ItemFilter([Given()], fits.shape[1])


def truth(interests: tf.Tensor, active: np.ndarray, fits: np.ndarray) -> list[np.ndarray]:
    """Every user's best K items that fit."""
    scores = np.where(active[:, :, None], np.einsum("bkd,nd->bkn", interests, VECTORS), -np.inf).max(axis=1)
    scores[~fits] = -np.inf
    scores[:, :2] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return [row[scores[user, row] > -np.inf] for user, row in enumerate(best)]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_answers_hold_the_best_that_fit(index: InterestIndex, way: str, share: float) -> None:
    interests, active = interests_of_users(), np.array([[True, True], [True, False], [True, True]])
    fits = np.random.default_rng(1).random((NUM_USERS, NUM_ITEMS + 2)) < share
    scores, items = search_filtered(index, allow(fits), interests, tf.constant(active), K, each=False)
    assert scores.shape == items.shape == (NUM_USERS, NUM_INTERESTS, K)
    merged = best_of_interests(scores, items, tf.constant(active), K).items.numpy()
    recalls = []
    for user, expected in enumerate(truth(interests, active, fits)):
        found = merged[user][merged[user] > 0]
        assert len(found) == len(expected) == len(set(found.tolist()))
        assert fits[user, found].all()
        recalls.append(np.isin(expected, found).mean())
    assert np.mean(recalls) >= (0.95 if index.is_approximate and way == "search" else 1.0)


def test_items_far_from_every_interest_are_found(index: InterestIndex, way: str) -> None:
    """What fits is the worse half for the first user: however far the index is searched, nothing of it is near."""
    interests, active = interests_of_users(), np.ones((NUM_USERS, NUM_INTERESTS), bool)
    scores = np.einsum("bkd,nd->bkn", interests, VECTORS).max(axis=1)
    fits = scores < np.median(scores[:, 2:], axis=1, keepdims=True)
    for each in (False, True):
        found = search_filtered(index, allow(fits), interests, tf.constant(active), K, each=each)
        merged = best_of_interests(*found, tf.constant(active), K).items.numpy()
        assert [row.tolist() for row in truth(interests, active, fits)] == merged.tolist()
        if each:
            assert (found[1].numpy() > 0).all()


@pytest.mark.slow
def test_nobody_nothing_that_fits_and_no_restriction(index: InterestIndex, way: str) -> None:
    interests = interests_of_users()
    fits = np.zeros((NUM_USERS, NUM_ITEMS + 2), bool)
    fits[1], fits[2, 5:8] = True, True
    search = tf.function(
        lambda users, k: search_filtered(index, allow(fits), users, tf.ones(tf.shape(users)[:2], tf.bool), k, each=False), autograph=False
    )
    scores, items = search(interests, tf.constant(K))
    assert not items[0].numpy().any()
    assert (scores[0].numpy() == MISSING_SCORE).all()
    assert (items[1].numpy() > 0).all()
    assert [sorted(row[row > 0].tolist()) for row in items[2].numpy()] == [[5, 6, 7]] * NUM_INTERESTS
    assert search(interests[:0], tf.constant(K))[1].shape == (0, NUM_INTERESTS, K)


def test_a_model_that_ranks_by_itself_is_asked_further() -> None:
    catalogue = make_catalogue()
    source = DirectCandidates(NextInLine(catalogue))
    fits = np.zeros((2, catalogue.num_rows), bool)
    fits[0, 41], fits[1, 10:12] = True, True
    found = source.candidates(UserInputs(tf.constant([[2, 3, 0, 0, 0]] * 2)), 3, allowed=allow(fits))
    assert [sorted(row[row > 0].tolist()) for row in found.items.numpy()] == [[41], [10, 11]]


# Conditions: for users 0, 1, 2, items 2 to 6.

VALUES = tf.constant([[0, 0], [0, 0], [2, 0], [2, 3], [4, 0], [0, 0], [3, 4]])


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (ValueCondition(VALUES, 5, tf.constant([[2, 0], [0, 0], [1, 0]]), tf.constant([[3], [4], [0]])), [[2], [2, 3, 5], []]),
        (ValueCondition(VALUES, 5, tf.constant([[0, 3], [3, 4], [2, 1]]), tf.constant([[0], [0], [1]])), [[3, 6], [3, 4, 6], [2, 3]]),
        (
            RangeCondition(
                tf.constant([np.nan, np.nan, 1.0, 2.0, 3.0, np.nan, 5.0]),
                tf.constant([2.0, np.nan, np.nan]),
                tf.constant([3.0, 2.5, np.nan]),
            ),
            [[3, 4], [2, 3], [2, 3, 4, 5, 6]],
        ),
        (ValueCondition(VALUES[:, :1], 5, tf.constant([[2], [0], [1]]), tf.constant([[0], [2], [0]])), [[2, 3], [4, 5, 6], []]),
        (ItemCondition(tf.constant([[0, 3, 3], [1, 1, 0], [0, 0, 0]]), 7), [[3], [], [2, 3, 4, 5, 6]]),
    ],
)
def test_conditions_say_the_same_of_a_few_items_and_of_all(condition: Condition, expected: list[list[int]]) -> None:
    wanted = ItemFilter([condition], 7)
    items = tf.constant([[6, 5, 4, 3, 2, 1, 0]] * 3)
    for user, fitting in enumerate(expected):
        assert np.flatnonzero(wanted.everywhere(tf.constant(user))).tolist() == fitting
        assert sorted(items[user][wanted.among(items)[user]].numpy().tolist()) == fitting
        assert bool(wanted.restricts[user]) == (len(fitting) < 5)
