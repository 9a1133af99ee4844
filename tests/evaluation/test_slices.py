"""Users in groups: who stands where, and that a slice's metrics are those of its users alone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.test_full_catalogue import NUM_ITEMS, random_examples
from tests.evaluation.test_metrics import ragged
from tests.export.fake_recommenders import NextInLine, make_catalogue
from tfmi.config import EvaluationConfig
from tfmi.data.dataset import Catalogue, CategoricalFeature, EvaluationSet, Vocabulary
from tfmi.data.splitting.slicing import whole_rows
from tfmi.evaluation import slices
from tfmi.evaluation.full_catalogue import CatalogueEvaluator
from tfmi.evaluation.metrics import ranking_metrics
from tfmi.evaluation.slices import by_history_categories, by_history_length, by_target_repetition, sliced_metrics

# Items 2, 3, 4, 5 are of the categories 2, 3, 4, 5; 6 to 9 again; the last, 10, of none. See make_catalogue.
CATALOGUE = make_catalogue(9, categories=4)


def histories(*rows: list[int]) -> EvaluationSet:
    return EvaluationSet(ragged(list(rows)), ragged([[2]] * len(rows)))


def members(rows: dict[str, np.ndarray]) -> dict[str, list[int]]:
    return {label: users.tolist() for label, users in rows.items()}


def test_history_lengths_count_known_items_and_bounds_belong_to_the_bin_that_they_name() -> None:
    lengths = [0, 1, 4, 5, 9, 10, 19, 20, 75]
    found = by_history_length(histories(*([2] * length for length in lengths), [1, 1, 0, 1]), CATALOGUE)
    assert members(found) == {"0": [0, 9], "1-4": [1, 2], "5-9": [3, 4], "10-19": [5, 6], "20+": [7, 8]}


def test_categories_are_counted_once_however_often_they_come() -> None:
    found = by_history_categories(histories([2, 6, 2], [2, 3], [], [2, 3, 4, 5], [1, 0, 1], [5, 9, 4, 3]), CATALOGUE)
    assert members(found) == {"0": [2, 4], "1": [0], "2": [1], "3+": [3, 5]}


def test_items_of_unknown_category_are_each_a_category_of_their_own() -> None:
    values = np.array([0, 0, 0, 0, 2, 3, 2, 3, 2, 3, 0], dtype=np.int32)
    catalogue = Catalogue(CATALOGUE.vocabulary, {"category": CategoricalFeature(Vocabulary("ab"), values)}, None, CATALOGUE.counts)
    found = by_history_categories(histories([2, 2, 2], [2, 3], [2, 3, 10], [2, 6]), catalogue)
    assert members(found) == {"0": [], "1": [0], "2": [1, 3], "3+": [2]}


def test_without_categories_there_are_slices_by_length_only() -> None:
    plain = Catalogue(CATALOGUE.vocabulary, {}, None, CATALOGUE.counts)
    assert by_history_categories(histories([2, 3]), plain) == {}
    assert list(sliced_metrics(np.array([[2]]), histories([2, 3]), plain, cutoffs=[1])) == ["history:1-4", "target:repeat"]


def test_a_target_repeats_if_it_stands_anywhere_in_its_own_history() -> None:
    examples = EvaluationSet(
        ragged([[2, *[3] * 80], [3], [], [4, 5], [1, 3], [5, 2]]),
        ragged([[2], [2], [2], [5], [1], []]),
    )
    assert members(by_target_repetition(examples, CATALOGUE)) == {"repeat": [0, 3], "new": [1, 2, 4]}


def test_several_targets_are_neither_repeats_nor_new() -> None:
    examples = EvaluationSet(ragged([[2], [3]]), ragged([[2], [3, 4]]))
    assert by_target_repetition(examples, CATALOGUE) == {}


@pytest.mark.parametrize("slicing", slices.SLICINGS.values())
def test_every_user_stands_in_exactly_one_slice_of_each_slicing(slicing: slices.Slicing) -> None:
    examples, catalogue = random_examples(users=200, longest=30), make_catalogue(NUM_ITEMS)
    single = EvaluationSet(examples.histories, ragged([[2]] * 200))
    rows = np.concatenate(list(slicing(single, catalogue).values()))
    assert sorted(rows) == list(range(200))


def test_a_slices_metrics_are_those_of_its_users_alone() -> None:
    catalogue, config = make_catalogue(NUM_ITEMS), EvaluationConfig(cutoffs=[5, 20], batch_size=8)
    examples = random_examples(users=60, longest=25)
    evaluator = CatalogueEvaluator(NextInLine(catalogue), catalogue, config)
    recommended = evaluator.rank(examples)
    measured = evaluator.measure_slices(recommended, examples)
    assert {name.partition(":")[0] for name in measured} == {"history", "categories"}
    rows = by_history_length(examples, catalogue)["5-9"]
    alone = EvaluationSet(whole_rows(examples.histories, rows), whole_rows(examples.targets, rows))
    assert measured["history:5-9"] == {"users": len(rows), **evaluator.evaluate(alone)}
    assert "coverage@20" in measured["history:5-9"]
    overall = evaluator.measure(recommended, examples)
    assert overall == evaluator.evaluate(examples)
    for slicing in ("history", "categories"):
        parts = [values for name, values in measured.items() if name.startswith(slicing)]
        assert sum(part["users"] for part in parts) == 60
        mean = sum(part["users"] * part["recall@20"] for part in parts) / 60
        assert mean == pytest.approx(overall["recall@20"])


def test_users_without_targets_and_slices_without_users_are_left_out() -> None:
    examples = EvaluationSet(ragged([[2], [2] * 6, [2]]), ragged([[3], [], []]))
    recommended = np.array([[3, 4], [5, 6], [7, 8]])
    measured = sliced_metrics(recommended, examples, CATALOGUE, cutoffs=[2])
    assert list(measured) == ["history:1-4", "categories:1", "target:new"]
    expected = ranking_metrics(recommended[:1], ragged([[3]]), cutoffs=[2], num_rows=11, categories=CATALOGUE.category_indices())
    assert measured["history:1-4"] == {"users": 1, **expected}


def test_a_further_slicing_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_target_parity(examples: EvaluationSet, catalogue: Catalogue) -> slices.Rows:
        odd = np.array([examples.targets.row(r)[0] % 2 == 1 for r in range(len(examples))])
        return {"odd": np.flatnonzero(odd), "even": np.flatnonzero(~odd)}

    monkeypatch.setattr(slices, "SLICINGS", {"parity": by_target_parity})
    examples = EvaluationSet(ragged([[2], [3]]), ragged([[2], [3]]))
    measured = sliced_metrics(np.array([[2], [4]]), examples, CATALOGUE, cutoffs=[1])
    assert {name: values["hr@1"] for name, values in measured.items()} == {"parity:odd": 0, "parity:even": 1}
