"""What is served is what was measured."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tests.export.fake_recommenders import Exported, make_catalogue
from tfmi.config import EvaluationConfig
from tfmi.core.errors import DataError, ExportError
from tfmi.data.dataset import EvaluationSet, Sequences, Vocabulary
from tfmi.evaluation.full_catalogue import evaluate, recommend
from tfmi.evaluation.metrics import ranking_metrics
from tfmi.export.retrieval.evaluate_exported import ServedRanker, share_known, usable_cutoffs

CONFIG = EvaluationConfig(cutoffs=[2, 6], batch_size=4)


def sequences(lengths: np.ndarray, random: np.random.Generator) -> Sequences:
    items = random.integers(2, 42, lengths.sum()).astype(np.int32)
    users = np.arange(len(lengths), dtype=np.int32) % 7
    return Sequences(np.concatenate([[0], np.cumsum(lengths)]), items, None, None, users)


@pytest.fixture
def examples() -> EvaluationSet:
    """Ten users, some with histories longer than the model's."""
    random = np.random.default_rng(5)
    return EvaluationSet(sequences(random.integers(1, 12, 10), random), sequences(random.integers(1, 5, 10), random))


@pytest.mark.slow
@pytest.mark.parametrize("exclude_history", [False, True])
@pytest.mark.parametrize("name", ["exact_export", "scann_export", "direct_export"])
def test_served_metrics_equal_those_of_the_model_in_memory(
    name: str, exclude_history: bool, examples: EvaluationSet, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(name)
    config = CONFIG.model_copy(update={"exclude_history": exclude_history})
    served = ServedRanker(exported.model, exported.catalogue.vocabulary, exported.profiles, config).rank(examples)
    expected = recommend(exported.recommender, examples, 6, batch_size=4, exclude_history=exclude_history, profiles=exported.profiles)
    np.testing.assert_array_equal(served.items, expected.items)
    np.testing.assert_allclose(served.scores, expected.scores, rtol=1e-5)
    metrics = ranking_metrics(served.items, examples.targets, cutoffs=[2, 6], num_rows=42, categories=exported.catalogue.category_indices())
    assert metrics == pytest.approx(evaluate(exported.recommender, examples, exported.catalogue, config, exported.profiles))


def test_items_have_the_indices_of_the_evaluation_data(exact_export: Exported, examples: EvaluationSet) -> None:
    """The data may number items otherwise than the model, and know only some of them."""
    mine = exact_export.catalogue.vocabulary
    other = Vocabulary(["never sold", *reversed(mine.ids[5:])])
    translated = np.array([other.index(mine.identifier(int(item))) for item in examples.histories.items], np.int32)
    histories = Sequences(examples.histories.offsets, translated, None, None, examples.histories.users)
    served = ServedRanker(exact_export.model, other, exact_export.profiles, CONFIG).rank(EvaluationSet(histories, examples.targets))
    expected = recommend(exact_export.recommender, examples, 6, batch_size=4, profiles=exact_export.profiles)
    fully_known = [row for row in range(10) if (histories.row(row) > 1).all()]
    assert fully_known
    for row in fully_known:
        assert served.items[row].tolist() == [other.index(mine.identifier(int(item))) for item in expected.items[row]]
    assert 0.0 < share_known(served.items) < 1.0


def test_cutoffs_longer_than_the_answers_are_left_out_or_refused(exact_export: Exported, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert usable_cutoffs(exact_export.model, [50, 6, 2, 20], required=False) == [2, 6]
    assert "@[20, 50] are left out" in caplog.text
    with pytest.raises(ExportError, match=r"export\.num_results=50"):
        usable_cutoffs(exact_export.model, [2, 50], required=True)
    with pytest.raises(ExportError, match="at most 6"):
        usable_cutoffs(exact_export.model, [20], required=False)
    with pytest.raises(ExportError, match="at least 1"):
        usable_cutoffs(exact_export.model, [0, 5], required=True)


def test_a_profile_that_the_data_lacks_is_named(exact_export: Exported) -> None:
    with pytest.raises(DataError, match="home region"):
        ServedRanker(exact_export.model, make_catalogue().vocabulary, None, CONFIG)
