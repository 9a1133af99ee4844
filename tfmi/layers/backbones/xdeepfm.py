"""xDeepFM as a backbone: explicit products of bounded degree next to a deep network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.backbones.backbone import BACKBONES, Backbone, RankingInputs, SharedInteraction
from tfmi.layers.common.fields import flattened
from tfmi.layers.interactions.compressed_interaction import CompressedInteraction


@BACKBONES.register("xdeepfm")
class XDeepFM(Backbone):
    r"""A compressed interaction network whose logit is added to every head's, on the same embeddings::

        logit   = sum over f of w_f  +  u . CIN(fields)
        head    = w . network(fields) + b + logit

    Paper: Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems", KDD 2018.

    Args:
        map_sizes: The number of maps of each level of the interaction network.
        activation: "relu" or "identity", which is the paper's.
        split_half: Whether a level's maps are split between the next level and the output.
        seed: Seed of the initial weights.

    Raises:
        ValueError: No level, or an argument out of its range.
    """

    def __init__(
        self,
        map_sizes: Sequence[int] = (64, 64),
        activation: Literal["relu", "identity"] = "relu",
        split_half: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.map_sizes = tuple(map_sizes)
        self.interaction = CompressedInteraction(map_sizes, activation, split_half, seed=seed, dtype=tf.float32)
        initializer = tf.keras.initializers.GlorotUniform(seed=seed + len(self.map_sizes))
        self.weighing = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer=initializer, dtype=tf.float32)

    def call(self, inputs: RankingInputs, training: bool | None = None) -> SharedInteraction:
        """The fields, and the interaction network's logit."""
        products = self.interaction(inputs.fields)  # [B, H]
        return SharedInteraction(flattened(inputs.fields), logit=inputs.first_order + self.weighing(products)[:, 0])
