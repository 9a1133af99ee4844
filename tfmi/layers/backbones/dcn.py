"""DCN as a backbone: crosses of the fields' elements next to a deep network."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfmi.layers.backbones.backbone import BACKBONES, Backbone, RankingInputs, SharedInteraction
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.fields import flattened


@BACKBONES.register("dcn")
class DeepCrossNetwork(Backbone):
    r"""Crosses of bounded degree of the fields side by side, x_0, joined to what every head's network gives::

        x_(k+1) = x_0 * (W_k x_k + b_k) + x_k
        head    = w . [network(x_0) ; x_K] + b + sum over f of w_f

    A missing field's elements are 0 in every x_k.

    Paper: Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems", WWW 2021.

    Args:
        num_layers: K, the number of crosses.
        projection_dimension: Width of W = U V; None: W is a full matrix.
        seed: Seed of the initial weights.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, num_layers: int = 3, projection_dimension: int | None = None, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_layers=num_layers, projection_dimension=projection_dimension)
        self.crosses = [
            tfrs.layers.dcn.Cross(
                projection_dimension, kernel_initializer=tf.keras.initializers.TruncatedNormal(stddev=0.05, seed=seed + layer)
            )
            for layer in range(num_layers)
        ]

    def call(self, inputs: RankingInputs, training: bool | None = None) -> SharedInteraction:
        """The fields, and their crosses."""
        first = flattened(inputs.fields)  # [B, F d]
        crossed = first
        for cross in self.crosses:
            crossed = cross(first, crossed)
        return SharedInteraction(first, parallel=crossed, logit=inputs.first_order)
