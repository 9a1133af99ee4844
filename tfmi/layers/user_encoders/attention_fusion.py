"""UTPM's attention fusion: learned queries that weigh the values of each field, and then the fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, masked_softmax
from tfmi.layers.common.arguments import require_at_least, require_choice


class FusedFields(NamedTuple):
    """A user's fields as one vector.

    Attributes:
        vector: [B, H w].
        value_weights: Per field, float32 [B, H, M_f]: the attention to each value; sums to 1 over the values, 0 where there is none.
        field_weights: float32 [B, H, F]: the attention to each field; sums to 1 over the fields that the user has, 0 at others.
    """

    vector: tf.Tensor
    value_weights: tuple[tf.Tensor, ...]
    field_weights: tf.Tensor


class AttentionFusion(ConfiguredLayer):
    r"""Attention within fields, then across them, by H learned queries q_h, the same in every field and in both steps::

        s_h,f,i = q_h . ReLU(W_h,f e_f,i + b_h,f)              value i of field f
        f_h,f   = sum over i of softmax over i of (s_h,f,i) e_f,i                                   [B, H, w] for each field
        r_h,f   = q_h . ReLU(W'_h f_h,f + b'_h)
        x_h     = sum over f of softmax over f of (r_h,f) f_h,f                                     [B, w]
        x       = [x_1; ...; x_H]                                                                   [B, H w]

    Only the projections differ from field to field; what is summed are the embeddings themselves. Where there is no value there is no
    weight, and a field without values takes no part. A user without any field is a learned vector.

    Paper: Yan et al., "Learning to Build User-tag Profile in Recommendation System", CIKM 2020.

    Args:
        num_queries: H.
        attention_dimension: T, the width of the queries and projections.
        weigh_values: Whether embeddings are multiplied by their values' weights, such as counts, before anything else.
        pooling: "attention"; or "mean", which takes plain means of values and of fields instead, once (H = 1).

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        num_queries: int = 2,
        attention_dimension: int = 8,
        weigh_values: bool = True,
        pooling: Literal["attention", "mean"] = "attention",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_queries=num_queries, attention_dimension=attention_dimension)
        require_choice(("attention", "mean"), pooling=pooling)
        self._attends = pooling == "attention"
        self._heads = num_queries if self._attends else 1

    def build(self, input_shape: Sequence[Any]) -> None:
        """Create q [H, T], the projections of each field and of each query, and the vector [H w] of a user without fields."""
        num_fields, width = len(input_shape), int(input_shape[0][-1])
        self.default_vector = self.add_weight("default_vector", [self._heads * width], initializer="zeros")
        if self._attends:
            shape = [self.num_queries, self.attention_dimension]
            self.queries = self.add_weight("queries", shape, initializer=tf.keras.initializers.GlorotUniform())
            # One layer makes the projections of all queries.
            joint = self.num_queries * self.attention_dimension
            self.value_projections = [tf.keras.layers.Dense(joint, activation="relu", name=f"values_{f}") for f in range(num_fields)]
            self.field_projections = [
                tf.keras.layers.Dense(self.attention_dimension, activation="relu", name=f"fields_{h}") for h in range(self.num_queries)
            ]
        super().build(input_shape)

    def call(self, values: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]) -> FusedFields:
        """Fuse.

        Args:
            values: Per field, embeddings [B, M_f, w], 0 where there is no value.
            weights: Per field, float32 [B, M_f], above 0 at values and 0 elsewhere.

        Returns:
            The users' vectors [B, H w], with the attention.
        """
        vectors, value_weights = [], []
        for field, (embeddings, counts) in enumerate(zip(values, weights, strict=True)):
            if self.weigh_values:
                embeddings *= tf.cast(counts, embeddings.dtype)[..., None]  # noqa: PLW2901 - from here on they are weighted
            attention = masked_softmax(self._value_logits(field, embeddings), (counts > 0)[:, None, :])  # [B, H, M_f]
            vectors.append(tf.matmul(tf.cast(attention, embeddings.dtype), embeddings))
            value_weights.append(attention)
        fields = tf.stack(vectors, axis=2)  # [B, H, F, w]
        present = tf.stack([tf.reduce_any(counts > 0, axis=1) for counts in weights], axis=1)  # [B, F]
        field_weights = masked_softmax(self._field_logits(fields), present[:, None, :])  # [B, H, F]
        fused = tf.einsum("bhf,bhfw->bhw", tf.cast(field_weights, fields.dtype), fields)
        vector = tf.reshape(fused, [tf.shape(fused)[0], self._heads * fused.shape[2]])
        known = tf.reduce_any(present, axis=1, keepdims=True)
        return FusedFields(tf.where(known, vector, tf.cast(self.default_vector, vector.dtype)), tuple(value_weights), field_weights)

    def _value_logits(self, field: int, embeddings: tf.Tensor) -> tf.Tensor:
        """s [B, H, M_f] of one field's embeddings [B, M_f, w]; 0 for a plain mean."""
        if not self._attends:
            return tf.zeros_like(embeddings[:, None, :, 0])
        shape = tf.shape(embeddings)
        projected = self.value_projections[field](embeddings)
        projected = tf.reshape(projected, [shape[0], shape[1], self.num_queries, self.attention_dimension])  # [B, M_f, H, T]
        return tf.einsum("bmht,ht->bhm", projected, tf.cast(self.queries, projected.dtype))

    def _field_logits(self, fields: tf.Tensor) -> tf.Tensor:
        """r [B, H, F] of the fields' vectors [B, H, F, w]; 0 for a plain mean."""
        if not self._attends:
            return tf.zeros_like(fields[..., 0])
        projected = tf.stack([projection(fields[:, h]) for h, projection in enumerate(self.field_projections)], axis=1)  # [B, H, F, T]
        return tf.einsum("bhft,ht->bhf", projected, tf.cast(self.queries, projected.dtype))
