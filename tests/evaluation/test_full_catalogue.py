"""Full-catalogue ranking against NumPy, for both kinds of recommender, and on real data against a loop over the files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import HISTORY_LENGTH, NextInLine, TableRecommender, make_catalogue, make_profiles
from tfmi.config import DataConfig, EvaluationConfig
from tfmi.data.dataset import EvaluationSet, Sequences
from tfmi.data.loading import load_dataset
from tfmi.data.pipeline import evaluation_batches
from tfmi.evaluation.full_catalogue import CatalogueEvaluator, CatalogueRanker, evaluate, recommend
from tfmi.models.recommender import UserInputs

NUM_ITEMS = 60


def random_examples(users: int = 23, longest: int = 9, seed: int = 4) -> EvaluationSet:
    """Histories of 0 to ``longest`` items, unknown ones among them, and 1 to 3 targets."""
    random = np.random.default_rng(seed)

    def rows(least: int, most: int, lowest_item: int) -> Sequences:
        lengths = random.integers(least, most + 1, users)
        items = random.integers(lowest_item, NUM_ITEMS + 2, lengths.sum()).astype(np.int32)
        return Sequences(np.concatenate([[0], np.cumsum(lengths)]), items, None, None, (np.arange(users) % 7).astype(np.int32))

    return EvaluationSet(histories=rows(0, longest, 1), targets=rows(1, 3, 2))


def scores_by_hand(recommender: TableRecommender, history: np.ndarray, profile: dict[str, tf.Tensor] | None = None) -> np.ndarray:
    """float32 [U, N]: each real item's best inner product with an active interest."""
    interests, active = (value.numpy() for value in recommender.user_interests(UserInputs(tf.constant(history), profile or {})))
    scores = np.einsum("bkd,nd->bkn", interests, recommender.table.numpy()[2:])
    return np.where(active[:, :, None], scores, -np.inf).max(axis=1)


@pytest.mark.parametrize("batch_size", [5, 23, 100])
def test_ranks_every_item_by_its_best_interest(batch_size: int) -> None:
    examples, recommender = random_examples(), TableRecommender(make_catalogue(NUM_ITEMS))
    found = recommend(recommender, examples, 20, batch_size=batch_size)
    scores = scores_by_hand(recommender, examples.histories.padded(HISTORY_LENGTH))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(found.items, order + 2)
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, order, axis=1), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, NUM_ITEMS + 15])
def test_history_is_left_out_whole_and_the_rest_moves_up(n: int) -> None:
    examples = random_examples(longest=12)
    for recommender in (TableRecommender(make_catalogue(NUM_ITEMS)), NextInLine(make_catalogue(NUM_ITEMS))):
        everything = recommend(recommender, examples, NUM_ITEMS, batch_size=7)
        found = recommend(recommender, examples, n, batch_size=7, exclude_history=True)
        assert found.items.shape == found.scores.shape == (len(examples), n)
        for row in range(len(examples)):
            kept = ~np.isin(everything.items[row], examples.histories.row(row)) & (everything.items[row] > 0)
            expected = everything.items[row][kept][:n]
            np.testing.assert_array_equal(found.items[row], np.pad(expected, (0, n - len(expected))))
            np.testing.assert_array_equal(found.scores[row][: len(expected)], everything.scores[row][kept][:n])
            assert np.isneginf(found.scores[row][len(expected) :]).all()


def test_more_results_than_items_are_padded() -> None:
    found = recommend(TableRecommender(make_catalogue(10)), _one_user([3]), 15, batch_size=4)
    assert sorted(found.items[0, :10]) == list(range(2, 12))
    assert not found.items[0, 10:].any()
    assert np.isneginf(found.scores[0, 10:]).all()


def _one_user(history: list[int], targets: list[int] | None = None) -> EvaluationSet:
    def row(items: list[int]) -> Sequences:
        return Sequences(np.array([0, len(items)]), np.array(items, dtype=np.int32), None, None, np.zeros(1, np.int32))

    return EvaluationSet(row(history), row(targets or [2]))


def test_a_recommender_without_an_active_interest_recommends_nothing() -> None:
    class Silent(TableRecommender):
        def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
            interests, active = super().user_interests(inputs)
            return interests, tf.zeros_like(active)

    found = recommend(Silent(make_catalogue(10)), _one_user([3]), 4, batch_size=4)
    assert not found.items.any()
    assert np.isneginf(found.scores).all()


def test_profiles_reach_the_recommender() -> None:
    examples, profiles = random_examples(), make_profiles()
    recommender = TableRecommender(make_catalogue(NUM_ITEMS), ("region", "age", "genres"))
    found = recommend(recommender, examples, 5, batch_size=9, profiles=profiles)
    (batch,) = evaluation_batches(examples, history_length=HISTORY_LENGTH, batch_size=100, profiles=profiles)
    scores = scores_by_hand(recommender, batch["history"].numpy(), batch["profile"])
    np.testing.assert_array_equal(found.items, np.argsort(-scores, axis=1, kind="stable")[:, :5] + 2)


