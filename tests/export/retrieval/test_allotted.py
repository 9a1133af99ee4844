"""Answers whose places are allotted to interests: as the rules say, and the same offline, in the graph and from the saved files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import HISTORY_LENGTH, NUM_INTERESTS, TableRecommender, make_catalogue
from tests.index.test_quotas import allot_by_hand
from tfmi.config import EvaluationConfig, ExportConfig, IndexConfig
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import FIRST_INDEX, EvaluationSet, Sequences
from tfmi.evaluation.full_catalogue import CatalogueEvaluator, CatalogueRanker
from tfmi.export import ExportedModel, export_savedmodel
from tfmi.export.retrieval.evaluate_exported import ServedRanker
from tfmi.export.retrieval.retrieval_signatures import RetrievalSignatures
from tfmi.index.exact import ExactIndex
from tfmi.layers.extractors.multi_interest.elastic_archive import ElasticArchive
from tfmi.layers.readouts.label_aware_attention import LabelAwareAttention
from tfmi.losses.objectives.full_softmax import FullSoftmax
from tfmi.losses.regularizers.interest_usage import InterestUsage
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.towers import ItemTower, UserTower

NUM_RESULTS = 6
EXPONENT = 2.0
CATALOGUE = make_catalogue(40)
EXPORT = ExportConfig(num_results=NUM_RESULTS, exclusion_width=3, warmup_batch_sizes=[1])
HISTORIES = [["item-3"], ["item-7", "item-9", "item-20", "item-7"], ["item-1", "item-2", "item-30", "item-4", "item-38"], ["nobody"]]


class SharingTable(TableRecommender):
    """Shares fall with an interest's first number, so that they differ from user to user."""

    def interests_with_shares(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        interests, active = self.user_interests(inputs)
        return interests, active, tf.where(active, tf.exp(-interests[:, :, 0]), 0.0)


def expected_answer(recommender: SharingTable, history: list[int], n: int, excluded: set[int]) -> list[tuple[int, float, int]]:
    """(item, score, interest) of the rules written out, over the whole catalogue."""
    row = np.zeros((1, HISTORY_LENGTH), np.int32)
    newest = history[-HISTORY_LENGTH:]
    row[0, : len(newest)] = newest
    interests, active, shares = (value.numpy()[0] for value in recommender.interests_with_shares(UserInputs(tf.constant(row))))
    scores = interests @ recommender.table.numpy()[FIRST_INDEX:].T
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    return allot_by_hand(ranked, order + FIRST_INDEX, active, shares, n=n, exponent=EXPONENT, excluded=excluded)


def examples_of(histories: list[list[int]]) -> EvaluationSet:
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
    items = np.concatenate([np.array(history, np.int32) for history in histories])
    users = np.zeros(len(histories), np.int32)
    targets = Sequences(np.arange(len(histories) + 1), np.full(len(histories), 5, np.int32), None, None, users)
    return EvaluationSet(Sequences(offsets, items, None, None, users), targets)


EXAMPLES = examples_of([[5], [9, 11, 22, 9], [3, 4, 32, 6, 40, 17, 18], [2, 3]])


@pytest.fixture(scope="module")
def recommender() -> SharingTable:
    return SharingTable(CATALOGUE)


def signatures_of(recommender: TableRecommender, quota_exponent: float | None) -> RetrievalSignatures:
    return RetrievalSignatures(recommender, ExactIndex(recommender.item_vectors()), CATALOGUE, EXPORT, {}, quota_exponent=quota_exponent)


@pytest.fixture(scope="module")
def allotted(recommender: SharingTable) -> RetrievalSignatures:
    return signatures_of(recommender, EXPONENT)


def padded(rows: list[list[str]], width: int) -> tf.Tensor:
    return tf.constant([row + [""] * (width - len(row)) for row in rows])


def recommend(servable: RetrievalSignatures, exclude: list[list[str]], diversity: list[float]) -> dict[str, np.ndarray]:
    inputs = {"history": padded(HISTORIES, HISTORY_LENGTH), "exclude": padded(exclude, 3), "diversity": tf.constant(diversity)}
    return {name: value.numpy() for name, value in servable.signatures["recommend"](**inputs).items()}


@pytest.mark.slow
@pytest.mark.parametrize("exclude_history", [False, True])
@pytest.mark.parametrize("n", [6, 60])
def test_offline_lists_are_those_of_the_rules(recommender: SharingTable, exclude_history: bool, n: int) -> None:
    found = CatalogueRanker(recommender, EXPONENT).rank(EXAMPLES, n, batch_size=3, exclude_history=exclude_history)
    assert found.items.shape == (len(EXAMPLES), n)
    for user in range(len(EXAMPLES)):
        history = EXAMPLES.histories.row(user).tolist()
        expected = expected_answer(recommender, history, n, set(history) if exclude_history else set())
        assert found.items[user, : len(expected)].tolist() == [item for item, _, _ in expected]
        np.testing.assert_allclose(found.scores[user, : len(expected)], [score for _, score, _ in expected], atol=1e-5)
        assert not found.items[user, len(expected) :].any()
        assert len(expected) == min(n, 40 - (len(set(history)) if exclude_history else 0))


@pytest.mark.slow
def test_places_are_allotted_differently_than_won(recommender: SharingTable) -> None:
    allotted, won = (CatalogueRanker(recommender, exponent).rank(EXAMPLES, 6, batch_size=4).items for exponent in (EXPONENT, None))
    assert (np.sort(allotted, axis=1) != np.sort(won, axis=1)).any()
    config = EvaluationConfig(cutoffs=[6])
    metrics = [CatalogueEvaluator(recommender, CATALOGUE, config, exponent).rank(EXAMPLES).items for exponent in (EXPONENT, None)]
    np.testing.assert_array_equal(metrics[0], allotted)
    np.testing.assert_array_equal(metrics[1], won)


@pytest.mark.slow
def test_served_answers_are_those_of_the_rules_and_exclusions_come_first(allotted: RetrievalSignatures, recommender: SharingTable) -> None:
    exclude = [["item-3", "item-0"], [], ["item-5", "item-6", "nobody"], []]
    answer = recommend(allotted, exclude, [0.0, -1.0, float("nan"), 0.0])
    for user in range(3):
        known = [CATALOGUE.vocabulary.index(item) for item in HISTORIES[user]]
        excluded = {CATALOGUE.vocabulary.index(item) for item in exclude[user]}
        expected = expected_answer(recommender, known, NUM_RESULTS, excluded)
        assert [item.decode() for item in answer["item_ids"][user]] == [CATALOGUE.vocabulary.identifier(item) for item, _, _ in expected]
        assert answer["interests"][user].tolist() == [interest for _, _, interest in expected]
        np.testing.assert_allclose(answer["scores"][user], [score for _, score, _ in expected], atol=1e-5)
    assert len(set(answer["interests"][1])) > 1


def test_a_history_without_known_items_gets_the_cold_start_list(allotted: RetrievalSignatures) -> None:
    answer = recommend(allotted, [[], [], [], ["item-1"]], [0.0] * 4)
    assert answer["item_ids"][3].tolist() == [f"item-{i}".encode() for i in (0, 2, 3, 4, 5, 6)]
    assert (answer["interests"][3] == -1).all()


@pytest.mark.slow
def test_who_asks_for_diversity_gets_the_competitive_answer_and_others_of_the_batch_do_not(
    allotted: RetrievalSignatures, recommender: SharingTable
) -> None:
    competitive = signatures_of(recommender, None)
    exclude: list[list[str]] = [[], ["item-0"], [], []]
    mixed = recommend(allotted, exclude, [0.0, 0.7, 0.0, 0.7])
    diverse, plain = recommend(competitive, exclude, [0.7] * 4), recommend(allotted, exclude, [0.0] * 4)
    for name, values in mixed.items():
        np.testing.assert_array_equal(values[[1, 3]], diverse[name][[1, 3]], err_msg=name)
        np.testing.assert_array_equal(values[[0, 2]], plain[name][[0, 2]], err_msg=name)
    assert allotted.input_specs == competitive.input_specs
    assert (allotted.integration, competitive.integration) == ({"kind": "allotted", "quota_exponent": EXPONENT}, {"kind": "competitive"})


def test_recommenders_that_know_no_shares_are_refused() -> None:
    ignorant = TableRecommender(CATALOGUE)
    with pytest.raises(ConfigError, match="TableRecommender does not know how much each interest is used"):
        CatalogueRanker(ignorant, 1.0)
    with pytest.raises(ConfigError, match=r"index\.integration: TableRecommender does not know"):
        signatures_of(ignorant, 1.0)


def octopus() -> InterestRetrieval:
    tf.keras.utils.set_random_seed(3)
    model = InterestRetrieval(
        item_tower=ItemTower(CATALOGUE.num_rows, 8),
        user_tower=UserTower(8),
        extractor=ElasticArchive(8, max_channels=NUM_INTERESTS),
        readout=LabelAwareAttention(),
        objective=FullSoftmax(),
        regularizers={"usage": InterestUsage()},
        history_length=HISTORY_LENGTH,
    )
    model.compute_loss({"history": tf.constant([[5, 6, 7, 0, 0]]), "target": tf.constant([8])})
    return model


def variables_read(servable: RetrievalSignatures) -> set[str]:
    return {variable.name for function in servable.signatures.values() for variable in function.graph.variables}


@pytest.mark.slow
def test_an_export_answers_as_offline_and_says_how_interests_share_an_answer(tmp_path: Path) -> None:
    model = octopus()
    index = IndexConfig(kind="exact", integration="allotted", quota_exponent=EXPONENT)
    folder = export_savedmodel(model, CATALOGUE, tmp_path / "octopus", export=EXPORT, index=index)
    exported = ExportedModel(folder)
    assert exported.metadata["integration"] == {"kind": "allotted", "quota_exponent": EXPONENT}
    served = ServedRanker(exported, CATALOGUE.vocabulary, None, EvaluationConfig()).rank(EXAMPLES)
    offline = CatalogueRanker(model, index.allotment()).rank(EXAMPLES, NUM_RESULTS, batch_size=3)
    np.testing.assert_array_equal(served.items, offline.items)
    np.testing.assert_allclose(served.scores, offline.scores, atol=1e-5)


@pytest.mark.slow
def test_a_servable_in_which_interests_compete_holds_nothing_of_the_usage_network() -> None:
    model = octopus()
    names: Any = [
        variables_read(RetrievalSignatures(model, ExactIndex(model.item_vectors()), CATALOGUE, EXPORT, {}, quota_exponent=exponent))
        for exponent in (None, 1.0)
    ]
    assert not any("usage" in name for name in names[0])
    assert any("usage" in name for name in names[1])
