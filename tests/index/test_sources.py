"""Candidates from recommenders of both kinds: one search for all interests, neighbours without the item itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import DIMENSION, HISTORY_LENGTH, NextInLine, TableRecommender, make_catalogue
from tfmi.index.base import InterestIndex
from tfmi.index.build import build_index
from tfmi.index.recall import measure_recall
from tfmi.index.selection import select
from tfmi.index.sources import CandidateSource, DirectCandidates, InterestCandidates
from tfmi.models.recommender import UserInputs

NUM_ITEMS = 40
HISTORIES = np.array([[2, 3, 4, 5, 6], [7, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 9, 9, 41, 1]], dtype=np.int32)


@pytest.fixture
def recommender() -> TableRecommender:
    return TableRecommender(make_catalogue(NUM_ITEMS))


class CountingIndex(InterestIndex):
    """Counts searches of the index that it wraps."""

    kind = "heuristic"

    def __init__(self, index: InterestIndex) -> None:
        super().__init__(index.num_rows, index.dimension)
        self.index, self.searches = index, 0

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        self.searches += 1
        return self.index.search(queries, k)

    def vectors(self, items: tf.Tensor) -> tf.Tensor:
        return self.index.vectors(items)

    def parameters(self) -> dict[str, int | str]:
        return self.index.parameters()


@pytest.mark.parametrize("kind", ["exact", "scann", "partitioned"])
def test_candidates_rank_items_by_their_best_active_interest(recommender: TableRecommender, kind: str) -> None:
    source = InterestCandidates(recommender, build_index(kind, recommender.item_vectors()))
    found = source.candidates(UserInputs(tf.constant(HISTORIES)), NUM_ITEMS)
    assert found.items.shape == (len(HISTORIES), NUM_ITEMS)
    interests, active = (value.numpy() for value in recommender.user_interests(UserInputs(tf.constant(HISTORIES))))
    for row in (0, 1, 3):
        scores = np.where(active[row][:, None], interests[row] @ recommender.table.numpy()[2:].T, -np.inf)
        np.testing.assert_array_equal(found.items[row, :NUM_ITEMS], np.argsort(-scores.max(axis=0)) + 2)
        np.testing.assert_array_equal(found.interests[row, :NUM_ITEMS], scores.argmax(axis=0)[found.items[row, :NUM_ITEMS].numpy() - 2])


def test_all_interests_of_all_users_are_one_search(recommender: TableRecommender) -> None:
    index = CountingIndex(build_index("exact", recommender.item_vectors()))
    InterestCandidates(recommender, index).candidates(UserInputs(tf.constant(HISTORIES)), 7)
    assert index.searches == 1


def test_a_catalogue_of_ten_items_with_more_results_than_items() -> None:
    recommender = TableRecommender(make_catalogue(10))
    for kind in ("exact", "scann", "partitioned"):
        source = InterestCandidates(recommender, build_index(kind, recommender.item_vectors()))
        answer = select(source.candidates(UserInputs(tf.constant([[2, 3, 0, 0, 0]])), 30), 20, exclude=tf.constant([[2, 3]]))
        items = answer.items.numpy()[0]
        assert sorted(items[:8]) == [4, 5, 6, 7, 8, 9, 10, 11]
        assert not items[8:].any()


def _sources() -> list[CandidateSource]:
    catalogue = make_catalogue(NUM_ITEMS)
    recommender = TableRecommender(catalogue)
    return [
        InterestCandidates(recommender, build_index("exact", recommender.item_vectors())),
        InterestCandidates(recommender, build_index("scann", recommender.item_vectors(), leaves=2)),
        DirectCandidates(NextInLine(catalogue)),
    ]


@pytest.mark.parametrize("source", _sources(), ids=["exact", "scann", "direct"])
def test_similar_items_leave_out_the_item_itself_and_know_nothing_of_unknown_ones(source: CandidateSource) -> None:
    found = source.similar(tf.constant([5, 0, 1, 41]), 6)
    assert found.items.shape == (4, 6)
    items = found.items.numpy()
    assert (items[[0, 3]] >= 2).all()
    assert 5 not in items[0]
    assert 41 not in items[3]
    assert (found.interests.numpy()[[0, 3]] == 0).all()
    assert not items[[1, 2]].any()
    assert np.isneginf(found.scores.numpy()[[1, 2]]).all()
    everything = source.similar(tf.constant([5]), NUM_ITEMS + 10).items.numpy()[0]
    assert sorted(everything[everything > 0]) == [item for item in range(2, NUM_ITEMS + 2) if item != 5]


@pytest.mark.parametrize("kind", ["exact", "scann", "partitioned"])
def test_asking_for_neighbours_does_not_make_every_later_search_copy_the_vectors(recommender: TableRecommender, kind: str) -> None:
    index = build_index(kind, recommender.item_vectors())
    InterestCandidates(recommender, index).similar(tf.constant([5]), 6)
    (table,) = (variable for variable in index.variables if variable.shape.rank == 2 and variable.shape[0] >= NUM_ITEMS)
    first, second = table.read_value(), table.read_value()
    assert np.shares_memory(np.asarray(memoryview(first)), np.asarray(memoryview(second)))


def test_similar_items_are_the_nearest_vectors(recommender: TableRecommender) -> None:
    source = InterestCandidates(recommender, build_index("exact", recommender.item_vectors()))
    table = recommender.table.numpy()
    order = np.argsort(-(table[2:] @ table[5])) + 2
    np.testing.assert_array_equal(source.similar(tf.constant([5]), 6).items[0], order[order != 5][:6])


def test_a_direct_recommender_answers_for_itself() -> None:
    found = DirectCandidates(NextInLine(make_catalogue(4))).candidates(UserInputs(tf.constant([[3, 0, 0, 0, 0]])), 5)
    assert found.items.numpy().tolist() == [[4, 5, 2, 0, 0]]
    assert found.interests.numpy().tolist() == [[0, 0, 0, -1, -1]]


@pytest.mark.slow
@pytest.mark.parametrize("source", _sources(), ids=["exact", "scann", "direct"])
def test_one_trace_serves_every_batch_size(source: CandidateSource) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, HISTORY_LENGTH], tf.int32)], autograph=False)
    def answer(history: tf.Tensor) -> tf.Tensor:
        return select(source.candidates(UserInputs(history), 12), 6).items

    together = answer(HISTORIES).numpy()
    for row, history in enumerate(HISTORIES):
        np.testing.assert_array_equal(answer(history[None])[0], together[row])
    assert answer(HISTORIES[:0]).shape == (0, 6)


def test_recall_is_the_share_of_the_exact_answer(recommender: TableRecommender) -> None:
    vectors = recommender.item_vectors().numpy()
    exact = build_index("exact", vectors)
    assert measure_recall(exact, exact, vectors[2:], 10) == 1.0
    hidden = vectors.copy()
    hidden[2:22] = -1e6 * np.sign(vectors[2])  # the first half of the items are far from this query
    query = np.sign(vectors[2])[None]
    wanted = exact.search(tf.constant(query), 10)[1].numpy()
    assert measure_recall(build_index("exact", hidden), exact, query, 10) == pytest.approx((wanted >= 22).mean())
    assert measure_recall(exact, exact, np.ones((3, DIMENSION)), 1000) == 1.0
    with pytest.raises(ValueError, match="at least one query"):
        measure_recall(exact, exact, np.zeros((0, DIMENSION)), 10)
