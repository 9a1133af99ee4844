"""Histories in groups of like lengths: the same users, items and gradients, with less padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import RealItems
from tfmi.layers.common.length_groups import LengthGroups
from tfmi.layers.extractors.single_vector import interest_trend
from tfmi.layers.extractors.single_vector.interest_trend import InterestTrend
from tfmi.layers.sequence_encoders import transformer_encoder
from tfmi.layers.sequence_encoders.transformer_encoder import TransformerEncoder

LENGTHS = np.array([3, 0, 7, 1, 2, 2, 1, 5, 0, 4])
MASK = np.arange(8) < LENGTHS[:, None]


def history() -> np.ndarray:
    return np.random.default_rng(0).normal(size=[len(LENGTHS), 8, 3]).astype(np.float32)


def test_each_group_is_as_long_as_its_longest_history() -> None:
    groups = LengthGroups(tf.constant(MASK), 3)
    assert [tuple(mask.shape) for mask in groups.masks] == [(3, 1), (3, 2), (4, 7)]
    assert sum(int(tf.reduce_sum(tf.cast(mask, tf.int32))) for mask in groups.masks) == LENGTHS.sum()


@pytest.mark.parametrize("count", [1, 3, 10])
def test_joined_groups_are_the_batch_again(count: int) -> None:
    values = tf.Variable(history())
    groups = LengthGroups(tf.constant(MASK), count)
    with tf.GradientTape() as tape:
        sums = groups.joined([tf.reduce_sum(part, axis=1) for part in groups.histories(values)])
    np.testing.assert_allclose(sums, (history() * MASK[:, :, None]).sum(axis=1), atol=1e-6)
    np.testing.assert_array_equal(tf.convert_to_tensor(tape.gradient(sums, values)), np.broadcast_to(MASK[:, :, None], [10, 8, 3]))


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True])
def test_groups_change_nothing_but_the_cost(empty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    values, mask = tf.Variable(history()), tf.constant(MASK & (not empty))
    layer = InterestTrend(encoder={"name": "interest_tracking", "dropout": 0.0})
    plain = layer(values, mask)

    @tf.function(autograph=False)
    def step() -> tuple[tuple[tf.Tensor, ...], list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            output = layer(values, mask, training=True)
            loss = tf.reduce_sum(output.interests**2)
        return (*output[:3], output.internals["trend"]), tape.gradient(loss, [values, *layer.trainable_variables])

    _, expected = step()
    monkeypatch.setattr(interest_trend, "_GROUPED_FROM", 10)
    outputs, gradients = tf.function(step.python_function, autograph=False)()
    for ours, theirs in zip(outputs, (*plain[:3], plain.internals["trend"]), strict=True):
        np.testing.assert_allclose(tf.cast(ours, tf.float32), tf.cast(theirs, tf.float32), atol=1e-6)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(ours), tf.convert_to_tensor(theirs), atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_rows_of_groups_are_the_batchs_rows_again(count: int) -> None:
    real = RealItems(tf.constant(MASK))
    rows = tf.Variable(real.rows(tf.constant(history())))
    groups = LengthGroups(tf.constant(MASK), count)
    with tf.GradientTape() as tape:
        parts = groups.spread_rows(rows)
        joined = groups.joined_rows(parts) * 2.0
    for part, expected in zip(parts, groups.histories(tf.constant(history())), strict=True):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(joined, 2.0 * rows.numpy())
    np.testing.assert_array_equal(tf.convert_to_tensor(tape.gradient(joined, rows)), np.full(rows.shape, 2.0))
    lengths = tf.concat(groups.split(tf.constant(LENGTHS)), axis=0)
    np.testing.assert_array_equal(groups.joined([lengths]), LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [{}, {"causal": False}, {"positions": "rotary", "norm": "pre", "gate": True}, {"positions": "relative"}]
)
def test_a_transformer_in_groups_is_the_same_transformer(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    values, mask = tf.Variable(np.tile(history(), [1, 1, 2])[..., :4]), tf.constant(MASK)
    encoder = TransformerEncoder(dropout=0.0, attention_dropout=0.0, initializer_deviation=0.5, **arguments)
    encoder(values, mask)

    @tf.function(autograph=False)
    def step() -> tuple[Any, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            encoded = encoder(values, mask, training=True)
            loss = tf.reduce_sum(encoded.states**2)
        return encoded, tape.gradient(loss, [values, *encoder.trainable_variables])

    expected = tf.nest.flatten(step())
    for bound in ("_GROUPED_FROM", "_GROUPED_LENGTH"):
        monkeypatch.setattr(transformer_encoder, bound, 1)
    step = tf.function(step.python_function, autograph=False)
    found = tf.nest.flatten(step())
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(ours), tf.convert_to_tensor(theirs), atol=2e-5)
