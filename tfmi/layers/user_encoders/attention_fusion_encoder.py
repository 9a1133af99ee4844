"""UTPM's user tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.common.dense_network import mlp
from tfmi.layers.common.fields import FieldVectors
from tfmi.layers.user_encoders.attention_fusion import AttentionFusion, FusedFields
from tfmi.layers.user_encoders.feature_crossing import FeatureCrossing
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS, FieldExplanation, UserEncoder


@USER_ENCODERS.register("attention_fusion")
class AttentionFusionEncoder(UserEncoder):
    r"""A user as fields that learned queries weigh, crossed, and read by a network per task::

        x   = AttentionFusion(fields)                                                               [B, D]
        z   = FeatureCrossing(x)                                                                    [B, D + D (D - 1) / 2]
        u_a = W_a ReLU layers_a(z) + b_a                                                            [B, A, d]

    The paper has one task; several share all but the last networks. The width of the fields is free.

    Paper: Yan et al., "Learning to Build User-tag Profile in Recommendation System", CIKM 2020.

    Args:
        dimension: d, the width of the user's vectors.
        num_tasks: A.
        num_queries: How many queries weigh the fields.
        attention_dimension: Width of the queries.
        weigh_values: Whether a value's weight multiplies its embedding.
        pooling: "attention"; or "mean" of values and fields, to see what attention is worth.
        crossing: Whether there are products at all; without, z is x.
        latent_dimension: Width of the latent vectors whose inner products weigh the products.
        cross_norm: What is done to the products: "none", "layernorm" or "l2".
        hidden: Widths of the ReLU layers.
        dropout: Dropout after each of them.
        final_relu: ReLU on the output, too. A user whose coordinates are all negative then ties all tags, and learns no more.
        seed: Seed of the dropout.

    Shapes: ``FieldVectors`` to [B, A, d].

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        dimension: int,
        num_tasks: int = 1,
        *,
        num_queries: int = 2,
        attention_dimension: int = 8,
        weigh_values: bool = True,
        pooling: Literal["attention", "mean"] = "attention",
        crossing: bool = True,
        latent_dimension: int = 4,
        cross_norm: Literal["none", "layernorm", "l2"] = "none",
        hidden: Sequence[int] = (64,),
        dropout: float = 0.0,
        final_relu: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dimension, num_tasks, **kwargs)
        self.hidden = tuple(hidden)
        self.fusion = AttentionFusion(num_queries, attention_dimension, weigh_values, pooling, name="fusion")
        self.cross = FeatureCrossing(latent_dimension, cross_norm, name="crossing") if crossing else None
        activation = "relu" if final_relu else "linear"
        # Seeds of networks are apart by more than they have layers.
        self.networks = [mlp(self.hidden, dimension, dropout, activation, seed + 100 * task) for task in range(num_tasks)]

    def call(self, fields: FieldVectors, training: bool | None = None) -> tf.Tensor:
        """The users' vectors [B, A, d]."""
        vector = self._fused(fields).vector
        crossed = vector if self.cross is None else self.cross(vector)
        return tf.stack([network(crossed, training=training) for network in self.networks], axis=1)

    def explain(self, fields: FieldVectors) -> FieldExplanation:
        """What the queries attend to; Q = ``num_queries``, or 1 for means. All tasks see the same."""
        fused = self._fused(fields)
        return FieldExplanation(fields.names, fused.value_weights, fused.field_weights)

    def _fused(self, fields: FieldVectors) -> FusedFields:
        return self.fusion(fields.values, weights=fields.weights)
