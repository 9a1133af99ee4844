"""How likely a user comes back to the items of the history: a learned gate between "again" and "new"."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import REPETITIONS, RepeatScorer, num_real_items
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.positions import items_after

_NEWEST_AGES = 64  # older items count as this old


@REPETITIONS.register("learned_gate")
class LearnedGate(RepeatScorer):
    r"""Scores the items of a history by rules of their own, so that they neither crowd an answer nor miss in it.

    A user's next item is one of the history again, or a new one. With h_1 .. h_m the distinct items of the history, each at its newest
    place, and N the catalogue without them,

        r_i = w max_k(v_k . e_i) + b[age of i] + c[times i occurs] + a(user)          score of i, again
        s_j = max_k(v_k . e_j)                                                        score of j, new
        P(i) = exp(r_i / T) / Z,  P(j) = exp(s_j / T) / Z,  Z = sum over h of exp(r_h / T) + sum over N of exp(s_j / T)

    which is one likelihood: P = g P(. | again) + (1 - g) P(. | new), with the gate g = sigmoid(log of the first sum - log of the second).
    Because the gate acts on scores, both parts merge by score in serving, where no sum over the catalogue can be had, and an index is
    searched for the new part only. On data without repeats the gate closes, and the items that a user has stop taking places in answers.

        a(user) = tanh([mean of active v_k; log(1 + n); share of distinct items among the n] W1 + b1) W2 + b2

    Source: no paper; this project's own. RepeatNet (Ren et al., AAAI 2019) mixes two normalised distributions instead, which needs the
    second's sum over the catalogue to merge them.

    Args:
        max_count: Items that occur more often count as occurring this often.
        hidden_dimension: Width of the gate's hidden layer; None takes d.
        similarity_start: w at the start; it is learned. None takes w as 0: where vectors have memorised training histories, what they
            say of a history's items misleads.
        by_user: Whether a depends on the vectors v_k, besides n and the share of distinct items.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        max_count: int = 5,
        hidden_dimension: int | None = None,
        similarity_start: float | None = 0.5,
        by_user: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, max_count=max_count, hidden_dimension=hidden_dimension)

    def build(self, input_shape: Any) -> None:
        """Create w, b [64], c [max_count], W1 [d + 2, hidden] (or [2, hidden]), b1, W2 [hidden, 1] and b2; all in float32."""
        width = int(input_shape[-1])
        hidden = self.hidden_dimension or width

        def weight(name: str, shape: list[int], initializer: Any) -> tf.Variable:
            return self.add_weight(name, shape, initializer=initializer, experimental_autocast=False)

        if self.similarity_start is not None:
            self.similarity = weight("similarity", [], tf.keras.initializers.Constant(self.similarity_start))
        self.by_age = weight("by_age", [_NEWEST_AGES], "zeros")
        self.by_count = weight("by_count", [self.max_count], "zeros")
        self.gate_kernel = weight("gate_kernel", [width + 2 if self.by_user else 2, hidden], "glorot_uniform")
        self.gate_bias = weight("gate_bias", [hidden], "zeros")
        self.gate_weights = weight("gate_weights", [hidden], "zeros")
        self.gate_offset = weight("gate_offset", [], "zeros")
        super().build(input_shape)

    def call(self, users: tf.Tensor, active: tf.Tensor, vectors: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``RepeatScorer``."""
        users, vectors = tf.cast(users, tf.float32), tf.cast(vectors, tf.float32)
        mask = indices > 0
        similarities = tf.einsum("bkd,bld->bkl", users, vectors)
        similarities = tf.where(active[:, :, None], similarities, similarities.dtype.min)
        same = (indices[:, :, None] == indices[:, None, :]) & mask[:, None, :]  # [B, L, L]
        counts = tf.reduce_sum(tf.cast(same, tf.int32), axis=2)  # [B, L]
        positions = tf.range(tf.shape(indices)[1])
        has_newer = tf.reduce_any(same & (positions[None, None, :] > positions[None, :, None]), axis=2)
        distinct = mask & ~has_newer
        scores = tf.gather(self.by_age, tf.minimum(items_after(mask), _NEWEST_AGES - 1))
        scores += tf.gather(self.by_count, tf.clip_by_value(counts, 1, self.max_count) - 1)
        if self.similarity_start is not None:
            scores += self.similarity * tf.reduce_max(similarities, axis=1)
        scores += self._gate(users, active, mask, distinct)[:, None]
        return tf.where(distinct, scores, -float("inf")), tf.argmax(similarities, axis=1, output_type=tf.int32)

    def _gate(self, users: tf.Tensor, active: tf.Tensor, mask: tf.Tensor, distinct: tf.Tensor) -> tf.Tensor:
        """a(user), [B]."""
        length = tf.cast(num_real_items(mask), tf.float32)
        share = tf.math.divide_no_nan(tf.cast(num_real_items(distinct), tf.float32), length)
        inputs = tf.stack([tf.math.log1p(length), share], axis=1)
        if self.by_user:
            weights = tf.cast(active, tf.float32)
            mean = tf.einsum("bkd,bk->bd", users, weights) / tf.reduce_sum(weights, axis=1, keepdims=True)
            inputs = tf.concat([mean, inputs], axis=1)
        hidden = tf.tanh(tf.matmul(inputs, self.gate_kernel) + self.gate_bias)
        return tf.linalg.matvec(hidden, self.gate_weights) + self.gate_offset
