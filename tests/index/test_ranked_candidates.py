"""Candidates in a ranker's order: the best of what another source finds, whoever else asks at the same time."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import NextInLine, TableRanker, TableRecommender, make_catalogue
from tfmi.index.build import build_index
from tfmi.index.selection import select
from tfmi.index.sources import AllottedCandidates, CandidateSource, DirectCandidates, InterestCandidates, RankedCandidates, rank_candidates
from tfmi.models.recommender import Reranker, UserInputs

CATALOGUE = make_catalogue(40)
HISTORIES = np.array([[2, 3, 4, 5, 6], [7, 0, 0, 0, 0], [1, 9, 9, 41, 1]], dtype=np.int32)
USERS = UserInputs(tf.constant(HISTORIES))
NO_EXCLUSION = tf.zeros([3, 1], tf.int32)


def _retrieval() -> InterestCandidates:
    recommender = TableRecommender(CATALOGUE)
    return InterestCandidates(recommender, build_index("exact", recommender.item_vectors()))


def _expected(source: CandidateSource, ranker: TableRanker, size: int, exclude: tf.Tensor) -> list[list[int]]:
    """Each user alone: the best ``size`` that are not excluded, by the ranker's score."""
    rows = []
    for row in range(len(HISTORIES)):
        user = UserInputs(tf.constant(HISTORIES[row : row + 1]))
        pool = select(source.candidates(user, 40, exclude[row : row + 1]), size, exclude[row : row + 1]).items
        scores = ranker.score(user.history, {}, pool).numpy()[0]
        rows.append(pool.numpy()[0][np.argsort(-scores, kind="stable")].tolist())
    return rows


def test_the_fake_is_what_servables_take() -> None:
    assert isinstance(TableRanker(CATALOGUE), Reranker)
    assert not isinstance(TableRecommender(CATALOGUE), Reranker)


@pytest.mark.parametrize("size", [1, 7, 40, 100])
def test_the_best_candidates_come_in_the_order_of_the_ranker(size: int) -> None:
    retrieval, ranker = _retrieval(), TableRanker(CATALOGUE)
    ranked = RankedCandidates(retrieval, ranker, size)
    found = ranked.candidates(USERS, 5)
    kept = min(size, 40)
    assert found.items.shape[1] == max(kept, 5)
    assert found.items.numpy()[:, :kept].tolist() == _expected(retrieval, ranker, kept, NO_EXCLUSION)
    np.testing.assert_array_equal(found.scores[:, :kept], ranker.score(USERS.history, {}, found.items[:, :kept]))
    assert np.isneginf(found.scores[:, kept:]).all()
    # The interest is still that which found the item.
    pool = retrieval.candidates(USERS, 40)
    for row in range(3):
        interest_of = dict(zip(pool.items[row].numpy(), pool.interests[row].numpy(), strict=True))
        assert [interest_of[item] for item in found.items[row, :kept].numpy()] == found.interests[row, :kept].numpy().tolist()


def test_exclusions_make_room_for_the_next_best_and_no_row_feels_those_of_another() -> None:
    retrieval, ranker = _retrieval(), TableRanker(CATALOGUE)
    best = retrieval.candidates(USERS, 10).items.numpy()
    exclude = tf.constant([best[0, :4].tolist(), [0, 0, 0, 0], [best[2, 0], best[2, 0], 0, 1]], tf.int32)
    found = RankedCandidates(retrieval, ranker, 6).candidates(USERS, 6, exclude)
    assert found.items.numpy().tolist() == _expected(retrieval, ranker, 6, exclude)
    assert not set(found.items[0].numpy()) & set(best[0, :4])
    assert (found.items.numpy() >= 2).all()


def test_quotas_share_out_the_pool() -> None:
    class Sharing(TableRecommender):
        def interests_with_shares(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            interests, active = self.user_interests(inputs)
            return interests, active, tf.constant([[1.0, 1.0, 1.0]]) * tf.cast(active, tf.float32)

    recommender = Sharing(CATALOGUE)
    allotted = AllottedCandidates(recommender, build_index("exact", recommender.item_vectors()), num_results=9, exponent=1.0)
    ranked = RankedCandidates(allotted, TableRanker(CATALOGUE), 9)
    found = ranked.candidates(USERS, 3, diversity=tf.fill([3], 1.0))
    assert np.bincount(found.interests[0].numpy()).tolist() == [3, 3, 3]
    assert ranked.describe_integration() == {"kind": "allotted", "quota_exponent": 1.0}


def test_missing_candidates_and_scores_that_are_not_numbers_stand_last() -> None:
    class Broken(TableRanker):
        def score(self, history: tf.Tensor, profile: object, candidates: tf.Tensor) -> tf.Tensor:
            return tf.where(candidates == 5, np.nan, tf.cast(candidates, tf.float32))

    pool = DirectCandidates(NextInLine(CATALOGUE)).candidates(UserInputs(tf.constant([[3, 0, 0, 0, 0]])), 4)
    assert pool.items.numpy().tolist() == [[4, 5, 6, 7]]
    ranked = rank_candidates(Broken(CATALOGUE).score, USERS, pool)
    assert ranked.items.numpy().tolist() == [[7, 6, 4, 0]]
    assert np.isneginf(ranked.scores[0, 3])


def test_neighbours_are_the_retrievers() -> None:
    retrieval = _retrieval()
    found = RankedCandidates(retrieval, TableRanker(CATALOGUE), 6).similar(tf.constant([5]), 4)
    np.testing.assert_array_equal(found.items, retrieval.similar(tf.constant([5]), 4).items)


def test_retrieval_s_score_is_added_with_its_weight_and_what_is_missing_stays_missing() -> None:
    retrieval, ranker = _retrieval(), TableRanker(CATALOGUE)
    pool = retrieval.candidates(USERS, 60)  # more than there are
    ranked = rank_candidates(ranker.score, USERS, pool, retrieval_weight=2.0)
    scores = ranker.score(USERS.history, {}, pool.items).numpy() + 2.0 * pool.scores.numpy()
    np.testing.assert_allclose(ranked.scores, -np.sort(-scores, axis=1), rtol=1e-5)
    assert np.isneginf(ranked.scores[:, 40:]).all()
