"""xDeepFM's compressed interaction network: explicit products of fields of bounded degree, vector by vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.arguments import require_at_least, require_choice


class CompressedInteraction(ConfiguredLayer):
    r"""Maps of products of fields, of one degree more at every level::

        X^0     = the F fields                                                                     [B, F, d]
        X^k_h   = act( sum over i, j of  W^k_h,ij (X^(k-1)_i * X^0_j)  + b^k_h )                   [B, H_k, d]
        output  = the sums over d of all X^k_h                                                     [B, sum of H_k]

    ``*`` is elementwise. With ``split_half`` the first half of a level's maps goes up to the next level and only the second half to the
    output; the last level's maps all go to the output. The published network has act the identity and splits; many use ReLU.
    Computed in float32: products of three small numbers are nothing in float16.

    Paper: Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems", KDD 2018.

    Example:
        >>> CompressedInteraction([4, 3])(tf.ones([2, 5, 8])).shape
        TensorShape([2, 7])

    Args:
        map_sizes: H_k, the number of maps of each level.
        activation: act, "relu" or "identity".
        split_half: Whether a level's maps are split between the next level and the output.
        seed: Seed of the initial weights.

    Raises:
        ValueError: No level, or an argument out of its range.
    """

    def __init__(
        self,
        map_sizes: Sequence[int] = (64, 64),
        activation: Literal["relu", "identity"] = "relu",
        split_half: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not map_sizes:
            raise ValueError("map_sizes: expected at least one level")
        for size in map_sizes:
            require_at_least(1, map_sizes=size)
        require_choice(("relu", "identity"), activation=activation)
        if split_half and any(size % 2 for size in map_sizes[:-1]):
            raise ValueError(f"map_sizes: expected even sizes before the last for split_half, got {list(map_sizes)}")
        self.map_sizes = tuple(map_sizes)

    @property
    def output_width(self) -> int:
        """Width of the output: the number of maps that are pooled."""
        *inner, last = self.map_sizes
        return sum(size // 2 if self.split_half else size for size in inner) + last

    def build(self, input_shape: Any) -> None:
        """Create W^k as [H_(k-1) F, H_k] and b^k [H_k] for every level."""
        num_fields = int(input_shape[1])
        below = num_fields
        self.kernels, self.biases = [], []
        for level, size in enumerate(self.map_sizes):
            initializer = tf.keras.initializers.GlorotUniform(seed=self.seed + level)
            self.kernels.append(
                self.add_weight(f"kernel_{level}", [below * num_fields, size], initializer=initializer, experimental_autocast=False)
            )
            self.biases.append(self.add_weight(f"bias_{level}", [size], initializer="zeros", experimental_autocast=False))
            below = size // 2 if self.split_half else size
        super().build(input_shape)

    def call(self, fields: tf.Tensor) -> tf.Tensor:
        """Interact and pool.

        Args:
            fields: [B, F, d], 0 where a field is missing.

        Returns:
            [B, sum of H_k], or less where maps are split.
        """
        # With the fields last, a level is a matrix product over pairs, and no copy per map is ever made.
        first = tf.transpose(tf.cast(fields, tf.float32), [0, 2, 1])  # [B, d, F]
        maps, pooled = first, []
        for level, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            products = maps[:, :, :, None] * first[:, :, None, :]  # [B, d, H_(k-1), F]
            # One large product: as B small ones, the gradient of the kernel would exist B times before it is summed.
            pairs = tf.reshape(products, [-1, kernel.shape[0]])
            maps = tf.reshape(tf.matmul(pairs, kernel) + bias, [-1, *first.shape[1:2], kernel.shape[1]])  # [B, d, H_k]
            if self.activation == "relu":
                maps = tf.nn.relu(maps)
            output = maps
            if self.split_half and level < len(self.map_sizes) - 1:
                maps, output = tf.split(maps, 2, axis=-1)
            pooled.append(tf.reduce_sum(output, axis=1))
        return tf.cast(tf.concat(pooled, axis=-1), self.compute_dtype)
