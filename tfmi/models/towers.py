"""The two towers: from an item's features to its vector, and from each interest to a user vector."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ConfigError, nearest
from tfmi.data.dataset import (
    PADDING_INDEX,
    CategoricalFeature,
    Feature,
    ItemFeature,
    MultiValuedFeature,
    NumericFeature,
    VectorFeature,
)
from tfmi.data.features import standardized
from tfmi.layers.base import variable_name
from tfmi.layers.common.dense_network import mlp
from tfmi.layers.common.fields import weighted_mean
from tfmi.layers.common.randomness import RandomStream
from tfmi.layers.common.tables import lookup
from tfmi.layers.graph.propagation import ItemPropagation

log = logging.getLogger(__name__)

AnyFeature = TypeVar("AnyFeature", Feature, ItemFeature)


def select_features(wanted: Sequence[str] | str, available: Mapping[str, AnyFeature], path: str) -> dict[str, AnyFeature]:
    """The features called ``wanted`` ("auto": all); raises ``ConfigError`` naming ``path`` and the nearest name for an unknown one."""
    if wanted == "auto":
        return dict(available)
    for name in wanted:
        if name not in available:
            raise ConfigError(
                f"{path}: the data has no feature {name!r}{nearest(name, available)}; it has: {', '.join(available) or 'none'}"
            )
    return {name: available[name] for name in wanted}


def without_vectors(features: Mapping[str, ItemFeature]) -> dict[str, Feature]:
    """The features that rankers can read; the log says which vectors they leave out."""
    vectors = sorted(name for name, feature in features.items() if isinstance(feature, VectorFeature))
    if vectors:
        log.info("The catalogue's vectors %s are for item towers; a ranker does not read them", ", ".join(vectors))
    return {name: feature for name, feature in features.items() if not isinstance(feature, VectorFeature)}


class ItemTower(tf.keras.layers.Layer):
    """Item vectors from the item's id and catalogue features, the same for histories, targets and candidates.

    Every feature is embedded to ``dimension``: ids and categories by table, multi-valued features by the weighted mean of their values'
    embeddings, numbers (standardised, missing 0) together by one linear map, vectors (of mean length 1) by one each. The embeddings are
    combined by mean over the features that the item has (Li et al., CIKM 2019, embedding and pooling layer), by sum, or by
    concatenation; then come optional ReLU layers and a linear one.

    With ``id_dropout`` the id's embedding is left out of some items at every training step, so that an item's features alone come to say
    where it belongs (Volkovs et al., "DropoutNet", NIPS 2017): that is what items that training has not seen are known by. An item of which
    nothing else is known keeps its id. So do those of histories, which a model reads ``with_ids``: there it would only be noise.

    With a ``propagation`` items then exchange messages. That takes the whole table at once: within ``propagated`` it is computed
    from the current weights, for a loss; elsewhere vectors are those of the last ``refresh``, so that answering a request is a lookup.

    Args:
        num_rows: Rows of the item table, padding and unknown included.
        dimension: d, the width of item vectors.
        features: Catalogue features to use, by name, as arrays per item row.
        use_id: Whether each item has an embedding of its own.
        combine: "mean", "sum" or "concat".
        hidden: Widths of ReLU layers after combining.
        dropout: Dropout after each hidden layer.
        id_dropout: In training, the probability that an item's id is left out.
        without_id: bool [num_rows]: items whose id's embedding was never trained, and is always left out; None: no item.
        initializer_deviation: Deviation of the embeddings at the start; None: 1 / sqrt(dimension).
        propagation: Message passing among items, adapted to the training data; None: nothing.
        seed: Seed of the dropout.

    Shapes: item indices int32 [...] to vectors [..., dimension].

    Raises:
        ConfigError: There is neither an id nor a feature to embed, or an id to leave out without a feature that is left.
    """

    def __init__(
        self,
        num_rows: int,
        dimension: int,
        features: Mapping[str, ItemFeature] | None = None,
        *,
        use_id: bool = True,
        combine: str = "mean",
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        id_dropout: float = 0.0,
        without_id: np.ndarray | None = None,
        initializer_deviation: float | None = None,
        propagation: ItemPropagation | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        features = dict(features or {})
        if not use_id and not features:
            raise ConfigError("model.item_tower: nothing to embed: use_id is false and there are no features")
        if id_dropout and not (use_id and features):
            what = "the catalogue has no features" if use_id else "use_id is false"
            raise ConfigError(f"model.item_tower.id_dropout: leaves ids out where features say what an item is, but {what}; set it to 0")
        self.num_rows, self.dimension, self.combine = num_rows, dimension, combine
        deviation = initializer_deviation or dimension**-0.5
        self._is_lookup = use_id and not features and not hidden and combine != "concat"
        self._id_table = self._table("item_id", num_rows, deviation) if use_id else None
        self._id_dropout = id_dropout
        self._id_choices = RandomStream(seed, "ids left out") if id_dropout else None
        self._with_id = None if without_id is None else self._constant("with_id", ~without_id)
        self._categorical: dict[str, tuple[tf.Variable, tf.Variable]] = {}
        self._multi_valued: dict[str, tuple[tf.Variable, tf.Variable, tf.Variable]] = {}
        self._vectors: dict[str, tuple[tf.Variable, tf.Variable]] = {}
        numbers = []
        for name, feature in sorted(features.items()):
            if isinstance(feature, NumericFeature):
                numbers.append(standardized(feature))
                continue
            if isinstance(feature, VectorFeature):
                kernel = self._table(f"{name}_vectors", feature.values.shape[1], deviation)
                self._vectors[name] = (self._constant(f"{name}_values", feature.values / feature.scale), kernel)
                continue
            table = self._table(name, feature.vocabulary.num_rows, deviation)
            values = self._constant(f"{name}_values", feature.values)
            if isinstance(feature, CategoricalFeature):
                self._categorical[name] = (values, table)
            else:
                self._multi_valued[name] = (values, self._constant(f"{name}_weights", feature.weights), table)
        self._numbers = self._constant("numbers", np.stack(numbers, axis=1)) if numbers else None
        self._number_kernel = self._table("numbers", len(numbers), deviation) if numbers else None
        self._mlp = mlp(hidden, dimension, dropout, "linear", seed) if hidden or combine == "concat" else None
        self.propagation = propagation
        self._current: tf.Tensor | None = None
        if propagation is not None:
            # Not a number until the first refresh: a lookup before that is a mistake, and looks like one.
            self._refreshed = self._constant("propagated", np.full([num_rows, dimension], np.nan, np.float32))

    def _table(self, name: str, rows: int, deviation: float) -> tf.Variable:
        initializer = tf.keras.initializers.RandomNormal(stddev=deviation)
        return self.add_weight(name=variable_name(f"{name}_embeddings"), shape=(rows, self.dimension), initializer=initializer)

    def _constant(self, name: str, values: np.ndarray) -> tf.Variable:
        return tf.Variable(values, trainable=False, name=variable_name(name))

    def call(self, item_indices: tf.Tensor, training: bool | None = None, with_ids: bool = False) -> tf.Tensor:
        """Vectors [..., d] of item indices [...]; ``with_ids`` without ``id_dropout``, but for a propagation's, which all items share."""
        if self.propagation is None:
            return self.own_vectors(item_indices, training, with_ids)
        table = self._refreshed if self._current is None else self._current
        return tf.cast(lookup(table, item_indices), self.compute_dtype)

    def table(self) -> tf.Tensor | None:
        """The tensor [num_rows, d] whose rows are the vectors; None if they are computed from features or by layers."""
        if self.propagation is not None:
            return tf.convert_to_tensor(self._refreshed) if self._current is None else self._current
        return tf.convert_to_tensor(self._id_table) if self._is_lookup else None

    def require_whole(self) -> None:
        """Raise ``ConfigError`` if tables are kept in parts by parameter servers: whoever needs all rows would move all of them, always."""
        if any(hasattr(table, "variables") for table in self.tables().values()):
            raise ConfigError(
                "training.strategy: parameter_server keeps the item table in parts, and every step of this model would read all of it, as "
                "a softmax over the whole catalogue and a propagation between items do. Take a sampled objective with fewer samples than "
                "items (model.objective: {name: sampled_softmax}), leave model.item_tower.propagation out, or train with multi_worker"
            )

    def tables(self) -> dict[str, tf.Variable]:
        """The trained tables whose rows stand for something: "" for items, then by feature; "numbers" has a row for each number."""
        tables = {} if self._id_table is None else {"": self._id_table}
        tables |= {name: parts[-1] for group in (self._categorical, self._multi_valued, self._vectors) for name, parts in group.items()}
        return tables if self._number_kernel is None else {**tables, "numbers": self._number_kernel}

    @contextmanager
    def propagated(self, training: bool | None = None) -> Iterator[None]:
        """While this is entered, every vector comes from one propagation of the current weights, and gradients pass through it."""
        if self.propagation is not None:
            self._current = self._propagate(self.propagation, training)
        try:
            yield
        finally:
            self._current = None

    def refresh(self) -> None:
        """Propagate the current weights, for lookups outside of ``propagated``."""
        if self.propagation is not None:
            self._refreshed.assign(tf.cast(self._propagate(self.propagation, training=False), tf.float32))

    def _propagate(self, propagation: ItemPropagation, training: bool | None) -> tf.Tensor:
        self.require_whole()
        return propagation(self.own_vectors(tf.range(self.num_rows), training))  # [num_rows, d]

    def own_vectors(self, item_indices: tf.Tensor, training: bool | None, with_ids: bool = False) -> tf.Tensor:
        """Vectors [..., d] of items before message passing; arguments as for ``call``."""
        if self._is_lookup:
            return tf.cast(lookup(self._id_table, item_indices), self.compute_dtype)
        # A batch repeats items: their features are embedded once.
        unique, position = tf.unique(tf.reshape(item_indices, [-1]))
        vectors = tf.gather(self._embed(unique, training, with_ids), position)
        shape = tf.concat([tf.shape(item_indices), [self.dimension]], axis=0)
        return tf.ensure_shape(tf.reshape(vectors, shape), [*item_indices.shape, self.dimension])

    def _embed(self, items: tf.Tensor, training: bool | None, with_ids: bool) -> tf.Tensor:
        parts: list[tf.Tensor] = []  # each [M, d]
        present: list[tf.Tensor] = []  # each bool [M]: does the item have this feature?
        for values, table in self._categorical.values():
            value = lookup(values, items)
            parts.append(lookup(table, value))
            present.append(value != PADDING_INDEX)
        for values, weights, table in self._multi_valued.values():
            weight = lookup(weights, items)  # [M, width]
            parts.append(weighted_mean(lookup(table, lookup(values, items)), weight))
            present.append(tf.reduce_any(weight > 0, axis=-1))
        for values, kernel in self._vectors.values():
            vector = lookup(values, items)  # [M, width]
            known = tf.reduce_all(tf.math.is_finite(vector), axis=-1)
            parts.append(tf.matmul(tf.where(known[:, None], vector, 0.0), kernel))
            present.append(known)
        if self._numbers is not None:
            parts.append(tf.matmul(lookup(self._numbers, items), self._number_kernel))
            present.append(tf.ones_like(items, dtype=tf.bool))
        if self._id_table is not None:
            parts.insert(0, lookup(self._id_table, items))
            present.insert(0, self._has_id(items, present, bool(training) and not with_ids))
        return self._combine(parts, present, training)

    def _has_id(self, items: tf.Tensor, others: list[tf.Tensor], leaves_out: bool) -> tf.Tensor:
        """bool [M]: of which items the id counts, now."""
        counts = tf.ones_like(items, dtype=tf.bool) if self._with_id is None else lookup(self._with_id, items)
        if leaves_out and self._id_choices is not None:
            counts &= self._id_choices.coins(tf.shape(items), 1 - self._id_dropout)
        if not others:
            return counts
        return counts | ~tf.reduce_any(tf.stack(others), axis=0)

    def _combine(self, parts: list[tf.Tensor], present: list[tf.Tensor], training: bool | None) -> tf.Tensor:
        masks = tf.cast(tf.stack(present, axis=1), parts[0].dtype)[..., None]  # [M, features, 1]
        stacked = tf.stack(parts, axis=1) * masks  # [M, features, d]
        if self.combine == "concat":
            combined = tf.reshape(stacked, [-1, len(parts) * self.dimension])
        else:
            combined = tf.reduce_sum(stacked, axis=1)
            if self.combine == "mean":
                combined = tf.math.divide_no_nan(combined, tf.reduce_sum(masks, axis=1))
        combined = tf.cast(combined, self.compute_dtype)
        return combined if self._mlp is None else self._mlp(combined, training=training)


