"""A user's profile as request inputs: one ``profile_<column>`` per trained profile feature.

| feature | inputs | missing |
|---|---|---|
| categorical | ``profile_<column>`` string [B] | "" |
| number | ``profile_<column>`` float32 [B], raw as in the data | NaN |
| multi-valued | ``profile_<column>`` string [B, M], ``profile_<column>_weights`` float32 [B, M] | "" and any weight |

``<column>`` is the feature's name with every character other than ASCII letters, digits and _ replaced by _, because TensorFlow names
inputs so; where two features would get the same name, the later one in sorted order gets a number after it. The metadata lists both.

Values that training did not know count as unknown. Infinite numbers count as missing; weights that are not positive numbers count as 0.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, CategoricalFeature, Feature, MultiValuedFeature, NumericFeature
from tfmi.export.graph_checks import require_columns, require_rows, require_vector
from tfmi.export.lookup import VocabularyTable

RequestTensors = Mapping[str, tf.Tensor]


class ProfileInput(Protocol):
    """One profile feature at the boundary of the servable."""

    def specs(self) -> dict[str, tf.TensorSpec]:
        """The request inputs by name."""

    def example_features(self) -> dict[str, Any]:
        """How the inputs stand in a serialised ``tf.train.Example``, for ``tf.io.parse_example``; all optional."""

    def from_example(self, parsed: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """The request inputs of parsed examples."""

    def missing(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The request inputs of ``rows`` users of whom this is not known."""

    def encode(self, inputs: RequestTensors, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the model reads, by feature name (see ``VectorRecommender.user_interests``)."""

    def known(self, inputs: RequestTensors) -> tf.Tensor:
        """bool [B]: whose value is one that the model knows, too."""

    def describe(self) -> dict[str, Any]:
        """For the metadata: kind, inputs and width."""


class _SingleInput(tf.Module):
    """What features with one request input have in common."""

    def __init__(self, name: str, key: str) -> None:
        super().__init__()
        self._feature_name, self._key = name, key

    def from_example(self, parsed: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """See ``ProfileInput``."""
        return {self._key: parsed[self._key]}


class CategoricalInput(_SingleInput):
    """One value per user: string [B]."""

    def __init__(self, name: str, key: str, feature: CategoricalFeature) -> None:
        super().__init__(name, key)
        self._table = VocabularyTable(feature.vocabulary)

    def specs(self) -> dict[str, tf.TensorSpec]:
        """See ``ProfileInput``."""
        return {self._key: tf.TensorSpec([None], tf.string, name=self._key)}

    def example_features(self) -> dict[str, Any]:
        """See ``ProfileInput``."""
        return {self._key: tf.io.FixedLenFeature([], tf.string, default_value="")}

    def missing(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ``ProfileInput``."""
        return {self._key: tf.fill([rows], "")}

    def encode(self, inputs: RequestTensors, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ``ProfileInput``."""
        strings = require_rows(require_vector(inputs[self._key], self._key), self._key, rows)
        return {self._feature_name: self._table.indices(strings)}

    def known(self, inputs: RequestTensors) -> tf.Tensor:
        """See ``ProfileInput``."""
        return self._table.indices(inputs[self._key]) >= FIRST_INDEX

    def describe(self) -> dict[str, Any]:
        """See ``ProfileInput``."""
        return {"feature": self._feature_name, "kind": "categorical", "inputs": [self._key]}


class NumberInput(_SingleInput):
    """One raw number per user: float32 [B]; standardised in the graph as in training."""

    def __init__(self, name: str, key: str, feature: NumericFeature) -> None:
        super().__init__(name, key)
        self._mean, self._deviation = float(feature.mean), float(feature.deviation)

    def specs(self) -> dict[str, tf.TensorSpec]:
        """See ``ProfileInput``."""
        return {self._key: tf.TensorSpec([None], tf.float32, name=self._key)}

    def example_features(self) -> dict[str, Any]:
        """See ``ProfileInput``."""
        return {self._key: tf.io.FixedLenFeature([], tf.float32, default_value=float("nan"))}

    def missing(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ``ProfileInput``."""
        return {self._key: tf.fill([rows], float("nan"))}

    def encode(self, inputs: RequestTensors, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ``ProfileInput``."""
        numbers = require_rows(require_vector(inputs[self._key], self._key), self._key, rows)
        standardised = (numbers - self._mean) / self._deviation
        return {self._feature_name: tf.where(tf.math.is_finite(standardised), standardised, 0.0)}

    def known(self, inputs: RequestTensors) -> tf.Tensor:
        """See ``ProfileInput``."""
        return tf.math.is_finite(inputs[self._key])

    def describe(self) -> dict[str, Any]:
        """See ``ProfileInput``."""
        return {"feature": self._feature_name, "kind": "number", "inputs": [self._key]}


class MultiValuedInput(tf.Module):
    """Several weighted values per user: string [B, M] and float32 [B, M], M being the width that was trained."""

    def __init__(self, name: str, key: str, feature: MultiValuedFeature) -> None:
        super().__init__()
        self._feature_name, self._key, self._weights_key = name, key, f"{key}_weights"
        self._table = VocabularyTable(feature.vocabulary)
        self._width = int(feature.values.shape[1])

    def specs(self) -> dict[str, tf.TensorSpec]:
        """See ``ProfileInput``."""
        return {
            self._key: tf.TensorSpec([None, self._width], tf.string, name=self._key),
            self._weights_key: tf.TensorSpec([None, self._width], tf.float32, name=self._weights_key),
        }

    def example_features(self) -> dict[str, Any]:
        """See ``ProfileInput``."""
        return {self._key: tf.io.RaggedFeature(tf.string), self._weights_key: tf.io.RaggedFeature(tf.float32)}

    def from_example(self, parsed: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """See ``ProfileInput``. Values beyond the width are dropped; a value without a weight weighs 1."""
        strings, weights = parsed[self._key], parsed[self._weights_key]
        return {
            self._key: strings[:, : self._width].to_tensor("", shape=[None, self._width]),
            self._weights_key: weights[:, : self._width].to_tensor(1.0, shape=[None, self._width]),
        }

    def missing(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ``ProfileInput``."""
        return {self._key: tf.fill([rows, self._width], ""), self._weights_key: tf.zeros([rows, self._width])}

    def encode(self, inputs: RequestTensors, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ``ProfileInput``."""
        strings = require_rows(require_columns(inputs[self._key], self._key, self._width), self._key, rows)
        weights = require_rows(require_columns(inputs[self._weights_key], self._weights_key, self._width), self._weights_key, rows)
        values = self._table.indices(strings)
        usable = (values != PADDING_INDEX) & _counts(weights)
        return {self._feature_name: values, f"{self._feature_name}_weights": tf.where(usable, weights, 0.0)}

    def known(self, inputs: RequestTensors) -> tf.Tensor:
        """See ``ProfileInput``."""
        return tf.reduce_any((self._table.indices(inputs[self._key]) >= FIRST_INDEX) & _counts(inputs[self._weights_key]), axis=1)

    def describe(self) -> dict[str, Any]:
        """See ``ProfileInput``."""
        return {"feature": self._feature_name, "kind": "multi_valued", "inputs": [self._key, self._weights_key], "width": self._width}


def _counts(weights: tf.Tensor) -> tf.Tensor:
    """bool [...]: which weights are numbers above 0."""
    return tf.math.is_finite(weights) & (weights > 0.0)


def profile_input(name: str, key: str, feature: Feature) -> ProfileInput:
    """The request input, called ``key``, of one profile feature."""
    if isinstance(feature, CategoricalFeature):
        return CategoricalInput(name, key, feature)
    if isinstance(feature, NumericFeature):
        return NumberInput(name, key, feature)
    return MultiValuedInput(name, key, feature)


def input_names(feature_names: Iterable[str]) -> dict[str, str]:
    """The request input of each feature: ``profile_<column>``, as the module's description says."""
    keys: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(feature_names):
        base = "profile_" + re.sub(r"[^A-Za-z0-9_]", "_", name)
        numbered = (base if number == 1 else f"{base}_{number}" for number in itertools.count(1))
        keys[name] = next(key for key in numbered if not {key, f"{key}_weights"} & taken)
        taken |= {keys[name], f"{keys[name]}_weights"}
    return keys


class ProfileInputs(tf.Module):
    """Every profile feature of a servable.

    Args:
        features: Profile features by name; empty for a model without profile.
    """

    def __init__(self, features: Mapping[str, Feature]) -> None:
        super().__init__()
        self._inputs = [profile_input(name, key, features[name]) for name, key in input_names(features).items()]

    def specs(self) -> dict[str, tf.TensorSpec]:
        """The request inputs by name."""
        return {key: spec for each in self._inputs for key, spec in each.specs().items()}

    def example_features(self) -> dict[str, Any]:
        """Parsing specification of the inputs in a ``tf.train.Example``."""
        return {key: spec for each in self._inputs for key, spec in each.example_features().items()}

    def from_example(self, parsed: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """The request inputs of parsed examples."""
        return {key: value for each in self._inputs for key, value in each.from_example(parsed).items()}

    def missing(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The request inputs of ``rows`` users of whom nothing is known."""
        return {key: value for each in self._inputs for key, value in each.missing(rows).items()}

    def encode(self, inputs: RequestTensors, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the model reads, by feature name."""
        return {key: value for each in self._inputs for key, value in each.encode(inputs, rows).items()}

    def known(self, inputs: RequestTensors) -> tf.Tensor:
        """bool [B]: of whom anything is known that the model knows, too; there must be a feature."""
        return tf.reduce_any(tf.stack([each.known(inputs) for each in self._inputs]), axis=0)

    def describe(self) -> list[dict[str, Any]]:
        """One entry per feature for the metadata."""
        return [each.describe() for each in self._inputs]


def profile_values(features: Mapping[str, Feature], user_rows: np.ndarray) -> dict[str, np.ndarray]:
    """The request inputs that say what ``features`` hold at ``user_rows`` int [B]: what a client would send for these users."""
    values: dict[str, np.ndarray] = {}
    for name, key in input_names(features).items():
        feature = features[name]
        rows = feature.values[user_rows]
        if isinstance(feature, NumericFeature):
            values[key] = rows.astype(np.float32)
            continue
        strings = [feature.vocabulary.identifier(int(index)) for index in rows.ravel()]
        values[key] = np.array(strings, dtype=object).reshape(rows.shape)
        if isinstance(feature, MultiValuedFeature):
            values[f"{key}_weights"] = feature.weights[user_rows].astype(np.float32)
    return values
