"""Hard sharing: tasks have the lower part of the user tower in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.common.arguments import require_choice
from tfmi.layers.common.dense_network import mlp
from tfmi.layers.common.fields import FieldVectors
from tfmi.layers.user_encoders.expert_body import build_body
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS, UserEncoder


@USER_ENCODERS.register("shared_bottom")
class SharedBottomEncoder(UserEncoder):
    """A network for all tasks below a small one for each::

        u_a = tower_a(body(fields))                                                                 [B, A, d]

    With ``share="embeddings"`` every task has a body, too, of the same size: only the embeddings are shared.

    Paper: Caruana, "Multitask Learning", Machine Learning 28, 1997.

    Args:
        dimension: d.
        num_tasks: A.
        share: "bottom" or "embeddings".
        body: The lower network, ``{"name": ..., parameter: value, ...}``; None takes "mlp". Its output is linear.
        body_dimension: Width of its output; None takes d.
        tower_hidden: Widths of the ReLU layers of a task's tower, before its linear one.
        dropout: Dropout after each of them.
        seed: Seed of dropout.

    Shapes: ``FieldVectors`` to [B, A, d].

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        dimension: int,
        num_tasks: int = 1,
        *,
        share: Literal["bottom", "embeddings"] = "bottom",
        body: dict[str, Any] | None = None,
        body_dimension: int | None = None,
        tower_hidden: Sequence[int] = (32,),
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dimension, num_tasks, **kwargs)
        require_choice(("bottom", "embeddings"), share=share)
        self.tower_hidden = tuple(tower_hidden)
        num_bodies = 1 if share == "bottom" else num_tasks
        width = dimension if body_dimension is None else body_dimension
        self.bodies = [build_body(body, width, seed + 100 * position) for position in range(num_bodies)]
        self.towers = [mlp(self.tower_hidden, dimension, dropout, "linear", seed + 50 + 100 * task) for task in range(num_tasks)]

    def call(self, fields: FieldVectors, training: bool | None = None) -> tf.Tensor:
        """The users' vectors [B, A, d]."""
        vectors, _ = fields.pooled()
        below = [body(vectors, training=training) for body in self.bodies]
        below = below * self.num_tasks if self.share == "bottom" else below
        return tf.stack([tower(bottom, training=training) for tower, bottom in zip(self.towers, below, strict=True)], axis=1)
