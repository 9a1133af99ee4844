"""DIN's local activation: a user's history summed up as one candidate sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer, masked_softmax
from tfmi.layers.common.arguments import require_at_least

# With so many candidates of a user, making a kernel of each item of the history pays.
FEWEST_CANDIDATES_TOGETHER = 16


class TargetAttention(ConfiguredLayer):
    r"""How much each item k_j of a history matters for a candidate q, by a small network, and the history's sum with these weights::

        a_j    = w . network([q, k_j, q - k_j, q * k_j]) + b
        output = sum over j of  a_j k_j

    The weights of a history do not sum to 1: that there is much of what the candidate resembles is itself worth knowing. ``softmax`` makes
    them sum to 1. The network's layers have a PReLU each.

    The network's first layer is linear in [q, k, q - k, q * k]: what it makes of q and of k is computed once per candidate and once per
    item, and only the products once per pair.

    Paper: Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018.

    Args:
        hidden: Widths of the network's layers.
        softmax: Whether weights sum to 1.
        seed: Seed of the initial weights.

    Raises:
        ValueError: No hidden layer, or one without width.
    """

    def __init__(self, hidden: Sequence[int] = (80, 40), softmax: bool = False, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not hidden:
            raise ValueError("hidden: expected at least one layer")
        for width in hidden:
            require_at_least(1, hidden=width)
        self.hidden = tuple(hidden)
        self.activations = [tf.keras.layers.PReLU(shared_axes=[1, 2]) for _ in self.hidden]
        self.network = [
            tf.keras.layers.Dense(width, kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed + position))
            for position, width in enumerate(self.hidden[1:], start=1)
        ]
        last_initializer = tf.keras.initializers.GlorotUniform(seed=seed + len(self.hidden))
        self.last = tf.keras.layers.Dense(1, kernel_initializer=last_initializer, dtype=tf.float32)

    def build(self, input_shape: Any) -> None:
        """Create the first layer's kernel [4 h, hidden[0]] and bias."""
        width = int(input_shape[-1])
        initializer = tf.keras.initializers.GlorotUniform(seed=self.seed)
        self.kernel = self.add_weight("kernel", [4 * width, self.hidden[0]], initializer=initializer)
        self.bias = self.add_weight("bias", [self.hidden[0]], initializer="zeros")
        super().build(input_shape)

    def call(self, candidates: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Attend.

        Args:
            candidates: [U, R, h], R of each user's own.
            history: [U, L, h], 0 at padding.
            mask: bool [U, L].

        Returns:
            [U, R, h]; 0 for users without history.
        """
        weights = tf.cast(self.weights_of(candidates, history, mask), history.dtype)
        return tf.matmul(weights, history)

    def weights_of(self, candidates: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """float32 [U, R, L]: a, 0 at padding; arguments as for ``call``."""
        if candidates.shape[1] is not None and candidates.shape[1] < FEWEST_CANDIDATES_TOGETHER:
            units = self._by_pair(candidates, history)
        else:
            units = tf.cond(
                tf.shape(candidates)[1] < FEWEST_CANDIDATES_TOGETHER,
                lambda: self._by_pair(candidates, history),
                lambda: self._by_history(candidates, history),
            )
        pairs = tf.shape(units)[:3]
        units = tf.reshape(units, [-1, self.hidden[0]])  # all pairs below each other: a product and its bias are then one operation
        units = _activated(self.activations[0], units)
        for layer, activation in zip(self.network, self.activations[1:], strict=True):
            units = _activated(activation, layer(units))
        logits = tf.reshape(self.last(units), pairs)  # [U, R, L]
        return masked_softmax(logits, mask[:, None, :]) if self.softmax else tf.where(mask[:, None, :], logits, 0.0)

    def _parts(self) -> list[tf.Tensor]:
        """What the first layer's kernel makes of q, k and q * k, [h, A] each."""
        of_query, of_key, of_difference, of_product = tf.split(tf.convert_to_tensor(self.kernel), 4)
        return [of_query + of_difference, of_key - of_difference, of_product]

    def _by_pair(self, candidates: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """The first layer [U, R, L, A] from the products of every pair."""
        of_query, of_key, of_product = self._parts()
        queries = tf.einsum("urh,ha->ura", candidates, of_query)
        keys = tf.einsum("ulh,ha->ula", history, of_key) + self.bias
        products = candidates[:, :, None, :] * history[:, None, :, :]  # [U, R, L, h]
        return tf.einsum("urlh,ha->urla", products, of_product) + queries[:, :, None, :] + keys[:, None, :, :]

    def _by_history(self, candidates: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """The same by one product: what a history makes of a candidate is linear in the candidate, (diag(k) W + V) q."""
        of_query, of_key, of_product = self._parts()
        users, pairs = tf.shape(history)[0], [tf.shape(candidates)[1], tf.shape(history)[1], self.hidden[0]]
        kernels = tf.transpose(history, [0, 2, 1])[:, :, :, None] * of_product[:, None, :] + of_query[:, None, :]  # [U, h, L, A]
        kernels = tf.reshape(kernels, [users, tf.shape(history)[2], pairs[1] * pairs[2]])
        keys = tf.einsum("ulh,ha->ula", history, of_key) + self.bias
        # What the keys add is the row of a candidate's last number, which is 1: one pass less over all units.
        kernels = tf.concat([kernels, tf.reshape(keys, [users, 1, pairs[1] * pairs[2]])], axis=1)
        candidates = tf.pad(candidates, [[0, 0], [0, 0], [0, 1]], constant_values=1)
        units = tf.reshape(tf.matmul(candidates, kernels), [users, *pairs])
        return tf.ensure_shape(units, [None, None, history.shape[1], self.hidden[0]])


def _activated(activation: tf.keras.layers.PReLU, units: tf.Tensor) -> tf.Tensor:
    """What the layer makes of its units [M, A], in two passes over them instead of its own five; there are many for each pair.

    Below a slope of 1 the larger of x and slope x is what PReLU gives.
    """
    if not activation.built:
        activation.build(tf.TensorShape([None, None, None, units.shape[-1]]))
    slopes = tf.cast(tf.reshape(activation.alpha, [-1]), units.dtype)
    return tf.cond(
        tf.reduce_all(slopes < 1),
        lambda: tf.maximum(units, slopes * units),
        lambda: tf.where(units > 0, units, slopes * units),
    )
