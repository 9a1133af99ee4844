"""ComiRec-SA's attention against its published properties and an independent implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.extractors.multi_interest.self_attention import SelfAttentiveInterests

BATCH, LENGTH, WIDTH, INTERESTS = 4, 7, 5, 3


def random_inputs() -> tuple[np.ndarray, np.ndarray]:
    """Items and mask of four histories of 0 to 7 items."""
    items = np.random.default_rng(0).normal(size=[BATCH, LENGTH, WIDTH]).astype(np.float32)
    return items, np.arange(LENGTH) < np.array([7, 3, 1, 0])[:, None]


def built(**arguments: Any) -> SelfAttentiveInterests:
    tf.keras.utils.set_random_seed(2)
    layer = SelfAttentiveInterests(INTERESTS, **arguments)
    layer.build((None, LENGTH, WIDTH))
    if layer.use_bias:
        layer.hidden_bias.assign(tf.random.normal(layer.hidden_bias.shape))
    if layer.output_transform != "none":
        layer.output_bias.assign(tf.random.normal(layer.output_bias.shape))
    return layer


def reference_attention(layer: SelfAttentiveInterests, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The paper's equations for one user of n items in float64: interests [K, d] and weights [K, n]."""
    scores = np.zeros([layer.num_interests, len(items)])
    for i, item in enumerate(items.astype(np.float64)):
        key = item
        if layer.positions != "none":
            key = item + layer.position_embeddings.numpy()[i if layer.positions == "oldest" else len(items) - 1 - i]
        hidden = key @ layer.hidden_kernel.numpy() + (layer.hidden_bias.numpy() if layer.use_bias else 0)
        scores[:, i] = np.tanh(hidden) @ layer.interest_kernel.numpy()
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return weights @ items, weights


@pytest.mark.parametrize("positions", ["oldest", "newest", "none"])
@pytest.mark.parametrize("use_bias", [False, True])
def test_equals_the_equations_written_out(positions: str, use_bias: bool) -> None:
    items, mask = random_inputs()
    layer = built(positions=positions, use_bias=use_bias)
    output = layer(tf.constant(items), tf.constant(mask))
    for user in range(BATCH):
        length = mask[user].sum()
        interests, weights = reference_attention(layer, items[user, :length])
        np.testing.assert_allclose(output.interests[user], interests, atol=1e-6)
        np.testing.assert_allclose(output.weights[user, :, :length], weights, atol=1e-6)


def test_interests_are_in_the_convex_hull_of_the_items() -> None:
    items, mask = random_inputs()
    output = built()(tf.constant(items), tf.constant(mask))
    np.testing.assert_allclose(tf.reduce_sum(output.weights, axis=2)[:3], 1.0, atol=1e-6)
    assert (output.weights.numpy() >= 0).all()
    np.testing.assert_allclose(output.interests, output.weights.numpy() @ items, atol=1e-6)
    np.testing.assert_allclose(output.interests[2], np.repeat(items[2, :1], INTERESTS, axis=0), atol=1e-6)


def test_without_positions_the_history_is_a_set() -> None:
    items, mask = random_inputs()
    order = np.random.default_rng(1).permutation(LENGTH)
    for positions, same in [("none", True), ("oldest", False), ("newest", False)]:
        layer = built(positions=positions)
        expected = layer(tf.constant(items), tf.constant(mask)).interests.numpy()
        shuffled = layer(tf.constant(items[:, order]), tf.constant(mask[:, order])).interests.numpy()
        assert np.allclose(shuffled[0], expected[0], atol=1e-6) == same


def test_positions_from_the_newest_item_do_not_move_when_older_items_appear() -> None:
    items, mask = random_inputs()
    full, shorter = items[:1], np.zeros_like(items[:1])
    shorter[0, :4] = items[0, 3:]
    for positions, same in [("newest", True), ("oldest", False)]:
        layer = built(positions=positions)
        with_older = layer(tf.constant(full), tf.constant(mask[:1])).internals["logits"].numpy()
        without = layer(tf.constant(shorter), tf.sequence_mask([4], LENGTH)).internals["logits"].numpy()
        assert np.allclose(with_older[0, :, 3:], without[0, :, :4], atol=1e-6) == same


