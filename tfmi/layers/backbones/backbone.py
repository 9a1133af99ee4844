"""Backbones of rankers: how a candidate's, a user's and a request's fields interact before a click is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfmi.core.registry import Registry
from tfmi.layers.base import ConfiguredLayer


class RankingInputs(NamedTuple):
    """The embedded features of B pairs of a user and a candidate: U users, each with the same number B / U of candidates, one user's pairs
    after another's. In training U is B.

    Attributes:
        fields: float [B, F, d]: one vector per field, those of the candidate's h / d features first, then the user's, a history's mean
            included; 0 where a field is missing.
        present: bool [B, F]: whether the field is there.
        first_order: float32 [B]: the sum of the present fields' first-order weights.
        history: float [U, L, h]: the users' histories, each item by the same features as the candidate; 0 at padding.
        history_mask: bool [U, L].
        candidate: float [B, h]: the candidate by its features, comparable with ``history``.
    """

    fields: tf.Tensor
    present: tf.Tensor
    first_order: tf.Tensor
    history: tf.Tensor
    history_mask: tf.Tensor
    candidate: tf.Tensor


class SharedInteraction(NamedTuple):
    """What a backbone's heads have in common.

    Attributes:
        stacked: float [B, D]: the input of every head's own network; of another shape if the backbone has heads of its own kind.
        parallel: float [B, P], joined to what a head's network gives before its last linear layer; None if there is none.
        logit: float32 [B], added to every head's logit; None if there is none.
    """

    stacked: tf.Tensor
    parallel: tf.Tensor | None = None
    logit: tf.Tensor | None = None


class Backbone(ConfiguredLayer):
    """Base of click-prediction models, split into what several heads can share and the heads.

    Subclasses implement ``call(inputs, training=None)``, from ``RankingInputs`` to ``SharedInteraction``, and may replace ``make_head``.
    A field that is missing contributes nothing.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Embeddings come in the policy's type already; first-order weights are float32, and stay it.
        super().__init__(**{"autocast": False, **kwargs})

    def make_head(self, hidden: Sequence[int], seed: int, name: str) -> ConfiguredLayer:
        """A new head with weights of its own, from ``SharedInteraction`` to logits float32 [B]: a network of the given widths and a last
        linear layer."""
        return BackboneHead(hidden, seed=seed, name=name)


class BackboneHead(ConfiguredLayer):
    """A logit from what a backbone shares: ``w . [network(stacked); parallel] + logit``.

    Args:
        hidden: Widths of the network's ReLU layers; none: ``stacked`` itself goes into the last layer.
        seed: Seed of the initial weights.

    Shapes: a ``SharedInteraction`` to float32 [B].
    """

    def __init__(self, hidden: Sequence[int], seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})  # see Backbone
        self.hidden = tuple(hidden)
        initializers = [tf.keras.initializers.GlorotUniform(seed=seed + position) for position in range(len(self.hidden) + 1)]
        self.network = [
            tf.keras.layers.Dense(width, activation="relu", kernel_initializer=initializer)
            for width, initializer in zip(self.hidden, initializers, strict=False)
        ]
        self.last = tf.keras.layers.Dense(1, kernel_initializer=initializers[-1], dtype=tf.float32)

    def call(self, shared: SharedInteraction) -> tf.Tensor:
        """Logits float32 [B]."""
        vectors = shared.stacked
        for layer in self.network:
            vectors = layer(vectors)
        if shared.parallel is not None:
            vectors = tf.concat([vectors, shared.parallel], axis=-1)
        logits = self.last(vectors)[:, 0]
        return logits if shared.logit is None else logits + tf.cast(shared.logit, tf.float32)


BACKBONES: Registry[Backbone] = Registry("backbone", "tfmi.layers")
