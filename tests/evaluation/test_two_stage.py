"""Retrieve-then-rank in memory, against NumPy and against what is served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_full_catalogue import NUM_ITEMS, random_examples
from tests.export.fake_recommenders import AGE, HISTORY_LENGTH, NextInLine, TableRanker, TableRecommender, make_catalogue, make_profiles
from tfmi.config import EvaluationConfig, ExportConfig, IndexConfig
from tfmi.evaluation.full_catalogue import evaluate, recommend
from tfmi.evaluation.metrics import ranking_metrics
from tfmi.evaluation.two_stage_evaluation import RETRIEVAL_WEIGHTS, TwoStageRanker, choose_retrieval_weight, two_stage_metrics
from tfmi.export import ExportedModel, export_savedmodel

CONFIG = EvaluationConfig(cutoffs=[3, 10], batch_size=7)
CATALOGUE = make_catalogue(NUM_ITEMS)


@pytest.mark.slow
@pytest.mark.parametrize("pool", [1, 12, NUM_ITEMS + 9])
@pytest.mark.parametrize("direct", [False, True])
def test_the_pool_is_the_best_that_retrieval_finds_in_the_order_of_the_ranker(pool: int, direct: bool) -> None:
    examples, ranker = random_examples(), TableRanker(CATALOGUE)
    recommender = NextInLine(CATALOGUE) if direct else TableRecommender(CATALOGUE)
    stages = TwoStageRanker(recommender, ranker, pool)
    found = stages.retrieve(examples, batch_size=7)
    width = min(pool, NUM_ITEMS)
    np.testing.assert_array_equal(found.items, recommend(recommender, examples, width, batch_size=7).items)
    ranked = stages.order(found, examples, batch_size=7)
    history = tf.constant(examples.histories.padded(HISTORY_LENGTH), tf.int32)
    scores = ranker.score(history, {}, tf.constant(found.items)).numpy()
    order = np.argsort(-scores, axis=1, kind="stable")
    some = np.take_along_axis(scores, order, axis=1) > -np.inf
    np.testing.assert_array_equal(ranked.items, np.where(some, np.take_along_axis(found.items, order, axis=1), 0))
    np.testing.assert_allclose(ranked.scores, np.take_along_axis(scores, order, axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_both_are_measured_on_the_same_users() -> None:
    examples, recommender, ranker = random_examples(), TableRecommender(CATALOGUE), TableRanker(CATALOGUE)
    measured = two_stage_metrics(recommender, ranker, examples, CATALOGUE, CONFIG, pool=20)
    assert measured["retrieval"] == evaluate(recommender, examples, CATALOGUE, CONFIG)
    stages = TwoStageRanker(recommender, ranker, 20)
    found = stages.retrieve(examples, batch_size=100)
    options = {"num_rows": CATALOGUE.num_rows, "categories": CATALOGUE.category_indices()}
    ranked = stages.order(found, examples, batch_size=100).items
    assert measured["ranked"] == pytest.approx(ranking_metrics(ranked, examples.targets, cutoffs=[3, 10], **options))  # type: ignore[arg-type]
    assert measured["pool"] == {
        "size": 20,
        "recall": ranking_metrics(found.items, examples.targets, cutoffs=[20], num_rows=CATALOGUE.num_rows)["recall@20"],
    }
    assert measured["ranked"]["recall@10"] != measured["retrieval"]["recall@10"]


@pytest.mark.slow
def test_a_pool_as_long_as_the_list_can_only_be_put_in_another_order() -> None:
    examples = random_examples()
    measured = two_stage_metrics(TableRecommender(CATALOGUE), TableRanker(CATALOGUE), examples, CATALOGUE, CONFIG, pool=10)
    assert measured["ranked"]["recall@10"] == measured["retrieval"]["recall@10"] == measured["pool"]["recall"]
    assert measured["ranked"]["ndcg@10"] != measured["retrieval"]["ndcg@10"]
    shorter = two_stage_metrics(TableRecommender(CATALOGUE), TableRanker(CATALOGUE), examples, CATALOGUE, CONFIG, pool=5)
    assert shorter["ranked"]["recall@10"] == shorter["pool"]["recall"] < measured["pool"]["recall"]


def test_a_ranker_that_knows_the_targets_reaches_the_recall_of_the_pool() -> None:
    examples = random_examples()

    class Knowing(TableRanker):
        """Scores each user's next items, told apart by the history, above all others."""

        def score(self, history: tf.Tensor, profile: object, candidates: tf.Tensor) -> tf.Tensor:
            matches = tf.reduce_all(tf.equal(history[:, None, :], self.histories[None]), axis=2)  # [B, U]
            user = tf.argmax(tf.cast(matches, tf.int32), axis=1)
            wanted = tf.gather(self.targets, user)  # [B, T]
            hit = tf.reduce_any(tf.equal(candidates[:, :, None], wanted[:, None, :]), axis=2)
            return tf.where(candidates >= 2, tf.cast(hit, tf.float32), -np.inf)

    ranker = Knowing(CATALOGUE)
    ranker.histories = tf.constant(examples.histories.padded(HISTORY_LENGTH), tf.int32)
    ranker.targets = tf.constant(examples.targets.padded(3), tf.int32)
    measured = two_stage_metrics(TableRecommender(CATALOGUE), ranker, examples, CATALOGUE, CONFIG, pool=30)
    assert measured["ranked"]["recall@10"] == pytest.approx(measured["pool"]["recall"], abs=0.05)
    assert measured["ranked"]["ndcg@10"] > 2 * measured["retrieval"]["ndcg@10"]


