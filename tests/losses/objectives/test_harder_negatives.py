"""UMI's harder negatives: which items they are, when they start, and how everything is scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import InterestOutput
from tfmi.losses.base import OBJECTIVES, BatchContext
from tfmi.losses.objectives.harder_negatives import HarderNegatives

NUM_ITEMS, BATCH, WIDTH = 40, 5, 8
TARGETS = np.array([2, 7, 7, 30, 41], np.int32)
HISTORY = np.array([[3, 4, 0], [5, 7, 6], [0, 0, 0], [8, 9, 10], [40, 2, 0]], np.int32)


def make_context(interests: tf.Tensor, active: np.ndarray | None = None, history: np.ndarray = HISTORY) -> BatchContext:
    """A batch of these histories whose scored interests are ``interests`` [B, K, d]."""
    batch, num_interests, width = interests.shape
    mask = tf.constant(history > 0)
    active = np.ones([batch, num_interests], bool) if active is None else active
    output = InterestOutput(interests, tf.constant(active), tf.zeros([batch, num_interests, history.shape[1]]), {})
    return BatchContext(output, tf.zeros([*history.shape, width]), tf.constant(history), mask, tf.zeros([batch, width]), interests)


def objective(**arguments: Any) -> HarderNegatives:
    return HarderNegatives(**{"num_uniform": 8, "num_hard": 3, "start_after_steps": 0, "seed": 1, **arguments})


def reference(queries: np.ndarray, interests: np.ndarray, table: np.ndarray, drawn: tuple[np.ndarray, np.ndarray], hard: int) -> np.ndarray:
    """Losses of queries [B, K, d], where hard negatives are chosen by ``interests`` [B, K', d], example by example in float64."""
    uniform, pool = drawn
    losses = []
    for user, target in enumerate(TARGETS):
        scores = (queries[user].astype(float) @ table.astype(float).T).max(axis=0)
        ranking = (interests[user].astype(float) @ table.astype(float).T).max(axis=0)
        candidates = [item for item in pool if item != target and item not in HISTORY[user]]
        hardest = sorted(candidates, key=lambda item: -ranking[item])[:hard]
        negatives = [*hardest, *(item for item in uniform if item != target)]
        losses.append(np.log(np.exp(scores[[target, *negatives]]).sum()) - scores[target])
    return np.array(losses)


@pytest.mark.parametrize("num_interests", [None, 1, 3])
def test_equals_the_formula_written_out(
    num_interests: int | None, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, interests = item_table(NUM_ITEMS), tf.convert_to_tensor(random_queries(BATCH, 3, WIDTH, seed=2))
    queries = random_queries(*([BATCH, WIDTH] if num_interests is None else [BATCH, num_interests, WIDTH]))
    loss, twin = objective(), objective()
    result = loss.losses(tf.convert_to_tensor(queries), tf.constant(TARGETS), items, context=make_context(interests))
    uniform, pool = (drawn.numpy() for drawn in twin._draw(NUM_ITEMS))
    assert len(uniform) == 8
    assert len(pool) > 3
    table = np.nan_to_num(items.table.numpy())
    one_each = queries.numpy()[:, None] if num_interests is None else queries.numpy()
    # A single vector answers for the target; which negatives are hard is for all interests to say, as in serving.
    expected = reference(one_each, interests.numpy() if num_interests is None else one_each, table, (uniform, pool), 3)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_every_candidate_is_scored_by_its_own_best_interest(item_table: Callable[..., Any]) -> None:
    items = item_table(2, dimension=2)
    items.table.assign([[np.nan, np.nan], [np.nan, np.nan], [1.0, 0.0], [0.0, 1.0]])
    queries = tf.constant([[[2.0, 0.0], [0.0, 3.0]]])  # the target's best interest is 0 (2.0), the negative's 1 (3.0)
    context = make_context(queries, history=np.zeros([1, 1], np.int32))
    loss = objective(num_uniform=50).losses(queries, tf.constant([2]), items, context=context)
    np.testing.assert_allclose(loss, [np.log1p(np.exp(3.0 - 2.0))], rtol=1e-6)


def test_interests_that_tie_count_once(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    """A maximum, not the sum of all that reach it: an interest given twice changes nothing."""
    items, queries = item_table(NUM_ITEMS), tf.convert_to_tensor(random_queries(BATCH, 2, WIDTH))
    twice = tf.repeat(queries, 2, axis=1)
    once_losses, twice_losses = (
        objective().losses(vectors, tf.constant(TARGETS), items, context=make_context(vectors)) for vectors in (queries, twice)
    )
    np.testing.assert_allclose(twice_losses, once_losses, rtol=1e-6)


@pytest.mark.parametrize(("pool_size", "expected"), [(None, 30), (12, 12)])
def test_the_pool_is_ten_times_the_hard_negatives_unless_told_otherwise(
    pool_size: int | None, expected: int, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    num_items = 100_000  # so many that none of a few draws repeats another
    items, queries = item_table(num_items, dimension=WIDTH), tf.convert_to_tensor(random_queries(BATCH, 3, WIDTH))
    with tf.GradientTape() as tape:
        losses = objective(num_uniform=8, num_hard=3, pool_size=pool_size).losses(
            queries, tf.constant(TARGETS), items, context=make_context(queries)
        )
    looked_up = np.unique(tf.convert_to_tensor(tape.gradient(losses, items.table).indices))
    assert len(set(looked_up.tolist()) - set(TARGETS.tolist())) == 8 + expected


def test_targets_histories_and_uniform_negatives_are_not_in_the_pool(item_table: Callable[..., Any]) -> None:
    items = item_table(NUM_ITEMS, dimension=NUM_ITEMS + 2)
    items.table.assign(tf.eye(NUM_ITEMS + 2))  # a query is its items' scores
    scores = tf.Variable(tf.zeros([BATCH, NUM_ITEMS + 2]))
    loss, twin = objective(num_uniform=10, num_hard=100), objective(num_uniform=10, num_hard=100)
    uniform, pool = (set(drawn.numpy().tolist()) for drawn in twin._draw(NUM_ITEMS))
    assert not uniform & pool
    assert uniform | pool == set(range(2, NUM_ITEMS + 2))  # a thousand draws find forty items
    context = make_context(tf.zeros([BATCH, 1, NUM_ITEMS + 2]))
    with tf.GradientTape() as tape:
        loss_value = tf.reduce_sum(loss.losses(tf.convert_to_tensor(scores), tf.constant(TARGETS), items, context=context))
    pushed = tape.gradient(loss_value, scores).numpy()
    for user, target in enumerate(TARGETS):
        expected = (uniform | (pool - set(HISTORY[user].tolist()))) - {int(target)}
        assert set(np.flatnonzero(pushed[user] > 0).tolist()) == expected
        assert np.flatnonzero(pushed[user] < 0).tolist() == [target]


def test_an_inactive_interest_finds_no_hard_negatives(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, interests = item_table(NUM_ITEMS), tf.convert_to_tensor(random_queries(BATCH, 2, WIDTH, seed=2))
    active = np.tile([True, False], [BATCH, 1])
    garbage = tf.concat([interests[:, :1], 100.0 * interests[:, 1:]], axis=1)
    queries = tf.convert_to_tensor(random_queries(BATCH, WIDTH))
    first, second = (
        objective().losses(queries, tf.constant(TARGETS), items, context=make_context(vectors, active)) for vectors in (interests, garbage)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_hard_negatives_start_after_their_steps_which_only_training_counts(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(NUM_ITEMS), tf.convert_to_tensor(random_queries(BATCH, 3, WIDTH))
    context, targets = make_context(queries), tf.constant(TARGETS)
    late, twin = objective(start_after_steps=2), objective(start_after_steps=2)
    step = tf.function(lambda training: late.losses(queries, targets, items, context=context, training=training), autograph=False)
    table = np.nan_to_num(items.table.numpy())
    for training, hard in [(False, 0), (True, 0), (False, 0), (True, 0), (True, 3), (False, 3)]:
        drawn = tuple(items.numpy() for items in twin._draw(NUM_ITEMS))
        expected = reference(queries.numpy(), queries.numpy(), table, drawn, hard)
        np.testing.assert_allclose(step(training), expected, rtol=1e-5)
    assert late.steps.numpy() == 3


def test_a_checkpoint_carries_on_count_and_draws(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable], tmp_path: Path
) -> None:
    items, queries = item_table(NUM_ITEMS), tf.convert_to_tensor(random_queries(BATCH, 3, WIDTH))
    arguments, context = (queries, tf.constant(TARGETS), items), make_context(queries)
    first = objective(start_after_steps=2)
    first.losses(*arguments, context=context, training=True)
    path = tf.train.Checkpoint(objective=first).save(str(tmp_path / "checkpoint"))
    expected = [first.losses(*arguments, context=context, training=True) for _ in range(3)]
    second = HarderNegatives.from_config(first.get_config())
    second.losses(*arguments, context=context, training=True)
    tf.train.Checkpoint(objective=second).restore(path).assert_consumed()
    for losses in expected:
        np.testing.assert_array_equal(second.losses(*arguments, context=context, training=True), losses)


def test_a_catalogue_smaller_than_the_uniform_negatives_has_no_pool(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable], reference_losses: Callable[..., np.ndarray]
) -> None:
    items, queries = item_table(6), random_queries(BATCH, 3, WIDTH)
    targets = tf.constant([2, 3, 7, 7, 4])
    losses = objective(num_uniform=300).losses(
        tf.convert_to_tensor(queries), targets, items, context=make_context(tf.zeros([BATCH, 3, WIDTH]))
    )
    np.testing.assert_allclose(losses, reference_losses(queries.numpy(), targets.numpy(), items.table.numpy()), rtol=1e-5)


def test_half_precision_queries_give_float32_losses(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, queries = item_table(NUM_ITEMS), tf.convert_to_tensor(random_queries(BATCH, 3, WIDTH))
    expected = objective().losses(queries, tf.constant(TARGETS), items, context=make_context(queries))
    half = tf.cast(queries, tf.float16)
    losses = objective().losses(half, tf.constant(TARGETS), items, context=make_context(half))
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, expected, atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_uniform": 0}, "num_uniform must be at least 1, got 0"),
        ({"num_hard": 0}, "num_hard must be at least 1, got 0"),
        ({"pool_size": 2}, r"pool_size must be at least num_hard \(3\), got 2"),
        ({"start_after_steps": -1}, "start_after_steps must be at least 0, got -1"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objective(**arguments)


def test_is_registered() -> None:
    assert OBJECTIVES.get("harder_negatives") is HarderNegatives
    assert HarderNegatives.wants_context()
