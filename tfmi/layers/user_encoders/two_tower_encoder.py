"""A user tower per task, which have nothing but the embeddings in common."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.common.fields import FieldVectors
from tfmi.layers.user_encoders.expert_body import build_body
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS, UserEncoder


@USER_ENCODERS.register("two_tower")
class TwoTowerEncoder(UserEncoder):
    """One vector per task, by a network of its own over the pooled fields: ``u_a = body_a(fields)``, [B, A, d].

    Args:
        dimension: d.
        num_tasks: A.
        body: The network, ``{"name": ..., parameter: value, ...}``; None takes "mlp".
        seed: Seed of the bodies' dropout.

    Shapes: ``FieldVectors`` to [B, A, d].

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, dimension: int, num_tasks: int = 1, *, body: dict[str, Any] | None = None, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(dimension, num_tasks, **kwargs)
        self.bodies = [build_body(body, dimension, seed + 100 * task) for task in range(num_tasks)]

    def call(self, fields: FieldVectors, training: bool | None = None) -> tf.Tensor:
        """The users' vectors [B, A, d]."""
        vectors, _ = fields.pooled()
        return tf.stack([body(vectors, training=training) for body in self.bodies], axis=1)
