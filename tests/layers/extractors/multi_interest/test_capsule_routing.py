"""MIND's routing against its published properties and an independent implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS, squash
from tfmi.layers.extractors.multi_interest.capsule_routing import CapsuleRouting, adaptive_interests

ITEMS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
START = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]  # [K, L]
BATCH, LENGTH, WIDTH, INTERESTS = 5, 9, 4, 3


def golden_layer(**arguments: Any) -> CapsuleRouting:
    layer = CapsuleRouting(**{"num_interests": 2, "adaptive": False, **arguments})
    layer.build((None, 3, 2))
    layer.transformation.assign(tf.eye(2))
    return layer


def random_inputs(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items, mask and initial logits of five histories of 0 to 9 items."""
    generator = np.random.default_rng(seed)
    items = generator.normal(size=[BATCH, LENGTH, WIDTH]).astype(np.float32)
    mask = np.arange(LENGTH) < np.array([9, 4, 1, 0, 6])[:, None]
    return items, mask, generator.normal(size=[BATCH, INTERESTS, LENGTH]).astype(np.float32)


def reference_routing(
    items: np.ndarray, transformation: np.ndarray, logits: np.ndarray, num_active: int, *, iterations: int, accumulate: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 of the paper for one user, item by item in float64: capsules [K, d] and weights [K, n] of n real items."""
    num_interests, num_items = logits.shape
    logits = logits.astype(np.float64).copy()
    low = [transformation.astype(np.float64).T @ item for item in items.astype(np.float64)]
    capsules = np.zeros([num_interests, items.shape[1]])
    weights = np.zeros([num_interests, num_items])
    for iteration in range(iterations):
        for i in range(num_items):
            exponentials = np.exp(logits[:num_active, i] - logits[:num_active, i].max())
            weights[:num_active, i] = exponentials / exponentials.sum()
        for j in range(num_active):
            z = sum((weights[j, i] * low[i] for i in range(num_items)), np.zeros(items.shape[1]))
            norm = np.linalg.norm(z)
            capsules[j] = norm**2 / (1 + norm**2) * z / norm if norm > 0 else 0
        if iteration < iterations - 1:
            for i in range(num_items):
                for j in range(num_active):
                    logits[j, i] = logits[j, i] * accumulate + capsules[j] @ low[i]
    return capsules, weights


@pytest.mark.parametrize(
    ("arguments", "interests"),
    [
        ({}, [[0.608739, 0.318623], [0.318623, 0.608739]]),
        ({"logit_update": "replace"}, [[0.477362, 0.465422], [0.465422, 0.477362]]),
        ({"iterations": 1}, [[0.575146, 0.359246], [0.359246, 0.575146]]),
    ],
)
def test_golden_values(arguments: dict[str, Any], interests: list[list[float]]) -> None:
    output = golden_layer(**arguments)(tf.constant([ITEMS]), tf.ones([1, 3], tf.bool), initial_logits=tf.constant([START]))
    np.testing.assert_allclose(output.interests[0], interests, atol=1e-6)
    if not arguments:
        np.testing.assert_allclose(output.weights[0, :, 0], [0.812840, 0.187160], atol=1e-6)


def test_golden_values_of_equal_logits_and_of_one_interest() -> None:
    items, mask = tf.constant([ITEMS]), tf.ones([1, 3], tf.bool)
    equal = golden_layer()(items, mask, initial_logits=tf.zeros([1, 2, 3])).interests
    np.testing.assert_allclose(equal[0], [[0.471405, 0.471405]] * 2, atol=1e-6)
    for start in (tf.zeros([1, 1, 3]), tf.random.normal([1, 1, 3])):
        one = golden_layer(num_interests=1)(items, mask, initial_logits=start).interests
        np.testing.assert_allclose(one[0], [[0.628539, 0.628539]], atol=1e-6)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize("logit_update", ["accumulate", "replace"])
@pytest.mark.parametrize("adaptive", [True, False])
def test_equals_the_algorithm_written_out(iterations: int, logit_update: str, adaptive: bool) -> None:
    items, mask, start = random_inputs()
    layer = CapsuleRouting(INTERESTS, iterations=iterations, logit_update=logit_update, adaptive=adaptive)  # type: ignore[arg-type]
    output = layer(tf.constant(items), tf.constant(mask), initial_logits=tf.constant(start))
    for user in range(BATCH):
        length = mask[user].sum()
        num_active = max(1, min(INTERESTS, int(length).bit_length() - 1)) if adaptive else INTERESTS
        capsules, weights = reference_routing(
            items[user, :length],
            layer.transformation.numpy(),
            start[user, :, :length],
            num_active,
            iterations=iterations,
            accumulate=logit_update == "accumulate",
        )
        np.testing.assert_allclose(output.interests[user], capsules, atol=2e-6)
        np.testing.assert_allclose(output.weights[user, :, :length], weights, atol=2e-6)
        assert output.active.numpy()[user].tolist() == [k < num_active for k in range(INTERESTS)]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (15, 3), (16, 4), (100, 4)],
)
def test_number_of_interests_follows_the_paper(count: int, expected: int) -> None:
    active = adaptive_interests(tf.sequence_mask([count], 128), 4)
    assert active.numpy()[0].tolist() == [k < expected for k in range(4)]


@given(st.integers(0, 5000), st.integers(1, 40))
def test_number_of_interests_is_the_integer_logarithm(count: int, num_interests: int) -> None:
    active = adaptive_interests(tf.sequence_mask([count], 5000), num_interests)
    assert int(tf.reduce_sum(tf.cast(active, tf.int32))) == max(1, min(num_interests, max(count, 1).bit_length() - 1))


def test_weights_are_shares_of_each_item_and_interests_stay_in_the_unit_ball() -> None:
    items, mask, _ = random_inputs()
    output = CapsuleRouting(INTERESTS)(tf.constant(items * 10), tf.constant(mask))
    np.testing.assert_allclose(tf.reduce_sum(output.weights, axis=1), mask.astype(np.float32), atol=1e-6)
    inactive = np.broadcast_to(~output.active.numpy()[:, :, None], output.weights.shape)
    assert (output.weights.numpy()[inactive] == 0).all()
    assert (np.linalg.norm(output.interests, axis=-1) < 1).all()


def test_permutations() -> None:
    items, mask, start = random_inputs()
    layer = CapsuleRouting(INTERESTS, adaptive=False)
    expected = layer(tf.constant(items), tf.constant(mask), initial_logits=tf.constant(start)).interests.numpy()
    order = np.random.default_rng(1).permutation(LENGTH)
    shuffled = layer(tf.constant(items[:, order]), tf.constant(mask[:, order]), initial_logits=tf.constant(start[:, :, order]))
    np.testing.assert_allclose(shuffled.interests, expected, atol=1e-6)
    swapped = layer(tf.constant(items), tf.constant(mask), initial_logits=tf.constant(start[:, ::-1]))
    np.testing.assert_allclose(swapped.interests, expected[:, ::-1], atol=1e-6)


def test_only_unequal_initial_logits_tell_interests_apart() -> None:
    items, mask, start = random_inputs()
    layer = CapsuleRouting(INTERESTS, adaptive=False)
    equal = layer(tf.constant(items), tf.constant(mask), initial_logits=tf.zeros_like(start)).interests.numpy()
    np.testing.assert_allclose(equal, np.repeat(equal[:, :1], INTERESTS, axis=1), atol=1e-6)
    by_noise = layer(tf.constant(items), tf.constant(mask)).interests.numpy()
    several_items = mask.sum(axis=1) >= 2
    assert (np.abs(by_noise[several_items, 0] - by_noise[several_items, 1]).max(axis=1) > 1e-3).all()


def test_one_item_gives_its_squashed_transformation() -> None:
    item = tf.constant([[[0.5, -1.0, 2.0, 0.0]]])
    layer = CapsuleRouting(INTERESTS)
    output = layer(item, tf.ones([1, 1], tf.bool))
    np.testing.assert_allclose(output.interests[0, 0], squash(item[0] @ layer.transformation)[0], atol=1e-6)
    assert output.active.numpy().tolist() == [[True, False, False]]


def test_gradients_are_those_of_the_last_sum_with_frozen_weights() -> None:
    items, mask, start = random_inputs()
    layer = CapsuleRouting(INTERESTS, adaptive=False)
    history, logits = tf.constant(items), tf.constant(start)
    weights = layer(history, tf.constant(mask), initial_logits=logits).weights
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([history, logits])
        routed = tf.reduce_sum(layer(history, tf.constant(mask), initial_logits=logits).interests)
        frozen = tf.reduce_sum(squash(tf.einsum("bkl,bld,de->bke", weights, history, layer.transformation)))
    for variable in (history, layer.transformation):
        np.testing.assert_allclose(tape.gradient(routed, variable), tape.gradient(frozen, variable), atol=1e-5)
    assert tape.gradient(routed, logits) is None


def test_routing_weights_are_constants_unless_asked_otherwise() -> None:
    items, mask, start = random_inputs()
    outputs = []
    for stop in (True, False):
        tf.keras.utils.set_random_seed(0)
        layer = CapsuleRouting(INTERESTS, stop_gradient_routing=stop)
        history = tf.constant(items)
        with tf.GradientTape() as tape:
            tape.watch(history)
            output = layer(history, tf.constant(mask), initial_logits=tf.constant(start))
            spread = tf.reduce_sum(tf.square(output.internals["routing"]))
        gradient = tape.gradient(spread, [history, layer.transformation])
        assert [g is None for g in gradient] == [stop, stop]
        outputs.append(output.interests.numpy())
    np.testing.assert_array_equal(outputs[0], outputs[1])


def test_gradients_through_one_update_equal_finite_differences() -> None:
    items, mask, start = random_inputs()
    layer = CapsuleRouting(INTERESTS, iterations=2, stop_gradient_routing=False, adaptive=False)
    probe = tf.constant(np.random.default_rng(5).normal(size=[BATCH, INTERESTS, LENGTH]).astype(np.float32))

    def value(history: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(probe * layer(history, tf.constant(mask), initial_logits=tf.constant(start)).weights)

    history = tf.constant(items)
    with tf.GradientTape() as tape:
        tape.watch(history)
        loss = value(history)
    gradient = tape.gradient(loss, history).numpy()
    for user, position, dimension in [(0, 0, 0), (0, 8, 3), (1, 2, 1), (4, 5, 2)]:
        step = np.zeros_like(items)
        step[user, position, dimension] = 1e-2
        numeric = (value(history + step) - value(history - step)) / 2e-2
        np.testing.assert_allclose(gradient[user, position, dimension], numeric, atol=2e-3)
    assert np.abs(gradient).max() > 0.05


def test_only_the_last_update_carries_gradients() -> None:
    items, mask, start = random_inputs()
    three = CapsuleRouting(INTERESTS, stop_gradient_routing=False)
    two = CapsuleRouting(INTERESTS, stop_gradient_routing=False, iterations=2)
    history, mask = tf.constant(items), tf.constant(mask)
    for layer in (three, two):
        layer.build(history.shape)
        layer.transformation.assign(tf.eye(WIDTH))
    after_one_update = two(history, mask, initial_logits=tf.constant(start)).internals["logits"]
    gradients = []
    for layer, logits in [(three, tf.constant(start)), (two, after_one_update)]:
        with tf.GradientTape() as tape:
            tape.watch(history)
            spread = tf.reduce_sum(tf.square(layer(history, mask, initial_logits=logits).weights))
        gradients.append(tape.gradient(spread, history).numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-6)
    assert np.abs(gradients[0]).max() > 0.01


def test_training_draws_again_and_inference_does_not() -> None:
    items, mask, _ = random_inputs()
    layer = CapsuleRouting(INTERESTS, adaptive=False, logit_deviation=2.0, iterations=1)
    draws = [layer(tf.constant(items), tf.constant(mask), training=True).internals["logits"].numpy() for _ in range(30)]
    assert len({draw.tobytes() for draw in draws}) == 30
    assert abs(np.mean(draws)) < 0.1
    assert abs(np.std(draws) - 2.0) < 0.1
    fixed = [layer(tf.constant(items), tf.constant(mask)).internals["logits"].numpy() for _ in range(2)]
    np.testing.assert_array_equal(fixed[0], fixed[1])
    np.testing.assert_array_equal(fixed[0][0], fixed[0][1])


def test_fixed_noise_is_that_of_inference() -> None:
    items, mask, _ = random_inputs()
    layer = CapsuleRouting(INTERESTS, routing_init="fixed")
    training = layer(tf.constant(items), tf.constant(mask), training=True).interests
    np.testing.assert_array_equal(training, layer(tf.constant(items), tf.constant(mask)).interests)


def test_the_noise_of_inference_follows_the_seed_and_is_not_trained() -> None:
    layers = [CapsuleRouting(INTERESTS, seed=seed) for seed in (1, 1, 2)]
    for layer in layers:
        layer.build((None, LENGTH, WIDTH))
    np.testing.assert_array_equal(layers[0].fixed_logits, layers[1].fixed_logits)
    assert not np.array_equal(layers[0].fixed_logits, layers[2].fixed_logits)
    assert [variable.name for variable in layers[0].trainable_variables] == ["transformation:0"]
    assert layers[0].fixed_logits.shape == [LENGTH, INTERESTS]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_interests": 0}, "num_interests: expected a number of at least 1, got 0"),
        ({"iterations": 0}, "iterations: .* at least 1"),
        ({"logit_deviation": -1.0}, "logit_deviation: .* at least 0"),
        ({"max_length": 0}, "max_length: .* at least 1"),
        ({"logit_update": "overwrite"}, "logit_update: expected one of 'accumulate', 'replace'"),
        ({"routing_init": "zero"}, "routing_init: expected one of 'random', 'fixed'"),
        ({"iterations": 1, "stop_gradient_routing": False}, "iterations of at least 2"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CapsuleRouting(**arguments)


def test_a_recipe_names_the_place_of_a_wrong_argument() -> None:
    with pytest.raises(ConfigError, match=r"model\.extractor: iterations: expected a number of at least 1"):
        EXTRACTORS.build({"name": "capsule_routing", "iterations": 0}, "model.extractor")


def test_initial_identity_makes_the_first_capsule_a_sum_of_the_items() -> None:
    items = tf.constant([[[0.3, 0.1], [0.2, -0.4], [9.0, 9.0]]])
    mask = tf.constant([[True, True, False]])
    output = CapsuleRouting(1, initial_identity=1.0, initializer_deviation=1e-9)(items, mask)
    np.testing.assert_allclose(output.interests[0, 0], squash(tf.constant([0.5, -0.3])), atol=1e-6)
