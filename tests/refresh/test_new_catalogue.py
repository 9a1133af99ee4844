"""A newer catalogue in the terms of the one of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tfmi.core.errors import DataError
from tfmi.data.dataset import (
    Catalogue,
    CategoricalFeature,
    MultiValuedFeature,
    NumericFeature,
    VectorFeature,
    Vocabulary,
)
from tfmi.data.tables import ItemTable
from tfmi.refresh.new_catalogue import CatalogueChange, change_catalogue


def _old() -> Catalogue:
    return Catalogue(
        Vocabulary(["a", "b", "c"]),
        {
            "category": CategoricalFeature(Vocabulary(["x", "y"]), np.array([0, 0, 2, 3, 0], np.int32)),
            "tags": MultiValuedFeature(
                Vocabulary(["t", "u"]), np.array([[0], [0], [2], [3], [2]], np.int32), np.array([[0], [0], [1], [1], [2]], np.float32)
            ),
            "price": NumericFeature(np.array([np.nan, np.nan, 1, 2, 3], np.float32), 2.0, 1.0),
            "text": VectorFeature(np.array([[np.nan] * 2, [np.nan] * 2, [1, 0], [0, 1], [1, 1]], np.float32), 1.1),
        },
        ["", "", "A", "B", "C"],
        np.array([0, 0, 9, 5, 1]),
    )


def _change(ids: Sequence[str], share: float = 0.3, **columns: Any) -> CatalogueChange:
    return change_catalogue(_old(), ItemTable(ids, **columns), source="new.csv", min_known_share=share)


def test_known_items_come_first_then_new_ones_then_those_that_are_gone() -> None:
    change = _change(["n", "c", "a"], categories=["y", "y", "x"])
    assert change.catalogue.vocabulary.ids == ["a", "c", "n", "b"]
    assert change.catalogue.num_candidates == 3
    assert change.catalogue.candidate_rows == 5
    assert (change.known, change.new, change.gone) == (2, 1, 1)
    assert change.catalogue.counts.tolist() == [0, 0, 9, 1, 0, 5]
    assert change.catalogue.without_id is not None
    assert change.catalogue.without_id.tolist() == [False, False, False, False, True, False]


def test_features_are_the_newer_ones_where_they_are_given() -> None:
    change = _change(
        ["n", "c", "a"],
        categories=["y", "y", "x"],
        tags=[[("u", 1.0), ("t", 3.0)], [("u", 1.0)], []],
        numbers={"price": np.array([7.0, np.nan, 5.0], np.float32)},
        titles=["N", "", "A2"],
    )
    features = change.catalogue.features
    assert features["category"].values.tolist() == [0, 0, 2, 3, 3, 3]  # a x, c y (had none), n y, b y as before
    tags = features["tags"]
    assert isinstance(tags, MultiValuedFeature)
    assert tags.values.tolist() == [[0, 0], [0, 0], [0, 0], [3, 0], [2, 3], [3, 0]]
    assert tags.weights.tolist() == [[0, 0], [0, 0], [0, 0], [1, 0], [3, 1], [1, 0]]
    np.testing.assert_array_equal(features["price"].values[2:], [5, np.nan, 7, 2])
    np.testing.assert_array_equal(features["text"].values[2:], [[1, 0], [1, 1], [np.nan, np.nan], [0, 1]])
    assert change.catalogue.titles == ["", "", "A2", "C", "N", "B"]
    assert change.kept_columns == ["text"]


def test_a_new_item_of_which_nothing_is_known_is_left_out() -> None:
    change = _change(["a", "b", "c", "n", "m"], categories=["x", "y", "x", "never seen", "x"])
    assert change.nameless == ["n"]
    assert change.new == 1
    assert change.unknown_values == {"category": 1}


def test_an_item_that_comes_back_has_its_id_again() -> None:
    gone = _change(["a", "b"], categories=["x", "y"]).catalogue
    assert gone.num_candidates == 2
    back = change_catalogue(gone, ItemTable(["a", "b", "c"], categories=["x", "y", "x"]), source="new.csv", min_known_share=1.0)
    assert back.catalogue.vocabulary.ids == ["a", "b", "c"]
    assert back.catalogue.without_id is None
    # A new item stays one that training has not seen.
    again = change_catalogue(
        _change(["a", "n"], categories=["x", "y"]).catalogue,
        ItemTable(["n", "a"], categories=["y", "x"]),
        source="new.csv",
        min_known_share=1.0,
    )
    assert again.catalogue.vocabulary.ids == ["a", "n", "b", "c"]
    assert again.catalogue.without_id is not None
    assert again.catalogue.without_id.tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize(
    ("ids", "columns", "said"),
    [
        (["A ", "z"], {"categories": ["x", "y"]}, r"only 0 of the model's 3 items \(0.0%\).*'a' here and 'A ' there differ"),
        (["a", "b", "c"], {"categories": ["X", "Y", "X"]}, r"none of the 3 values of 'category' is one that the model was trained with"),
        (["a", "b", "c"], {"vectors": {"text": np.zeros((3, 5))}}, r"the vectors 'text' have 5 numbers each; the model reads 2"),
    ],
)
def test_a_catalogue_that_hardly_belongs_to_the_model_is_refused(ids: list[str], columns: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        _change(ids, **columns)
