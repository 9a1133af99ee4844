"""Embedded fields for user encoders to work on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfmi.layers.common.fields import FieldVectors

NAMES, WIDTHS, DIMENSION = ("city", "liked", "viewed"), (1, 3, 4), 4
# How many values users have of each field; the last user has nothing.
COUNTS = ((1, 3, 2), (1, 0, 4), (0, 1, 0), (1, 2, 1), (0, 0, 0))


def user_fields(
    counts: Sequence[Sequence[int]] = COUNTS, padding: int = 0, weighted: bool = True, dimension: int = DIMENSION, scale: float = 1.0
) -> FieldVectors:
    """Fields of users with the given numbers of values, with more padding than they need if asked for."""
    values, weights = [], []
    for field, width in enumerate(WIDTHS):
        rng = np.random.default_rng(field)
        there = np.arange(width + padding) < np.array(counts)[:, field, None]
        drawn = rng.normal(size=[len(counts), width, dimension])
        amounts = rng.uniform(0.5, 3, size=[len(counts), width]) if weighted and width > 1 else np.ones([len(counts), width])
        drawn, amounts = np.pad(drawn, [(0, 0), (0, padding), (0, 0)]), np.pad(amounts, [(0, 0), (0, padding)])
        values.append(tf.constant(scale * np.where(there[..., None], drawn, 0), tf.float32))
        weights.append(tf.constant(np.where(there, amounts, 0), tf.float32))
    return FieldVectors(NAMES, tuple(values), tuple(weights))


def reordered(fields: FieldVectors, field: int, order: Sequence[int]) -> FieldVectors:
    """The same users with the values of one field in another order."""
    values, weights = list(fields.values), list(fields.weights)
    values[field] = tf.gather(values[field], order, axis=1)
    weights[field] = tf.gather(weights[field], order, axis=1)
    return FieldVectors(fields.names, tuple(values), tuple(weights))


def cast_values(fields: FieldVectors, dtype: tf.DType) -> FieldVectors:
    """The same users with embeddings of another type, as under mixed precision."""
    return fields._replace(values=tuple(tf.cast(value, dtype) for value in fields.values))