class ProfileEncoder(tf.keras.layers.Layer):
    """The user's profile p_u: the concatenation of its features' embeddings (Li et al., CIKM 2019).

    Args:
        features: Profile features by name; only their kinds and vocabularies are used.
        dimension: Width of each categorical and multi-valued embedding; a number takes one column.

    Shapes: a mapping of feature name to int32 [B], float32 [B] (standardised), or int32 [B, M] with ``<name>_weights`` float32 [B, M];
    to float [B, p].
    """

    def __init__(self, features: Mapping[str, Feature], dimension: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.feature_names = sorted(features)
        self._multi_valued = {name for name, feature in features.items() if isinstance(feature, MultiValuedFeature)}
        self._tables = {}
        for name in self.feature_names:
            feature = features[name]
            if not isinstance(feature, NumericFeature):
                initializer = tf.keras.initializers.RandomNormal(stddev=dimension**-0.5)
                shape = (feature.vocabulary.num_rows, dimension)
                self._tables[name] = self.add_weight(name=variable_name(f"{name}_embeddings"), shape=shape, initializer=initializer)

    @property
    def field_widths(self) -> list[int]:
        """How many columns of the profile vector each feature takes, in their order; together p."""
        return [self._tables[name].shape[1] if name in self._tables else 1 for name in self.feature_names]

    def tables(self) -> dict[str, tf.Variable]:
        """The trained tables by feature, a row for each of its values."""
        return dict(self._tables)

    def call(self, profile: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The profile vector [B, p]."""
        return tf.concat([self._encode(name, profile) for name in self.feature_names], axis=-1)

    def unknown(self, rows: int) -> dict[str, tf.Tensor]:
        """The profile of ``rows`` users of whom nothing is known."""
        profile: dict[str, tf.Tensor] = {}
        for name in self.feature_names:
            if name not in self._tables:
                profile[name] = tf.zeros([rows], tf.float32)
            elif name in self._multi_valued:
                profile[name] = tf.fill([rows, 1], PADDING_INDEX)
                profile[f"{name}_weights"] = tf.zeros([rows, 1], tf.float32)
            else:
                profile[name] = tf.fill([rows], PADDING_INDEX)
        return profile

    def _encode(self, name: str, profile: Mapping[str, tf.Tensor]) -> tf.Tensor:
        value = profile[name]
        if name not in self._tables:
            return tf.cast(value, self.compute_dtype)[:, None]
        embedded = lookup(self._tables[name], value)
        if name in self._multi_valued:
            embedded = weighted_mean(embedded, profile[f"{name}_weights"])
        known = tf.reduce_any(tf.reshape(value, [tf.shape(value)[0], -1]) != PADDING_INDEX, axis=-1, keepdims=True)
        return tf.cast(embedded, self.compute_dtype) * tf.cast(known, self.compute_dtype)


class UserTower(tf.keras.layers.Layer):
    """From interests to user vectors: the profile joined to every interest, then layers that all interests share (Li et al., CIKM 2019).

    Args:
        dimension: d, the width of the output.
        hidden: Widths of ReLU layers.
        project: End in a layer to ``dimension`` even without hidden layers. Joining a profile always needs it.
        joins_profile: Whether the profile vector that ``call`` gets is joined to the interests.
        final_activation: "linear" or "relu".
        dropout: Dropout after each hidden layer.
        seed: Seed of the dropout.

    Shapes: interests [B, K, d'] and profile [B, p] to [B, K, d].
    """

    def __init__(
        self,
        dimension: int,
        *,
        hidden: Sequence[int] = (),
        project: bool = False,
        joins_profile: bool = False,
        final_activation: str = "linear",
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.joins_profile = joins_profile
        needs_layers = bool(hidden) or project or joins_profile
        self._mlp = mlp(hidden, dimension, dropout, final_activation, seed) if needs_layers else None

    def call(self, interests: tf.Tensor, profile: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        """User vectors [B, K, d]."""
        if self.joins_profile:
            tiled = tf.repeat(tf.cast(profile, interests.dtype)[:, None, :], interests.shape[1], axis=1)
            interests = tf.concat([interests, tiled], axis=-1)
        return interests if self._mlp is None else self._mlp(interests, training=training)
