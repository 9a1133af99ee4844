"""SCE: buckets that hold everything are the full softmax; small ones hold the hard items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import MASKED_LOGIT
from tfmi.losses.base import candidate_logits
from tfmi.losses.objectives.scalable_softmax import ScalableSoftmax

TARGETS = tf.constant([2, 3, 17, 41, 2, 9, 9, 30])


@pytest.mark.parametrize("shape", [(8, 8), (8, 3, 8)])
def test_buckets_that_hold_everything_are_the_full_softmax(
    shape: tuple[int, ...],
    item_table: Callable[..., Any],
    random_queries: Callable[..., tf.Variable],
    reference_losses: Callable[..., np.ndarray],
) -> None:
    items, queries = item_table(40), random_queries(*shape)
    loss = ScalableSoftmax(coverage=8.0, bucket_items=40).losses(queries, TARGETS, items)
    np.testing.assert_allclose(loss, reference_losses(queries.numpy(), TARGETS.numpy(), items.table.numpy()), atol=1e-5)


def test_small_buckets_hold_items_that_are_harder_than_random_ones(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(400), random_queries(64, 8)
    targets = tf.constant(2 + np.arange(64) * 6, tf.int32)
    contrast = ScalableSoftmax(coverage=4.0, bucket_items=20).contrast(queries, targets, items)
    compared = contrast.log_negatives.numpy() > MASKED_LOGIT
    assert 0.5 < compared.mean() < 1
    scores = candidate_logits(queries, items.embed_catalogue()).numpy()
    everything = np.log(np.exp(scores).sum(axis=1))
    of_random_ones = everything - np.log(400 / 20)
    assert (contrast.log_negatives.numpy()[compared] <= everything[compared]).all()
    assert np.mean(contrast.log_negatives.numpy()[compared] - of_random_ones[compared]) > 0.5
    assert not contrast.cross_entropy().numpy()[~compared].any()


def test_left_out_items_are_not_compared(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, queries = item_table(6), random_queries(8, 8)
    left_out = tf.constant([[3, 4, 5, 6, 7, 0]] * 8)
    contrast = ScalableSoftmax(coverage=8.0, bucket_items=6).contrast(queries, tf.fill([8], 2), items, left_out)
    assert (contrast.log_negatives.numpy() <= MASKED_LOGIT).all()


@pytest.mark.slow
def test_gradients_reach_queries_and_only_the_items_compared(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries, objective = item_table(200), random_queries(8, 8), ScalableSoftmax(bucket_items=4, seed=3)

    @tf.function(autograph=False)
    def gradients() -> list[Any]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(objective.losses(queries, TARGETS, items))
        return tape.gradient(loss, [queries, items.table])

    by_query, by_table = gradients()
    assert np.isfinite(by_query).all()
    assert isinstance(by_table, tf.IndexedSlices)
    touched = np.unique(by_table.indices)
    assert 0 < len(touched) < 60
    assert np.isfinite(by_table.values).all()


def test_equal_seeds_make_equal_buckets(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, queries = item_table(100), random_queries(8, 8)
    first, same, other = (ScalableSoftmax(bucket_items=5, seed=seed).losses(queries, TARGETS, items).numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("arguments", "message"), [({"bucket_items": 0}, "bucket_items"), ({"coverage": 0.0}, "coverage: .* above 0")])
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScalableSoftmax(**arguments)
