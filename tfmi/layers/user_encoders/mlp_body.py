"""An expert that reads all fields side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.common.dense_network import mlp
from tfmi.layers.common.fields import flattened
from tfmi.layers.user_encoders.expert_body import EXPERT_BODIES, ExpertBody


@EXPERT_BODIES.register("mlp")
class MlpBody(ExpertBody):
    """ReLU layers over the fields side by side, then a linear one::

        [e_1; ...; e_F]  ->  ReLU layers  ->  linear layer                                          [B, d]

    Args:
        dimension: d, the width of the output.
        hidden: Widths of the ReLU layers.
        dropout: Dropout after each of them.
        seed: Seed of the dropout.

    Shapes: [B, F, w] to [B, d].
    """

    def __init__(self, dimension: int, hidden: Sequence[int] = (128, 64), dropout: float = 0.0, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(dimension, seed, **kwargs)
        self.hidden = tuple(hidden)
        self.network = mlp(self.hidden, dimension, dropout, "linear", seed)

    def call(self, fields: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The expert's vectors [B, d]."""
        return self.network(flattened(fields), training=training)
