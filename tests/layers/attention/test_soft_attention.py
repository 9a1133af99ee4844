"""Soft attention against its equations, one click at a time."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.layers.attention.soft_attention import SoftAttention
from tfmi.layers.base import EXTRACTORS
from tfmi.layers.extractors.single_vector.soft_attention_interest import SoftAttentionInterest

WIDTH = 4


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def session(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=[length, WIDTH])


def summed(layer: SoftAttention, clicks: np.ndarray, padded: int = 6) -> np.ndarray:
    states = np.zeros([1, padded, WIDTH], np.float32)
    states[0, : len(clicks)] = clicks
    vector, _ = layer(tf.constant(states), tf.constant(np.arange(padded) < len(clicks))[None])
    return vector.numpy()[0]


def expected(layer: SoftAttention, clicks: np.ndarray) -> np.ndarray:
    """Step by step."""
    attention, mean, result = layer.attention, clicks.mean(axis=0), np.zeros(WIDTH)
    for place, click in enumerate(clicks):
        aged = click
        if layer.positions == "newest":
            position = layer.position_embeddings.numpy()[len(clicks) - 1 - place]
            aged = np.tanh(position @ layer.position_kernel.numpy() + click @ layer.click_kernel.numpy())
        hidden = sigmoid(aged @ attention.click_kernel.numpy() + mean @ attention.context_kernel.numpy() + attention.bias.numpy())
        result += (hidden @ attention.alpha_kernel.numpy()) * click
    return result


@pytest.mark.parametrize("positions", ["newest", "none"])
@pytest.mark.parametrize("length", [1, 3, 6])
def test_equals_the_equations(length: int, positions: Literal["newest", "none"]) -> None:
    layer, clicks = SoftAttention(positions), session(length)
    vector = summed(layer, clicks)
    np.testing.assert_allclose(vector, expected(layer, clicks), rtol=1e-4, atol=1e-6)


def test_the_newest_click_always_meets_the_first_position() -> None:
    layer = SoftAttention()
    summed(layer, session(6))
    table = layer.position_embeddings.numpy()
    layer.position_embeddings.assign(np.concatenate([table[:1], 1e3 * np.ones([5, WIDTH])]))
    assert summed(layer, session(1)) == pytest.approx(expected(layer, session(1)), rel=1e-4)
    layer.position_embeddings.assign(np.concatenate([table[:1], 0 * table[1:]]))
    np.testing.assert_allclose(summed(layer, session(3)), expected(layer, session(3)), rtol=1e-4, atol=1e-6)


def test_order_matters_only_with_positions() -> None:
    clicks = session(5)
    for positions, alike in (("newest", False), ("none", True)):
        layer = SoftAttention(positions)  # type: ignore[arg-type]
        assert np.allclose(summed(layer, clicks), summed(layer, clicks[::-1]), atol=1e-6) == alike


def test_an_empty_history_gives_zero() -> None:
    output = SoftAttentionInterest()(tf.fill([1, 4, WIDTH], np.nan), tf.zeros([1, 4], tf.bool))
    np.testing.assert_array_equal(output.interests, np.zeros([1, 1, WIDTH]))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"positions": "oldest"}, "positions"), ({"max_length": 0}, "max_length: expected a number of at least 1")],
)
def test_impossible_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EXTRACTORS.build({"name": "soft_attention", **parameters}, "extractor")
