"""Fi-GNN as a backbone: message passing among fields along a graph, and a score and a weight from each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.backbones.backbone import BACKBONES, Backbone, RankingInputs, SharedInteraction
from tfmi.layers.backbones.field_graph import FieldGraph
from tfmi.layers.base import ConfiguredLayer


class FieldScoringHead(ConfiguredLayer):
    r"""A logit from the states h_i of all fields, each scored and weighed by itself::

        logit = sum over i of  sigmoid(v . h_i + c)  (w . h_i)  +  b

    A missing field's state is 0, and so is its score.

    Paper: Li et al., "Fi-GNN: Modeling Feature Interactions via Graph Neural Networks for CTR Prediction", CIKM 2019.

    Args:
        seed: Seed of the initial weights.

    Shapes: a ``SharedInteraction`` with ``stacked`` [B, F, d], 0 where a field is missing, to float32 [B].
    """

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        uniform = tf.keras.initializers.GlorotUniform
        self.score = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer=uniform(seed=seed), dtype=tf.float32)
        self.weight = tf.keras.layers.Dense(1, activation="sigmoid", kernel_initializer=uniform(seed=seed + 1), dtype=tf.float32)

    def build(self, input_shape: Any) -> None:
        """Create b."""
        self.bias = self.add_weight("bias", [], initializer="zeros", experimental_autocast=False)
        super().build(input_shape)

    def call(self, shared: SharedInteraction) -> tf.Tensor:
        """Logits float32 [B]."""
        scores = self.weight(shared.stacked) * self.score(shared.stacked)  # [B, F, 1]
        return tf.reduce_sum(scores, axis=[1, 2]) + self.bias


@BACKBONES.register("fignn")
class FieldGraphNetwork(Backbone):
    r"""States of the fields after messages along their graph; heads score the states, field by field, without a network of their own.

    Paper: Li et al., "Fi-GNN: Modeling Feature Interactions via Graph Neural Networks for CTR Prediction", CIKM 2019.

    Args:
        num_steps: Steps of messages.
        seed: Seed of the initial weights.

    Raises:
        ValueError: ``num_steps`` is below 1.
    """

    def __init__(self, num_steps: int = 3, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.graph = FieldGraph(num_steps, seed=seed)

    def make_head(self, hidden: Sequence[int], seed: int, name: str) -> FieldScoringHead:
        """A new scoring head; it has no network, so that ``hidden`` is without effect."""
        del hidden
        return FieldScoringHead(seed=seed, name=name)

    def call(self, inputs: RankingInputs, training: bool | None = None) -> SharedInteraction:
        """The fields' states [B, F, d]."""
        return SharedInteraction(self.graph(inputs.fields, inputs.present))
