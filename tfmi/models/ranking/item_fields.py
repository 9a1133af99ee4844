"""An item, field by field, as rankers see it: the same for candidates and for histories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.data.dataset import (
    FIRST_INDEX,
    Catalogue,
    CategoricalFeature,
    Feature,
    ItemFeature,
    MultiValuedFeature,
    NumericFeature,
    VectorFeature,
)
from tfmi.data.features import standardized
from tfmi.layers.base import variable_name, zero_padding
from tfmi.layers.common.fields import WEIGHTS_SUFFIX, FieldEmbedding
from tfmi.layers.common.tables import lookup

ID_FIELD = "item_id"
POPULARITY_FIELD = "item_popularity"


class ItemVectors(NamedTuple):
    """Items [...] by their F fields.

    Attributes:
        fields: float [..., F, d], 0 where a field is missing.
        present: bool [..., F].
        first_order: float32 [..., F, 2]: each field's first-order weight as a candidate's and as a history's, 0 where it is missing.
    """

    fields: tf.Tensor
    present: tf.Tensor
    first_order: tf.Tensor

    def gather(self, positions: tf.Tensor) -> ItemVectors:
        """The items [M] at ``positions`` [...]."""
        return ItemVectors(*(tf.gather(part, positions) for part in self))

    def averaged(self, mask: tf.Tensor) -> ItemVectors:
        """Of histories [U, L], each field's mean over the items under ``mask`` bool [U, L] that have it: [U]."""
        present = self.present & mask[..., None]  # [U, L, F]
        count = tf.reduce_sum(tf.cast(present, tf.float32), axis=1)[..., None]  # [U, F, 1]

        def mean(values: tf.Tensor) -> tf.Tensor:
            total = tf.reduce_sum(tf.cast(zero_padding(values, present), tf.float32), axis=1)  # [U, F, ...]
            return tf.cast(tf.math.divide_no_nan(total, count), values.dtype)

        return ItemVectors(mean(self.fields), tf.reduce_any(present, axis=1), mean(self.first_order))


class ItemFields(tf.keras.layers.Layer):
    """Embeds items by their id and catalogue features, which it holds, each feature a field.

    Padding and unknown items (indices 0 and 1), and numbers that the catalogue lacks, are missing fields.

    Args:
        catalogue: The items, with their counts in the training part.
        dimension: d, the width of every field.
        features: Those of the catalogue's features to use, by name; no vectors.
        use_id: Whether the item itself is a field.
        use_popularity: Whether the logarithm of the item's count in the training part is a field. It tells what is clicked in general,
            also of items whose ids are too rare to learn of. The catalogue should count training rows whether clicked or not: counts of
            clicks hold each row's own outcome, and among rare items look better in training than they are.
        initializer_deviation: Deviation of the embeddings at the start.

    Shapes: item indices int32 [...] to ``ItemVectors``.

    Raises:
        ConfigError: There is no field, a feature has the name of one of the fields above, or it holds vectors.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        dimension: int,
        features: Mapping[str, ItemFeature],
        *,
        use_id: bool = True,
        use_popularity: bool = True,
        initializer_deviation: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name in {ID_FIELD, POPULARITY_FIELD} & set(features):
            raise ConfigError(f"the catalogue's number column {name!r} has the name of a field of the ranker's own; rename the column")
        fields: dict[str, Feature] = {}
        for name, feature in features.items():
            if isinstance(feature, VectorFeature):
                raise ConfigError(f"model.ranker.features: {name!r} holds vectors, which a ranker does not read; leave it out")
            fields[name] = feature
        if use_id:
            fields[ID_FIELD] = CategoricalFeature(catalogue.vocabulary, np.arange(catalogue.num_rows, dtype=np.int32))
        if use_popularity:
            fields[POPULARITY_FIELD] = _popularity(catalogue)
        if not fields:
            raise ConfigError("nothing to embed of items: neither ids, nor popularity, nor features")
        # Numbers would be rounded by the policy's type before they are embedded.
        self._embedding = FieldEmbedding(fields, dimension, initializer_deviation=initializer_deviation, autocast=False)
        self._first_order = FieldEmbedding(fields, 2, initializer_deviation=1e-4, dtype=tf.float32, name="first_order")
        self.vocabulary = catalogue.vocabulary
        self.names = self._embedding.field_names
        self.dimension = dimension
        self._values: dict[str, tf.Variable] = {}
        for name, field in fields.items():
            if isinstance(field, NumericFeature):
                self._hold(name, standardized(field))
                continue
            self._hold(name, field.values)
            if isinstance(field, MultiValuedFeature):
                self._hold(f"{name}{WEIGHTS_SUFFIX}", field.weights)
        known = [
            np.isfinite(fields[name].values) if isinstance(fields[name], NumericFeature) else np.ones(catalogue.num_rows, bool)
            for name in self.names
        ]
        self._known = tf.Variable(np.stack(known, axis=1), trainable=False, name="known")  # [num_rows, F]

    def _hold(self, name: str, values: np.ndarray) -> None:
        self._values[name] = tf.Variable(values, trainable=False, name=variable_name(name))

    @property
    def width(self) -> int:
        """h = F d, the width of an item by all its fields."""
        return len(self.names) * self.dimension

    def call(self, items: tf.Tensor) -> ItemVectors:
        """Fields of items int32 [...]."""
        # A batch repeats items: their features are embedded once.
        unique, position = tf.unique(tf.reshape(items, [-1]))
        vectors = self._embed(unique).gather(tf.reshape(position, tf.shape(items)))
        static = [*items.shape, len(self.names)]
        return ItemVectors(
            tf.ensure_shape(vectors.fields, [*static, self.dimension]),
            tf.ensure_shape(vectors.present, static),
            tf.ensure_shape(vectors.first_order, [*static, 2]),
        )

    def _embed(self, items: tf.Tensor) -> ItemVectors:
        inputs = {name: lookup(values, items) for name, values in self._values.items()}
        fields, present = self._embedding(inputs).pooled()
        first_order, _ = self._first_order(inputs).pooled()
        present &= lookup(self._known, items) & (items >= FIRST_INDEX)[:, None]
        return ItemVectors(zero_padding(fields, present), present, zero_padding(first_order, present))


def _popularity(catalogue: Catalogue) -> NumericFeature:
    """The logarithm of 1 + each item's count."""
    values = np.log1p(catalogue.counts).astype(np.float32)
    real = values[FIRST_INDEX:]
    return NumericFeature(values, mean=float(real.mean()), deviation=float(real.std()) or 1.0)
