"""Fi-GNN's graph of fields: each field is a node that gets messages from all others."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, masked_softmax, zero_padding
from tfmi.layers.common.arguments import require_at_least


class FieldGraph(ConfiguredLayer):
    r"""T steps of messages along the complete graph of fields without loops, whose edges are weighted by the embeddings e::

        A_ij    = softmax over j != i of  leaky_relu( w . [e_i ; e_j] )
        a_i     = W_in,i ( sum over j of  A_ij W_out,j h_j ) + b
        h_i     = GRU(h_i, a_i) + e_i                                      h = e at first

    Matrices are a field's own and the same in every step; the GRU is one for all fields. A missing field sends nothing and stays 0.

    Paper: Li et al., "Fi-GNN: Modeling Feature Interactions via Graph Neural Networks for CTR Prediction", CIKM 2019.

    Args:
        num_steps: T.
        seed: Seed of the initial weights.

    Raises:
        ValueError: ``num_steps`` is below 1.
    """

    def __init__(self, num_steps: int = 3, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_steps=num_steps)

    def build(self, input_shape: Any) -> None:
        """Create w as two vectors [d, 2], W_out and W_in [F, d, d], b [d] and the GRU."""
        num_fields, dimension = int(input_shape[-2]), int(input_shape[-1])
        uniform = tf.keras.initializers.GlorotUniform
        self.edge_kernel = self.add_weight("edge_kernel", [dimension, 2], initializer=uniform(seed=self.seed))
        # Glorot's range of one field's matrix: of three axes Keras takes the first for a window.
        limit = (3.0 / dimension) ** 0.5
        shape = [num_fields, dimension, dimension]
        self.sending_kernel, self.receiving_kernel = (
            self.add_weight(
                f"{name}_kernel", shape, initializer=tf.keras.initializers.RandomUniform(-limit, limit, seed=self.seed + position)
            )
            for position, name in enumerate(("sending", "receiving"), start=1)
        )
        self.bias = self.add_weight("bias", [dimension], initializer="zeros")
        self.update = tf.keras.layers.GRUCell(
            dimension,
            kernel_initializer=uniform(seed=self.seed + 3),
            recurrent_initializer=tf.keras.initializers.Orthogonal(seed=self.seed + 4),
        )
        super().build(input_shape)

    def call(self, fields: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """Pass messages.

        Args:
            fields: e [B, F, d], 0 where a field is missing.
            present: bool [B, F].

        Returns:
            h [B, F, d], 0 where a field is missing.
        """
        edges = tf.cast(self.edges(fields, present), fields.dtype)  # [B, F, F]
        dimension = fields.shape[-1]
        states = fields
        for _ in range(self.num_steps):
            sent = tf.einsum("bjd,jde->bje", states, self.sending_kernel)
            received = tf.einsum("bid,ide->bie", tf.matmul(edges, sent), self.receiving_kernel) + self.bias
            updated, _ = self.update(tf.reshape(received, [-1, dimension]), [tf.reshape(states, [-1, dimension])])
            states = zero_padding(tf.reshape(updated, tf.shape(fields)) + fields, present)
            states = tf.ensure_shape(states, fields.shape)
        return states

    def edges(self, fields: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """float32 [B, F, F]: A, its rows the receiving fields; 0 from missing fields."""
        parts = tf.einsum("bfd,dp->bfp", fields, self.edge_kernel)  # what w makes of receiving and of sending fields
        logits = tf.nn.leaky_relu(parts[:, :, None, 0] + parts[:, None, :, 1])
        others = ~tf.eye(fields.shape[1], dtype=tf.bool)
        return masked_softmax(logits, others & present[:, None, :])
