"""UTPM's feature crossing: a factorization machine over the coordinates of a vector whose products stay apart."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.arguments import require_at_least, require_choice


class FeatureCrossing(ConfiguredLayer):
    r"""Every coordinate x_i of a vector is a feature with a latent vector v_i::

        linear_i  = w_i x_i                                                                         [B, D]
        cross_ij  = <v_i, v_j> x_i x_j      for i < j                                               [B, D (D - 1) / 2]
        output    = [linear; cross]

    Unlike in a factorization machine the products are not summed: layers behind can tell them apart. Computed in float32, as they
    are small.

    Papers: Yan et al., "Learning to Build User-tag Profile in Recommendation System", CIKM 2020; Rendle, "Factorization Machines",
    ICDM 2010.

    Args:
        latent_dimension: C, the width of v_i.
        cross_norm: What is done to ``cross`` before it is joined: "none", "layernorm" or "l2".

    Shapes: [B, D] to [B, D + D (D - 1) / 2].

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, latent_dimension: int = 4, cross_norm: Literal["none", "layernorm", "l2"] = "none", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, latent_dimension=latent_dimension)
        require_choice(("none", "layernorm", "l2"), cross_norm=cross_norm)
        self.normalization = tf.keras.layers.LayerNormalization(epsilon=1e-6, dtype=tf.float32) if cross_norm == "layernorm" else None

    def build(self, input_shape: Any) -> None:
        """Create w [D] and v [D, C]."""
        width = int(input_shape[-1])
        self.linear_weights = self.add_weight("linear_weights", [width], initializer="ones", experimental_autocast=False)
        shape = [width, self.latent_dimension]
        initializer = tf.keras.initializers.GlorotUniform()
        self.latent = self.add_weight("latent", shape, initializer=initializer, experimental_autocast=False)
        rows, columns = np.triu_indices(width, k=1)
        self._pairs = (rows * width + columns).astype(np.int32)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Cross the coordinates of ``inputs`` [B, D]."""
        vectors = tf.cast(inputs, tf.float32)
        return tf.cast(tf.concat([vectors * self.linear_weights, self.cross(vectors)], axis=-1), self.compute_dtype)

    def cross(self, vectors: tf.Tensor) -> tf.Tensor:
        """float32 [B, D (D - 1) / 2]: the products, normalised if asked for."""
        affinities = tf.matmul(self.latent, self.latent, transpose_b=True)  # [D, D]
        products = vectors[:, :, None] * vectors[:, None, :] * affinities
        width = self.latent.shape[0]
        crossed = tf.gather(tf.reshape(products, [tf.shape(vectors)[0], width * width]), self._pairs, axis=1)
        if self.normalization is not None:
            return self.normalization(crossed)
        return tf.math.l2_normalize(crossed, axis=-1) if self.cross_norm == "l2" else crossed
