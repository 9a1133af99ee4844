"""What is known of a user or an item, field by field: ids, sets of weighted values, numbers, each as embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, Feature, MultiValuedFeature, NumericFeature
from tfmi.layers.base import variable_name
from tfmi.layers.common.tables import lookup

WEIGHTS_SUFFIX = "_weights"


class FieldVectors(NamedTuple):
    """The embedded fields of B rows. A field holds up to M weighted values; a categorical one or a number is one value.

    Attributes:
        names: The F fields, in a fixed order.
        values: F tensors float [B, M_f, d]: the embedding of each value, 0 where there is none.
        weights: F tensors float32 [B, M_f]: how much each value counts, above 0 at values and exactly 0 where there is none.
    """

    names: tuple[str, ...]
    values: tuple[tf.Tensor, ...]
    weights: tuple[tf.Tensor, ...]

    def pooled(self) -> tuple[tf.Tensor, tf.Tensor]:
        """One vector per field, the weighted mean of its values: float [B, F, d], 0 where a field is missing; and bool [B, F], whether
        it is there."""
        vectors, present = [], []
        for values, weights in zip(self.values, self.weights, strict=True):
            if values.shape[-2] == 1:  # the mean of one is itself, without a product for each row
                vectors.append(tf.where(weights > 0, values[..., 0, :], tf.zeros([], values.dtype)))
            else:
                vectors.append(weighted_mean(values, weights))
            present.append(tf.reduce_any(weights > 0, axis=-1))
        return tf.stack(vectors, axis=1), tf.stack(present, axis=1)


def weighted_mean(embeddings: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Mean over the second-to-last axis of ``embeddings`` [..., M, d] with non-negative ``weights`` [..., M]; 0 where they sum to 0."""
    weights = tf.cast(weights, embeddings.dtype)
    total = tf.reduce_sum(weights, axis=-1, keepdims=True)
    return tf.einsum("...m,...md->...d", tf.math.divide_no_nan(weights, total), embeddings)


class FieldEmbedding(tf.keras.layers.Layer):
    """Embeds every field to one width: values of categorical and multi-valued fields by table, a number x as ``x v + b``.

    Padding and unknown values (indices 0 and 1) are no values: nothing could have been learned of them. A number that is missing is 0,
    the mean.

    Args:
        features: The fields by name; only their kinds and vocabularies are used.
        dimension: d, the width of every embedding.
        initializer_deviation: Deviation of the embeddings at the start.
        shared_tables: Groups of fields whose values are the same things: the vocabularies of a group are equal, and it has one table.

    Shapes: a mapping of field name to int32 [B], float32 [B] (standardised), or int32 [B, M] with ``<name>_weights`` float32 [B, M]; to
    ``FieldVectors`` in the order of the fields' sorted names.

    Raises:
        ValueError: There is no field, or a group's fields have different vocabularies.
    """

    def __init__(
        self,
        features: Mapping[str, Feature],
        dimension: int,
        *,
        initializer_deviation: float = 0.05,
        shared_tables: Sequence[Sequence[str]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not features:
            raise ValueError("there is no field to embed")
        self.field_names = tuple(sorted(features))
        self.dimension = dimension
        self._multi_valued = {name for name, feature in features.items() if isinstance(feature, MultiValuedFeature)}
        self._numbers = {name for name, feature in features.items() if isinstance(feature, NumericFeature)}
        initializer = tf.keras.initializers.RandomNormal
        self._tables: dict[str, tf.Variable] = {}
        self._number_weights: dict[str, tuple[tf.Variable, tf.Variable]] = {}
        for name in self.field_names:
            feature = features[name]
            if isinstance(feature, NumericFeature):
                slope, offset = (
                    self.add_weight(
                        name=variable_name(f"{name}_{part}"),
                        shape=(dimension,),
                        initializer=initializer(stddev=initializer_deviation),
                        experimental_autocast=False,  # numbers are float32 until they are embedded
                    )
                    for part in ("slope", "offset")
                )
                self._number_weights[name] = (slope, offset)
                continue
            group = next((sorted(group) for group in shared_tables if name in group), [name])
            first = features[group[0]]
            if isinstance(first, NumericFeature) or first.vocabulary.ids != feature.vocabulary.ids:
                raise ValueError(f"fields {group[0]!r} and {name!r} cannot share a table: their values differ")
            if group[0] not in self._tables:
                shape = (first.vocabulary.num_rows, dimension)
                self._tables[group[0]] = self.add_weight(
                    name=variable_name(f"{group[0]}_embeddings"), shape=shape, initializer=initializer(stddev=initializer_deviation)
                )
            self._tables[name] = self._tables[group[0]]

    def table(self, name: str) -> tf.Variable:
        """The embeddings [rows, d] of a field's values; raises ``ValueError`` if there is no such field, or it is a number."""
        if name not in self._tables:
            raise ValueError(f"no field {name!r} has a table of embeddings; those that have one: {', '.join(self._tables) or 'none'}")
        return self._tables[name]

    def call(self, inputs: Mapping[str, tf.Tensor]) -> FieldVectors:
        """The fields' embeddings."""
        embedded = [self._embed(name, inputs) for name in self.field_names]
        return FieldVectors(self.field_names, tuple(values for values, _ in embedded), tuple(weights for _, weights in embedded))

    def _embed(self, name: str, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Values [B, M, d] and weights [B, M] of one field."""
        if name in self._numbers:
            slope, offset = self._number_weights[name]
            number = tf.cast(inputs[name], tf.float32)[:, None, None]  # [B, 1, 1]
            return tf.cast(number * slope + offset, self.compute_dtype), tf.ones_like(number[:, :, 0])
        indices = inputs[name] if name in self._multi_valued else inputs[name][:, None]  # [B, M]
        known = indices >= FIRST_INDEX
        weights = (
            tf.cast(inputs[f"{name}{WEIGHTS_SUFFIX}"], tf.float32) if name in self._multi_valued else tf.ones_like(indices, tf.float32)
        )
        weights = tf.where(known, tf.maximum(weights, 0.0), 0.0)
        values = tf.cast(lookup(self._tables[name], indices), self.compute_dtype)
        return tf.where((weights > 0)[..., None], values, tf.zeros([], values.dtype)), weights


def flattened(fields: tf.Tensor) -> tf.Tensor:
    """[B, F d]: the fields' vectors [B, F, d] side by side."""
    return tf.reshape(fields, [-1, fields.shape[1] * fields.shape[2]])
