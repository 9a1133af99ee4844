"""Attention over clicks that is not divided among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.attention.click_attention import ClickAttention, shares, weighted_sum

LENGTH, WIDTH = 5, 3
ITEM_COUNTS = np.array([5, 2, 1, 0])
MASK = np.arange(LENGTH) < ITEM_COUNTS[:, None]


def clicks() -> np.ndarray:
    return np.where(MASK[..., None], np.random.default_rng(0).normal(size=[4, LENGTH, WIDTH]), 0).astype(np.float32)


def contexts(number: int) -> list[np.ndarray]:
    return list(np.random.default_rng(1).normal(size=[number, 4, WIDTH]).astype(np.float32))


def randomized(attention: ClickAttention) -> ClickAttention:
    attention.build((None, LENGTH, WIDTH))
    random = np.random.default_rng(2)
    attention.set_weights([random.normal(size=weight.shape) for weight in attention.get_weights()])
    return attention


def attend(attention: ClickAttention, mask: np.ndarray = MASK) -> np.ndarray:
    return attention(tf.constant(clicks()), tf.constant(mask), [tf.constant(c) for c in contexts(attention.num_contexts)]).numpy()


@pytest.mark.parametrize("options", [{}, {"num_contexts": 2, "use_bias": True}, {"softmax": True}], ids=str)
def test_alphas_equal_a_loop_over_clicks(options: dict[str, Any]) -> None:
    attention = randomized(ClickAttention(**options))
    bias = attention.bias.numpy() if attention.use_bias else 0
    matrices = np.split(attention.context_kernel.numpy(), attention.num_contexts)
    expected = np.zeros(MASK.shape)
    for user, count in enumerate(ITEM_COUNTS):
        known = bias + sum(c[user] @ matrix for c, matrix in zip(contexts(attention.num_contexts), matrices, strict=True))
        for place in range(count):
            hidden = 1 / (1 + np.exp(-(clicks()[user, place] @ attention.click_kernel.numpy() + known)))
            expected[user, place] = (hidden @ attention.alpha_kernel.numpy())[0]
        if attention.softmax and count:
            expected[user, :count] = np.exp(expected[user, :count]) / np.exp(expected[user, :count]).sum()
    np.testing.assert_allclose(attend(attention), expected, atol=1e-6)


def test_without_matrices_every_alpha_is_half_the_sum_of_v() -> None:
    attention = randomized(ClickAttention())
    for kernel in (attention.click_kernel, attention.context_kernel):
        kernel.assign(tf.zeros_like(kernel))
    alpha = attend(attention)
    np.testing.assert_allclose(alpha[MASK], 0.5 * attention.alpha_kernel.numpy().sum(), rtol=1e-5)
    assert (alpha[~MASK] == 0).all()


def test_a_sum_and_shares_of_signed_alphas() -> None:
    alpha = tf.constant([[1.0, -3.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(shares(alpha), [[[0.25, 0.75, 0]], [[0, 0, 0]]])
    summed = weighted_sum(alpha, tf.constant([[[1.0], [2.0], [9.0]]] * 2))
    np.testing.assert_array_equal(summed, [[-5], [0]])


def test_starts_as_asked() -> None:
    width = 100
    started = {
        "uniform": ClickAttention(start="uniform", use_bias=True),
        "normal": ClickAttention(initializer_deviation=0.05, use_bias=True),
        "glorot": ClickAttention(use_bias=True),
    }
    for attention in started.values():
        attention.build((None, LENGTH, width))
    assert 0.09 < np.abs(started["uniform"].click_kernel).max() <= 0.1
    assert 0.09 < np.abs(started["uniform"].bias).max() <= 0.1
    assert abs(np.std(started["normal"].click_kernel) - 0.05) < 0.002
    assert abs(np.std(started["glorot"].click_kernel) - 0.1) < 0.003
    assert not started["normal"].bias.numpy().any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_contexts": 0}, "num_contexts"), ({"start": "zeros"}, "start"), ({"initializer_deviation": -1.0}, "initializer_deviation")],
)
def test_impossible_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClickAttention(**options)
