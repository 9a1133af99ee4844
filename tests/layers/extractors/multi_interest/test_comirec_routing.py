"""ComiRec-DR's routing against its published properties and an independent implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import squash
from tfmi.layers.extractors.multi_interest.comirec_routing import ComiRecRouting

BATCH, LENGTH, WIDTH, INTERESTS = 4, 7, 5, 3


def random_inputs() -> tuple[np.ndarray, np.ndarray]:
    """Items and mask of four histories of 0 to 7 items."""
    items = np.random.default_rng(0).normal(size=[BATCH, LENGTH, WIDTH]).astype(np.float32)
    return items, np.arange(LENGTH) < np.array([7, 3, 1, 0])[:, None]


def reference_routing(items: np.ndarray, matrices: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """The paper's Algorithm 1 for one user of n items in float64; ``matrices`` [L, d, K, d]: capsules [K, d] and weights [K, n]."""
    num_items, num_interests = len(items), matrices.shape[2]
    predictions = np.zeros([num_interests, num_items, items.shape[1]])
    for i in range(num_items):
        for j in range(num_interests):
            predictions[j, i] = matrices[i, :, j, :].astype(np.float64).T @ items[i].astype(np.float64)
    logits = np.zeros([num_interests, num_items])
    capsules, weights = np.zeros([num_interests, items.shape[1]]), np.zeros_like(logits)
    for iteration in range(iterations):
        for i in range(num_items):
            weights[:, i] = np.exp(logits[:, i] - logits[:, i].max())
            weights[:, i] /= weights[:, i].sum()
        for j in range(num_interests):
            total = sum((weights[j, i] * predictions[j, i] for i in range(num_items)), np.zeros(items.shape[1]))
            norm = np.linalg.norm(total)
            capsules[j] = norm / (1 + norm**2) * total
        if iteration < iterations - 1:
            for j in range(num_interests):
                logits[j] += predictions[j] @ capsules[j]
    return capsules, weights


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_equals_the_algorithm_written_out(iterations: int) -> None:
    items, mask = random_inputs()
    layer = ComiRecRouting(INTERESTS, iterations=iterations)
    output = layer(tf.constant(items), tf.constant(mask))
    for user in range(BATCH):
        length = mask[user].sum()
        capsules, weights = reference_routing(items[user, :length], layer.matrices.numpy(), iterations)
        np.testing.assert_allclose(output.interests[user], capsules, atol=5e-6)
        np.testing.assert_allclose(output.weights[user, :, :length], weights, atol=5e-6)


def test_positions_from_the_newest_reverse_each_history_and_report_weights_in_its_own_order() -> None:
    items, mask = random_inputs()
    layer = ComiRecRouting(INTERESTS, positions="newest")
    output = layer(tf.constant(items), tf.constant(mask))
    for user in range(BATCH):
        length = mask[user].sum()
        capsules, weights = reference_routing(items[user, :length][::-1], layer.matrices.numpy(), 3)
        np.testing.assert_allclose(output.interests[user], capsules, atol=5e-6)
        np.testing.assert_allclose(output.weights[user, :, :length], weights[:, ::-1], atol=5e-6)
        np.testing.assert_allclose(output.weights[user, :, length:], 0.0)


def test_initial_identity_makes_the_first_capsules_sums_of_the_items() -> None:
    items, mask = random_inputs()
    layer = ComiRecRouting(INTERESTS, initializer_deviation=0.0, initial_identity=1.0)
    output = layer(tf.constant(items), tf.constant(mask))
    expected = squash(tf.reduce_sum(tf.constant(items * mask[..., None]), axis=1) / INTERESTS)
    for interest in range(INTERESTS):
        np.testing.assert_allclose(output.interests[:, interest], expected, atol=1e-6)


def test_weights_are_shares_of_each_item_and_interests_stay_in_the_unit_ball() -> None:
    items, mask = random_inputs()
    output = ComiRecRouting(INTERESTS)(tf.constant(items), tf.constant(mask))
    np.testing.assert_allclose(tf.reduce_sum(output.weights, axis=1), mask.astype(np.float32), atol=1e-6)
    assert (np.linalg.norm(output.interests, axis=-1) < 1).all()
    assert output.active.numpy().all()


def test_the_order_of_items_matters() -> None:
    items, mask = random_inputs()
    layer = ComiRecRouting(INTERESTS)
    expected = layer(tf.constant(items), tf.constant(mask)).interests
    reversed_items = layer(tf.constant(items[:, ::-1]), tf.constant(mask)).interests
    assert np.abs(reversed_items[0] - expected[0]).max() > 0.05


def test_different_matrices_tell_interests_apart_without_noise() -> None:
    items, mask = random_inputs()
    interests = ComiRecRouting(INTERESTS)(tf.constant(items), tf.constant(mask), training=True).interests.numpy()
    assert np.abs(interests[0, 0] - interests[0, 1]).max() > 0.05


def test_gradients_are_those_of_the_last_sum_with_frozen_weights() -> None:
    items, mask = random_inputs()
    layer = ComiRecRouting(INTERESTS)
    history = tf.constant(items)
    weights = layer(history, tf.constant(mask)).weights
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(history)
        routed = tf.reduce_sum(layer(history, tf.constant(mask)).interests)
        frozen = tf.reduce_sum(squash(tf.einsum("bkl,bld,ldke->bke", weights, history, layer.matrices)))
    for variable in (history, layer.matrices):
        np.testing.assert_allclose(tape.gradient(routed, variable), tape.gradient(frozen, variable), atol=1e-5)


@pytest.mark.parametrize("stop", [True, False])
def test_routing_weights_are_constants_unless_asked_otherwise(stop: bool) -> None:
    items, mask = random_inputs()
    layer = ComiRecRouting(INTERESTS, stop_gradient_routing=stop)
    history = tf.constant(items)
    with tf.GradientTape() as tape:
        tape.watch(history)
        spread = tf.reduce_sum(tf.square(layer(history, tf.constant(mask)).internals["routing"]))
    assert [gradient is None for gradient in tape.gradient(spread, [history, layer.matrices])] == [stop, stop]


def test_memory_and_scale_of_the_matrices() -> None:
    layer = ComiRecRouting(4, initializer_deviation=0.5, max_length=20)
    layer(tf.ones([1, 6, 16]), tf.ones([1, 6], tf.bool))
    assert layer.count_params() == 20 * 4 * 16**2
    assert abs(np.std(layer.matrices) - 0.5) < 0.02
    assert abs(np.std(layer.matrices[0, :, 0]) - 0.5) < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_interests": 0}, "num_interests: expected a number of at least 1, got 0"),
        ({"iterations": 0}, "iterations: .* at least 1"),
        ({"initializer_deviation": -0.1}, "initializer_deviation: .* at least 0"),
        ({"iterations": 1, "stop_gradient_routing": False}, "iterations of at least 2"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComiRecRouting(**arguments)
