"""MTAW: one interest, the trend that attention finds among a user's instant interests."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.attention.click_attention import single_interest, weighted_sum
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, masked_softmax, num_real_items
from tfmi.layers.common.arguments import require_choice
from tfmi.layers.common.length_groups import LengthGroups
from tfmi.layers.common.positions import not_newer
from tfmi.layers.sequence_encoders.sequence_encoder import EncodedSequence, build_encoder, built, describe_encoder, every_state, newest_item

# Training reads a batch of at least so many histories in groups of like lengths.
_GROUPED_FROM = 64
_NUM_GROUPS = 4


@EXTRACTORS.register("interest_trend")
class InterestTrend(InterestExtractor):
    r"""The interest enhancing layer on top of the interest tracking layer: one mean of the instant interests, as a single interest::

        s[1..n] = interest tracking layer                                  [B, L, d]
        Q = relu(W_e s[n] + b_e)                                            [B, d]
        beta = softmax over l of Q . s[l] / sqrt(d)                         [B, L]
        u = sum over l of beta[l] s[l]                                      [B, 1, d]

    An empty history gives 0. ``weights`` says how much of each item arrives through both attentions: beta times the tracking layer's
    weights. ``internals`` holds beta, ``"trend"``, float32 [B, 1, L].

    Paper: Ouyang et al., "Mining Interest Trends and Adaptively Assigning Sample Weight for Session-based Recommendation", SIGIR 2023
    (MTAW). It does not define Q; the newest instant interest is the query, as the newest item is in the tracking layer.

    Example:
        >>> InterestTrend()(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 1, 8])

    Args:
        query: The query: the "newest" instant interest, or their "mean".
        encoder: The tracking layer, ``{"name": "interest_tracking", parameter: value, ...}`` (see ``InterestTrackingEncoder``), or
            another sequence encoder whose states are as wide as the items. None takes the tracking layer with its defaults.
        seed: Seed of the encoder's dropout.

    Raises:
        ValueError: An argument out of its range, states of another width than the items, or a history longer than the encoder's positions.
    """

    num_interests = 1

    def __init__(
        self,
        *,
        query: Literal["newest", "mean"] = "newest",
        encoder: dict[str, Any] | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_choice(("newest", "mean"), query=query)
        self.encoder = build_encoder(encoder or {"name": "interest_tracking"}, seed, name="encoder")

    def get_config(self) -> dict[str, Any]:
        """See ``ConfiguredLayer``; with the encoder's description."""
        return {**super().get_config(), "encoder": describe_encoder(self.encoder)}

    def build(self, input_shape: Any) -> None:
        """Create the tracking layer's weights, W_e [d, d] and b_e [d]."""
        dimension = int(input_shape[-1])
        width = self.encoder.state_dimension(dimension)
        if width != dimension:
            raise ValueError(f"encoder: expected states of the items' width, {dimension}, got {width}")
        built(self.encoder, input_shape)
        self.query_layer = built(tf.keras.layers.Dense(dimension, activation="relu", name="query"), [None, dimension])
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, every_item: bool = False) -> InterestOutput:
        """Read a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            training: Whether dropout is on.
            every_item: Return the interest after every item.

        Returns:
            One interest, [B, 1, d], or [B, L, 1, d].
        """
        if every_item:
            return self._after_every_item(history, mask, training)
        if not training or (history.shape[0] or 0) < _GROUPED_FROM:
            interests, active, weights, trend = self._read(history, mask, training)
            return InterestOutput(interests, active, weights, {"trend": trend})
        groups = LengthGroups(mask, _NUM_GROUPS)
        read = [self._read(part, part_mask, training) for part, part_mask in zip(groups.histories(history), groups.masks, strict=True)]
        interests, active, weights, trend = zip(*read, strict=True)
        weights, trend = ([_padded(part, tf.shape(mask)[1]) for part in parts] for parts in (weights, trend))
        return InterestOutput(groups.joined(interests), groups.joined(active), groups.joined(weights), {"trend": groups.joined(trend)})

    @property
    def why_not_every_item(self) -> str | None:
        """Positions counted from the newest item change with every item that follows."""
        return self.encoder.why_not_causal

    def _after_every_item(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None) -> InterestOutput:
        states, tracking = self.encoder(history, mask, training=training)  # [B, L, d], [B, L, L]
        allowed = mask[:, None, :] & not_newer(mask)  # [B, L, L]
        asking = states
        if self.query == "mean":
            upto = tf.cast(allowed, tf.float32)
            means = tf.matmul(tf.math.divide_no_nan(upto, tf.reduce_sum(upto, axis=2, keepdims=True)), tf.cast(states, tf.float32))
            asking = tf.cast(means, states.dtype)
        queries = tf.cast(self.query_layer(asking), tf.float32)  # [B, L, d]
        trend = masked_softmax(tf.matmul(queries, tf.cast(states, tf.float32), transpose_b=True) * states.shape[-1] ** -0.5, allowed)
        interests = tf.cast(tf.matmul(trend, tf.cast(states, tf.float32)), states.dtype)
        output = every_state(EncodedSequence(interests, tf.matmul(trend, tracking)))
        return output._replace(internals={"trend": trend[:, :, None, :]})

    def _read(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """The interest [B, 1, d], whether it is active [B, 1], how much of each item is in it and the trend, both [B, 1, L]."""
        states, tracking = self.encoder(history, mask, training=training)  # [B, L, d], [B, L, L]
        queries = tf.cast(self.query_layer(self._asking(states, mask)), tf.float32)[:, None, :]  # [B, 1, d]
        logits = tf.matmul(queries, tf.cast(states, tf.float32), transpose_b=True) * states.shape[-1] ** -0.5  # [B, 1, L]
        trend = masked_softmax(logits, mask[:, None, :])
        interests, active = single_interest(weighted_sum(trend[:, 0], states), mask)
        return interests, active, tf.matmul(trend, tracking), trend

    def _asking(self, states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """[B, d]: the instant interest that is the query."""
        if self.query == "newest":
            return tf.matmul(newest_item(mask, states.dtype), states)[:, 0]
        each = tf.math.reciprocal_no_nan(tf.cast(num_real_items(mask), tf.float32))[:, None]  # [B, 1]
        return weighted_sum(each * tf.cast(mask, tf.float32), states)


def _padded(weights: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """``weights`` [b, 1, l] with zeros up to ``length``."""
    return tf.pad(weights, [[0, 0], [0, 0], [0, length - tf.shape(weights)[2]]])
