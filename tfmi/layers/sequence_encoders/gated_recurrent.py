"""Gated recurrent units over a history."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import zero_padding
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.sequence_encoders.sequence_encoder import (
    ENCODERS,
    ONLY_THE_STATE_READ,
    EncodedSequence,
    SequenceEncoder,
    built,
    newest_item,
)


@ENCODERS.register("gru")
class GatedRecurrentEncoder(SequenceEncoder):
    r"""One layer of gated recurrent units: item l's state sums up the items up to l::

        z = sigmoid(U_z e[l] + V_z s[l-1])                                      update gate
        r = sigmoid(U_r e[l] + V_r s[l-1])                                      reset gate
        s[l] = z * s[l-1] + (1 - z) * tanh(U e[l] + r * (V s[l-1]))             [B, h], s[-1] = 0

    where ``use_bias`` adds a bias to every product. Padding stands after the items, so no state that is used has seen it, and the layer
    runs without a mask: the faster kernels on every device. A state is not a mean of items: ``weights`` has 1 at its own item.

    Paper: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation", EMNLP 2014; the
    reset gate acts after the product, as in cuDNN.

    Example:
        >>> GatedRecurrentEncoder(hidden_dimension=8)(tf.ones([1, 5, 4]), tf.ones([1, 5], tf.bool)).states.shape
        TensorShape([1, 5, 8])

    Args:
        hidden_dimension: h, the width of the state; None takes d.
        use_bias: Add biases. Without them a GPU runs the slower kernel.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, hidden_dimension: int | None = None, *, use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, hidden_dimension=hidden_dimension)

    def state_dimension(self, dimension: int) -> int:
        """h."""
        return self.hidden_dimension or dimension

    @property
    def why_weights_are_constant(self) -> str:
        """They say which state is read."""
        return ONLY_THE_STATE_READ

    def build(self, input_shape: Any) -> None:
        """Create the kernels [d, 3 h] and [h, 3 h], and the biases [2, 3 h]."""
        cell = tf.keras.layers.GRU(
            self.state_dimension(int(input_shape[-1])),
            use_bias=self.use_bias,
            recurrent_initializer="glorot_uniform",
            return_sequences=True,
            name="cell",
        )
        self.cell = built(cell, input_shape)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, newest_only: bool = False, training: bool | None = None) -> EncodedSequence:
        """Read a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            newest_only: Return the newest item's state only.
            training: Changes nothing here.

        Returns:
            States [B, L, h], or [B, 1, h].
        """
        states = self.cell(zero_padding(history, mask))  # [B, L, h]
        if newest_only:
            return EncodedSequence(tf.matmul(newest_item(mask, states.dtype), states), newest_item(mask))
        return EncodedSequence(zero_padding(states, mask), tf.linalg.diag(tf.cast(mask, tf.float32)))
