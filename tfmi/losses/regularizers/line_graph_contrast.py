"""DHCN's second view: message passing among sessions of a batch that share items; both views should agree."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.attention.click_attention import weighted_sum
from tfmi.layers.base import InterestExtractor, num_real_items
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.randomness import RandomStream
from tfmi.losses.base import REGULARIZERS, BatchContext, Regularizer


def overlaps(history_indices: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """float32 [B, B]: the Jaccard similarity of the sets of items of every two histories int32 [B, L]; 1 on the diagonal."""
    batch = tf.shape(mask)[0]
    items, columns = tf.unique(tf.boolean_mask(history_indices, mask))
    rows = tf.cast(tf.where(mask)[:, 0], tf.int32)
    places = tf.stack([rows, columns], axis=1)
    counts = tf.scatter_nd(places, tf.ones_like(columns, tf.float32), [batch, tf.size(items)])
    sets = tf.minimum(counts, 1.0)  # [B, distinct items]
    shared = tf.matmul(sets, sets, transpose_b=True)
    sizes = tf.reduce_sum(sets, axis=1)
    jaccard = tf.math.divide_no_nan(shared, sizes[:, None] + sizes[None, :] - shared)
    return tf.linalg.set_diag(jaccard, tf.ones([batch]))


def line_graph_view(vectors: tf.Tensor, history_indices: tf.Tensor, mask: tf.Tensor, layers: int) -> tf.Tensor:
    """float32 [B, d]: session means, averaged with what they become in steps over the graph of ``overlaps``.

        A = overlaps, each row divided by its sum;    (X + A X + ... + A^layers X) / (layers + 1)

    Args:
        vectors: [B, L, d] item vectors.
        history_indices: int32 [B, L].
        mask: bool [B, L].
        layers: Steps.
    """
    lengths = tf.maximum(num_real_items(mask), 1)
    reached = weighted_sum(tf.cast(mask, tf.float32) / tf.cast(lengths, tf.float32)[:, None], tf.cast(vectors, tf.float32))
    similarities = overlaps(history_indices, mask)
    steps = similarities / tf.reduce_sum(similarities, axis=1, keepdims=True)
    total = reached
    for _ in range(layers):
        reached = tf.matmul(steps, reached)
        total += reached
    return total / (layers + 1)


@REGULARIZERS.register("line_graph_contrast")
class LineGraphContrast(Regularizer):
    r"""Contrasts what a session is scored by with a second view of it, from the sessions of its batch that share items with it.

    With a the session's only interest, b its ``line_graph_view``, and a~ the batch's interests with rows and columns shuffled::

        weight * sum over the batch of -log sigmoid(<a, b>) - log(1 - sigmoid(<a~, b>))

    The second view starts from item vectors as they are before any propagation. It is a sum, as published: the same weight does more in
    a larger batch.

    Paper: Xia et al., "Self-Supervised Hypergraph Convolutional Networks for Session-based Recommendation", AAAI 2021 (S2-DHCN; weights
    of 0.02 on Tmall and 0.01 on Diginetica in batches of 100).

    Args:
        weight: Weight in the total loss.
        layers: Steps of the second view.
        stop_gradient: Let the second view teach, but not learn, as the published code, whose second view no gradient reaches.
        seed: Seed of the shuffling.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, weight: float = 0.02, *, layers: int = 3, stop_gradient: bool = True, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        require_at_least(0, weight=weight, layers=layers)
        self._order = RandomStream(seed, "shuffled sessions")

    def check(self, extractor: InterestExtractor) -> None:
        """Refuse several interests: the second view is of a whole session."""
        if extractor.num_interests > 1:
            raise ValueError(
                f"line_graph_contrast contrasts a session's only interest, and {type(extractor).__name__} gives {extractor.num_interests}; "
                "take one interest, or leave it out"
            )

    def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
        """The weighted loss of a batch, a float32 scalar."""
        sessions = tf.cast(context.interests[:, 0], tf.float32)  # [B, d]
        vectors = context.history if context.unpropagated is None else context.unpropagated
        other_view = line_graph_view(vectors, context.history_indices, context.mask, self.layers)
        if self.stop_gradient:
            other_view = tf.stop_gradient(other_view)
        agreement = tf.reduce_sum(sessions * other_view, axis=1)
        confusion = tf.reduce_sum(self._shuffled(sessions, training) * other_view, axis=1)
        # -log sigmoid(x) is softplus(-x), and -log(1 - sigmoid(x)) is softplus(x).
        return self.weight * tf.reduce_sum(tf.nn.softplus(-agreement) + tf.nn.softplus(confusion))

    def _shuffled(self, sessions: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Rows and columns of [B, d] in random orders; outside of training moved by one, so that a measured loss repeats itself."""
        if not training:
            return tf.roll(sessions, [1, 1], axis=[0, 1])
        rows, columns = (tf.argsort(self._order.uniform([size])) for size in tf.unstack(tf.shape(sessions)))
        return tf.gather(tf.gather(sessions, rows), columns, axis=1)
