"""What a request may restrict its answer to, as inputs of ``recommend_filtered``.

| catalogue column | inputs | no restriction |
|---|---|---|
| categorical, multi-valued | ``allow_<column>``, ``deny_<column>`` string [B, A], A of any width | a row of "" |
| number | ``min_<column>``, ``max_<column>`` float32 [B], as in the data | NaN |
| (the items themselves) | ``allow_items`` string [B, A], A of any width | a row of "" |

and ``num_results`` int32 [B], the number of results; 0 is the usual one. ``<column>`` is written as in ``tfmi.export.profile_inputs``.
Lists are padded with "" anywhere. Values and items that the catalogue lacks fit nothing: a list of only these allows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ConfigError, nearest
from tfmi.data.dataset import PADDING_INDEX, Catalogue, CategoricalFeature, MultiValuedFeature, NumericFeature, VectorFeature
from tfmi.export.graph_checks import require_at_most, require_columns, require_rows, require_vector
from tfmi.export.lookup import ItemVocabulary, VocabularyTable
from tfmi.export.profile_inputs import input_names
from tfmi.index.filters import Condition, ItemCondition, ItemFilter, RangeCondition, ValueCondition

NUM_RESULTS = "num_results"
ALLOW_ITEMS = "allow_items"
# Entries of a list beyond which a request is refused.
# Powers of two, to which clients pad their lists.
MOST_ALLOWED_ITEMS = 131_072
MOST_VALUES = 1_024
_PREFIX = "profile_"


class Restrictions(NamedTuple):
    """What a batch of users asks for beyond the usual.

    Attributes:
        allowed: Which items fit; None: all.
        num_results: int32 [B], places of each answer, at least 1.
    """

    allowed: ItemFilter | None
    num_results: tf.Tensor


class _ValueInputs(tf.Module):
    """Lists of allowed and denied values of a column."""

    def __init__(self, name: str, column: str, feature: CategoricalFeature | MultiValuedFeature) -> None:
        super().__init__()
        self._name_of_column, self._keys = name, (f"allow_{column}", f"deny_{column}")
        self._table = VocabularyTable(feature.vocabulary)
        self._num_values = feature.vocabulary.num_rows
        values = feature.values if feature.values.ndim == 2 else feature.values[:, None]
        self._values = tf.Variable(values.astype(np.int32), trainable=False, name=f"values_of_{column}")

    def specs(self) -> dict[str, tf.TensorSpec]:
        return {key: tf.TensorSpec([None, None], tf.string, name=key) for key in self._keys}

    def example_features(self) -> dict[str, Any]:
        return {key: tf.io.RaggedFeature(tf.string) for key in self._keys}

    def from_example(self, parsed: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        return {key: _padded(parsed[key], key, MOST_VALUES) for key in self._keys}

    def condition(self, inputs: Mapping[str, tf.Tensor], rows: tf.Tensor) -> Condition:
        allowed, denied = (
            self._table.indices(require_rows(require_columns(inputs[key], key, most=MOST_VALUES), key, rows)) for key in self._keys
        )
        return ValueCondition(self._values.read_value(), self._num_values, allowed, denied)

    def describe(self) -> dict[str, Any]:
        return {"column": self._name_of_column, "kind": "values", "inputs": list(self._keys), "most": MOST_VALUES}


class _RangeInputs(tf.Module):
    """Bounds of a column's number."""

    def __init__(self, name: str, column: str, feature: NumericFeature) -> None:
        super().__init__()
        self._name_of_column, self._keys = name, (f"min_{column}", f"max_{column}")
        self._values = tf.Variable(feature.values.astype(np.float32), trainable=False, name=f"values_of_{column}")

    def specs(self) -> dict[str, tf.TensorSpec]:
        return {key: tf.TensorSpec([None], tf.float32, name=key) for key in self._keys}

    def example_features(self) -> dict[str, Any]:
        return {key: tf.io.FixedLenFeature([], tf.float32, default_value=float("nan")) for key in self._keys}

    def from_example(self, parsed: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        return {key: parsed[key] for key in self._keys}

    def condition(self, inputs: Mapping[str, tf.Tensor], rows: tf.Tensor) -> Condition:
        low, high = (require_rows(require_vector(inputs[key], key), key, rows) for key in self._keys)
        return RangeCondition(self._values.read_value(), low, high)

    def describe(self) -> dict[str, Any]:
        return {"column": self._name_of_column, "kind": "range", "inputs": list(self._keys)}


class FilterInputs(tf.Module):
    """Everything that a request may restrict.

    Args:
        columns: Names of the catalogue's columns that can be filtered by.
        catalogue: Has them.
        items: The items at the boundary.
        num_results: The usual number of results.
        most_results: The largest that a request may ask for.

    Raises:
        ConfigError: The catalogue lacks a column.
    """

    def __init__(self, columns: Sequence[str], catalogue: Catalogue, items: ItemVocabulary, num_results: int, most_results: int) -> None:
        super().__init__()
        check_filterable(columns, catalogue)
        self._items, self._num_rows, self._candidate_rows = items, catalogue.num_rows, catalogue.candidate_rows
        self._num_results, self._most_results = num_results, most_results
        self._inputs: list[_ValueInputs | _RangeInputs] = []
        for name, key in input_names(columns).items():
            feature, column = catalogue.features[name], key.removeprefix(_PREFIX)
            if isinstance(feature, NumericFeature):
                self._inputs.append(_RangeInputs(name, column, feature))
            elif not isinstance(feature, VectorFeature):  # which check_filterable has refused
                self._inputs.append(_ValueInputs(name, column, feature))

    def specs(self) -> dict[str, tf.TensorSpec]:
        """The request inputs by name."""
        return {
            NUM_RESULTS: tf.TensorSpec([None], tf.int32, name=NUM_RESULTS),
            ALLOW_ITEMS: tf.TensorSpec([None, None], tf.string, name=ALLOW_ITEMS),
            **{key: spec for each in self._inputs for key, spec in each.specs().items()},
        }

    def example_features(self) -> dict[str, Any]:
        """Parsing specification of the inputs in a ``tf.train.Example``; all optional."""
        return {
            NUM_RESULTS: tf.io.FixedLenFeature([], tf.int64, default_value=0),
            ALLOW_ITEMS: tf.io.RaggedFeature(tf.string),
            **{key: spec for each in self._inputs for key, spec in each.example_features().items()},
        }

    def from_example(self, parsed: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """The request inputs of parsed examples."""
        return {
            NUM_RESULTS: tf.cast(tf.clip_by_value(parsed[NUM_RESULTS], 0, tf.int32.max), tf.int32),
            ALLOW_ITEMS: _padded(parsed[ALLOW_ITEMS], ALLOW_ITEMS, MOST_ALLOWED_ITEMS),
            **{key: value for each in self._inputs for key, value in each.from_example(parsed).items()},
        }

    def encode(self, inputs: Mapping[str, tf.Tensor], rows: tf.Tensor) -> Restrictions:
        """What the request inputs of ``rows`` users ask for.

        Raises:
            tf.errors.InvalidArgumentError: At run time, on other shapes, longer lists and more results than the servable allows.
        """
        listed = require_rows(require_columns(inputs[ALLOW_ITEMS], ALLOW_ITEMS, most=MOST_ALLOWED_ITEMS), ALLOW_ITEMS, rows)
        numbers = require_rows(require_vector(inputs[NUM_RESULTS], NUM_RESULTS), NUM_RESULTS, rows)
        numbers = require_at_most(numbers, self._most_results, NUM_RESULTS)
        conditions: list[Condition] = [ItemCondition(self._items.indices(listed), self._num_rows)]
        conditions += [each.condition(inputs, rows) for each in self._inputs]
        return Restrictions(ItemFilter(conditions, self._num_rows, self._candidate_rows), tf.where(numbers > 0, numbers, self._num_results))

    def describe(self) -> dict[str, Any]:
        """For the metadata."""
        return {
            "most_results": self._most_results,
            "allow_items": {"most": MOST_ALLOWED_ITEMS},
            "columns": [each.describe() for each in self._inputs],
        }


def check_filterable(columns: Sequence[str], catalogue: Catalogue) -> None:
    """Raise ``ConfigError`` unless the catalogue has the columns that requests are to filter by."""
    for name in columns:
        if name not in catalogue.features:
            known = sorted(catalogue.features)
            raise ConfigError(
                f"export.filterable: the catalogue has no column {name!r}{nearest(name, known)}; it has: {', '.join(known) or 'none'}"
            )
        if isinstance(catalogue.features[name], VectorFeature):
            raise ConfigError(f"export.filterable: {name!r} holds vectors; requests filter by values and numbers")


def _padded(lists: tf.RaggedTensor, name: str, most: int) -> tf.Tensor:
    lengths = require_at_most(lists.row_lengths(), most, name)
    return tf.RaggedTensor.from_row_lengths(lists.flat_values, lengths, validate=False).to_tensor("")


def unrestricted(specs: Mapping[str, tf.TensorSpec], rows: int) -> dict[str, np.ndarray]:
    """The inputs of ``specs`` for so many users who restrict nothing."""
    empty = {tf.string: "", tf.float32: np.nan, tf.int32: PADDING_INDEX}
    return {
        name: np.full([rows] if spec.shape.rank == 1 else [rows, 1], empty[spec.dtype], spec.dtype.as_numpy_dtype)
        for name, spec in specs.items()
    }
