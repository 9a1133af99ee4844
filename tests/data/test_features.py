"""Feature arrays: indices by frequency, weights, standardised numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tfmi.data.dataset import NumericFeature
from tfmi.data.features import (
    MAX_TAGS_PER_ITEM,
    categorical_feature,
    feature_arrays,
    multi_valued_feature,
    numeric_feature,
    standardized,
)

COUNTS = np.array([0, 0, 5, 1, 1])


class TestCategorical:
    def test_values_are_ordered_by_training_frequency_then_by_name(self) -> None:
        feature = categorical_feature(["", "", "rare", "often", "often"], np.array([0, 0, 1, 5, 1]))
        assert feature.vocabulary.ids == ["often", "rare"]
        assert feature.values.tolist() == [0, 0, 3, 2, 2]
        tied = categorical_feature(["b", "a"], np.array([2, 2]))
        assert tied.vocabulary.ids == ["a", "b"]

    def test_values_that_never_occur_in_training_may_be_left_unknown(self) -> None:
        values = ["", "seen", "unseen"]
        counts = np.array([0, 3, 0])
        assert categorical_feature(values, counts).values.tolist() == [0, 2, 3]
        assert categorical_feature(values, counts, only_counted=True).values.tolist() == [0, 2, 1]


class TestMultiValued:
    def test_heaviest_first_and_repeated_values_add_up(self) -> None:
        feature = multi_valued_feature([[], [], [("a", 1.0), ("b", 3.0), ("a", 1.5)], [("b", 1.0)], []], COUNTS)
        assert feature.vocabulary.ids == ["b", "a"]
        assert feature.values.tolist() == [[0, 0], [0, 0], [2, 3], [2, 0], [0, 0]]
        assert feature.weights.tolist() == [[0, 0], [0, 0], [3.0, 2.5], [1.0, 0], [0, 0]]

    def test_only_the_heaviest_are_kept(self) -> None:
        tags = [(f"t{number}", float(number)) for number in range(1, 100)]
        feature = multi_valued_feature([tags, [("t1", 1.0)]], np.array([1, 1]))
        assert feature.values.shape == (2, MAX_TAGS_PER_ITEM)
        assert feature.weights[0].tolist() == [float(number) for number in range(99, 99 - MAX_TAGS_PER_ITEM, -1)]

    def test_no_values_at_all(self) -> None:
        feature = multi_valued_feature([[], []], np.array([0, 0]))
        assert len(feature.vocabulary) == 0
        assert feature.values.tolist() == [[0], [0]]


class TestNumeric:
    def test_standardised_with_missing_at_the_mean(self) -> None:
        feature = numeric_feature(np.array([np.nan, 1.0, 3.0], dtype=np.float32))
        assert (feature.mean, feature.deviation) == (2.0, 1.0)
        assert standardized(feature).tolist() == [0.0, -1.0, 1.0]

    def test_only_known_rows_decide(self) -> None:
        feature = numeric_feature(np.array([1.0, 3.0, 99.0], dtype=np.float32), known=np.array([True, True, False]))
        assert standardized(feature).tolist() == [-1.0, 1.0, 97.0]

    @pytest.mark.parametrize("values", [[7.0, 7.0], [np.nan, np.nan]])
    def test_a_constant_or_missing_column_is_all_zero(self, values: list[float]) -> None:
        assert standardized(numeric_feature(np.array(values, dtype=np.float32))).tolist() == [0.0, 0.0]

    def test_infinite_values_and_a_deviation_of_zero_do_no_harm(self) -> None:
        feature = NumericFeature(np.array([np.nan, 5.0, 7.0, np.inf, -np.inf], dtype=np.float32), mean=5.0, deviation=0.0)
        assert standardized(feature).tolist() == [0.0, 0.0, 2.0, 0.0, 0.0]


def test_feature_arrays_name_weights_after_their_feature() -> None:
    arrays = feature_arrays(
        {
            "kind": categorical_feature(["", "x"], np.array([0, 1])),
            "size": numeric_feature(np.array([np.nan, 2.0], dtype=np.float32)),
            "tags": multi_valued_feature([[], [("a", 0.5)]], np.array([0, 1])),
        }
    )
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "kind": "int32",
        "size": "float32",
        "tags": "int32",
        "tags_weights": "float32",
    }
    assert arrays["tags_weights"].tolist() == [[0.0], [0.5]]
