"""NARM: one interest, what a recurrent network remembers at the newest item beside what attention finds among its states."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.attention.click_attention import ClickAttention, shares, single_interest, weighted_sum
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.sequence_encoders.gated_recurrent import GatedRecurrentEncoder
from tfmi.layers.sequence_encoders.sequence_encoder import built, newest_item


@EXTRACTORS.register("neural_attentive")
class NeuralAttentiveInterest(InterestExtractor):
    r"""The last state of gated recurrent units (the session as a whole) and a weighted sum of all (its purpose), as a single interest::

        h[1..n] = GRU(e[1..n]),  c_g = h[n]                                [B, h]
        alpha[l] = v . sigmoid(A_1 h[l] + A_2 h[n])                         [B, L], not normalised
        c_l = sum over l of alpha[l] h[l]                                   [B, h]
        u = B dropout([c_l ; c_g])                                          [B, 1, d]

    without biases. An empty history gives 0. ``weights`` is each alpha's share of their sizes; ``internals`` holds the signed
    ``"attention"``, float32 [B, 1, L].

    The paper scores items by a bilinear form, which is B; its dropout of the item vectors is the model's ``history_dropout``.

    Paper: Li et al., "Neural Attentive Session-based Recommendation", CIKM 2017 (NARM).

    Example:
        >>> NeuralAttentiveInterest(hidden_dimension=16)(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 1, 8])

    Args:
        hidden_dimension: h, the width of the states; None takes d.
        dropout: Dropout of [c_l ; c_g].
        softmax: Take a softmax of alpha over the items, so that c_l is a mean.
        use_bias: Add biases in the recurrent units.
        seed: Seed of the dropout.

    Raises:
        ValueError: An argument out of its range.
    """

    num_interests = 1

    def __init__(
        self,
        hidden_dimension: int | None = None,
        *,
        dropout: float = 0.5,
        softmax: bool = False,
        use_bias: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, hidden_dimension=hidden_dimension)
        self.encoder = GatedRecurrentEncoder(hidden_dimension, use_bias=use_bias, name="encoder")
        self.attention = ClickAttention(softmax=softmax, name="attention")
        self.joined_dropout = ElementDropout(dropout, seed=seed)

    def build(self, input_shape: Any) -> None:
        """Create the units, A_1 and A_2 [h, h], v [h, 1] and B [2 h, d]."""
        dimension = int(input_shape[-1])
        width = self.encoder.state_dimension(dimension)
        built(self.encoder, input_shape)
        built(self.attention, [None, None, width])
        self.projection = built(tf.keras.layers.Dense(dimension, use_bias=False, name="projection"), [None, 2 * width])
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> InterestOutput:
        """Read a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            training: Whether dropout is on.

        Returns:
            One interest, [B, 1, d].
        """
        states = self.encoder(history, mask, training=training).states  # [B, L, h]
        whole = tf.matmul(newest_item(mask, states.dtype), states)[:, 0]  # [B, h]
        alpha = self.attention(states, mask, [whole])
        joined = tf.concat([weighted_sum(alpha, states), whole], axis=-1)
        interests, active = single_interest(self.projection(self.joined_dropout(joined, training=training)), mask)
        return InterestOutput(interests, active, shares(alpha), {"attention": alpha[:, None, :]})
