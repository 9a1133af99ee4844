"""GCE-GNN: one interest, attention over clicks that know their session's graph and the graph of all sessions."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.data.dataset import Sequences
from tfmi.layers.attention.click_attention import shares, single_interest, weighted_sum
from tfmi.layers.attention.soft_attention import SoftAttention
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, ItemLookup, RealItems, num_real_items, zero_padding
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.graph.global_graph import GlobalGraphAttention
from tfmi.layers.graph.typed_graph import TypedGraphAttention
from tfmi.layers.sequence_encoders.sequence_encoder import built


@EXTRACTORS.register("global_context")
class GlobalContextInterest(InterestExtractor):
    r"""Clicks after message passing in their session and in all training sessions, summed by soft attention as a single interest::

        h = dropout(typed graph attention) + dropout(global graph attention)          [B, L, d]
        u = soft attention over h, with positions that count from the newest click     [B, 1, d]

    An empty history gives 0. ``weights`` is each beta's share of their sizes: what messages brought is not in it. ``internals``
    holds the signed ``"attention"``, float32 [B, 1, L].

    Paper: Wang et al., "Global Context Enhanced Graph Neural Networks for Session-based Recommendation", SIGIR 2020 (GCE-GNN).

    Args:
        num_rows: Rows of the item table. The model gives its own; needed when the layer is built.
        neighbours, distance, log_counts: As in ``GlobalGraphAttention``.
        graph_dropout: Dropout within the global graph attention.
        session_dropout, global_dropout: Dropout of the messages within the session, and from all sessions.
        max_length: Longest history that will ever be given; None takes that of the first call.
        seed: Seed of the dropouts.

    Raises:
        ValueError: An argument out of its range.
    """

    num_interests = 1

    def __init__(
        self,
        num_rows: int | None = None,
        *,
        neighbours: int = 12,
        distance: int = 3,
        log_counts: bool = False,
        graph_dropout: float = 0.6,
        session_dropout: float = 0.5,
        global_dropout: float = 0.5,
        max_length: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Their attention multiplies items by items, which float16 would overflow.
        self.in_session = TypedGraphAttention(dtype="float32", name="in_session")
        self.in_all_sessions = GlobalGraphAttention(
            num_rows,
            neighbours=neighbours,
            distance=distance,
            log_counts=log_counts,
            dropout=graph_dropout,
            seed=seed,
            dtype="float32",
            name="in_all_sessions",
        )
        self.dropped_session = ElementDropout(session_dropout, seed=seed + 1, dtype="float32")
        self.dropped_global = ElementDropout(global_dropout, seed=seed + 2, dtype="float32")
        self.attention = SoftAttention("newest", max_length, name="attention")

    def adapt(self, sequences: Sequences, num_rows: int) -> None:
        """Count the global graph of the training data; see ``AdaptsToSequences``."""
        self.in_all_sessions.adapt(sequences, num_rows)

    def build(self, input_shape: Any) -> None:
        """Create the weights of the three attentions."""
        for layer in (self.in_session, self.in_all_sessions, self.attention):
            built(layer, input_shape)
        super().build(input_shape)

    def call(
        self, history: tf.Tensor, mask: tf.Tensor, history_indices: tf.Tensor, items: ItemLookup, training: bool | None = None
    ) -> InterestOutput:
        """Read a session.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            history_indices: int32 [B, L], which items these are.
            items: Where the vectors of other items come from.
            training: Whether dropout is on.

        Returns:
            One interest, [B, 1, d].
        """
        vectors = tf.cast(zero_padding(history, mask), tf.float32)
        from_session = self.in_session(vectors, mask, history_indices)  # [B, L, d]
        real = RealItems(mask)
        lengths = tf.maximum(num_real_items(mask), 1)
        means = weighted_sum(tf.cast(mask, tf.float32) / tf.cast(lengths, tf.float32)[:, None], vectors)  # [B, d]
        means_of_clicks = tf.gather(means, real.places[:, 0])
        from_all = self.in_all_sessions(real.rows(vectors), real.rows(history_indices), means_of_clicks, items, training=training)  # [R, d]
        dropped = self.dropped_session(from_session, training=training)
        states = tf.cast(dropped + real.spread(self.dropped_global(from_all, training=training)), history.dtype)
        interest, beta = self.attention(states, mask)
        interests, active = single_interest(interest, mask)
        return InterestOutput(interests, active, shares(beta), {"attention": beta[:, None, :]})
