"""Losses of several tasks against float64 references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.losses.tasks.task_losses import TASK_LOSSES, TaskLoss, log_product

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=[12, 2]).astype(np.float32) * 2
LABELS = np.stack([np.arange(12) % 2, np.arange(12) % 4 == 1], axis=1).astype(np.float32)
WEIGHTS = RNG.uniform(0.5, 2, size=[12, 2]).astype(np.float32)


def loss_of(spec: dict[str, Any], logits: np.ndarray = LOGITS, labels: np.ndarray = LABELS, weights: np.ndarray = WEIGHTS) -> np.ndarray:
    return TASK_LOSSES.build(spec, "loss")(tf.constant(logits), labels=tf.constant(labels), weights=tf.constant(weights)).numpy()


def gradient_of(spec: dict[str, Any], logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    given = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = tf.reduce_sum(TASK_LOSSES.build(spec, "loss")(given, labels=tf.constant(labels), weights=tf.constant(weights)))
    return tape.gradient(loss, given).numpy()


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return -(labels * np.log(probabilities) + (1 - labels) * np.log1p(-probabilities))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def mean(losses: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (losses * weights).sum(axis=0) / np.maximum(weights.sum(axis=0), 1)


def test_independent_tasks_are_weighted_means() -> None:
    expected = mean(cross_entropy(LABELS, sigmoid(LOGITS)), WEIGHTS)
    np.testing.assert_allclose(loss_of({"name": "independent"}), expected, rtol=1e-5)
    np.testing.assert_allclose(loss_of({"name": "independent", "task_weights": [2.0, 0.5]}), expected * [2, 0.5], rtol=1e-5)


def test_entire_space_compares_clicks_and_the_product() -> None:
    probabilities, click = sigmoid(LOGITS), LABELS[:, 0]
    both = mean(cross_entropy(click * LABELS[:, 1], probabilities.prod(axis=1)), np.where(click == 1, WEIGHTS[:, 1], WEIGHTS[:, 0]))
    expected = [mean(cross_entropy(click, probabilities[:, 0]), WEIGHTS[:, 0]), both]
    np.testing.assert_allclose(loss_of({"name": "entire_space"}), expected, rtol=1e-5)


def test_conversions_known_only_after_clicks_leave_the_space_entire() -> None:
    everywhere, after_clicks = np.ones_like(WEIGHTS), np.stack([np.ones(12), LABELS[:, 0]], axis=1).astype(np.float32)
    np.testing.assert_allclose(
        loss_of({"name": "entire_space"}, weights=everywhere), loss_of({"name": "entire_space"}, weights=after_clicks), rtol=1e-6
    )


def test_the_product_is_exact_in_log_space() -> None:
    logits = np.array([[a, b] for a in (-80, -50, -3, 0.1, 4, 15, 50) for b in (-50, -1, 0, 2, 15, 50, 80)], np.float64)
    log_both, log_rest = (value.numpy() for value in log_product(tf.constant(logits, tf.float32)))
    a = np.logaddexp(0, -logits).sum(axis=1)  # -log of the product
    log1mexp = np.where(a < np.log(2), np.log(-np.expm1(-a)), np.log1p(-np.exp(-np.maximum(a, 0.1))))
    np.testing.assert_allclose(log_both, -a, rtol=1e-5)
    np.testing.assert_allclose(log_rest, log1mexp, rtol=1e-4, atol=1e-6)
    assert (log_both <= -np.logaddexp(0, -logits).max(axis=1) + 1e-6).all()  # no more probable than either


@pytest.mark.parametrize("name", TASK_LOSSES.names())
@pytest.mark.parametrize("size", [50.0, 80.0])
def test_extreme_logits_are_finite(name: str, size: float) -> None:
    logits = np.array([[a, b] for a in (-size, size) for b in (-size, size) for _ in range(4)], np.float32)
    labels = np.array([[a, b] for _ in range(4) for a in (0, 1) for b in (0, 1)], np.float32)
    weights = np.ones_like(labels)
    assert np.isfinite(loss_of({"name": name}, logits, labels, weights)).all()
    assert np.isfinite(gradient_of({"name": name}, logits, labels, weights)).all()


def test_a_certain_product_that_is_wrong_still_learns() -> None:
    logits, labels = np.full([1, 2], 50, np.float32), np.zeros([1, 2], np.float32)
    assert (gradient_of({"name": "entire_space"}, logits, labels, np.ones([1, 2], np.float32)) > 0.4).all()


def test_without_clicks_the_product_is_pushed_down() -> None:
    labels = np.zeros_like(LABELS)
    assert (gradient_of({"name": "entire_space"}, LOGITS, labels, WEIGHTS) > 0).all()


@pytest.mark.parametrize("name", TASK_LOSSES.names())
def test_rows_of_weight_zero_do_not_exist(name: str) -> None:
    weights = np.where(np.arange(12)[:, None] < 7, WEIGHTS, 0)
    np.testing.assert_allclose(
        loss_of({"name": name}, weights=weights), loss_of({"name": name}, LOGITS[:7], LABELS[:7], WEIGHTS[:7]), rtol=1e-5
    )
    gradient = gradient_of({"name": name}, LOGITS, LABELS, weights)
    assert (gradient[7:] == 0).all()
    assert (gradient[:7] != 0).all()


def test_a_task_of_weight_zero_leaves_the_others_alone() -> None:
    alone = gradient_of({"name": "independent"}, LOGITS[:, :1], LABELS[:, :1], WEIGHTS[:, :1])
    silent = WEIGHTS * np.array([1, 0], np.float32)
    np.testing.assert_allclose(gradient_of({"name": "independent"}, LOGITS, LABELS, silent), np.pad(alone, [(0, 0), (0, 1)]), atol=1e-7)
    assert loss_of({"name": "independent"}, weights=silent)[1] == 0


def test_a_rare_task_moves_little() -> None:
    weights = np.zeros_like(WEIGHTS)
    weights[0] = 0.25
    expected = 0.25 * cross_entropy(LABELS[0], sigmoid(LOGITS[0]))
    np.testing.assert_allclose(loss_of({"name": "independent"}, weights=weights), expected, rtol=1e-5)


@pytest.mark.parametrize("spec", [{"name": "independent", "task_weights": [1.0, 2.0]}, {"name": "entire_space"}], ids=str)
def test_configuration_survives(spec: dict[str, Any]) -> None:
    loss = TASK_LOSSES.build(spec, "loss")
    assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()


def test_a_loss_knows_how_many_tasks_it_takes() -> None:
    TaskLoss().check(7)
    with pytest.raises(ValueError, match="two nested tasks"):
        TASK_LOSSES.build({"name": "entire_space"}, "loss").check(3)
    with pytest.raises(ValueError, match="one weight for each of 3 tasks, got 1"):
        TASK_LOSSES.build({"name": "independent", "task_weights": [1.0]}, "loss").check(3)
    with pytest.raises(ConfigError, match="task_weights"):
        TASK_LOSSES.build({"name": "independent", "task_weights": [-1.0]}, "loss")
