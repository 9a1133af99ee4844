"""ComiRec-SA's attention over items that know their context."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestOutput, zero_padding
from tfmi.layers.common.arguments import require_choice
from tfmi.layers.extractors.multi_interest.self_attention import SelfAttentiveInterests
from tfmi.layers.sequence_encoders.sequence_encoder import build_encoder, built


@EXTRACTORS.register("contextual_self_attentive")
class ContextualSelfAttentiveInterests(SelfAttentiveInterests):
    r"""K weighted means of a history, whose weights come from a sequence encoder's states instead of from the items alone::

        S = encoder(H)                                                     [B, L, d]
        A = softmax over items of tanh(S W1) W2                            [B, L, K]
        V = A^T H, or A^T S                                                [B, K, d]

    In ComiRec-SA an item's weight depends on that item and its position only. Here it also depends on what else is in the history: the
    second item of a kind can be told from the first, and a recent change of mind from an old habit. With ``values: items`` every
    interest still lies in the convex hull of the history, where the items to be found are; with ``values: states`` it is a
    multi-interest version of the encoder's own system, SASRec or GRU4Rec. An empty history gives zeros. All K interests are active.

    ``internals`` are those of ``self_attentive``.

    Source: no paper; this project's own combination of ComiRec-SA (Cen et al., KDD 2020) with the encoders of GRU4Rec and SASRec.

    Example:
        >>> layer = ContextualSelfAttentiveInterests(num_interests=2, encoder={"name": "gru"})
        >>> layer(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 2, 8])

    Args:
        num_interests: K.
        encoder: The sequence encoder, ``{"name": ..., parameter: value, ...}``: "transformer" (see ``TransformerEncoder``), "gru"
            (``GatedRecurrentEncoder``), "dilated_convolution" (``DilatedConvolutionEncoder``) or "interest_tracking"
            (``InterestTrackingEncoder``). Its states have to be as wide as the items. None takes one transformer block.
        values: What an interest is a mean of: the "items" or their "states".
        hidden_dimension: Width of the attention's hidden layer; None takes 4 d.
        seed: Seed of the encoder's dropout.

    Raises:
        ValueError: An argument out of its range, states of another width than the items, or a history longer than the encoder's positions.
    """

    def __init__(
        self,
        num_interests: int = 4,
        *,
        encoder: dict[str, Any] | None = None,
        values: Literal["items", "states"] = "items",
        hidden_dimension: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_interests, hidden_dimension=hidden_dimension, positions="none", **kwargs)
        require_choice(("items", "states"), values=values)
        self.sequence_encoder = build_encoder(encoder or {"name": "transformer", "num_blocks": 1}, seed)

    @property
    def why_not_every_item(self) -> str | None:
        """Where the encoder's states depend on newer items."""
        return self.sequence_encoder.why_not_causal

    def build(self, input_shape: Any) -> None:
        """Create the encoder's weights, W1 [d, hidden] and W2 [hidden, K]."""
        dimension = int(input_shape[-1])
        width = self.sequence_encoder.state_dimension(dimension)
        if width != dimension:
            raise ValueError(f"encoder: expected states of the items' width, {dimension}, got {width}")
        built(self.sequence_encoder, input_shape)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, every_item: bool = False) -> InterestOutput:
        """Attend to a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            training: Whether the encoder's dropout is on.
            every_item: Return the interests after every item.

        Returns:
            Interests [B, K, d], or [B, L, K, d].
        """
        history = zero_padding(history, mask)
        states = self.sequence_encoder(history, mask, training=training).states
        return self._attend(states, history if self.values == "items" else states, mask, every_item)
