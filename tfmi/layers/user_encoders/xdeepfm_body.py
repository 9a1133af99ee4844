"""An expert that joins a compressed interaction network and a deep network, as xDeepFM does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.common.dense_network import mlp
from tfmi.layers.common.fields import flattened
from tfmi.layers.interactions.compressed_interaction import CompressedInteraction
from tfmi.layers.user_encoders.expert_body import EXPERT_BODIES, ExpertBody


@EXPERT_BODIES.register("xdeepfm")
class XDeepFMBody(ExpertBody):
    """xDeepFM with a vector for its output::

        output = W [CompressedInteraction(e); ReLU layers of [e_1; ...; e_F]] + b                   [B, d]

    It has no first-order term: its inputs are vectors, not ids.

    Paper: Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems", KDD 2018.

    Args:
        dimension: d, the width of the output.
        map_sizes: Maps of each level of the interaction network.
        activation: Of the interaction network, "relu" or "identity".
        split_half: Whether half of a level's maps goes up and half to the output.
        hidden: Widths of the ReLU layers.
        dropout: Dropout between them.
        seed: Seed of the dropout and of the interaction network's weights.

    Shapes: [B, F, w] to [B, d].

    Raises:
        ValueError: There is no ReLU layer or no level.
    """

    NEEDS_FIELDS = True

    def __init__(
        self,
        dimension: int,
        *,
        map_sizes: Sequence[int] = (64, 64),
        activation: Literal["relu", "identity"] = "relu",
        split_half: bool = False,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dimension, seed, **kwargs)
        if not hidden:
            raise ValueError("hidden: expected at least one width")
        self.map_sizes = tuple(map_sizes)
        self.hidden = tuple(hidden)
        self.interaction = CompressedInteraction(self.map_sizes, activation, split_half, seed)
        self.deep = mlp(self.hidden[:-1], self.hidden[-1], dropout, "relu", seed)
        self.join = tf.keras.layers.Dense(dimension)

    def call(self, fields: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The expert's vectors [B, d]."""
        return self.join(tf.concat([self.interaction(fields), self.deep(flattened(fields), training=training)], axis=-1))
