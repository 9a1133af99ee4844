"""Initial values of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="tfmi")
class NearIdentity(tf.keras.initializers.Initializer):
    """Normal noise around a multiple of the identity, for square maps between vectors of one space.

    A routing layer that starts with random maps turns items into random directions, and has to learn the way back to them. One that
    starts near the identity begins with sums of the items themselves.

    Args:
        identity: What stands on the diagonal; 0 for plain noise.
        deviation: Standard deviation of the noise.
        input_axis, output_axis: The two axes, of equal width, between which the maps go; all others enumerate maps.
    """

    def __init__(self, identity: float, deviation: float, input_axis: int = 0, output_axis: int = 1) -> None:
        self.identity, self.deviation = identity, deviation
        self.input_axis, self.output_axis = input_axis, output_axis

    def __call__(self, shape: Sequence[int], dtype: tf.DType | None = None, **kwargs: Any) -> tf.Tensor:
        """Values of the given shape."""
        noise = tf.keras.initializers.RandomNormal(stddev=self.deviation)(shape, dtype=dtype, **kwargs)
        width = int(shape[self.input_axis])
        axes = {self.input_axis, self.output_axis}
        diagonal = tf.reshape(tf.eye(width, dtype=noise.dtype), [width if axis in axes else 1 for axis in range(len(shape))])
        return noise + self.identity * diagonal

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("identity", "deviation", "input_axis", "output_axis")
        return {name: getattr(self, name) for name in names}


def initial_noise(deviation: float | None) -> tf.keras.initializers.Initializer:
    """Normal noise of a standard deviation, or, for None, Glorot's uniform noise, whose width follows the matrix's shape.

    Each matrix needs one of its own: an initialiser without a seed repeats itself.
    """
    return tf.keras.initializers.GlorotUniform() if deviation is None else tf.keras.initializers.RandomNormal(stddev=deviation)


def uniform_noise(dimension: int) -> tf.keras.initializers.Initializer:
    """Uniform noise within 1 / sqrt(dimension), whatever the weight's own shape: the start of session-graph networks.

    Each weight needs one of its own, as above.
    """
    return tf.keras.initializers.RandomUniform(-(dimension**-0.5), dimension**-0.5)
