"""The global graph of GCE-GNN: what every item was near to, in all training sessions, and attention over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, Sequences
from tfmi.layers.base import ConfiguredLayer, ItemLookup, RealItems, masked_softmax
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.common.initializers import uniform_noise

LEAKY_SLOPE = 0.2


def near_items(sequences: Sequences, num_rows: int, distance: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The items that stood most often within ``distance`` places of each item, before or after it, in all sequences.

    An item that comes again within the distance is its own neighbour. Ties go to the lower index, the more frequent item.

    Args:
        sequences: Training rows.
        num_rows: Rows of an item table.
        distance: Places.
        limit: M, neighbours kept per item.

    Returns:
        Neighbours int32 [num_rows, M], the most frequent first, 0 where there are fewer, and how often, float32 [num_rows, M].
    """
    items = sequences.items.astype(np.int64)
    rows = np.repeat(np.arange(len(sequences)), sequences.lengths())
    keys = []
    for places in range(1, distance + 1):
        earlier, later = items[:-places], items[places:]
        near = (rows[:-places] == rows[places:]) & (earlier >= FIRST_INDEX) & (later >= FIRST_INDEX)
        keys += [(earlier * num_rows + later)[near], (later * num_rows + earlier)[near]]
    pairs, counts = np.unique(np.concatenate(keys), return_counts=True)
    own, others = pairs // num_rows, pairs % num_rows
    order = np.lexsort((others, -counts, own))
    own, others, counts = own[order], others[order], counts[order]
    degrees = np.bincount(own, minlength=num_rows)
    ranks = np.arange(len(own)) - np.repeat(np.cumsum(degrees) - degrees, degrees)
    kept = ranks < limit
    neighbours, times = np.full([num_rows, limit], PADDING_INDEX, np.int32), np.zeros([num_rows, limit], np.float32)
    neighbours[own[kept], ranks[kept]] = others[kept]
    times[own[kept], ranks[kept]] = counts[kept]
    return neighbours, times


class GlobalGraphAttention(ConfiguredLayer):
    r"""The message to a click from the items that its item was near to in all training sessions, in view of its own session::

        pi[i, j] = w . leaky_relu(W_1 [m * e[j] ; n(i, j)])                 j one of at most M neighbours of item i
        g[i] = sum over j of softmax_j(pi[i, j]) e[j]                       0 for an item without neighbours
        h[i] = relu(W_2 dropout([x[i] ; g[i]]))

    m is the mean of the session, n(i, j) how often j stood within ``distance`` places of i (``near_items``), * the elementwise product and
    the slope of the leaky part 0.2. One hop: neighbours come as their item vectors e are.

    Paper: Wang et al., "Global Context Enhanced Graph Neural Networks for Session-based Recommendation", SIGIR 2020 (GCE-GNN). Its
    published code fills up short lists of neighbours by drawing from them again; here they stay short.

    Args:
        num_rows: Rows of an item table; needed before ``adapt`` and when the layer is built.
        neighbours: M.
        distance: How far apart in a sequence neighbours may stand.
        log_counts: Take log(1 + n) for n, which is not bounded.
        dropout: Dropout before W_2.
        seed: Seed of the dropout.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        num_rows: int | None = None,
        *,
        neighbours: int = 12,
        distance: int = 3,
        log_counts: bool = False,
        dropout: float = 0.6,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_rows=num_rows, neighbours=neighbours, distance=distance)
        self.joined_dropout = ElementDropout(dropout, seed=seed, dtype="float32")
        if num_rows is not None:
            # No item has a neighbour until ``adapt`` has counted.
            self.near = tf.Variable(np.full([num_rows, neighbours], PADDING_INDEX, np.int32), trainable=False, name="near")
            self.times = tf.Variable(np.zeros([num_rows, neighbours], np.float32), trainable=False, name="times")

    def adapt(self, sequences: Sequences, num_rows: int) -> None:
        """Count which items were near each other; see ``AdaptsToSequences``."""
        near, times = near_items(sequences, num_rows, self.distance, self.neighbours)
        self.near.assign(near)
        self.times.assign(times)

    def build(self, input_shape: Any) -> None:
        """Create W_1 as [d, d] and [1, d], w [d, 1] and W_2 [2 d, d]."""
        if self.num_rows is None:
            raise ValueError("num_rows: required, because the layer has a list of neighbours for each item")
        width = int(input_shape[-1])
        for name, shape in {
            "likeness_kernel": [width, width],
            "count_kernel": [1, width],
            "logit_kernel": [width, 1],
            "output_kernel": [2 * width, width],
        }.items():
            setattr(self, name, self.add_weight(name, shape, initializer=uniform_noise(width)))
        super().build(input_shape)

    def call(
        self, clicks: tf.Tensor, indices: tf.Tensor, session_means: tf.Tensor, items: ItemLookup, training: bool | None = None
    ) -> tf.Tensor:
        """Pass messages from neighbours.

        Args:
            clicks: x [R, d], the item vectors of clicks.
            indices: int32 [R], which items these are.
            session_means: m [R, d], of each click's session.
            items: Where the vectors of neighbours come from.
            training: Whether dropout is on.

        Returns:
            h [R, d].
        """
        near, times = tf.gather(self.near, indices), tf.gather(self.times, indices)  # [R, M]
        real = RealItems(near >= FIRST_INDEX)
        vectors = tf.cast(items.embed(real.rows(near), training=training), clicks.dtype)  # [Q, d], of all neighbours
        counts = real.rows(tf.math.log1p(times) if self.log_counts else times)
        likeness = tf.matmul(tf.gather(session_means, real.places[:, 0]) * vectors, self.likeness_kernel)
        hidden = tf.nn.leaky_relu(likeness + tf.cast(counts, clicks.dtype)[:, None] * self.count_kernel, LEAKY_SLOPE)
        logits = real.spread(tf.matmul(hidden, self.logit_kernel))[..., 0]  # [R, M]
        weights = masked_softmax(logits, real.mask)
        received = tf.cast(tf.matmul(weights[:, None, :], tf.cast(real.spread(vectors), tf.float32))[:, 0], clicks.dtype)  # [R, d]
        joined = self.joined_dropout(tf.concat([clicks, received], axis=-1), training=training)
        return tf.nn.relu(tf.matmul(joined, self.output_kernel))
