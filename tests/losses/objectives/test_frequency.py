"""The streaming estimate of how often an item is in a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfmi.losses.objectives.frequency import StreamingFrequency


def batches_of(probabilities: np.ndarray, steps: int, seed: int = 0) -> tf.Tensor:
    """Batches in which item i stands with ``probabilities[i]``, independently; item 0 fills up to a fixed width."""
    present = np.random.default_rng(seed).random((steps, len(probabilities))) < probabilities
    return tf.constant(np.where(present, np.arange(len(probabilities)), 0), tf.int32)


def train(estimator: StreamingFrequency, batches: tf.Tensor, num_rows: int) -> None:
    @tf.function  # AutoGraph makes a loop in the graph of this one
    def run() -> None:
        for batch in batches:
            estimator(batch, num_rows, training=True)

    run()


def test_estimates_converge_to_the_true_probabilities() -> None:
    truth = np.array([1.0, 0.9, 0.5, 0.2, 0.05, 0.02])
    estimator = StreamingFrequency(update_rate=0.002)
    train(estimator, batches_of(truth, 5000), 6)
    estimates = estimator(tf.range(6), 6, training=False).numpy()
    np.testing.assert_allclose(estimates, truth, rtol=0.25)
    np.testing.assert_allclose(estimates[:4], truth[:4], rtol=0.08)


def test_estimates_follow_a_change() -> None:
    estimator = StreamingFrequency(update_rate=0.05)
    train(estimator, batches_of(np.array([1.0, 0.5]), 1500), 2)
    before = estimator(tf.constant([1]), 2).numpy()[0]
    train(estimator, batches_of(np.array([1.0, 0.05]), 3000, seed=1), 2)
    after = estimator(tf.constant([1]), 2).numpy()[0]
    assert before == pytest.approx(0.5, rel=0.4)
    assert after == pytest.approx(0.05, rel=0.6)


def test_recurrence_by_hand() -> None:
    estimator = StreamingFrequency(update_rate=0.5)
    seen_at = {2, 5, 6}  # gaps of item 1: 2 (from the start), 3, 1
    for step in range(1, 7):
        estimator(tf.constant([0, 1, 1] if step in seen_at else [0, 0, 0]), 3, training=True)
    # The mean of the first two gaps, then half way to the third.
    assert estimator.mean_gap.numpy()[1] == pytest.approx((2 + 3) / 2 * 0.5 + 1 * 0.5)
    np.testing.assert_allclose(estimator(tf.constant([0, 1, 2]), 3), [1.0, 1 / 1.75, 1 / 7], rtol=1e-6)


def test_only_training_counts() -> None:
    estimator = StreamingFrequency()
    estimator(tf.constant([1, 2]), 5, training=True)
    before = [variable.numpy() for variable in estimator.variables]
    estimator(tf.constant([3, 4]), 5, training=False)
    estimator(tf.constant([3, 4]), 5)
    for variable, value in zip(estimator.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert not estimator.trainable_variables


def test_a_checkpoint_continues_the_estimate(tmp_path: Path) -> None:
    batches = batches_of(np.array([1.0, 0.3, 0.1]), 100)
    whole, half = StreamingFrequency(), StreamingFrequency()
    train(whole, batches, 3)
    train(half, batches[:50], 3)
    path = tf.train.Checkpoint(estimator=half).save(str(tmp_path / "checkpoint"))
    restored = StreamingFrequency()
    status = tf.train.Checkpoint(estimator=restored).restore(path)  # before the variables exist: as when a run is resumed
    train(restored, batches[50:], 3)
    status.assert_consumed()
    np.testing.assert_array_equal(restored(tf.range(3), 3), whole(tf.range(3), 3))


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="update_rate"):
        StreamingFrequency(rate)
