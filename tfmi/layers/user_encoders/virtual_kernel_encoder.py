"""MVKE's user tower: experts with virtual kernels, mixed by the tag."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.common.fields import FieldVectors
from tfmi.layers.user_encoders.expert_body import build_body
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS, FieldExplanation, UserEncoder, check_task_experts, overlapping_experts
from tfmi.layers.user_encoders.virtual_kernel import VirtualKernels


@USER_ENCODERS.register("virtual_kernel")
class VirtualKernelEncoder(UserEncoder):
    r"""K experts, each of which sees a user's fields as its virtual kernel weighs them; a tag mixes the experts by the same kernels::

        E_k      = body_k(C_k)                    C_k: the fields in view of kernel k               [B, K, d]
        E_u(t)   = sum over k in S_a of g_a,k(t) E_k
        score_a  = E_u(t) . t

    Tasks use overlapping subsets S_a of the experts, so that rare actions learn from frequent ones. See ``VirtualKernels`` for the
    attention and the gate. Fields have to be as wide as the vectors.

    Paper: Xu et al., "Mixture of Virtual-Kernel Experts for Multi-Objective User Profile Modeling", KDD 2022.

    Example:
        >>> encoder = VirtualKernelEncoder(dimension=16, num_tasks=2, num_experts=5)
        >>> encoder.experts_of(0), encoder.experts_of(1)
        ((0, 1, 2), (1, 2, 3, 4))

    Args:
        dimension: d.
        num_tasks: A.
        num_experts: K.
        task_experts: For each task the experts that it uses, e.g. ``[[0, 1, 2], [1, 2, 3, 4]]``; None: see ``overlapping_experts``.
        body: The network of an expert, ``{"name": ..., parameter: value, ...}``; None takes "deepfm", or "mlp" where fields are pooled.
        shared_body: One body for all kernels, instead of one each.
        experts: What an expert sees: the fields "per_field", or "pooled" to one vector, which only an "mlp" makes sense of.
        projections: Activation of the attention's projections, "linear" or "relu".
        gamma: Scale of the gate's logits; None: 1 / sqrt(d).
        kernel_deviation: Deviation of the kernels at the start.
        projection_deviation: Deviation of the projections at the start; None takes Glorot's noise.
        seed: Seed of the bodies' dropout.

    Shapes: ``FieldVectors`` to [B, K, d].

    Raises:
        ValueError: An argument out of its range, too few experts, or a body that crosses fields where they are pooled.
    """

    def __init__(
        self,
        dimension: int,
        num_tasks: int = 1,
        *,
        num_experts: int = 5,
        task_experts: list[list[int]] | None = None,
        body: dict[str, Any] | None = None,
        shared_body: bool = False,
        experts: Literal["per_field", "pooled"] = "per_field",
        projections: Literal["linear", "relu"] = "linear",
        gamma: float | None = None,
        kernel_deviation: float = 0.01,
        projection_deviation: float | None = 0.01,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dimension, num_tasks, **kwargs)
        self.virtual_kernels = VirtualKernels(
            num_experts,
            dimension,
            experts=experts,
            projections=projections,
            gamma=gamma,
            kernel_deviation=kernel_deviation,
            projection_deviation=projection_deviation,
            name="virtual_kernels",
        )
        self._task_experts = (
            overlapping_experts(num_tasks, num_experts)
            if task_experts is None
            else check_task_experts(task_experts, num_tasks, num_experts)
        )
        spec = body or {"name": "mlp" if experts == "pooled" else "deepfm"}
        self.bodies = [build_body(spec, dimension, seed + 100 * k) for k in range(1 if shared_body else num_experts)]
        if experts == "pooled" and self.bodies[0].NEEDS_FIELDS:
            raise ValueError(f"body: {spec['name']!r} crosses fields, of which experts: 'pooled' leaves one; take 'mlp', or 'per_field'")

    def experts_of(self, task: int) -> tuple[int, ...]:
        """S_a."""
        return self._task_experts[task]

    def gate(self, task: int, tags: tf.Tensor) -> tf.Tensor:
        """float32 [..., S]: the virtual kernels' gate over the task's experts alone."""
        return self.virtual_kernels.gate(tags, self.experts_of(task))

    def call(self, fields: FieldVectors, training: bool | None = None) -> tf.Tensor:
        """The experts' vectors [B, K, d]."""
        vectors, present = fields.pooled()
        seen, _ = self.virtual_kernels(vectors, present=present)  # [B, K, F or 1, d]
        if not self.shared_body:
            return tf.stack([body(seen[:, k], training=training) for k, body in enumerate(self.bodies)], axis=1)
        flat = tf.reshape(seen, [tf.shape(seen)[0] * self.num_experts, *seen.shape[2:]])  # [B K, F or 1, d]
        return tf.reshape(self.bodies[0](flat, training=training), [tf.shape(seen)[0], self.num_experts, self.dimension])

    def explain(self, fields: FieldVectors) -> FieldExplanation:
        """What each expert attends to; Q = K. Within a field, values count by their weights, the same for all experts."""
        vectors, present = fields.pooled()
        _, attention = self.virtual_kernels(vectors, present=present)
        shares = [tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=1, keepdims=True)) for weights in fields.weights]
        per_expert = tuple(tf.repeat(share[:, None], self.num_experts, axis=1) for share in shares)
        return FieldExplanation(fields.names, per_expert, attention, by_expert=True)