def test_width_of_the_hidden_layer_and_weights() -> None:
    assert built().hidden_kernel.shape == [WIDTH, 4 * WIDTH]
    layer = built(hidden_dimension=11, positions="none", use_bias=True)
    assert [tuple(variable.shape) for variable in layer.trainable_variables] == [(WIDTH, 11), (11, INTERESTS), (11,)]
    assert built(max_length=30).position_embeddings.shape == [30, WIDTH]


@pytest.mark.parametrize("value_projection", [False, True])
@pytest.mark.parametrize("output_transform", ["none", "tanh_dense"])
def test_projection_and_transform_equal_the_equations_written_out(value_projection: bool, output_transform: str) -> None:
    items, mask = random_inputs()
    layer = built(value_projection=value_projection, output_transform=output_transform)
    output = layer(tf.constant(items), tf.constant(mask))
    for user in range(3):
        length = mask[user].sum()
        _, weights = reference_attention(layer, items[user, :length])
        values = items[user, :length].astype(np.float64)
        raw = weights @ (values @ layer.value_kernel.numpy() if value_projection else values)
        scored = np.tanh(raw @ layer.output_kernel.numpy() + layer.output_bias.numpy()) if output_transform == "tanh_dense" else raw
        np.testing.assert_allclose(output.internals["raw_interests"][user], raw, atol=1e-5)
        np.testing.assert_allclose(output.interests[user], scored, atol=1e-5)
    np.testing.assert_array_equal(output.interests[3], np.zeros([INTERESTS, WIDTH]))  # empty, though the bias is not 0


def test_an_identity_start_keeps_the_means_of_the_items() -> None:
    items, mask = random_inputs()
    plain = built()
    projected = built(value_projection=True, output_transform="tanh_dense", identity_start=True)
    projected.output_bias.assign(tf.zeros([WIDTH]))
    for name in ("hidden_kernel", "interest_kernel", "position_embeddings"):
        getattr(projected, name).assign(getattr(plain, name))
    means = plain(tf.constant(items), tf.constant(mask)).interests
    output = projected(tf.constant(items), tf.constant(mask))
    np.testing.assert_allclose(output.internals["raw_interests"], means, atol=1e-6)
    np.testing.assert_allclose(output.interests, tf.tanh(means), atol=1e-6)


def test_initial_deviation_of_the_matrices() -> None:
    layer = SelfAttentiveInterests(8, value_projection=True, output_transform="tanh_dense", initializer_deviation=1.0)
    layer.build((None, LENGTH, 32))
    kernels = (layer.hidden_kernel, layer.interest_kernel, layer.value_kernel, layer.output_kernel)
    assert [float(np.std(kernel)) for kernel in kernels] == pytest.approx([1.0] * 4, abs=0.1)
    assert np.abs(layer.value_kernel - layer.output_kernel).max() > 0
    glorot = SelfAttentiveInterests(8, value_projection=True)
    glorot.build((None, LENGTH, 32))
    assert np.abs(glorot.value_kernel).max() <= np.sqrt(6 / 64)


@pytest.mark.parametrize("positions", ["oldest", "newest"])
def test_positions_learn(positions: str) -> None:
    items, mask = random_inputs()
    layer = built(positions=positions)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant(items), tf.constant(mask)).interests ** 2)
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.position_embeddings)).numpy()
    assert (np.abs(gradient).max(axis=1) > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_interests": 0}, "num_interests: expected a number of at least 1, got 0"),
        ({"hidden_dimension": 0}, "hidden_dimension: .* at least 1"),
        ({"positions": "latest"}, "positions: expected one of 'oldest', 'newest', 'none'"),
        ({"output_transform": "relu"}, "output_transform: expected one of 'none', 'tanh_dense', got 'relu'"),
        ({"initializer_deviation": -1.0}, "initializer_deviation: .* at least 0"),
        ({"identity_start": True}, "identity_start: there is nothing to start"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfAttentiveInterests(**arguments)
