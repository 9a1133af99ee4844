"""MMoE's user tower: experts mixed by a gate per task that looks at the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.common.dense_network import mlp
from tfmi.layers.common.fields import FieldVectors, flattened
from tfmi.layers.user_encoders.expert_body import build_body
from tfmi.layers.user_encoders.gated_mixture import GatedMixture
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS, UserEncoder, check_task_experts


@USER_ENCODERS.register("mixture_of_experts")
class MixtureOfExpertsEncoder(UserEncoder):
    """Experts for all tasks, of which every task has a mean of its own::

        e_i = body_i(fields)                                                                        [B, n, h]
        m_a = sum over i in S_a of g_a,i(fields) e_i                                                [B, h]
        u_a = tower_a(m_a)                                                                          [B, A, d]

    with g_a a softmax over the task's experts of one linear layer. The gate knows the user and not the tag: a user is one vector per task.

    Paper: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018; subsets of experts:
    the baseline in the code of Xu et al., "Mixture of Virtual-Kernel Experts for Multi-Objective User Profile Modeling", KDD 2022, which
    has 10 experts, of which the first task uses 0 to 5 and the second 2 to 9, and no towers.

    Args:
        dimension: d.
        num_tasks: A.
        num_experts: n.
        task_experts: For each task the experts that it uses; None: all.
        body: The network of an expert, ``{"name": ..., parameter: value, ...}``; None takes "mlp". Its output is linear.
        expert_dimension: h; None takes d.
        tower_hidden: Widths of the ReLU layers of a task's tower, before its linear one; None: no tower, the mixture is the vector.
        dropout: Dropout after each of them.
        gate_dropout: Share of the gates' weights dropped in training.
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
        num_experts: int = 4,
        task_experts: list[list[int]] | None = None,
        body: dict[str, Any] | None = None,
        expert_dimension: int | None = None,
        tower_hidden: Sequence[int] | None = (32,),
        dropout: float = 0.0,
        gate_dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dimension, num_tasks, **kwargs)
        if num_experts < 1:
            raise ValueError(f"num_experts: expected a number of at least 1, got {num_experts}")
        self.tower_hidden = None if tower_hidden is None else tuple(tower_hidden)
        width = dimension if expert_dimension is None else expert_dimension
        self._subsets = check_task_experts(
            [range(num_experts)] * num_tasks if task_experts is None else task_experts, num_tasks, num_experts
        )
        self.bodies = [build_body(body, width, seed + 100 * expert) for expert in range(num_experts)]
        self.mixtures = [GatedMixture(len(subset), gate_dropout, seed + 70 + 100 * task) for task, subset in enumerate(self._subsets)]
        self.towers = task_towers(self.tower_hidden, width, dimension, num_tasks, dropout=dropout, seed=seed)

    def call(self, fields: FieldVectors, training: bool | None = None) -> tf.Tensor:
        """The users' vectors [B, A, d]."""
        vectors, _ = fields.pooled()
        experts = [body(vectors, training=training) for body in self.bodies]
        flat = flattened(vectors)
        mixed = [
            mixture(flat, experts=tf.stack([experts[i] for i in subset], axis=1), training=training)
            for mixture, subset in zip(self.mixtures, self._subsets, strict=True)
        ]
        return tf.stack([tower(vector, training=training) for tower, vector in zip(self.towers, mixed, strict=True)], axis=1)

    def mixing_weights(self, fields: FieldVectors) -> list[tf.Tensor]:
        """For each task float32 [B, S]: how users mix the task's experts."""
        vectors, _ = fields.pooled()
        return [mixture.weights_of(flattened(vectors)) for mixture in self.mixtures]


def task_towers(
    hidden: Sequence[int] | None, width: int, dimension: int, num_tasks: int, *, dropout: float, seed: int
) -> list[tf.keras.Sequential]:
    """A network for each task from a mixture of the given width to ``dimension``; for ``hidden`` None none, if the widths agree."""
    if hidden is not None:
        return [mlp(hidden, dimension, dropout, "linear", seed + 50 + 100 * task) for task in range(num_tasks)]
    if width != dimension:
        raise ValueError(f"expert_dimension: without towers experts have the width of the vectors, {dimension}, got {width}")
    return [tf.keras.Sequential([tf.keras.layers.Activation("linear")]) for _ in range(num_tasks)]
