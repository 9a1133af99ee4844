"""PLE's user tower: experts of tasks and experts of all, level upon level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.fields import FieldVectors, flattened
from tfmi.layers.user_encoders.expert_body import build_body
from tfmi.layers.user_encoders.gated_mixture import GatedMixture
from tfmi.layers.user_encoders.mixture_of_experts_encoder import task_towers
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS, UserEncoder


class ExtractionLevel(ConfiguredLayer):
    """One level: m experts for each of A tasks, m_s for all, and gates that keep tasks from each other's experts::

        o_a = mixture of task a's and the shared experts,  gated by the task's stream               [B, h]
        o_s = mixture of all experts,                      gated by the shared stream               [B, h]

    Args:
        num_tasks: A.
        experts_per_task: m.
        shared_experts: m_s.
        dimension: h, the width of experts.
        body: The network of an expert.
        feeds_another: Whether a level follows; the last one has no o_s.
        gate_dropout: Share of the gates' weights dropped in training.
        seed: Seed of dropout.
    """

    def __init__(
        self,
        num_tasks: int,
        experts_per_task: int,
        shared_experts: int,
        *,
        dimension: int,
        body: dict[str, Any] | None,
        feeds_another: bool,
        gate_dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # The last stream is the shared one.
        counts = [experts_per_task] * num_tasks + [shared_experts]
        firsts = [sum(counts[:stream]) for stream in range(len(counts))]
        self.bodies = [
            [build_body(body, dimension, seed + 100 * (first + expert)) for expert in range(count)]
            for count, first in zip(counts, firsts, strict=True)
        ]
        gated = [experts_per_task + shared_experts] * num_tasks + [sum(counts)] * feeds_another
        self.mixtures = [GatedMixture(count, gate_dropout, seed + 70 + 100 * stream) for stream, count in enumerate(gated)]

    def call(self, streams: Sequence[tf.Tensor], training: bool | None = None) -> list[tf.Tensor]:
        """Extract.

        Args:
            streams: A + 1 times [B, F, w], what each task's and the shared experts read.
            training: Whether dropout is on.

        Returns:
            A or, where a level follows, A + 1 times [B, h].
        """
        experts = [[body(stream, training=training) for body in bodies] for bodies, stream in zip(self.bodies, streams, strict=True)]
        *own, shared = experts
        seen = [[*private, *shared] for private in own] + [[vector for stream in experts for vector in stream]]
        return [
            mixture(flattened(stream), experts=tf.stack(vectors, axis=1), training=training)
            for mixture, stream, vectors in zip(self.mixtures, streams, seen, strict=False)
        ]


@USER_ENCODERS.register("progressive_extraction")
class ProgressiveExtractionEncoder(UserEncoder):
    """Levels of ``ExtractionLevel``: the first reads the fields, every other what the one below extracted, stream by stream::

        o^0_a = o^0_s = fields
        o^l_a, o^l_s  = level l of o^(l-1)                                                          [B, h]
        u_a   = tower_a(o^L_a)                                                                      [B, A, d]

    One level is the paper's CGC; one level without experts of tasks is a mixture of experts. Loss weights do not change over time.

    Paper: Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized Recommendations",
    RecSys 2020.

    Args:
        dimension: d.
        num_tasks: A.
        num_levels: L.
        experts_per_task: m, the experts that a task has to itself in every level.
        shared_experts: m_s.
        body: The network of an expert of the first level, ``{"name": ..., parameter: value, ...}``; None takes "mlp".
        upper_hidden: Widths of the ReLU layers of experts above; they read one vector.
        expert_dimension: h; None takes d.
        tower_hidden: Widths of the ReLU layers of a task's tower, before its linear one; None: no tower.
        dropout: Dropout after each of them.
        gate_dropout: Share of the gates' weights dropped in training.
        seed: Seed of dropout.

    Shapes: ``FieldVectors`` to [B, A, d].

    Raises:
        ValueError: An argument out of its range, or a task without experts.
    """

    def __init__(
        self,
        dimension: int,
        num_tasks: int = 1,
        *,
        num_levels: int = 2,
        experts_per_task: int = 2,
        shared_experts: int = 2,
        body: dict[str, Any] | None = None,
        upper_hidden: Sequence[int] = (64,),
        expert_dimension: int | None = None,
        tower_hidden: Sequence[int] | None = (32,),
        dropout: float = 0.0,
        gate_dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dimension, num_tasks, **kwargs)
        require_at_least(1, num_levels=num_levels)
        require_at_least(0, experts_per_task=experts_per_task, shared_experts=shared_experts)
        if experts_per_task + shared_experts == 0:
            raise ValueError("experts_per_task, shared_experts: expected at least one expert for a task")
        if num_levels > 1 and shared_experts == 0:
            raise ValueError("shared_experts: levels above the first need at least one")
        self.upper_hidden = tuple(upper_hidden)
        self.tower_hidden = None if tower_hidden is None else tuple(tower_hidden)
        width = dimension if expert_dimension is None else expert_dimension
        upper = {"name": "mlp", "hidden": list(upper_hidden)}
        self.levels = [
            ExtractionLevel(
                num_tasks,
                experts_per_task,
                shared_experts,
                dimension=width,
                body=body if level == 0 else upper,
                feeds_another=level < num_levels - 1,
                gate_dropout=gate_dropout,
                seed=seed + 10_000 * level,
                name=f"level_{level}",
            )
            for level in range(num_levels)
        ]
        self.towers = task_towers(self.tower_hidden, width, dimension, num_tasks, dropout=dropout, seed=seed)

    def call(self, fields: FieldVectors, training: bool | None = None) -> tf.Tensor:
        """The users' vectors [B, A, d]."""
        vectors, _ = fields.pooled()
        streams = [vectors] * (self.num_tasks + 1)
        for level in self.levels:
            extracted = level(streams, training=training)
            streams = [stream[:, None, :] for stream in extracted]  # each is now a single field
        return tf.stack([tower(vector, training=training) for tower, vector in zip(self.towers, extracted, strict=True)], axis=1)
