"""PIMI's interactivity: items attend to their predecessor and to a centre node, which attends to all of them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, RealItems, masked_softmax
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.extractors.multi_interest.routing import couple


class StarAttention(ConfiguredLayer):
    r"""One round of messages along a history and through its centre, by multi-head attention with the same matrices for both::

        h[i] = relu(attention of h[i] to {h[i - 1], h[i], x[i], s})        each item
        s = relu(attention of s to {s, h[1], ..., h[L]})                   then the centre

    with x the items before the first round. No item sees its successor other than through the centre. Each head takes
    ceil(d / heads) columns, so that any d goes with any number of heads.

    Paper: Chen et al., "Exploring Periodicity and Interactivity in Multi-Interest Framework for Sequential Recommendation", IJCAI 2021;
    the star is that of Guo et al., "Star-Transformer", NAACL 2019.

    Args:
        num_heads: Attention heads.
        dropout: Dropout of attention weights.
        parity_padding: Attend to what is not there, too, as PIMI's published code does: the first item to a predecessor of zeros, and the
            centre to padding, so that the outcome depends on the amount of padding.
        seed: Seed of the dropout.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, num_heads: int = 4, *, dropout: float = 0.1, parity_padding: bool = False, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_heads=num_heads)
        self.weights_dropout = ElementDropout(dropout, seed=seed)

    def build(self, input_shape: Any) -> None:
        """Create the matrices of queries, keys and values, [d, w] each and side by side, that of the output, [w, d], and their biases."""
        dimension = int(input_shape[-1])
        self.head_dimension = -(-dimension // self.num_heads)
        width = self.num_heads * self.head_dimension
        # Glorot's range of each matrix by itself, not of the three side by side.
        limit = (6.0 / (dimension + width)) ** 0.5
        uniform = tf.keras.initializers.RandomUniform(-limit, limit)
        self.input_kernel = self.add_weight("input_kernel", [dimension, 3 * width], initializer=uniform)
        self.input_bias = self.add_weight("input_bias", [3 * width], initializer="zeros")
        self.output_kernel = self.add_weight("output_kernel", [width, dimension], initializer="glorot_uniform")
        self.output_bias = self.add_weight("output_bias", [dimension], initializer="zeros")
        super().build(input_shape)

    def call(
        self, items: tf.Tensor, context: tf.Tensor, centre: tf.Tensor | None, mask: tf.Tensor, training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Pass messages. Work is done for the R real items of the batch alone: short histories are mostly padding.

        Args:
            items: h [R, d], in the order of ``tf.where(mask)``.
            context: x [R, d], likewise.
            centre: s [B, d]; None leaves it out.
            mask: bool [B, L], True at real items.
            training: Whether dropout is on.

        Returns:
            The new h and s.
        """
        real = RealItems(mask)
        places = real.places  # [R, 2]
        queries, keys, values = self._project(items, 0, 3)
        seen = [[self._before(part, number, places) for number, part in [(1, keys), (2, values)]], [keys, values]]
        seen.append(self._project(context, 1, 3))
        itself = tf.ones_like(places[:, 1], tf.bool)  # [R]
        allowed = [itself if self.parity_padding else places[:, 1] > 0, itself, itself]
        if centre is not None:
            seen.append([tf.gather(part, places[:, 0]) for part in self._project(centre, 1, 3)])
            allowed.append(itself)
        logits = tf.stack([self._scores(queries, key) for key, _ in seen], axis=1)  # [R, S, H]
        weights = couple(logits, tf.stack(allowed, axis=1)[..., None])
        weights = tf.cast(self.weights_dropout(weights, training=training), items.dtype)
        items = self._output(tf.add_n([weights[:, source, :, None] * value for source, (_, value) in enumerate(seen)]))
        return items, None if centre is None else self._update_centre(centre, real.spread(items), mask, training)

    def _update_centre(self, centre: tf.Tensor, items: tf.Tensor, mask: tf.Tensor, training: bool | None) -> tf.Tensor:
        """The new s [B, d] from the old one and the new h [B, L, d], 0 at padding."""
        query, key, value = self._project(centre, 0, 3)  # [B, H, w / H]
        # One query a head: its matrices are applied to it, and to the sum of items that it asks for, instead of to every item.
        key_kernel, value_kernel = (self._part(self.input_kernel, number) for number in (1, 2))  # [d, H, w / H]
        key_bias, value_bias = (self._part(self.input_bias, number) for number in (1, 2))  # [H, w / H]
        projected = tf.einsum("bhe,dhe->bhd", query * self.head_dimension**-0.5, key_kernel)
        logits = tf.cast(tf.matmul(projected, items, transpose_b=True), tf.float32) + self._scores(query, key_bias)[..., None]  # [B, H, L]
        logits = tf.concat([self._scores(query, key)[..., None], logits], axis=2)  # [B, H, 1 + L]
        there = tf.concat([tf.ones_like(mask[:, :1]), tf.ones_like(mask) if self.parity_padding else mask], axis=1)
        weights = masked_softmax(logits, there[:, None, :])
        weights = tf.cast(self.weights_dropout(weights, training=training), items.dtype)
        of_centre, of_items = weights[..., :1], weights[..., 1:]
        message = tf.einsum("bhd,dhe->bhe", tf.matmul(of_items, items), value_kernel)
        message += tf.reduce_sum(of_items, axis=2, keepdims=True) * value_bias + of_centre * value
        return self._output(message)

    def _part(self, weight: tf.Tensor, number: int) -> tf.Tensor:
        """One of the three parts (queries, keys, values) of [..., 3 w], as [..., H, w / H]."""
        width = self.num_heads * self.head_dimension
        part = weight[..., number * width : (number + 1) * width]
        return tf.reshape(part, [*part.shape[:-1], self.num_heads, self.head_dimension])

    def _project(self, vectors: tf.Tensor, first: int, end: int) -> list[tf.Tensor]:
        """The parts ``first`` to ``end`` (queries 0, keys 1, values 2) of ``vectors`` [M, d], each [M, H, w / H]."""
        width = self.num_heads * self.head_dimension
        columns = slice(first * width, end * width)
        projected = tf.matmul(vectors, self.input_kernel[:, columns]) + self.input_bias[columns]
        heads = tf.reshape(projected, [-1, end - first, self.num_heads, self.head_dimension])
        return list(tf.unstack(heads, axis=1))

    def _before(self, part: tf.Tensor, number: int, places: tf.Tensor) -> tf.Tensor:
        """Keys or values [R, H, w / H] of each item's predecessor; before the first one, those of a zero vector."""
        shifted = tf.concat([part[:1], part[:-1]], axis=0)
        return tf.where(places[:, 1, None, None] > 0, shifted, self._part(self.input_bias, number))

    def _scores(self, queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """float32 [M, H]: what each head's query thinks of its key, both [M, H, w / H]."""
        return tf.reduce_sum(tf.cast(queries, tf.float32) * tf.cast(keys, tf.float32), axis=-1) * self.head_dimension**-0.5

    def _output(self, heads: tf.Tensor) -> tf.Tensor:
        """[M, H, w / H] to [M, d]."""
        joined = tf.reshape(heads, [-1, self.num_heads * self.head_dimension])
        return tf.nn.relu(tf.matmul(joined, self.output_kernel) + self.output_bias)
