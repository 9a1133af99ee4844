"""Metrics of tags on answers that are known."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.data.tags.tag_logs import LOG, make_dataset
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.evaluation.tag_evaluation import TagEvaluator, mean_over_tasks
from tfmi.models.systems import load_config
from tfmi.models.user_tags.build_user_tag_model import build_user_tag_model

TASKS = {"watched": 0.0, "liked": 4.0}


def evaluator_of(dataset: TagDataset, *settings: str, cutoffs: tuple[int, ...] = (1, 2)) -> TagEvaluator:
    config = load_config(system="tag_two_tower", settings=["data.tagging.tasks={watched: 0.0, liked: 4.0}", *settings])
    return TagEvaluator(build_user_tag_model(config, dataset), dataset, cutoffs, batch_size=2)


@pytest.fixture(scope="module")
def evaluator() -> TagEvaluator:
    return evaluator_of(make_dataset(LOG, tasks=TASKS, negatives=1))


def test_popular_tags_are_the_same_for_everybody(evaluator: TagEvaluator) -> None:
    # Jazz, rock: user "v" goes on to rock and old, "w" to jazz and new.
    (watched, evaluated), _ = evaluator.rank(evaluator.dataset.valid_tags, evaluator.popular_scores)
    assert evaluated.tolist() == [True, True]
    assert watched["precision@1"].tolist() == [0, 1]
    assert watched["recall@2"].tolist() == [0.5, 0.5]


def test_own_tags_come_first_and_then_popular_ones(evaluator: TagEvaluator) -> None:
    valid = evaluator.dataset.valid_tags
    scores = evaluator.own_scores(valid, 0)(np.arange(2))
    names = [evaluator.dataset.tags.identifier(int(index)) for index in np.argsort(-scores[0], kind="stable")[:4]]
    assert names == ["jazz", "new", "rock", "old"]
    assert scores[0, 2] == pytest.approx(2 + 4 / 5)  # "v" met jazz twice, as did 4 training events


def test_tags_that_a_user_had_are_no_new_ones(evaluator: TagEvaluator) -> None:
    (watched, _), _ = evaluator.rank(evaluator.dataset.valid_tags, evaluator.own_scores, only_new=True)
    # Without jazz and new, "v" is told rock and old; without jazz, "w" rock and then new.
    assert watched["recall@2"].tolist() == [1, 1]
    assert watched["precision@1"].tolist() == [1, 0]


def test_who_comes_out_of_nowhere_does_not_count(evaluator: TagEvaluator) -> None:
    (_, evaluated), _ = evaluator.rank(evaluator.dataset.test_tags, evaluator.popular_scores)
    assert evaluated.tolist() == [True, False]


def test_a_task_without_targets_is_left_out(evaluator: TagEvaluator) -> None:
    _, (_, evaluated) = evaluator.rank(evaluator.dataset.valid_tags, evaluator.popular_scores)
    assert evaluated.tolist() == [True, False]


def test_the_model_is_beside_the_counts(evaluator: TagEvaluator) -> None:
    metrics = evaluator.tag_metrics(evaluator.dataset.valid_tags)
    assert metrics.keys() == {"watched", "liked"}
    assert metrics["watched"].keys() == {"all", "new"}
    for values in metrics["watched"]["all"].values():
        assert values.keys() == {"users", "precision@1", "precision@2", "recall@1", "recall@2", "ndcg@1", "ndcg@2"}
    assert metrics["watched"]["all"]["own_tags"]["users"] == 2


def test_answers_are_the_models_best_tags_and_never_padding(evaluator: TagEvaluator) -> None:
    valid = evaluator.dataset.valid_tags
    answers = evaluator._answers(evaluator.model_scores(valid, 1), len(valid), ())
    queries = evaluator.model.user_queries(evaluator.states.fields(tf.constant(valid.states)))
    expected = tf.math.top_k(evaluator.model.all_scores(queries, 1), 2).indices
    np.testing.assert_array_equal(answers, expected)


def test_a_short_vocabulary_gives_short_answers() -> None:
    long = evaluator_of(make_dataset(LOG, tasks=TASKS, negatives=1), cutoffs=(10,))
    valid = long.dataset.valid_tags
    answers = long._answers(long.popular_scores(valid, 0), len(valid), valid.own)
    assert [(row > 0).sum() for row in answers] == [2, 3]


class TestRows:
    def test_metrics_by_task_and_their_means(self, evaluator: TagEvaluator) -> None:
        metrics = evaluator.row_metrics(evaluator.dataset.train)
        assert metrics.keys() == {"auc", "log_loss", "auc:watched", "auc:liked", "auc:liked|watched", "log_loss:watched", "log_loss:liked"}
        assert metrics["auc"] == pytest.approx((metrics["auc:watched"] + metrics["auc:liked"]) / 2)

    def test_rows_without_weight_do_not_count(self) -> None:
        conditional = evaluator_of(make_dataset(LOG, tasks=TASKS, negatives=2, label_space="conditional"))
        metrics = conditional.row_metrics(conditional.dataset.train)
        assert metrics["auc:liked"] == metrics["auc:liked|watched"]

    @pytest.mark.slow
    def test_with_nested_tasks_the_second_action_takes_both(self) -> None:
        dataset = make_dataset(LOG, tasks=TASKS, negatives=1)
        metrics = evaluator_of(dataset, "model.user_tags.task_loss={name: entire_space}").row_metrics(dataset.train)
        assert metrics["log_loss:watched"] == pytest.approx(np.log(2), abs=0.01)
        # At the start every logit is near 0: an action has the probability 1/2, both together 1/4.
        unliked = 1 - dataset.train.labels[:, 1].mean()
        expected = unliked * -np.log(0.75) + (1 - unliked) * -np.log(0.25)
        assert metrics["log_loss:liked"] == pytest.approx(expected, abs=0.01)


def test_validation_has_what_a_run_can_be_chosen_by(evaluator: TagEvaluator) -> None:
    assert {"auc", "log_loss", "precision@1", "recall@2", "ndcg@2"} <= evaluator.validate().keys()
    assert mean_over_tasks([{"a": 1.0}, {"a": 2.0}]) == {"a": 1.5}
