"""An expert that joins products of pairs of fields and a deep network, as DeepFM does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.common.dense_network import mlp
from tfmi.layers.common.fields import flattened
from tfmi.layers.interactions.factorization import pairwise_products
from tfmi.layers.user_encoders.expert_body import EXPERT_BODIES, ExpertBody


@EXPERT_BODIES.register("deepfm")
class DeepFMBody(ExpertBody):
    """DeepFM with a vector for its output::

        products = sum over f < g of e_f * e_g                                                      [B, w]
        deep     = ReLU layers of [e_1; ...; e_F]
        output   = W [products; deep] + b                                                           [B, d]

    It has no first-order term: its inputs are vectors, not ids.

    Paper: Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017.

    Args:
        dimension: d, the width of the output.
        hidden: Widths of the ReLU layers.
        dropout: Dropout between them.
        scale_products: Divide the products by the square root of F, so that many fields do not drown the deep part.
        seed: Seed of the dropout.

    Shapes: [B, F, w] to [B, d].

    Raises:
        ValueError: There is no ReLU layer.
    """

    NEEDS_FIELDS = True

    def __init__(
        self,
        dimension: int,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
        scale_products: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dimension, seed, **kwargs)
        if not hidden:
            raise ValueError("hidden: expected at least one width")
        self.hidden = tuple(hidden)
        self.deep = mlp(self.hidden[:-1], self.hidden[-1], dropout, "relu", seed)
        self.join = tf.keras.layers.Dense(dimension)

    def call(self, fields: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The expert's vectors [B, d]."""
        products = pairwise_products(fields)
        if self.scale_products:
            products *= fields.shape[1] ** -0.5
        return self.join(tf.concat([products, self.deep(flattened(fields), training=training)], axis=-1))
