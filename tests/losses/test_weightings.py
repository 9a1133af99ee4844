"""How a loss weighs examples: plain cross-entropy and MTAW's adaptive weight."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.errors import ConfigError
from tfmi.losses.adaptive_weight import AdaptiveWeight
from tfmi.losses.base import WEIGHTINGS, Contrast

LOGITS = np.array([0.5, -1.0, 2.0], np.float32)  # of three items, the first of which is the target


def contrast_of(logits: tf.Tensor) -> Contrast:
    return Contrast(logits[None, 0], tf.reduce_logsumexp(logits[None, 1:], axis=1))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 6.0])
def test_is_a_power_of_two_times_the_focal_loss(gamma: float) -> None:
    probability = np.exp(LOGITS[0]) / np.exp(LOGITS).sum()
    loss = AdaptiveWeight(gamma)(contrast_of(tf.constant(LOGITS)))
    np.testing.assert_allclose(loss, [-(2**gamma) * (1 - probability) ** gamma * np.log(probability)], rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0, 7.5])
def test_costs_log_two_at_one_half_whatever_gamma(gamma: float) -> None:
    np.testing.assert_allclose(AdaptiveWeight(gamma)(contrast_of(tf.constant([1.0, 1.0]))), [np.log(2.0)], rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 2.0, 6.0])
def test_gradient_is_the_analytic_one(gamma: float) -> None:
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = AdaptiveWeight(gamma)(contrast_of(logits))
    gradient = tape.gradient(loss, logits).numpy()
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum()
    p = shares[0]
    by_target = (2 - 2 * p) ** gamma * (gamma * p * np.log(p) - (1 - p))
    np.testing.assert_allclose(gradient[0], by_target, rtol=1e-4)
    np.testing.assert_allclose(gradient[1:], -by_target * shares[1:] / (1 - p), rtol=1e-4)


def test_a_constant_weight_scales_the_gradient_of_cross_entropy() -> None:
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = AdaptiveWeight(2.0, stop_gradient_weight=True)(contrast_of(logits))
    p = np.exp(LOGITS[0]) / np.exp(LOGITS).sum()
    np.testing.assert_allclose(tape.gradient(loss, logits)[0], -((2 - 2 * p) ** 2) * (1 - p), rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("positive", [-200.0, 0.0, 200.0])
def test_extreme_scores_give_finite_losses_and_gradients(gamma: float, positive: float) -> None:
    logits = tf.Variable([positive, 0.0])
    with tf.GradientTape() as tape:
        loss = AdaptiveWeight(gamma)(contrast_of(logits))
    assert np.isfinite(loss.numpy()).all()
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()


@pytest.mark.parametrize("name", WEIGHTINGS.names())
def test_configuration_round_trip(name: str) -> None:
    weighting = WEIGHTINGS.build({"name": name}, "model.weighting")
    assert type(weighting).from_config(weighting.get_config()).get_config() == weighting.get_config()
    assert weighting(contrast_of(tf.constant(LOGITS))).dtype == tf.float32


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.weighting: gamma: expected a number of at least 0, got -1"):
        WEIGHTINGS.build({"name": "adaptive_weight", "gamma": -1.0}, "model.weighting")
