"""Causal convolutions with holes over a history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, RealItems
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.sequence_encoders.sequence_encoder import (
    ENCODERS,
    ONLY_THE_STATE_READ,
    EncodedSequence,
    SequenceEncoder,
    built,
    layer_norm,
    newest_item,
)


class CausalConvolution(ConfiguredLayer):
    r"""A convolution that sees an item and older ones, ``dilation`` places apart::

        y[l] = b + sum over j = 0 .. width - 1 of x[l - j dilation] W[j]   [R, d], x = 0 before the oldest item

    Computed for the R real items alone.

    Args:
        width: How many items it sees.
        dilation: The distance between them.

    Raises:
        ValueError: An argument below 1.
    """

    def __init__(self, width: int = 3, dilation: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, width=width, dilation=dilation)

    def build(self, input_shape: Any) -> None:
        """Create W [width, d, d], the newest item's first, as one matrix [width d, d], and b [d]."""
        dimension = int(input_shape[-1])
        self.projection = built(tf.keras.layers.Dense(dimension, name="projection"), [None, self.width * dimension])
        super().build(input_shape)

    def call(self, items: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Convolve.

        Args:
            items: [R, d], the items of each user in order, users one after the other.
            positions: int [R]: the place of each among its user's items, from 0.

        Returns:
            [R, d].
        """
        rows = tf.range(tf.size(positions), dtype=positions.dtype)
        with_zero = tf.pad(items, [[1, 0], [0, 0]])  # what stands before the oldest item
        seen = [items]
        for step in range(1, self.width):
            distance = step * self.dilation
            seen.append(tf.gather(with_zero, tf.where(positions >= distance, rows - distance + 1, 0)))
        return self.projection(tf.concat(seen, axis=-1))


class ResidualConvolutionBlock(ConfiguredLayer):
    r"""Two causal convolutions, each with normalisation and ReLU, around which the input passes by::

        y = x + relu(LN(conv_{2 dilation}(relu(LN(conv_dilation(x))))))     [R, d]

    Paper: Yuan et al., "A Simple Convolutional Generative Network for Next Item Recommendation", WSDM 2019.

    Args:
        width: How many items a convolution sees.
        dilation: The distance between them in the first convolution; the second's is twice as large.

    Raises:
        ValueError: An argument below 1.
    """

    def __init__(self, width: int = 3, dilation: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convolutions = [CausalConvolution(width, factor * dilation, name=f"convolution_{factor}") for factor in (1, 2)]

    def build(self, input_shape: Any) -> None:
        """Create both convolutions and their normalisations."""
        for convolution in self.convolutions:
            built(convolution, input_shape)
        self.norms = [layer_norm(f"norm_{factor}", input_shape) for factor in (1, 2)]
        super().build(input_shape)

    def call(self, items: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Transform items [R, d]; arguments as in ``CausalConvolution``."""
        states = items
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            states = tf.nn.relu(norm(convolution(states, positions)))
        return items + states


@ENCODERS.register("dilated_convolution")
class DilatedConvolutionEncoder(SequenceEncoder):
    r"""Residual blocks of causal convolutions whose reach grows with their dilation, NextItNet's encoder::

        x = block_q(x) for each q of ``dilations``                          [B, L, d]

    A state knows the 1 + sum over q of (width - 1) 3 q items up to its own. It is not a mean of items: ``weights`` has 1 at its own item.

    Paper: Yuan et al., "A Simple Convolutional Generative Network for Next Item Recommendation", WSDM 2019 (NextItNet).

    Example:
        >>> DilatedConvolutionEncoder(dilations=[1])(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).states.shape
        TensorShape([1, 5, 8])

    Args:
        dilations: The dilation of each block's first convolution.
        width: How many items a convolution sees.

    Raises:
        ValueError: An argument below 1, or no blocks.
    """

    def __init__(self, dilations: Sequence[int] = (1, 4, 1, 4, 1, 4, 1, 4, 1, 4), *, width: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, number_of_dilations=len(dilations))
        self.dilations = tuple(dilations)
        self.blocks = [
            ResidualConvolutionBlock(width, dilation, name=f"block_{position}") for position, dilation in enumerate(self.dilations)
        ]

    @property
    def why_weights_are_constant(self) -> str:
        """They say which state is read."""
        return ONLY_THE_STATE_READ

    def build(self, input_shape: Any) -> None:
        """Create the blocks."""
        for block in self.blocks:
            built(block, [None, int(input_shape[-1])])
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, newest_only: bool = False, training: bool | None = None) -> EncodedSequence:
        """Read a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            newest_only: Return the newest item's state only.
            training: Changes nothing here.

        Returns:
            States [B, L, d], or [B, 1, d].
        """
        real = RealItems(mask)
        rows = real.rows(history)  # [R, d]
        for block in self.blocks:
            rows = block(rows, real.places[:, 1])
        states = real.spread(rows)  # [B, L, d]
        if newest_only:
            return EncodedSequence(tf.matmul(newest_item(mask, states.dtype), states), newest_item(mask))
        return EncodedSequence(states, tf.linalg.diag(tf.cast(mask, tf.float32)))
