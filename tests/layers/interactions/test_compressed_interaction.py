"""The compressed interaction network against its equations, one map at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.interactions.compressed_interaction import CompressedInteraction

FIELDS = np.random.default_rng(0).normal(size=[3, 4, 5]).astype(np.float32)


def interact(layer: CompressedInteraction, fields: np.ndarray) -> np.ndarray:
    return layer(tf.constant(fields, tf.float32)).numpy()


def built(*args: Any, **kwargs: Any) -> CompressedInteraction:
    layer = CompressedInteraction(*args, **kwargs)
    interact(layer, FIELDS)
    return layer


def expected(layer: CompressedInteraction, fields: np.ndarray) -> np.ndarray:
    below, pooled = fields, []
    for level, size in enumerate(layer.map_sizes):
        kernel = layer.kernels[level].numpy().reshape([below.shape[1], fields.shape[1], size])
        maps = np.zeros([len(fields), size, fields.shape[2]])
        for h in range(size):
            maps[:, h] += layer.biases[level].numpy()[h]
            for i in range(below.shape[1]):
                for j in range(fields.shape[1]):
                    maps[:, h] += kernel[i, j, h] * below[:, i] * fields[:, j]
        if layer.activation == "relu":
            maps = np.maximum(maps, 0)
        below, output = maps, maps
        if layer.split_half and level < len(layer.map_sizes) - 1:
            below, output = maps[:, : size // 2], maps[:, size // 2 :]
        pooled.append(output.sum(axis=2))
    return np.concatenate(pooled, axis=1)


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("split_half", [False, True])
def test_equals_the_equations(activation: Any, split_half: bool) -> None:
    layer = built([4, 6, 3], activation, split_half)
    for position, bias in enumerate(layer.biases):
        bias.assign_add(0.1 * (position + 1) * tf.ones_like(bias))
    assert layer.output_width == (8 if split_half else 13)
    assert interact(layer, FIELDS).shape == (3, layer.output_width)
    np.testing.assert_allclose(interact(layer, FIELDS), expected(layer, FIELDS), rtol=1e-3, atol=1e-4)


def test_with_ones_the_first_level_is_the_square_of_the_sum() -> None:
    layer = built([2], "identity")
    layer.kernels[0].assign(tf.ones_like(layer.kernels[0]))
    squares = np.square(FIELDS.sum(axis=1)).sum(axis=1)
    np.testing.assert_allclose(interact(layer, FIELDS), np.stack([squares, squares], axis=1), rtol=1e-4)


def test_renaming_the_fields_changes_nothing() -> None:
    layer = built([3], "identity")
    before, order = interact(layer, FIELDS), [2, 0, 3, 1]
    kernel = layer.kernels[0].numpy().reshape([4, 4, 3])
    layer.kernels[0].assign(kernel[order][:, order].reshape([16, 3]))
    np.testing.assert_allclose(interact(layer, FIELDS[:, order]), before, rtol=1e-4, atol=1e-5)


def test_a_missing_field_contributes_nothing() -> None:
    layer = built([3, 2])
    fields = FIELDS.copy()
    fields[:, 1] = 0
    before = interact(layer, fields)
    kernel = layer.kernels[0].numpy().reshape([4, 4, 3])
    kernel[1] = kernel[:, 1] = 1e3
    layer.kernels[0].assign(kernel.reshape([16, 3]))
    np.testing.assert_allclose(interact(layer, fields), before, rtol=1e-5)


def test_level_k_is_of_degree_k_plus_one() -> None:
    layer = built([3, 3], "identity")
    once, twice = interact(layer, FIELDS), interact(layer, 2 * FIELDS)
    np.testing.assert_allclose(twice[:, :3], 4 * once[:, :3], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(twice[:, 3:], 8 * once[:, 3:], rtol=1e-4, atol=1e-4)


def test_every_weight_learns() -> None:
    layer = built([4, 2], split_half=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(tf.constant(np.abs(FIELDS)) + 0.1)))
    for gradient, weight in zip(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables, strict=True):
        assert gradient is not None, weight.name
        assert np.isfinite(gradient).all()


def test_configuration_and_weights_survive(tmp_path: Path) -> None:
    layer = built([4, 2], "identity", split_half=True, seed=3)
    again = CompressedInteraction.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(interact(again, FIELDS), interact(layer, FIELDS))  # by the seed
    layer.kernels[0].assign_add(tf.ones_like(layer.kernels[0]))
    tf.train.Checkpoint(layer=layer).write(str(tmp_path / "layer"))
    tf.train.Checkpoint(layer=again).read(str(tmp_path / "layer")).assert_consumed()
    np.testing.assert_array_equal(interact(again, FIELDS), interact(layer, FIELDS))


def test_small_embeddings_do_not_vanish_in_half_precision() -> None:
    layer = CompressedInteraction([2, 2], "identity", dtype="mixed_float16")
    pooled = layer(tf.fill([1, 4, 512], tf.constant(0.02, tf.float16)))
    assert pooled.dtype == tf.float16
    assert (pooled.numpy() != 0).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"map_sizes": []}, "map_sizes: expected at least one level"),
        ({"map_sizes": [0]}, "map_sizes: expected a number of at least 1"),
        ({"map_sizes": [3, 2], "split_half": True}, "map_sizes: expected even sizes"),
        ({"activation": "tanh"}, "activation: expected one of"),
    ],
)
def test_impossible_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompressedInteraction(**parameters)
