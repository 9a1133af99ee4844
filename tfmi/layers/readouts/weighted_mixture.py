"""A mixture whose interests have weights that depend on the user, the same in training and in serving."""

from __future__ import annotations

from typing import Any, ClassVar

import tensorflow as tf

from tfmi.layers.base import READOUTS, InterestOutput, Readout
from tfmi.layers.common.arguments import require_at_least


@READOUTS.register("weighted_mixture")
class WeightedMixture(Readout):
    r"""``mixture`` with every interest scaled by how much it stands for its user::

        w_k = 2 sigmoid(u . tanh(W [v_k; mean of active v] + b))            [B, K], 1 at the start
        P(i) = sum over k of exp(w_k v_k . e_i / T) / sum over k, j of exp(w_k v_k . e_j / T)

    In a plain mixture of unit vectors every interest is as sure of itself as any other, whatever it was made of. Here a vague one can be
    quiet. The weight is part of the vector that is searched with, w_k v_k, so that serving, which merges interests by score, weighs them
    as training does.

    Source: no paper; this project's own.

    Args:
        hidden_dimension: Width of the weights' hidden layer; None takes d.

    Raises:
        ValueError: ``hidden_dimension`` below 1.
    """

    SUMS_INTERESTS: ClassVar[bool] = True

    def __init__(self, hidden_dimension: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, hidden_dimension=hidden_dimension)

    def build(self, input_shape: Any) -> None:
        """Create W [2 d, hidden], b and u [hidden], in float32."""
        width = int(input_shape[-1])
        hidden = self.hidden_dimension or width
        for name, shape, start in (
            ("kernel", [2 * width, hidden], "glorot_uniform"),
            ("bias", [hidden], "zeros"),
            ("weights_kernel", [hidden], "zeros"),
        ):
            setattr(self, name, self.add_weight(name, shape, initializer=start, experimental_autocast=False))
        super().build(input_shape)

    def call(self, interests: tf.Tensor, active: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Weigh the interests.

        Args:
            interests: [B, K, d].
            active: bool [B, K].
            target: [B, d]; changes nothing here.

        Returns:
            Queries [B, K, d].
        """
        vectors, known = tf.cast(interests, tf.float32), tf.cast(active, tf.float32)[..., None]
        mean = tf.math.divide_no_nan(tf.reduce_sum(vectors * known, axis=1, keepdims=True), tf.reduce_sum(known, axis=1, keepdims=True))
        inputs = tf.concat([vectors, tf.broadcast_to(mean, tf.shape(vectors))], axis=-1)
        hidden = tf.tanh(tf.tensordot(inputs, self.kernel, axes=1) + self.bias)  # [B, K, hidden]
        weights = 2 * tf.sigmoid(tf.tensordot(hidden, self.weights_kernel, axes=1))  # [B, K]
        return tf.cast(vectors * weights[..., None], interests.dtype)

    def serve(self, interests: tf.Tensor, active: tf.Tensor, output: InterestOutput) -> tuple[tf.Tensor, tf.Tensor]:
        """The weighted interests; see ``Readout``."""
        del output
        return self(interests, active, interests[:, 0]), active

    @property
    def serves_interests(self) -> bool:
        """Interest k is served as interest k, longer or shorter."""
        return True
