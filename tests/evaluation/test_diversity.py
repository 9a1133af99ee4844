"""Lists under several strengths of diversity are those of the served graph; strengths suit the scores' scale."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_full_catalogue import NUM_ITEMS, random_examples
from tests.export.fake_recommenders import GENRES, HISTORY_LENGTH, NextInLine, TableRecommender, make_catalogue, make_profiles
from tfmi.config import ExportConfig
from tfmi.evaluation.diversity import DiverseRanker, diversities_by_scale
from tfmi.evaluation.full_catalogue import RecommendedItems, recommend
from tfmi.evaluation.metrics import category_coverage, category_diversity
from tfmi.export.retrieval.retrieval_signatures import RetrievalSignatures
from tfmi.index.exact import ExactIndex
from tfmi.models.recommender import UserInputs

CATALOGUE = make_catalogue(NUM_ITEMS)
CATEGORIES = np.asarray(CATALOGUE.category_indices())


class Sharing(TableRecommender):
    """Knows that interest 2 is used the most."""

    def interests_with_shares(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        interests, active = self.user_interests(inputs)
        return interests, active, tf.where(active, [1.0, 2.0, 5.0], 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("exclude_history", "quota_exponent"), [(False, None), (True, None), (False, 1.0)])
def test_the_lists_are_those_of_the_served_graph(exclude_history: bool, quota_exponent: float | None) -> None:
    """Where places are allotted to interests, they are so for users who ask for no diversity."""
    examples, recommender = random_examples(longest=HISTORY_LENGTH), Sharing(CATALOGUE)
    export = ExportConfig(num_results=6, diversity_pool=3, exclude_history=exclude_history)
    index = ExactIndex(recommender.item_vectors())
    served = RetrievalSignatures(recommender, index, CATALOGUE, export, {}, quota_exponent=quota_exponent).signatures["recommend"]
    ids = np.array(["", "unknown", *CATALOGUE.vocabulary.ids], dtype=object)
    history = examples.histories.padded(HISTORY_LENGTH)
    known = (history >= 2).any(axis=1)  # the others get the cold-start list
    ranker = DiverseRanker(recommender, CATEGORIES, n=6, pool=18, quota_exponent=quota_exponent)
    strengths = [0.0, 0.3, 2.0]
    lists = ranker.rank(examples, strengths, batch_size=5, exclude_history=exclude_history)
    assert not np.array_equal(lists[0].items, lists[2].items)
    for strength, found in zip(strengths, lists, strict=True):
        answer = served(
            history=tf.constant(ids[history].astype(str)),
            exclude=tf.fill([len(examples), export.exclusion_width], ""),
            diversity=tf.fill([len(examples)], strength),
        )
        answered = np.vectorize(lambda identifier: identifier.decode())(answer["item_ids"].numpy())
        assert answered[known].tolist() == ids[found.items[known]].tolist()
        np.testing.assert_allclose(found.scores[known], answer["scores"].numpy()[known], rtol=1e-5)


@pytest.mark.parametrize("profile_features", [(), (GENRES,)])
def test_without_diversity_they_are_the_plain_ranking(profile_features: tuple[str, ...]) -> None:
    examples, recommender = random_examples(), TableRecommender(CATALOGUE, profile_features)
    (found,) = DiverseRanker(recommender, CATEGORIES, n=8, pool=32).rank(examples, [0.0], batch_size=9, profiles=make_profiles())
    plain = recommend(recommender, examples, 8, batch_size=100, profiles=make_profiles())
    np.testing.assert_array_equal(found.items, plain.items)


def test_a_model_that_ranks_by_itself_is_diversified_too_and_progress_is_told() -> None:
    users: list[int] = []
    examples = random_examples()
    ranker = DiverseRanker(NextInLine(CATALOGUE), CATEGORIES, n=4, pool=12)
    plain, diverse = ranker.rank(examples, [0.0, 50.0], batch_size=10, exclude_history=True, on_progress=users.append)
    assert users == [10, 10, 3]
    np.testing.assert_array_equal(plain.items, recommend(NextInLine(CATALOGUE), examples, 4, batch_size=50, exclude_history=True).items)
    assert category_diversity(diverse.items, CATEGORIES).mean() >= category_diversity(plain.items, CATEGORIES).mean()
    for row in range(len(examples)):
        assert not set(diverse.items[row]) & set(examples.histories.row(row))


def test_diversity_never_falls_as_its_strength_grows() -> None:
    """Not for every list of one user, but for the mean of many users' lists."""
    examples = random_examples(users=200)
    lists = DiverseRanker(TableRecommender(CATALOGUE), CATEGORIES, n=5, pool=20).rank(examples, [0, 0.1, 0.5, 2, 100], batch_size=64)
    means = [np.nanmean(category_diversity(found.items, CATEGORIES)) for found in lists]
    assert means == sorted(means)
    assert means[-1] > means[0]


def test_strengths_span_the_median_users_scores() -> None:
    items = np.array([[2, 3, 4], [2, 3, 0], [0, 0, 0], [5, 6, 7]])
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.6, -np.inf], [-np.inf] * 3, [3.0, 2.0, 1.0]], dtype=np.float32)
    strengths = diversities_by_scale(RecommendedItems(items, scores))
    assert len(strengths) == 14
    assert strengths == sorted(strengths)
    assert (strengths[0], strengths[1], strengths[-3], strengths[-1]) == (0.0, 0.0031, 0.1, 0.2)  # spreads 0.8, 0.3 and 2
    doubled = diversities_by_scale(RecommendedItems(items, scores * 2))
    np.testing.assert_allclose(doubled, np.multiply(strengths, 2), rtol=0.05)  # two digits are kept


def test_scores_without_a_spread_have_no_scale() -> None:
    with pytest.raises(ValueError, match="scores differ"):
        diversities_by_scale(RecommendedItems(np.array([[2, 3]]), np.array([[1.0, 1.0]])))
    with pytest.raises(ValueError, match="scores differ"):
        diversities_by_scale(RecommendedItems(np.array([[0, 0]]), np.full([1, 2], -np.inf)))


def test_category_coverage_counts_known_categories_once() -> None:
    categories = np.array([0, 0, 2, 2, 3, 4, 0])
    lists = np.array([[2, 3, 4, 6], [6, 0, 0, 0], [5, 4, 3, 2]])
    assert category_coverage(lists, categories).tolist() == [2 / 3, 0, 1]
    with pytest.raises(ValueError, match="at least one item has a category"):
        category_coverage(lists, np.zeros(7, int))