def test_profiles_and_excluded_histories_reach_both_stages() -> None:
    examples, profiles = random_examples(), make_profiles()
    ranker = TableRanker(CATALOGUE, (AGE,))
    stages = TwoStageRanker(TableRecommender(CATALOGUE), ranker, 15)
    found = stages.retrieve(examples, batch_size=7, exclude_history=True, profiles=profiles)
    for row in range(len(examples)):
        assert not np.isin(found.items[row], examples.histories.row(row)).any()
    with_profile = stages.order(found, examples, batch_size=7, profiles=profiles)
    bare = TwoStageRanker(TableRecommender(CATALOGUE), TableRanker(CATALOGUE), 15).order(found, examples, batch_size=7)
    assert not np.array_equal(with_profile.items, bare.items)


@pytest.mark.slow
def test_what_is_measured_is_what_is_served(tmp_path: Path) -> None:
    examples, recommender, ranker = random_examples(), TableRecommender(CATALOGUE), TableRanker(CATALOGUE)
    export = ExportConfig(num_results=6, ranking_pool=3, warmup_batch_sizes=[1])
    folder = export_savedmodel(recommender, CATALOGUE, tmp_path / "m", export=export, index=IndexConfig(kind="exact"), ranker=ranker)
    stages = TwoStageRanker(recommender, ranker, 18)
    ranked = stages.order(stages.retrieve(examples, batch_size=7), examples, batch_size=7).items[:, :6]
    history = examples.histories.padded(HISTORY_LENGTH)
    ids = np.array(["", "", *CATALOGUE.vocabulary.ids], dtype=object)
    served = ExportedModel(folder).predict("serving_default", {"history": ids[history]})["item_ids"]
    known = (history >= 2).any(axis=1)
    assert known.sum() > 15
    np.testing.assert_array_equal(np.char.decode(served[known].astype(bytes)), ids[ranked[known]].astype(str))


@pytest.mark.parametrize("weight", [0.5, 100.0])
def test_retrieval_s_score_is_added_with_its_weight(weight: float) -> None:
    examples, ranker = random_examples(), TableRanker(CATALOGUE)
    stages = TwoStageRanker(TableRecommender(CATALOGUE), ranker, 12, retrieval_weight=weight)
    found = stages.retrieve(examples, batch_size=7)
    ranked = stages.order(found, examples, batch_size=7)
    history = tf.constant(examples.histories.padded(HISTORY_LENGTH), tf.int32)
    scores = ranker.score(history, {}, tf.constant(found.items)).numpy() + weight * found.scores
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_allclose(ranked.scores, np.take_along_axis(scores, order, axis=1), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_weight_that_is_chosen_is_the_best_of_those_that_are_tried() -> None:
    examples, recommender, ranker = random_examples(), TableRecommender(CATALOGUE), TableRanker(CATALOGUE)
    chosen = choose_retrieval_weight(recommender, ranker, examples, CATALOGUE, CONFIG, pool=20)
    quality = {
        weight: two_stage_metrics(recommender, ranker, examples, CATALOGUE, CONFIG, pool=20, retrieval_weight=weight)["ranked"]["ndcg@10"]
        for weight in RETRIEVAL_WEIGHTS
    }
    assert quality[chosen] == pytest.approx(max(quality.values()))
    assert choose_retrieval_weight(recommender, ranker, examples, CATALOGUE, CONFIG, pool=4) in RETRIEVAL_WEIGHTS  # fewer than the cutoff
    assert len(set(quality.values())) > 1
