"""What a regulariser is called with, without a model around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.layers.base import InterestOutput
from tfmi.losses.base import BatchContext

ITEM_COUNTS = [5, 3, 4, 1, 0]
LENGTH, WIDTH, INTERESTS = 5, 4, 3


def make_context(
    interests: np.ndarray,
    history: np.ndarray,
    weights: np.ndarray,
    *,
    counts: list[int] | None = None,
    indices: np.ndarray | None = None,
    active: np.ndarray | None = None,
    scored: np.ndarray | None = None,
) -> BatchContext:
    """A context of interests [B, K, d], item vectors [B, L, d] and weights [B, K, L].

    Args:
        interests: The raw interests, which are the extractor's.
        history: Item vectors.
        weights: Attention or routing weights.
        counts: Real items per user; default: all.
        indices: Items [B, L]; default: every place of the batch has an item of its own.
        active: bool [B, K]; default: all.
        scored: The vectors that are scored; default: the interests.
    """
    batch, length, width = np.shape(history)
    mask = np.arange(length) < np.array(counts if counts is not None else [length] * batch)[:, None]
    if indices is None:
        indices = 2 + np.arange(batch * length).reshape(batch, length)
    if active is None:
        active = np.ones(np.shape(weights)[:2], bool)
    vectors = tf.convert_to_tensor(interests, tf.float32)
    return BatchContext(
        output=InterestOutput(vectors, tf.constant(active), tf.convert_to_tensor(weights, tf.float32), {}),
        history=tf.convert_to_tensor(history, tf.float32),
        history_indices=tf.constant(np.where(mask, indices, 0), tf.int32),
        mask=tf.constant(mask),
        target=tf.zeros([batch, width]),
        interests=vectors if scored is None else tf.convert_to_tensor(scored, tf.float32),
    )


def random_context(length: int = LENGTH, garbage: float = 0.0, **changes: np.ndarray) -> BatchContext:
    """Users of ``ITEM_COUNTS`` items with attention of their own; the first LENGTH places are the same for every ``length``.

    Args:
        length: L, at least LENGTH.
        garbage: What stands at padding.
        changes: Arguments of ``make_context`` in place of the random ones.
    """
    random = np.random.default_rng(5)
    batch = len(ITEM_COUNTS)
    mask = np.arange(LENGTH) < np.array(ITEM_COUNTS)[:, None]
    exponentials = np.exp(1.5 * random.normal(size=[batch, INTERESTS, LENGTH])) * mask[:, None, :]
    weights = exponentials / np.maximum(exponentials.sum(axis=2, keepdims=True), 1e-9)
    history = np.where(mask[..., None], random.normal(size=[batch, LENGTH, WIDTH]), garbage)
    more = length - LENGTH
    arguments: dict[str, Any] = {
        "interests": random.normal(size=[batch, INTERESTS, WIDTH]),
        "history": np.pad(history, [(0, 0), (0, more), (0, 0)]),
        "weights": np.pad(weights, [(0, 0), (0, 0), (0, more)]),
        "indices": np.pad(random.integers(2, 12, [batch, LENGTH]), [(0, 0), (0, more)]),
        **changes,
    }
    return make_context(**arguments, counts=ITEM_COUNTS)


def with_vectors(context: BatchContext, interests: tf.Tensor, history: tf.Tensor) -> BatchContext:
    """The context with other interests and item vectors, through which gradients may flow."""
    return context._replace(output=context.output._replace(interests=interests), history=history, interests=interests)
