"""In-batch softmax through TFRS: one loss per example, no accidental hits, popularity corrected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfmi.losses.objectives.in_batch import InBatchSoftmax

TARGETS = np.array([5, 9, 5, 30], np.int32)


def reference(
    queries: np.ndarray, targets: np.ndarray, table: np.ndarray, log_probabilities: np.ndarray | float, remove_hits: bool
) -> np.ndarray:
    """float64 loss of each row, from its own list of candidates."""
    queries = np.asarray(queries, np.float64).reshape(len(targets), -1, table.shape[1])
    scores = np.einsum("bkd,cd->bkc", queries, table[targets].astype(np.float64)).max(axis=1) - log_probabilities
    losses = []
    for row, target in enumerate(targets):
        rivals = [column for column, other in enumerate(targets) if column != row and not (remove_hits and other == target)]
        losses.append(np.log(np.exp(scores[row, [row, *rivals]]).sum()) - scores[row, row])
    return np.array(losses)


@pytest.mark.parametrize("remove_hits", [True, False])
@pytest.mark.parametrize("shape", [(4, 8), (4, 3, 8)])
def test_losses_per_example(
    shape: tuple[int, ...], remove_hits: bool, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(40), random_queries(*shape)
    objective = InBatchSoftmax(correct_frequency=False, remove_accidental_hits=remove_hits)
    losses = tf.function(lambda: objective.losses(queries, tf.constant(TARGETS), items, training=True), autograph=False)()
    assert losses.shape == [4]
    np.testing.assert_allclose(losses, reference(queries.numpy(), TARGETS, items.table.numpy(), 0.0, remove_hits), rtol=1e-5)


def test_sum_equals_the_loss_of_the_plain_tfrs_task(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, queries = item_table(40), random_queries(4, 3, 8)
    ours = InBatchSoftmax(correct_frequency=False).losses(queries, tf.constant(TARGETS), items, training=True)
    task = tfrs.tasks.Retrieval(remove_accidental_hits=True)
    theirs = task(queries, items.embed(TARGETS), candidate_ids=tf.constant(TARGETS))
    assert float(tf.reduce_sum(ours)) == pytest.approx(float(theirs), rel=1e-5)


def test_probabilities_come_from_the_batches_seen_so_far(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(40), random_queries(4, 8)
    objective = InBatchSoftmax()
    for _ in range(3):
        objective.losses(queries, tf.constant([5, 9, 5, 9]), items, training=True)
    losses = objective.losses(queries, tf.constant(TARGETS), items, training=True)
    # Items 5 and 9 were in every batch; item 30 is new in the fourth.
    log_probabilities = np.log([1.0, 1.0, 1.0, 1 / 4])
    np.testing.assert_allclose(losses, reference(queries.numpy(), TARGETS, items.table.numpy(), log_probabilities, True), rtol=1e-5)
    evaluated = objective.losses(queries, tf.constant(TARGETS), items, training=False)
    np.testing.assert_allclose(evaluated, losses, rtol=1e-6)
    assert int(objective.frequency.step) == 4


def test_correction_makes_the_popular_items_loss_smaller_than_without(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    """A popular negative is lowered, so the loss of a rare target among popular ones falls."""
    items, queries = item_table(40), random_queries(4, 8)
    plain, corrected = InBatchSoftmax(correct_frequency=False), InBatchSoftmax()
    for _ in range(20):
        corrected.losses(queries, tf.constant([5, 5, 5, 9]), items, training=True)
    batch = tf.constant([30, 5, 5, 9])
    assert corrected.losses(queries, batch, items, training=True)[0] < plain.losses(queries, batch, items, training=True)[0]


def test_table_gradient_is_sparse(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, queries = item_table(1000), random_queries(4, 8)
    with tf.GradientTape() as tape:
        losses = InBatchSoftmax().losses(queries, tf.constant(TARGETS), items, training=True)
    slices = tape.gradient(losses, items.table)
    assert isinstance(slices, tf.IndexedSlices)
    np.testing.assert_array_equal(slices.indices, TARGETS)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_works_under_a_global_mixed_precision_policy(
    policy: str, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(40), random_queries(4, 3, 8)
    low = tf.cast(queries, policy.removeprefix("mixed_"))
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        objective = InBatchSoftmax()
        losses = tf.function(lambda: objective.losses(low, tf.constant(TARGETS), items, training=True), autograph=False)()
        assert objective.frequency.mean_gap.dtype == tf.float32
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, reference(queries.numpy(), TARGETS, items.table.numpy(), 0.0, True), atol=0.1)


def test_works_in_fit_and_restores(item_table: Callable[..., Any], tmp_path: Path) -> None:
    """The estimator's variables are made in the first compiled step and come back from a checkpoint."""
    items = item_table(20)

    class Model(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.table = items.table
            self.objective = InBatchSoftmax()

        def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
            queries, targets = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self.objective.losses(queries, targets, items, training=True))
            self.optimizer.apply_gradients([(tape.gradient(loss, self.table), self.table)])
            return {"loss": loss}

    queries = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices((queries, np.arange(32, dtype=np.int32) % 20 + 2)).batch(8)
    model = Model()
    model.compile(tf.keras.optimizers.SGD(0.1))
    history = model.fit(data, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert int(model.objective.frequency.step) == 20
    path = tf.train.Checkpoint(objective=model.objective).save(str(tmp_path / "checkpoint"))
    restored = InBatchSoftmax()
    tf.train.Checkpoint(objective=restored).restore(path)
    restored.frequency.create_variables(items.num_rows)
    np.testing.assert_array_equal(restored.frequency.mean_gap, model.objective.frequency.mean_gap)


def test_configuration_round_trip() -> None:
    objective = InBatchSoftmax(correct_frequency=False, remove_accidental_hits=False, frequency_update_rate=0.2)
    copy = InBatchSoftmax.from_config(objective.get_config())
    assert copy.get_config() == objective.get_config()
    assert copy.frequency.update_rate == 0.2