def test_no_users_give_no_lists() -> None:
    nobody = Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32), None, None, np.zeros(0, np.int32))
    found = recommend(NextInLine(make_catalogue(5)), EvaluationSet(nobody, nobody), 3, batch_size=4)
    assert found.items.shape == found.scores.shape == (0, 3)


def test_a_ranker_follows_the_weights_without_compiling_again() -> None:
    class CountingTraces(TableRecommender):
        traces = 0

        def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
            self.traces += 1
            return super().user_interests(inputs)

    examples, recommender = random_examples(), CountingTraces(make_catalogue(NUM_ITEMS))
    ranker = CatalogueRanker(recommender)
    ranker.rank(examples, 10, batch_size=5)
    recommender.table.assign(-recommender.table[::-1])
    found = ranker.rank(examples, 8, batch_size=6, exclude_history=True)
    assert recommender.traces == 1
    np.testing.assert_array_equal(found.items, recommend(recommender, examples, 8, batch_size=100, exclude_history=True).items)


def test_evaluate_computes_the_configured_metrics() -> None:
    """Leave-one-out: one target per user. After item 5 NextInLine recommends 6, 7, 8, ..."""
    catalogue = make_catalogue(NUM_ITEMS, categories=4)
    config = EvaluationConfig(cutoffs=[2, 5], batch_size=3)
    metrics = evaluate(NextInLine(catalogue), _one_user([9, 5], [12]), catalogue, config)
    # 9 is the highest index of the history, so 10 to 14 come: 12 is third.
    assert metrics["hr@2"] == metrics["recall@2"] == metrics["mrr@2"] == metrics["ndcg@2"] == 0
    assert (metrics["hr@5"], metrics["recall@5"], metrics["precision@5"]) == (1, 1, 1 / 5)
    assert metrics["mrr@5"] == pytest.approx(1 / 3)
    assert metrics["ndcg@5"] == pytest.approx(1 / np.log2(4))
    assert metrics["coverage@5"] == 5 / NUM_ITEMS
    assert metrics["diversity@5"] == 9 / 10
    excluded = evaluate(NextInLine(catalogue), _one_user([9, 5, 4], [12]), catalogue, config.model_copy(update={"exclude_history": True}))
    assert excluded == metrics
    ideal = evaluate(NextInLine(catalogue), _one_user([9], [12, 3]), catalogue, config.model_copy(update={"ndcg_ideal": "hits"}))
    assert ideal["ndcg@5"] == metrics["ndcg@5"]


def test_comirecs_protocol_on_real_data(shared_data: Callable[[str], Path]) -> None:
    """Popularity on Amazon Beauty, against a loop over the lines of the files (Cen et al., KDD 2020, experimental setup)."""
    folder = shared_data("beauty")
    dataset = load_dataset(DataConfig(dataset="comirec", path=str(folder)))

    class Popularity(tf.Module):
        history_length, num_rows = 20, dataset.catalogue.num_rows
        order = np.argsort(-dataset.catalogue.counts[2:], kind="stable") + 2

        def top_k(self, history: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            items = tf.tile(tf.constant(self.order, tf.int32)[None, :k], [tf.shape(history)[0], 1])
            return items, -tf.cast(items, tf.float32)

        def similar_items(self, items: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self.top_k(items[:, None], k)

    popularity = Popularity()
    metrics = CatalogueEvaluator(popularity, dataset.catalogue, EvaluationConfig(cutoffs=[50])).evaluate(dataset.test)
    popular = {dataset.catalogue.vocabulary.identifier(item) for item in popularity.order[:50]}
    recalls = []
    for items in _items_of_users(folder).values():
        targets = items[int(0.8 * len(items)) :]
        recalls.append(len(popular & set(targets)) / len(targets))
    assert len(recalls) == len(dataset.test) == 2237
    assert metrics["recall@50"] == pytest.approx(np.mean(recalls), abs=1e-12)
    assert metrics["hr@50"] == pytest.approx(np.mean(np.array(recalls) > 0), abs=1e-12)


def _items_of_users(folder: Path) -> dict[int, list[str]]:
    """The original item ids of each test user, oldest first."""
    names = dict(line.split(",")[::-1] for line in (folder / "comirec_item_map.txt").read_text().split())
    items: dict[int, list[str]] = defaultdict(list)
    for line in (folder / "comirec_test.txt").read_text().split():
        user, item, _ = line.split(",")
        items[int(user)].append(names[item])
    return items
