"""AutoInt's interacting layer: fields attend to fields."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, masked_softmax, zero_padding
from tfmi.layers.common.arguments import require_at_least


class FieldAttention(ConfiguredLayer):
    r"""Multi-head self-attention over fields, with a residual map; every head m has matrices of its own::

        alpha_m,ij = softmax over j of  <Q_m e_i, K_m e_j>
        output_i   = relu( [sum over j of alpha_1,ij V_1 e_j ; ... ; sum over j of alpha_M,ij V_M e_j] + R e_i )

    Missing fields are neither attended to nor given an output.

    Paper: Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks", CIKM 2019.

    Args:
        num_heads: M.
        head_dimension: Width of each head.
        seed: Seed of the initial weights.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, num_heads: int = 2, head_dimension: int = 16, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_heads=num_heads, head_dimension=head_dimension)

    def build(self, input_shape: Any) -> None:
        """Create the matrices of queries, keys, values and the residual, [d, M w] each."""
        shape = [int(input_shape[-1]), self.num_heads * self.head_dimension]
        self.query_kernel, self.key_kernel, self.value_kernel, self.residual_kernel = (
            self.add_weight(f"{name}_kernel", shape, initializer=tf.keras.initializers.GlorotUniform(seed=self.seed + position))
            for position, name in enumerate(("query", "key", "value", "residual"))
        )
        super().build(input_shape)

    def call(self, fields: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """Attend.

        Args:
            fields: [B, F, d].
            present: bool [B, F].

        Returns:
            [B, F, M w], 0 where a field is missing.
        """
        queries, keys, values = (self._heads(fields, kernel) for kernel in (self.query_kernel, self.key_kernel, self.value_kernel))
        weights = masked_softmax(tf.einsum("bimw,bjmw->bmij", queries, keys), present[:, None, None, :])  # [B, M, F, F]
        received = tf.einsum("bmij,bjmw->bimw", tf.cast(weights, values.dtype), values)
        width = self.num_heads * self.head_dimension
        joined = tf.reshape(received, [-1, fields.shape[1], width]) + tf.einsum("bfd,dw->bfw", fields, self.residual_kernel)
        return zero_padding(tf.nn.relu(joined), present)

    def _heads(self, fields: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """[B, F, M, w]."""
        projected = tf.einsum("bfd,dw->bfw", fields, kernel)
        return tf.reshape(projected, [-1, fields.shape[1], self.num_heads, self.head_dimension])
