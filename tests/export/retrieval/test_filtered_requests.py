"""``recommend_filtered``: what a request may restrict, and how many results it may ask for; other signatures stay as they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import NUM_RESULTS, Exported, NextInLine, TableRecommender, make_catalogue
from tests.export.retrieval.test_signatures import HISTORIES, padded, true_scores
from tests.exports import loaded, made_once
from tfmi.config import ExportConfig, IndexConfig, validate_config
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import FIRST_INDEX, Catalogue, MultiValuedFeature, NumericFeature, Vocabulary
from tfmi.export import ExportedModel, export_savedmodel
from tfmi.export.publishing import newest_version
from tfmi.export.warmup import serialized_examples

pytestmark = pytest.mark.slow

MOST_RESULTS = 30
PRICE = "price (€)"


def rich_catalogue() -> Catalogue:
    """40 items: category i % 4, price i (unknown for the last), tags a (even), b (every third)."""
    plain = make_catalogue()
    number = np.arange(-2, 40)
    tags = np.stack([np.where(number % 2 == 0, 2, 0), np.where(number % 3 == 0, 3, 0)], axis=1).astype(np.int32)
    prices = np.where(number == 39, np.nan, number).astype(np.float32)
    tags[:FIRST_INDEX], prices[:FIRST_INDEX] = 0, np.nan
    features = {
        **plain.features,
        "tags": MultiValuedFeature(Vocabulary(["a", "b"]), tags, (tags > 0).astype(np.float32)),
        PRICE: NumericFeature(prices, 0.0, 1.0),
    }
    return Catalogue(plain.vocabulary, features, None, plain.counts)


def publish(folder: Path, kind: str, *, direct: bool = False, **export: Any) -> Exported:
    catalogue = rich_catalogue()
    recommender = NextInLine(catalogue) if direct else TableRecommender(catalogue)
    widths = {"num_results": NUM_RESULTS, "exclusion_width": 4, "most_results": MOST_RESULTS, "warmup_batch_sizes": [2]}
    config = ExportConfig.model_validate({**widths, "explain_interests": False, **export})
    folder = export_savedmodel(recommender, catalogue, folder / "fake", export=config, index=IndexConfig.model_validate({"kind": kind}))
    return Exported(recommender, catalogue, folder, ExportedModel(folder), None)


def published_once(factory: pytest.TempPathFactory, kind: str) -> Exported:
    """An export that filters by everything, which several files ask."""
    catalogue = rich_catalogue()
    folder = made_once(factory, f"filtered_{kind}", lambda path: publish(path, kind, filterable=["category", "tags", PRICE]))
    version = newest_version(folder / "fake")
    return Exported(TableRecommender(catalogue), catalogue, version, loaded(version), None)


@pytest.fixture(scope="module", params=["exact", "partitioned"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return published_once(tmp_path_factory, request.param)


def request_of(histories: Sequence[Sequence[str]] = HISTORIES, **changes: Any) -> dict[str, np.ndarray]:
    rows = len(histories)
    lists = ("allow_items", "allow_category", "deny_category", "allow_tags", "deny_tags")
    return {
        "history": padded(histories),
        "exclude": padded([[]] * rows, 4),
        "diversity": np.zeros(rows, np.float32),
        "num_results": np.zeros(rows, np.int32),
        "min_price____": np.full(rows, np.nan, np.float32),
        "max_price____": np.full(rows, np.nan, np.float32),
        **{name: np.full((rows, 1), "", object) for name in lists},
        **changes,
    }


def answer_of(exported: Exported, **changes: Any) -> list[list[int]]:
    """The numbers of the items answered to each user."""
    answer = exported.model.predict("recommend_filtered", request_of(**changes))
    missing = answer["item_ids"] == b""
    assert (np.isneginf(answer["scores"]) == missing).all()
    assert (answer["interests"][missing] == -1).all()
    return [[int(item.decode().removeprefix("item-")) for item in row if item] for row in answer["item_ids"]]


def best(exported: Exported, fits: Any, n: int = NUM_RESULTS) -> list[list[int]]:
    scores, _ = true_scores(exported, HISTORIES, None)
    items = [[int(item) - FIRST_INDEX for item in np.argsort(-row, kind="stable") if item >= FIRST_INDEX] for row in scores]
    return [[item for item in row if fits(user, item)][:n] for user, row in enumerate(items)]


def test_without_restrictions_it_answers_as_recommend_does(exported: Exported) -> None:
    plain = {name: value for name, value in request_of().items() if name in ("history", "exclude", "diversity")}
    expected = exported.model.predict("recommend", plain)
    for name, values in exported.model.predict("recommend_filtered", request_of()).items():
        np.testing.assert_array_equal(values, expected[name])


def test_values_ranges_and_items_of_each_user(exported: Exported) -> None:
    def lists(*rows: list[str]) -> np.ndarray:
        return padded(rows, 3)

    category = lambda user, item: [item % 4 in (1, 2), item % 4 != 0, True][user] and (item != 39 or user == 2)  # noqa: E731
    allowed = lists(["category-1", "category-2", "no such"], ["category-1", "category-2", "category-3"], [])
    assert answer_of(exported, allow_category=allowed) == best(exported, category)
    denied = lists(["category-0", "", "category-3"], ["no such"], [])
    assert answer_of(exported, deny_category=denied) == best(exported, lambda user, item: user > 0 or item % 4 in (1, 2) or item == 39)
    tags = lambda user, item: [item % 2 == 0 and item % 3 != 0, True, item % 2 == 0 or item % 3 == 0][user]  # noqa: E731
    found = answer_of(exported, allow_tags=lists(["a"], [], ["b", "a"]), deny_tags=lists(["b"], [], []))
    assert found == best(exported, tags)
    prices = {"min_price____": np.array([3, np.nan, 38], np.float32), "max_price____": np.array([9.5, 3, np.nan], np.float32)}
    assert answer_of(exported, **prices) == best(exported, lambda user, item: [3 <= item <= 9, item <= 3, item == 38][user])
    items = lists(["item-3", "item-5", "no such"], ["no such"], [])
    assert answer_of(exported, allow_items=items) == best(exported, lambda user, item: [item in (3, 5), False, True][user])
    together = answer_of(exported, allow_items=items, **prices, exclude=padded([["item-5"], [], []], 4))
    assert together == best(exported, lambda user, item: [item == 3, False, item == 38][user])


def test_cold_users_get_the_popular_items_that_fit(exported: Exported) -> None:
    nobody = request_of([["who?"], ["who?"]], allow_category=padded([["category-2"], []], 1))
    answer = exported.model.predict("recommend_filtered", nobody)
    assert answer["item_ids"][0].tolist() == [f"item-{number}".encode() for number in range(2, 26, 4)]
    assert answer["item_ids"][1].tolist() == [f"item-{number}".encode() for number in range(6)]
    assert (answer["interests"] == -1).all()


def test_every_row_has_its_own_number_of_results(exported: Exported) -> None:
    numbers = np.array([2, 0, 25], np.int32)
    whole = best(exported, lambda *_: True, 25)
    assert answer_of(exported, num_results=numbers) == [whole[0][:2], whole[1][:NUM_RESULTS], whole[2]]
    answer = exported.model.predict("recommend_filtered", request_of(num_results=numbers))
    assert answer["item_ids"].shape == (3, 25)
    with pytest.raises(tf.errors.InvalidArgumentError, match="num_results: at most 30"):
        answer_of(exported, num_results=np.array([1, MOST_RESULTS + 1, 1], np.int32))


def test_a_row_with_diversity_does_not_depend_on_its_company(exported: Exported) -> None:
    diversity = np.array([0.5, 0.0, 2.0], np.float32)
    numbers = np.array([5, 25, 8], np.int32)
    together = answer_of(exported, diversity=diversity, num_results=numbers)
    for row in range(3):
        alone = request_of([HISTORIES[row]], diversity=diversity[row : row + 1], num_results=numbers[row : row + 1])
        items = exported.model.predict("recommend_filtered", alone)["item_ids"][0]
        assert [f"item-{number}".encode() for number in together[row]] == items.tolist()


def test_examples_may_restrict_and_need_not(exported: Exported) -> None:
    given = {"history": padded(HISTORIES), "allow_tags": padded([["a"], [], []], 1), "num_results": np.array([3, 0, 0])}
    plain = exported.model.predict("recommend_examples", {"examples": serialized_examples(given)})
    expected = exported.model.predict("recommend_filtered", request_of(allow_tags=given["allow_tags"], num_results=given["num_results"]))
    for name, values in plain.items():
        np.testing.assert_array_equal(values, expected[name])
    without = exported.model.predict("recommend_examples", {"examples": serialized_examples({"history": padded(HISTORIES)})})
    assert without["item_ids"].shape == (3, NUM_RESULTS)


def test_wrong_shapes_are_refused(exported: Exported) -> None:
    for name, value in (("allow_tags", np.full((1, 1), "a", object)), ("min_price____", np.zeros([1], np.float32))):
        with pytest.raises(tf.errors.InvalidArgumentError, match=name):
            answer_of(exported, **{name: value})


def test_old_signatures_take_what_they_took_and_the_metadata_says_what_is_new(exported: Exported) -> None:
    signatures = exported.model.metadata["signatures"]
    assert sorted(signatures["serving_default"]["inputs"]) == ["history"]
    assert sorted(signatures["recommend"]["inputs"]) == ["diversity", "exclude", "history"]
    filters = exported.model.metadata["filters"]
    assert filters["most_results"] == MOST_RESULTS
    assert {each["column"]: each["inputs"] for each in filters["columns"]} == {
        "category": ["allow_category", "deny_category"],
        "tags": ["allow_tags", "deny_tags"],
        PRICE: ["min_price____", "max_price____"],
    }


def test_a_model_that_ranks_by_itself_filters_too(tmp_path: Path) -> None:
    exported = publish(tmp_path, "exact", direct=True, filterable=["category"])
    request = {name: value for name, value in request_of().items() if "price" not in name and "tags" not in name}
    answer = exported.model.predict("recommend_filtered", {**request, "allow_category": padded([["category-1"], ["category-3"], []], 1)})
    for row, category in ((0, 1), (1, 3)):
        found = [int(item.decode().removeprefix("item-")) for item in answer["item_ids"][row]]
        assert len(set(found)) == NUM_RESULTS
        assert {number % 4 for number in found} == {category}


def test_columns_that_the_catalogue_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"export\.filterable: the catalogue has no column 'brand'; it has: category, price"):
        publish(tmp_path, "exact", filterable=["brand"])
    with pytest.raises(ConfigError, match="most_results does nothing without filterable"):
        validate_config({"export": {"most_results": 100}})
    with pytest.raises(ConfigError, match="most_results: 10 is less than num_results"):
        validate_config({"export": {"most_results": 10, "filterable": []}})
