"""Bayesian personalised ranking: one uniform negative, never the target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.losses.objectives.bayesian_ranking import BayesianRanking

NUM_ITEMS = 12


@pytest.mark.parametrize("shape", [(3, 8), (3, 4, 8)])
def test_of_two_items_the_loss_is_that_of_the_other_one(
    shape: tuple[int, ...], item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries, targets = item_table(2), random_queries(*shape), np.array([2, 3, 2])
    scores = np.einsum("bkd,cd->bkc", queries.numpy().reshape([3, -1, 8]), items.embed_catalogue()).max(axis=1)
    difference = scores[np.arange(3), targets - 2] - scores[np.arange(3), 3 - targets]
    expected = -np.log(1 / (1 + np.exp(-difference)))
    np.testing.assert_allclose(BayesianRanking().losses(queries, tf.constant(targets, tf.int32), items), expected, rtol=1e-5)


def test_negatives_are_all_items_but_the_target_alike(item_table: Callable[..., Any]) -> None:
    targets = tf.constant([5] * 600)
    queries, items = tf.Variable(tf.zeros([600, 8])), item_table(NUM_ITEMS)
    with tf.GradientTape() as tape:
        loss = BayesianRanking().losses(queries, targets, items)
    # At equal scores an example's gradient is half the negative's vector less half the target's.
    negatives = 2 * tape.gradient(loss, queries).numpy() + items.table.numpy()[5]
    distances = np.linalg.norm(negatives[:, None] - items.table.numpy()[None, 2:], axis=2)
    found, counts = np.unique(distances.argmin(axis=1) + 2, return_counts=True)
    assert distances.min(axis=1).max() < 1e-4
    assert found.tolist() == [item for item in range(2, NUM_ITEMS + 2) if item != 5]
    assert counts.min() > 25  # of 600 / 11 = 55
    assert counts.max() < 90


def test_what_is_left_out_is_no_negative(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, queries, targets = item_table(NUM_ITEMS), random_queries(200, 8), tf.constant([5] * 200)
    others = [item for item in range(2, NUM_ITEMS + 2) if item not in (5, 9)]
    contrast = BayesianRanking().contrast(queries, targets, items, left_out=tf.constant([[*others, 0]] * 200))
    compared = contrast.log_negatives.numpy() > -1e8
    np.testing.assert_allclose(contrast.log_negatives[compared], tf.linalg.matvec(queries, items.table[9])[compared], rtol=1e-5)
    assert 5 < compared.sum() < 45  # of 200 / 11 = 18
    assert not contrast.cross_entropy().numpy()[~compared].any()


def test_a_catalogue_of_one_item_has_nothing_to_compare(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    assert not BayesianRanking().losses(random_queries(2, 8), tf.constant([2, 2]), item_table(1)).numpy().any()


def test_equal_seeds_draw_alike_and_a_table_learns_sparsely(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries, targets = item_table(NUM_ITEMS), random_queries(20, 8), tf.constant([5] * 20)
    first, second, other = (BayesianRanking(seed=seed).losses(queries, targets, items) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0
    with tf.GradientTape() as tape:
        loss = BayesianRanking().losses(queries, targets, items)
    assert isinstance(tape.gradient(loss, items.table), tf.IndexedSlices)
