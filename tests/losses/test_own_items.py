"""One likelihood over own and other items, whatever objective compares the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.losses.batch_contexts import make_context
from tfmi.losses.base import OBJECTIVES, Contrast
from tfmi.losses.repeats import with_repeats

NUM_ITEMS, BATCH = 30, 4
TARGETS = np.array([5, 9, 12, 31], np.int32)
HISTORY = np.array([[5, 7, 5, 0], [3, 4, 0, 0], [0, 0, 0, 0], [2, 31, 0, 0]], np.int32)
OWN = np.array([[-np.inf, 0.3, 0.7, -np.inf], [1.0, -2.0, -np.inf, -np.inf], [-np.inf] * 4, [0.0, 2.0, -np.inf, -np.inf]], np.float32)
REPEATED = np.array([True, False, False, True])


def test_equals_the_softmax_over_the_union(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, queries = item_table(NUM_ITEMS), random_queries(BATCH, 8)
    objective = OBJECTIVES.build({"name": "full_softmax"}, "objective")
    own = tf.Variable(np.where(np.isinf(OWN), -50.0, OWN))

    def logits() -> tf.Tensor:
        return tf.where(np.isinf(OWN), -np.inf, own)

    with tf.GradientTape() as tape:
        contrast = objective.contrast(queries, tf.constant(TARGETS), items, left_out=tf.constant(HISTORY))
        losses = with_repeats(contrast, logits(), tf.constant(TARGETS[:, None] == HISTORY)).cross_entropy()
    gradients = tape.gradient(losses, [queries, own])
    with tf.GradientTape() as tape:
        expected = []
        scores = tf.matmul(queries, items.embed_catalogue(), transpose_b=True)
        for row, target in enumerate(TARGETS):
            union = {item: scores[row, item - 2] for item in range(2, NUM_ITEMS + 2) if item not in HISTORY[row]}
            union |= {int(item): logits()[row, place] for place, item in enumerate(HISTORY[row]) if np.isfinite(OWN[row, place])}
            expected.append(tf.reduce_logsumexp(list(union.values())) - union[int(target)])
        plain = tf.stack(expected)
    np.testing.assert_allclose(losses, plain, rtol=1e-5)
    for ours, theirs in zip(gradients, tape.gradient(plain, [queries, own]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_no_objective_takes_what_is_left_out_for_a_negative(
    name: str, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    """Moving the vectors of an example's history changes nothing of its contrast, unless the example asks for all of them."""
    items, queries = item_table(NUM_ITEMS), random_queries(1, 8)
    left_out = np.array([[3, 4, 8, 0]], np.int32)
    context: dict[str, Any] = {"context": make_context(np.ones([1, 1, 8]), np.ones([1, 4, 8]), np.ones([1, 1, 4]), indices=left_out)}
    contrasts: list[Contrast] = []
    for scale in (1.0, 3.0):
        objective = OBJECTIVES.build({"name": name}, "objective")
        items.table.assign(tf.tensor_scatter_nd_update(items.table, [[3], [4], [8]], scale * tf.ones([3, 8])))
        given = context if objective.wants_context() else {}
        contrasts.append(objective.contrast(queries, tf.constant([9]), items, left_out=tf.constant(left_out), **given))
    np.testing.assert_allclose(contrasts[0].log_negatives, contrasts[1].log_negatives, rtol=1e-6)
    np.testing.assert_allclose(contrasts[0].positive, contrasts[1].positive, rtol=1e-6)


@pytest.mark.slow
def test_sampled_others_stand_for_all_others(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    """Though a draw holds a third of the items, the gate sees all: the mean loss of repeats over draws is near that of all items."""
    items, queries = item_table(300), random_queries(BATCH, 8)
    items.table.assign(items.table * 0.1)

    def loss(spec: dict[str, Any]) -> np.ndarray:
        objective = OBJECTIVES.build(spec, "objective")
        means = []
        for _ in range(40):
            contrast = objective.contrast(queries, tf.constant(TARGETS), items, left_out=tf.constant(HISTORY))
            means.append(with_repeats(contrast, tf.constant(OWN), tf.constant(TARGETS[:, None] == HISTORY)).cross_entropy())
        return np.mean(means, axis=0)

    exact = loss({"name": "full_softmax"})
    for sampler in ("uniform", "log_uniform"):
        sampled = loss({"name": "sampled_softmax", "num_sampled": 120, "sampler": sampler})
        np.testing.assert_allclose(sampled[REPEATED], exact[REPEATED], rtol=0.03)
    # New targets are compared within the draw, which takes the log of its share of the catalogue off every one's loss.
    share = 1 - (1 - 1 / 300) ** 120
    uniform = loss({"name": "sampled_softmax", "num_sampled": 120})
    np.testing.assert_allclose(uniform[~REPEATED] - np.log(share), exact[~REPEATED], rtol=0.03)
