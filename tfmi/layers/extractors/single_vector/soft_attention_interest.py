"""One interest: soft attention over the clicks of a session."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.attention.click_attention import shares, single_interest
from tfmi.layers.attention.soft_attention import SoftAttention
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, zero_padding
from tfmi.layers.sequence_encoders.sequence_encoder import built


@EXTRACTORS.register("soft_attention")
class SoftAttentionInterest(InterestExtractor):
    """The sum of a session's item vectors, weighed by ``SoftAttention``, as a single interest.

    It has no layer between the items and the sum: what items know of each other comes with their vectors, as from an item tower that
    propagates them. An empty history gives 0. ``weights`` is each beta's share of their sizes; ``internals`` holds the signed
    ``"attention"``, float32 [B, 1, L].

    Paper: Xia et al., "Self-Supervised Hypergraph Convolutional Networks for Session-based Recommendation", AAAI 2021 (DHCN).

    Example:
        >>> SoftAttentionInterest()(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 1, 8])

    Args:
        positions, max_length: As in ``SoftAttention``.

    Raises:
        ValueError: An argument out of its range.
    """

    num_interests = 1

    def __init__(self, positions: Literal["newest", "none"] = "newest", max_length: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = SoftAttention(positions, max_length, name="attention")

    def build(self, input_shape: Any) -> None:
        """Create the attention's weights."""
        built(self.attention, input_shape)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> InterestOutput:
        """Read a session.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            training: Changes nothing here.

        Returns:
            One interest, [B, 1, d].
        """
        interest, beta = self.attention(zero_padding(history, mask), mask)
        interests, active = single_interest(interest, mask)
        return InterestOutput(interests, active, shares(beta), {"attention": beta[:, None, :]})
