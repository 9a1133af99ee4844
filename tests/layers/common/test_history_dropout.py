"""Dropout of elements and of whole items."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.common.history_dropout import ElementDropout, HistoryDropout


def test_elements_are_dropped_at_the_given_rate_and_the_mean_stays() -> None:
    dropped = HistoryDropout(0.2, seed=1)(tf.ones([50, 20, 10]), training=True).numpy()
    np.testing.assert_allclose(np.unique(dropped), [0.0, 1.25], rtol=1e-6)
    assert abs((dropped == 0).mean() - 0.2) < 0.02
    assert not (dropped == dropped[:, :, :1]).all()


def test_whole_items_are_dropped() -> None:
    dropped = HistoryDropout(0.3, seed=1, per_item=True)(tf.ones([100, 20, 4]), training=True).numpy()
    np.testing.assert_array_equal(dropped, np.repeat(dropped[:, :, :1], 4, axis=2))
    np.testing.assert_allclose(np.unique(dropped), [0.0, 1 / 0.7], rtol=1e-6)
    assert abs((dropped == 0).mean() - 0.3) < 0.04


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.5, None), (0.0, True)])
@pytest.mark.parametrize("per_item", [False, True])
def test_nothing_is_dropped_outside_training_or_at_rate_zero(rate: float, training: bool | None, per_item: bool) -> None:
    inputs = tf.random.normal([2, 3, 4])
    layer = HistoryDropout(rate, per_item=per_item)
    np.testing.assert_array_equal(layer(inputs, training=training), inputs)


@pytest.mark.parametrize("per_item", [False, True])
def test_gradients_reach_what_was_kept(per_item: bool) -> None:
    inputs = tf.ones([2, 5, 3])
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = HistoryDropout(0.5, seed=2, per_item=per_item)(inputs, training=True)
    np.testing.assert_array_equal(tape.gradient(outputs, inputs), outputs)
    assert {0.0, 2.0} == set(np.unique(outputs))


def test_equal_seeds_drop_equally_and_every_call_differs() -> None:
    inputs = tf.ones([4, 30])
    first, second, other = ElementDropout(0.5, seed=3), ElementDropout(0.5, seed=3), ElementDropout(0.5, seed=4)
    calls = [first(inputs, training=True).numpy() for _ in range(2)]
    np.testing.assert_array_equal([second(inputs, training=True).numpy() for _ in range(2)], calls)
    assert not np.array_equal(calls[0], calls[1])
    assert not np.array_equal(other(inputs, training=True), calls[0])


def test_half_precision_stays_half_precision() -> None:
    dropped = HistoryDropout(0.5, dtype="mixed_float16")(tf.ones([2, 3, 4], tf.float16), training=True)
    assert dropped.dtype == tf.float16


def test_an_implicit_mask_passes_through() -> None:
    vectors = tf.keras.layers.Embedding(5, 3, mask_zero=True)(tf.constant([[1, 0]]))
    np.testing.assert_array_equal(HistoryDropout(0.5)(vectors, training=True)._keras_mask, [[True, False]])


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate: expected a number of at least 0 and below 1"):
        HistoryDropout(rate)


def test_configuration_survives_a_round_trip() -> None:
    layer = HistoryDropout(0.25, seed=9, per_item=True)
    copy = HistoryDropout.from_config(layer.get_config())
    assert (copy.rate, copy.seed, copy.per_item) == (0.25, 9, True)
    inputs = tf.ones([2, 8, 3])
    np.testing.assert_array_equal(copy(inputs, training=True), layer(inputs, training=True))
