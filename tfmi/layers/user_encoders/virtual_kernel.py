"""MVKE's virtual kernels: what an expert looks for in a user's fields, and what decides how experts answer for a tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, masked_softmax
from tfmi.layers.common.arguments import require_at_least, require_choice


class VirtualKernels(ConfiguredLayer):
    r"""K learned vectors w_k, each of which attends over a user's fields for its expert and is attended to by tags::

        q_k   = s(W_Q w_k + b_Q),    K_f = s(W_K e_f + b_K),    V_f = s(W_V e_f + b_V)
        a_k,f = softmax over f of  q_k . K_f / sqrt(d)                                              [B, K, F]
        C_k,f = LayerNorm(a_k,f V_f + e_f)                  "per_field"                             [B, K, F, d]
        C_k   = sum over f of a_k,f V_f                     "pooled"                                [B, K, 1, d]

        g_k(t) = softmax over the task's k of  gamma t . w_k                                        [..., S]

    The published formulas pool and have a nonlinearity s; the authors' code keeps the fields apart, so that experts can cross them, adds a
    residual and has no s. A missing field has weight 0 and stays 0. Tags meet the kernels themselves, without a projection.
    Attention and gate are computed in float32.

    Paper: Xu et al., "Mixture of Virtual-Kernel Experts for Multi-Objective User Profile Modeling", KDD 2022.

    Args:
        num_kernels: K.
        dimension: d, the width of kernels, fields and tags.
        experts: "per_field" or "pooled".
        projections: s, "linear" or "relu".
        gamma: Scale of the gate's logits; None takes 1 / sqrt(d) as the formula has it. The authors' code has 1.
        kernel_deviation: Deviation of the kernels at the start. Gates are uniform as long as kernels are alike: raise it if they stay so.
        projection_deviation: Deviation of the projections at the start; None takes Glorot's noise.

    Raises:
        ValueError: An argument out of its range, or fields of another width than the kernels.
    """

    def __init__(
        self,
        num_kernels: int,
        dimension: int,
        *,
        experts: Literal["per_field", "pooled"] = "per_field",
        projections: Literal["linear", "relu"] = "linear",
        gamma: float | None = None,
        kernel_deviation: float = 0.01,
        projection_deviation: float | None = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_kernels=num_kernels, dimension=dimension)
        require_at_least(0, gamma=gamma, kernel_deviation=kernel_deviation, projection_deviation=projection_deviation)
        require_choice(("per_field", "pooled"), experts=experts)
        require_choice(("linear", "relu"), projections=projections)
        # Made at once: a gate may be asked for before any user has been seen.
        noise = tf.keras.initializers.RandomNormal(stddev=kernel_deviation)
        self.kernels = self.add_weight("kernels", [num_kernels, dimension], initializer=noise, experimental_autocast=False)
        self._query, self._key, self._value = (self._projection(name) for name in ("query", "key", "value"))
        self._norm = tf.keras.layers.LayerNormalization(epsilon=1e-6, name="norm") if experts == "per_field" else None

    def _projection(self, name: str) -> tf.keras.layers.Dense:
        deviation = self.projection_deviation
        noise = tf.keras.initializers.GlorotUniform() if deviation is None else tf.keras.initializers.RandomNormal(stddev=deviation)
        return tf.keras.layers.Dense(self.dimension, activation=self.projections, kernel_initializer=noise, name=name)

    def build(self, input_shape: Any) -> None:
        """Check the width of the fields."""
        if int(input_shape[-1]) != self.dimension:
            raise ValueError(f"dimension: virtual kernels have the width of the fields, {input_shape[-1]}, got {self.dimension}")
        super().build(input_shape)

    def call(self, fields: tf.Tensor, present: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What each expert sees of users.

        Args:
            fields: [B, F, d], 0 where a field is missing.
            present: bool [B, F].

        Returns:
            C [B, K, F, d], or [B, K, 1, d] where pooled; and a, float32 [B, K, F], which sums to 1 over the fields that are there.
        """
        logits = tf.einsum("kd,bfd->bkf", self._query(tf.convert_to_tensor(self.kernels)), self._key(fields))
        attention = masked_softmax(tf.cast(logits, tf.float32) * self.dimension**-0.5, present[:, None, :])
        values, weights = self._value(fields), tf.cast(attention, fields.dtype)
        if self._norm is None:
            return tf.einsum("bkf,bfd->bkd", weights, values)[:, :, None, :], attention
        weighted = self._norm(weights[..., None] * values[:, None] + fields[:, None])  # [B, K, F, d]
        return tf.where(present[:, None, :, None], weighted, tf.zeros([], weighted.dtype)), attention

    def gate(self, tags: tf.Tensor, kernels: Sequence[int]) -> tf.Tensor:
        """g, float32 [..., S]: how the experts of S of the kernels, in their order, are mixed for tags [..., d]."""
        keys = tf.gather(self.kernels, list(kernels))  # [S, d]
        gamma = self.dimension**-0.5 if self.gamma is None else self.gamma
        return tf.nn.softmax(gamma * tf.einsum("...d,sd->...s", tf.cast(tags, tf.float32), keys), axis=-1)
