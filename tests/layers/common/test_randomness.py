"""Random numbers that seeds repeat and checkpoints carry on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.history_dropout import HistoryDropout
from tfmi.layers.common.randomness import RandomStream


class Noise(ConfiguredLayer):
    """Adds noise in training, and has a weight, as layers that draw usually have."""

    def __init__(self, seed: int = 0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self._stream = RandomStream(seed, "test")

    def build(self, input_shape: tf.TensorShape) -> None:
        self.scale = self.add_weight("scale", [], initializer="ones")

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.scale * inputs + (self._stream.normal(tf.shape(inputs)) if training else 0.0)


def test_equal_seeds_and_purposes_give_equal_streams() -> None:
    def draw(seed: int, purpose: str) -> list[float]:
        return list(RandomStream(seed, purpose).normal([4]).numpy())

    assert draw(1, "a") == draw(1, "a")
    assert draw(1, "a") != draw(2, "a")
    assert draw(1, "a") != draw(1, "b")
    tf.random.set_seed(5)
    assert draw(1, "a") == draw(1, "a")


def test_a_stream_moves_on_also_inside_a_function() -> None:
    expected = RandomStream(3, "a")
    compiled = RandomStream(3, "a")
    draw = tf.function(lambda: compiled.uniform([3]), autograph=False)
    values = [draw().numpy() for _ in range(3)]
    np.testing.assert_array_equal(values, [expected.uniform([3]).numpy() for _ in range(3)])
    assert not np.array_equal(values[0], values[1])


def test_distributions() -> None:
    stream = RandomStream(0, "distributions")
    normal = stream.normal([20000], deviation=2.0).numpy()
    assert abs(normal.mean()) < 0.06
    assert abs(normal.std() - 2.0) < 0.06
    integers = stream.uniform([20000], 2, 6, dtype=tf.int32).numpy()
    np.testing.assert_array_equal(np.unique(integers), [2, 3, 4, 5])
    np.testing.assert_allclose(np.bincount(integers)[2:] / 20000, 0.25, atol=0.02)
    uniform = stream.uniform([20000]).numpy()
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1


@pytest.mark.parametrize("layer", [Noise(seed=5), HistoryDropout(0.5, seed=5)], ids=["with weights", "without weights"])
@pytest.mark.parametrize("file_name", ["model.keras", "model.weights.h5"])
def test_keras_files_carry_the_stream_on(layer: tf.keras.layers.Layer, file_name: str, tmp_path: Path) -> None:
    inputs = tf.ones([1, 3, 4])
    model = tf.keras.Sequential([tf.keras.Input([3, 4]), layer])
    model(inputs, training=True)
    path = tmp_path / file_name
    if path.suffix == ".keras":
        model.save(path)
        restored = tf.keras.models.load_model(path)
    else:
        model.save_weights(path)
        restored = tf.keras.models.clone_model(model)
        restored.load_weights(path)
    for _ in range(2):
        np.testing.assert_array_equal(restored(inputs, training=True), model(inputs, training=True))


def test_the_stream_is_not_a_weight() -> None:
    layer = Noise(seed=5)
    first = layer(tf.zeros([3]), training=True).numpy()
    best = layer.get_weights()
    assert len(best) == 1
    second = layer(tf.zeros([3]), training=True).numpy()
    layer.set_weights(best)
    third = layer(tf.zeros([3]), training=True).numpy()
    assert len({tuple(values) for values in (first, second, third)}) == 3


def test_configuration_survives_a_round_trip() -> None:
    stream = RandomStream(7, "a")
    copy = RandomStream.from_config(stream.get_config())
    np.testing.assert_array_equal(copy.normal([3]), stream.normal([3]))


def test_quick_normal_numbers_are_normal_and_independent() -> None:
    numbers = RandomStream(3, "noise").quick_normal([200, 100], deviation=2.0).numpy()
    assert numbers.dtype == np.float32
    for power, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        moments = (numbers / 2.0) ** power
        assert abs(moments.mean() - expected) < 4 * moments.std() / np.sqrt(moments.size)
    pairs = numbers.reshape(-1, 2)  # of one random word
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / np.sqrt(len(pairs))


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(), (7,), (100, 21, 10)])
def test_coins_fall_as_often_as_stated(probability: float, shape: tuple[int, ...]) -> None:
    coins = RandomStream(2, "coins").coins(shape, probability)
    assert coins.dtype == tf.bool
    assert coins.shape == shape
    if probability in (0.0, 1.0):
        assert (coins.numpy() == bool(probability)).all()
    elif len(shape) == 3:
        assert abs(coins.numpy().mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / coins.numpy().size)


def test_coins_of_one_random_word_are_independent() -> None:
    """Two coins share a word: each of the four outcomes of a pair is a quarter."""
    pairs = RandomStream(4, "coins").coins([20000], 0.5).numpy().reshape(-1, 2)
    outcomes = np.bincount(pairs[:, 0] * 2 + pairs[:, 1], minlength=4) / len(pairs)
    np.testing.assert_allclose(outcomes, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / len(pairs)))


def test_coins_of_a_shape_known_only_at_run_time() -> None:
    stream = RandomStream(5, "coins")
    flip = tf.function(lambda like: stream.coins(tf.shape(like), 0.5), input_signature=[tf.TensorSpec([None, 3])], autograph=False)
    assert flip(tf.zeros([5, 3])).shape == (5, 3)
    assert flip(tf.zeros([0, 3])).shape == (0, 3)
