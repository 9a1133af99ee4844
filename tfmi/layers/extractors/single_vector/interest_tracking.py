"""MTAW's interest tracking layer: what a user is after at each click, given it and all before it."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import RealItems, masked_softmax, zero_padding
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.common.positions import PositionOrder, add_positions, not_newer
from tfmi.layers.common.slots import num_slots
from tfmi.layers.sequence_encoders.sequence_encoder import ENCODERS, EncodedSequence, SequenceEncoder, built, layer_norm, newest_item


@ENCODERS.register("interest_tracking")
class InterestTrackingEncoder(SequenceEncoder):
    r"""The instant interest at each item: attention of the item over itself and older ones, then a feed-forward network::

        x = e + P                                                          [B, L, d]
        q[l] = relu(W_q x[l] + b_q)
        A[l] = softmax over s <= l of q[l] . x[s] / sqrt(d)                 [B, L, L]
        t[l] = sum over s <= l of A[l, s] x[s]
        states[l] = LN(r[l] + dropout(W_2 relu(W_1 t[l] + b_1) + b_2))      [B, L, d], r = t or x

    Keys and values are the items themselves, so that t[0] is x[0]. The states' weights are A.

    Paper: Ouyang et al., "Mining Interest Trends and Adaptively Assigning Sample Weight for Session-based Recommendation", SIGIR 2023
    (MTAW). That there are dropout, a residual connection and a normalisation is in the paper; their order is a choice.

    Example:
        >>> InterestTrackingEncoder()(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).states.shape
        TensorShape([1, 5, 8])

    Args:
        positions: "oldest" numbers the positions from the oldest item of the window; "newest" from the newest item, so that one
            position always means the same age; "none" adds no positions.
        residual: r, what the feed-forward network's output is added to: the "tracked" t or the "item" x.
        dropout: Dropout of the feed-forward network's output.
        initializer_deviation: Standard deviation of the positions at the start; None takes 1 / sqrt(d).
        max_length: Longest history that will ever be given; None takes the length of the first input.
        seed: Seed of the dropout.

    Raises:
        ValueError: An argument out of its range, or a history longer than ``max_length``.
    """

    def __init__(
        self,
        *,
        positions: PositionOrder = "oldest",
        residual: Literal["tracked", "item"] = "tracked",
        dropout: float = 0.2,
        initializer_deviation: float | None = None,
        max_length: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(0, initializer_deviation=initializer_deviation)
        require_at_least(1, max_length=max_length)
        require_choice(("oldest", "newest", "none"), positions=positions)
        require_choice(("tracked", "item"), residual=residual)
        self.output_dropout = ElementDropout(dropout, seed=seed)

    def build(self, input_shape: Any) -> None:
        """Create P [max_length, d], W_q, W_1 and W_2 [d, d] with their biases, and the normalisation."""
        dimension = int(input_shape[-1])
        if self.positions != "none":
            deviation = dimension**-0.5 if self.initializer_deviation is None else self.initializer_deviation
            self.position_embeddings = self.add_weight(
                "position_embeddings",
                [num_slots(input_shape, self.max_length), dimension],
                initializer=tf.keras.initializers.RandomNormal(stddev=deviation),
            )
        rows = [None, dimension]
        self.query_layer = built(tf.keras.layers.Dense(dimension, activation="relu", name="query"), rows)
        self.inner_layer = built(tf.keras.layers.Dense(dimension, activation="relu", name="inner"), rows)
        self.outer_layer = built(tf.keras.layers.Dense(dimension, name="outer"), rows)
        self.norm = layer_norm("norm", rows)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, newest_only: bool = False, training: bool | None = None) -> EncodedSequence:
        """Read a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            newest_only: Return the newest item's state only, which spares the others' cost.
            training: Whether dropout is on.

        Returns:
            States [B, L, d], or [B, 1, d].
        """
        items = zero_padding(history, mask)
        if self.positions != "none":
            items = zero_padding(add_positions(items, mask, self.position_embeddings, self.positions), mask)  # x
        asking = RealItems(tf.reduce_any(mask, axis=1, keepdims=True) if newest_only else mask)  # [B, Q]
        allowed = mask[:, None, :] if newest_only else mask[:, None, :] & not_newer(mask)
        own = asking.rows(tf.matmul(newest_item(mask, items.dtype), items) if newest_only else items)  # [R, d]
        queries = tf.cast(asking.spread(self.query_layer(own)), tf.float32)  # products of long vectors leave float16
        logits = tf.matmul(queries, tf.cast(items, tf.float32), transpose_b=True) * items.shape[-1] ** -0.5
        weights = zero_padding(masked_softmax(logits, allowed), asking.mask)  # [B, Q, L]
        tracked = asking.rows(tf.matmul(tf.cast(weights, items.dtype), items))  # [R, d]
        transformed = self.output_dropout(self.outer_layer(self.inner_layer(tracked)), training=training)
        states = self.norm((tracked if self.residual == "tracked" else own) + transformed)
        return EncodedSequence(asking.spread(states), weights)
