"""Transformer blocks over a history."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, RealItems, masked_softmax, num_real_items, zero_padding
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.common.length_groups import LengthGroups
from tfmi.layers.common.positions import PositionOrder, add_positions, items_after, not_newer
from tfmi.layers.common.slots import num_slots
from tfmi.layers.sequence_encoders.sequence_encoder import ENCODERS, EncodedSequence, SequenceEncoder, built, layer_norm, newest_item

Activation = Literal["gelu", "relu", "swiglu"]
EncoderPositions = PositionOrder | Literal["rotary", "relative"]

# Training reads a batch of at least so many histories, in windows at least so long, in groups of like lengths: below, handling the groups
# costs more than comparing padding.
_GROUPED_FROM = 64
_GROUPED_LENGTH = 32
_NUM_GROUPS = 4
_ROTATION_BASE = 10_000.0  # of the slowest rotation's wavelength, as in the paper


def _swish_gated(values: tf.Tensor) -> tf.Tensor:
    """One half of ``values`` [..., 2 w] through swish, times the other: [..., w]."""
    passed, gate = tf.split(values, 2, axis=-1)
    return tf.nn.silu(gate) * passed


_ACTIVATIONS = {"gelu": tf.nn.gelu, "relu": tf.nn.relu, "swiglu": _swish_gated}


def rotated(vectors: tf.Tensor, positions: tf.Tensor, num_heads: int) -> tf.Tensor:
    r"""Rotary positions: pairs of each head's dimensions turned by angles that grow with the position::

        (x_i, x_{i+w/2})  turned by  position * 10000^(-2 i / w),  i < w/2,  w = d / heads

    The product of two turned vectors depends on the distance of their positions, not on the positions.

    Paper: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", Neurocomputing 2024.

    Args:
        vectors: [M, d].
        positions: int [M].
        num_heads: It divides d into heads of even width.
    """
    half = vectors.shape[-1] // num_heads // 2
    speeds = _ROTATION_BASE ** (-tf.range(half, dtype=tf.float32) / half)
    angles = (tf.cast(positions, tf.float32)[:, None] * speeds)[:, None, :]  # [M, 1, w / 2]
    cosines, sines = tf.cast(tf.cos(angles), vectors.dtype), tf.cast(tf.sin(angles), vectors.dtype)
    first, second = tf.split(tf.reshape(vectors, [-1, num_heads, 2 * half]), 2, axis=-1)
    turned = tf.concat([first * cosines - second * sines, first * sines + second * cosines], axis=-1)
    return tf.reshape(turned, tf.shape(vectors))


class DistanceBias(ConfiguredLayer):
    r"""What attention adds to a logit for the distance of two items, learned for each head::

        bias[h, j] at the start: -(h + 1) / H log(1 + j),  j = position of the query - position of the key, 0 for newer keys

    Before anything is learned, weights fall with age as (1 + age)^-1 in the last head and more slowly in the others: short histories
    tell little about which distances matter, and a start that prefers the near past spares learning it.

    Papers: the learned bias of Shaw et al., "Self-Attention with Relative Position Representations", NAACL 2018, as one number for each
    head and distance; a start that falls with distance, though linearly, is that of Press et al. (ALiBi), ICLR 2022.

    Args:
        num_heads: H.
        max_length: Number of distances; None takes the length of the first input.
    """

    def __init__(self, num_heads: int = 2, *, max_length: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_heads=num_heads, max_length=max_length)

    def build(self, input_shape: Any) -> None:
        """Create the bias, [max_length, H], for histories [B, L, d]."""
        ages = np.log1p(np.arange(num_slots(input_shape, self.max_length)))
        start = -ages[:, None] * (np.arange(self.num_heads) + 1) / self.num_heads
        self.bias = self.add_weight(
            "bias", start.shape, initializer=tf.keras.initializers.Constant(start.astype(np.float32)), experimental_autocast=False
        )
        super().build(input_shape)

    def call(self, distances: tf.Tensor) -> tf.Tensor:
        """float32 [B, H, Q, L] of ``distances`` int32 [B, Q, L]; those below 0 count as 0."""
        return tf.transpose(tf.gather(self.bias, tf.maximum(distances, 0)), [0, 3, 1, 2])


class GroupedItems(RealItems):
    """``RealItems`` that also know their users in groups of like lengths, so that attention compares fewer pairs with padding.

    Args:
        mask: As in ``LengthGroups``.
        count: Number of groups.
    """

    def __init__(self, mask: tf.Tensor, count: int) -> None:
        super().__init__(mask)
        self.groups = LengthGroups(mask, count)


class MultiHeadAttention(ConfiguredLayer):
    r"""Scaled dot-product attention of ``num_heads`` heads between queries and keys::

        A[h] = softmax over items of (Q W_q[h]) (X W_k[h])^T / sqrt(d / heads), 0 where not allowed      [B, H, Q, L]
        output = concat over h of (A[h] X W_v[h]) W_o                                                    [B, Q, d]

    with a bias after each product with a matrix.

    Paper: Vaswani et al., "Attention Is All You Need", NIPS 2017, section 3.2.

    Args:
        num_heads: H; it has to divide d.
        dropout: Dropout of attention weights.
        initializer_deviation: Standard deviation of the matrices at the start.
        rotary: Turn queries and keys by their positions; see ``rotated``.
        seed: Seed of the dropout.

    Raises:
        ValueError: An argument out of its range, or heads that do not divide d, for rotary positions into even widths.
    """

    def __init__(
        self,
        num_heads: int = 2,
        *,
        dropout: float = 0.0,
        initializer_deviation: float = 0.02,
        rotary: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_heads=num_heads)
        require_at_least(0, initializer_deviation=initializer_deviation)
        self.weights_dropout = ElementDropout(dropout, seed=seed)

    def build(self, input_shape: Any) -> None:
        """Create the matrices [d, d] of queries and output, and the one of keys and values, [d, 2 d]."""
        dimension = int(input_shape[-1])
        if dimension % self.num_heads:
            raise ValueError(f"num_heads: expected a divisor of the {dimension} dimensions of item vectors, got {self.num_heads}")
        if self.rotary and dimension // self.num_heads % 2:
            raise ValueError(f"num_heads: rotary positions turn pairs of a head's dimensions, got heads of {dimension // self.num_heads}")
        self.query_projection = _dense(dimension, self.initializer_deviation, "query", input_shape)
        self.key_value_projection = _dense(2 * dimension, self.initializer_deviation, "key_value", input_shape)
        self.output_projection = _dense(dimension, self.initializer_deviation, "output", input_shape)
        super().build(input_shape)

    def call(
        self,
        queries: tf.Tensor,
        items: tf.Tensor,
        real: RealItems,
        allowed: tf.Tensor,
        *,
        query_per_user: bool = False,
        bias: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attend.

        Args:
            queries: [R, d], one for each real item, or [B, d], the newest item's of each user.
            items: [R, d], what keys and values are made of.
            real: Where the rows stand; with ``GroupedItems`` fewer pairs are compared.
            allowed: bool [B, L, L], or [B, 1, L] for all queries alike: which items a query may see.
            query_per_user: Whether queries are [B, d].
            bias: float32 [B, H, Q, L], or [1, H, Q, L] for all users alike, added to the logits; None adds nothing.
            training: Whether dropout is on.

        Returns:
            The output, shaped as ``queries``, and the weights before dropout, float32 [B, H, Q, L]; Q is 1 for one query per user, or L.
        """
        keys_and_values = self.key_value_projection(items)  # [R, 2 d]
        queries = self.query_projection(queries) * (queries.shape[-1] / self.num_heads) ** -0.5
        if self.rotary:
            places = real.places[:, 1]
            keys, values = tf.split(keys_and_values, 2, axis=-1)
            keys_and_values = tf.concat([rotated(keys, places, self.num_heads), values], axis=-1)
            queries = rotated(queries, num_real_items(real.mask) - 1 if query_per_user else places, self.num_heads)
        if isinstance(real, GroupedItems) and not query_per_user:
            heads, weights = self._attend_in_groups(queries, keys_and_values, real.groups, allowed, bias=bias, training=training)
        else:
            asking = queries[:, None, :] if query_per_user else real.spread(queries)  # [B, Q, d]
            heads, weights = self._attend(asking, real.spread(keys_and_values), allowed, bias, training)
            heads = heads[:, 0] if query_per_user else real.rows(heads)
        return self.output_projection(tf.ensure_shape(heads, queries.shape)), weights

    def _attend(
        self, asking: tf.Tensor, keys_and_values: tf.Tensor, allowed: tf.Tensor, bias: tf.Tensor | None, training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The heads side by side, [B, Q, d], and their weights, for queries [B, Q, d] to keys and values [B, L, 2 d]."""
        keys, values = tf.split(keys_and_values, 2, axis=-1)
        logits = tf.matmul(self._split_heads(asking), self._split_heads(keys), transpose_b=True)  # [B, H, Q, L]
        if bias is not None:
            logits = tf.cast(logits, tf.float32) + bias
        weights = masked_softmax(logits, allowed[:, None])
        dropped = tf.cast(self.weights_dropout(weights, training=training), values.dtype)
        heads = tf.transpose(tf.matmul(dropped, self._split_heads(values)), [0, 2, 1, 3])  # [B, Q, H, d / H]
        return tf.reshape(heads, tf.shape(asking)), weights

    def _attend_in_groups(
        self,
        queries: tf.Tensor,
        keys_and_values: tf.Tensor,
        groups: LengthGroups,
        allowed: tf.Tensor,
        *,
        bias: tf.Tensor | None,
        training: bool | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """``_attend`` for each group by itself: the heads [R, d], and the weights [B, H, L, L]; ``bias`` is [1, H, L, L] or None."""
        length = tf.shape(allowed)[2]
        heads, weights = [], []
        by_group = zip(groups.spread_rows(tf.concat([queries, keys_and_values], axis=-1)), groups.split(allowed), strict=True)
        for states, allowed_here in by_group:  # [b, l, 3 d], [b, L, L]
            short = tf.shape(states)[1]
            width = queries.shape[-1]
            of_group, its_weights = self._attend(
                states[..., :width],
                states[..., width:],
                allowed_here[:, :short, :short],
                None if bias is None else bias[:, :, :short, :short],
                training,
            )
            heads.append(of_group)
            weights.append(tf.pad(its_weights, [[0, 0], [0, 0], [0, length - short], [0, length - short]]))
        return groups.joined_rows(heads), groups.joined(weights)

    def _split_heads(self, vectors: tf.Tensor) -> tf.Tensor:
        """[B, M, d] to [B, H, M, d / H]."""
        batch, length, dimension = tf.shape(vectors)[0], tf.shape(vectors)[1], vectors.shape[-1]
        heads = tf.reshape(vectors, [batch, length, self.num_heads, dimension // self.num_heads])
        return tf.transpose(heads, [0, 2, 1, 3])


class TransformerBlock(ConfiguredLayer):
    r"""Multi-head attention and a feed-forward network, each with dropout, a residual connection and layer normalisation::

        x = LN(x + attention(x));  x = LN(x + W_2 act(W_1 x))              norm "post"
        x = x + attention(LN(x));  x = x + W_2 act(W_1 LN(x))              norm "pre"
        x = x + sigmoid(x W_a + b_a) * attention(LN(x));                   norm "pre" with ``gate``
        x = x + sigmoid(x W_f + b_f) * W_2 act(W_1 LN(x))

    Papers: Vaswani et al., "Attention Is All You Need", NIPS 2017, section 3.1 (post); Xiong et al., "On Layer Normalization in the
    Transformer Architecture", ICML 2020 (pre); Borisyuk et al., "From Features to Transformers: Redefining Ranking for Scalable Impact",
    2025 (LiGR, the gate).

    Args:
        num_heads: Attention heads; they have to divide d.
        inner_dimension: Width of the feed-forward network's hidden layer; None takes 4 d.
        activation: "gelu" (exact), "relu", or "swiglu", where W_1 is twice as wide and one half gates the other through swish.
        norm: Where the normalisation stands, "post" or "pre".
        gate: Each part's output passes a gate that its input opens; for norm "pre".
        rotary: As in ``MultiHeadAttention``.
        dropout: Dropout of each part's output.
        attention_dropout: Dropout of attention weights.
        initializer_deviation: Standard deviation of the matrices at the start.
        seed: Seed of the dropouts; the block uses this one and the two after it.

    Raises:
        ValueError: An argument out of its range, or heads that do not divide d.
    """

    NUM_SEEDS = 3

    def __init__(
        self,
        num_heads: int = 2,
        *,
        inner_dimension: int | None = None,
        activation: Activation = "gelu",
        norm: Literal["post", "pre"] = "post",
        gate: bool = False,
        rotary: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        initializer_deviation: float = 0.02,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, inner_dimension=inner_dimension)
        require_choice(tuple(_ACTIVATIONS), activation=activation)
        require_choice(("post", "pre"), norm=norm)
        if gate and norm != "pre":
            raise ValueError("gate: opens by a part's input, which norm 'pre' alone keeps apart from its output; set norm to pre")
        self.attention = MultiHeadAttention(
            num_heads, dropout=attention_dropout, initializer_deviation=initializer_deviation, rotary=rotary, seed=seed, name="attention"
        )
        self.attended_dropout = ElementDropout(dropout, seed=seed + 1)
        self.inner_dropout = ElementDropout(dropout, seed=seed + 2)

    def build(self, input_shape: Any) -> None:
        """Create the attention, the matrices [d, inner] and [inner, d], two normalisations and, if asked for, the gates' [d, d]."""
        dimension = int(input_shape[-1])
        width = self.inner_dimension or 4 * dimension
        rows = [None, dimension]
        built(self.attention, rows)
        columns = 2 * width if self.activation == "swiglu" else width
        self.inner_layer = _dense(columns, self.initializer_deviation, "inner", rows)
        self.outer_layer = _dense(dimension, self.initializer_deviation, "outer", [None, width])
        self.attention_norm = layer_norm("attention_norm", rows)
        self.inner_norm = layer_norm("inner_norm", rows)
        if self.gate:
            self.attention_gate = _dense(dimension, self.initializer_deviation, "attention_gate", rows)
            self.inner_gate = _dense(dimension, self.initializer_deviation, "inner_gate", rows)
        super().build(input_shape)

    def call(
        self,
        states: tf.Tensor,
        real: RealItems,
        allowed: tf.Tensor,
        selected: tf.Tensor | None = None,
        *,
        bias: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Transform states.

        Args:
            states: [R, d], of real items.
            real: Where they stand.
            allowed: bool [B, L, L], or [B, 1, L] for all alike: which states a state may see.
            selected: [B, 1, L], one-hot rows: the state of each user whose transform is wanted, which spares the others' cost; None for
                all.
            bias: As in ``MultiHeadAttention``.
            training: Whether dropout is on.

        Returns:
            The transformed states [R, d], or [B, d] of the selected ones, and their attention weights, float32 [B, H, Q, L].
        """
        seen = self.attention_norm(states) if self.norm == "pre" else states
        queries, residual = (seen, states) if selected is None else (_select(vectors, real, selected) for vectors in (seen, states))
        attended, weights = self.attention(queries, seen, real, allowed, query_per_user=selected is not None, bias=bias, training=training)
        attended = self.attended_dropout(attended, training=training)
        if self.norm == "pre":
            attended = residual + (attended * tf.sigmoid(self.attention_gate(residual)) if self.gate else attended)
            added = self._feed_forward(self.inner_norm(attended), training)
            return attended + (added * tf.sigmoid(self.inner_gate(attended)) if self.gate else added), weights
        attended = residual + attended
        attended = self.attention_norm(attended)
        return self.inner_norm(attended + self._feed_forward(attended, training)), weights

    def _feed_forward(self, states: tf.Tensor, training: bool | None) -> tf.Tensor:
        inner = _ACTIVATIONS[self.activation](self.inner_layer(states))  # [..., inner]
        return self.inner_dropout(self.outer_layer(inner), training=training)


@ENCODERS.register("transformer")
class TransformerEncoder(SequenceEncoder):
    r"""Item vectors with positions through transformer blocks, SASRec's encoder::

        x = dropout(LN(e + P))                                             [B, L, d]
        x = block(x), ``num_blocks`` times

    With norm "pre" the one normalisation outside the blocks stands after the last block instead. Without blocks both are LN(e + P).
    The states' weights are the last block's attention, mean over heads; without blocks, 1 at the state's own item.

    Paper: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018. The block is the usual one, as in RecBole's SASRec:
    normalised queries *and* keys, biases, a dense feed-forward network four times as wide with GELU. The paper normalises queries only
    and uses ReLU in a network as wide as the items.

    Example:
        >>> TransformerEncoder(num_blocks=1)(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).states.shape
        TensorShape([1, 5, 8])

    Args:
        num_blocks: Blocks; 0 for none.
        num_heads: Attention heads; they have to divide d.
        inner_dimension: Width of the feed-forward networks' hidden layer; None takes 4 d.
        activation: "gelu" (exact), "relu", or "swiglu", as in ``TransformerBlock``.
        norm: Where a block normalises: "post", after each residual connection, or "pre", before each part.
        positions: "oldest" numbers the positions from the oldest item of the window; "newest" from the newest item, so that one
            position always means the same age; "rotary" adds none, but turns queries and keys by them, so that attention knows the
            distance of two items (see ``rotated``); "relative" adds none either, but lets attention prefer distances, by a
            ``DistanceBias`` that all blocks share; "none" knows no positions.
        gate: As in ``TransformerBlock``.
        causal: An item sees itself and older ones only. False lets it see all.
        dropout: Dropout of the blocks' input and of each part's output.
        attention_dropout: Dropout of attention weights.
        initializer_deviation: Standard deviation of the matrices and positions at the start.
        max_length: Longest history that will ever be given; None takes the length of the first input.
        seed: Seed of the dropouts; the encoder uses ``1 + 3 num_blocks`` seeds from this one on.

    Raises:
        ValueError: An argument out of its range, heads that do not divide d, or a history longer than ``max_length``.
    """

    def __init__(
        self,
        num_blocks: int = 2,
        *,
        num_heads: int = 2,
        inner_dimension: int | None = None,
        activation: Activation = "gelu",
        norm: Literal["post", "pre"] = "post",
        positions: EncoderPositions = "oldest",
        gate: bool = False,
        causal: bool = True,
        dropout: float = 0.2,
        attention_dropout: float = 0.2,
        initializer_deviation: float = 0.02,
        max_length: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(0, num_blocks=num_blocks)
        require_at_least(1, num_heads=num_heads, inner_dimension=inner_dimension, max_length=max_length)
        require_choice(("oldest", "newest", "none", "rotary", "relative"), positions=positions)
        self.input_dropout = ElementDropout(dropout, seed=seed)
        self.blocks = [
            TransformerBlock(
                num_heads,
                inner_dimension=inner_dimension,
                activation=activation,
                norm=norm,
                gate=gate,
                rotary=positions == "rotary",
                dropout=dropout,
                attention_dropout=attention_dropout,
                initializer_deviation=initializer_deviation,
                seed=seed + 1 + TransformerBlock.NUM_SEEDS * position,
                name=f"block_{position}",
            )
            for position in range(num_blocks)
        ]

    @property
    def why_weights_are_constant(self) -> str | None:
        """Without blocks there is no attention."""
        return None if self.num_blocks else "without blocks they are 1 at the newest item; set num_blocks to at least 1"

    @property
    def _adds_positions(self) -> bool:
        return self.positions in {"oldest", "newest"}

    def build(self, input_shape: Any) -> None:
        """Create P [max_length, d], if positions are added, or a bias by distance, the normalisation outside the blocks, and the blocks."""
        if self._adds_positions:
            self.position_embeddings = self.add_weight(
                "position_embeddings",
                [num_slots(input_shape, self.max_length), int(input_shape[-1])],
                initializer=tf.keras.initializers.RandomNormal(stddev=self.initializer_deviation),
            )
        if self.positions == "relative":
            self.distance_bias = built(DistanceBias(self.num_heads, max_length=self.max_length, name="distance_bias"), input_shape)
        rows = [None, int(input_shape[-1])]
        self.outside_norm = layer_norm("outside_norm", rows)
        for block in self.blocks:
            built(block, rows)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, newest_only: bool = False, training: bool | None = None) -> EncodedSequence:
        """Read a history.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            newest_only: Return the newest item's state only, which spares most of the last block's cost.
            training: Whether dropout is on.

        Returns:
            States [B, L, d], or [B, 1, d].
        """
        states = zero_padding(history, mask)
        if self._adds_positions:
            states = add_positions(states, mask, self.position_embeddings, "newest" if self.positions == "newest" else "oldest")
        grouped = training and (mask.shape[0] or 0) >= _GROUPED_FROM and (mask.shape[1] or 0) >= _GROUPED_LENGTH
        real = GroupedItems(mask, _NUM_GROUPS) if grouped else RealItems(mask)
        states = real.rows(states)  # [R, d]
        states = self.input_dropout(states if self.norm == "pre" else self.outside_norm(states), training=training)
        seen = mask[:, None, :]  # [B, 1, L]: what the newest item sees, causal or not
        allowed = seen & (not_newer(mask) if self.causal else tf.ones([1, tf.shape(mask)[1], 1], tf.bool))  # [B, L, L]
        newest = newest_item(mask, states.dtype) if newest_only else None
        of_all, of_newest = self._biases(mask)
        weights = None
        for position, block in enumerate(self.blocks, start=1):
            if newest_only and position == self.num_blocks:
                states, weights = block(states, real, seen, selected=newest, bias=of_newest, training=training)
            else:
                states, weights = block(states, real, allowed, bias=of_all, training=training)
        if newest_only and not self.blocks:
            states = _select(states, real, newest)
        if self.norm == "pre":
            states = self.outside_norm(states)
        return self._without_padding(states[:, None, :] if newest_only else real.spread(states), weights, mask, newest)

    def _biases(self, mask: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """What attention adds for distances: of every item's query, [1, H, L, L], and of the newest item's, [B, H, 1, L]."""
        if self.positions != "relative":
            return None, None
        positions = tf.range(tf.shape(mask)[1])
        return self.distance_bias((positions[:, None] - positions)[None]), self.distance_bias(items_after(mask)[:, None, :])

    def _without_padding(self, states: tf.Tensor, weights: tf.Tensor | None, mask: tf.Tensor, newest: tf.Tensor | None) -> EncodedSequence:
        """States and, from the heads' [B, H, Q, L], weights: 0 where there is no item."""
        is_real = mask if newest is None else tf.reduce_any(mask, axis=1, keepdims=True)  # [B, Q]
        if weights is not None:
            return EncodedSequence(zero_padding(states, is_real), zero_padding(tf.reduce_mean(weights, axis=1), is_real))
        own = tf.linalg.diag(tf.cast(mask, tf.float32)) if newest is None else tf.cast(newest, tf.float32)
        return EncodedSequence(zero_padding(states, is_real), own)


def _select(states: tf.Tensor, real: RealItems, selected: tf.Tensor) -> tf.Tensor:
    """[B, d]: of ``states`` [R, d] those that the one-hot rows of ``selected`` [B, 1, L] name; 0 where a row names none."""
    return tf.matmul(selected, real.spread(states))[:, 0]


def _dense(units: int, deviation: float, name: str, input_shape: Any) -> tf.keras.layers.Dense:
    """A built layer whose matrix starts as normal noise."""
    initializer = tf.keras.initializers.RandomNormal(stddev=deviation)
    return built(tf.keras.layers.Dense(units, kernel_initializer=initializer, name=name), input_shape)
