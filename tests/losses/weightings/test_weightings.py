"""How a loss weighs examples: plain cross-entropy and MTAW's adaptive weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.layers.base import READOUTS
from tfmi.losses.base import WEIGHTINGS, Contrast
from tfmi.losses.objectives.full_softmax import FullSoftmax
from tfmi.losses.objectives.sampled_softmax import SampledSoftmax
from tfmi.losses.repeats import with_repeats
from tfmi.losses.weightings.adaptive_weight import AdaptiveWeight

LOGITS = np.array([0.5, -1.0, 2.0], np.float32)  # of three items, the first of which is the target


def contrast_of(logits: tf.Tensor) -> Contrast:
    return Contrast(logits[None, 0], tf.reduce_logsumexp(logits[None, 1:], axis=1), negatives=lambda: logits[None, 1:])


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


def all_items_loss(logits: np.ndarray, target: int, gamma: float) -> float:
    """float64: the formula as it stands, over all items."""
    shares = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    shares /= shares.sum()
    p = np.where(np.arange(len(shares)) == target, shares, 1 - shares)
    return float(-np.sum((2 - 2 * p) ** gamma * np.log(p)))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 6.0])
def test_terms_of_all_items_are_the_formula_over_all_items(gamma: float) -> None:
    weighting = AdaptiveWeight(gamma, all_items_terms=True)
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = weighting(contrast_of(logits))
    np.testing.assert_allclose(loss, [all_items_loss(LOGITS, 0, gamma)], rtol=1e-5)
    steps = 1e-4 * np.eye(3)
    slopes = [(all_items_loss(LOGITS + step, 0, gamma) - all_items_loss(LOGITS - step, 0, gamma)) / 2e-4 for step in steps]
    np.testing.assert_allclose(tape.gradient(loss, logits), slopes, rtol=1e-3, atol=1e-5)


def test_two_equal_items_cost_log_two_each_whatever_gamma() -> None:
    for gamma in (0.0, 2.0, 7.5):
        loss = AdaptiveWeight(gamma, all_items_terms=True)(contrast_of(tf.constant([1.0, 1.0])))
        np.testing.assert_allclose(loss, [2 * np.log(2.0)], rtol=1e-6)


@pytest.mark.parametrize("history", [None, [[3, 9, 3, 0], [2, 4, 5, 6]]])
def test_terms_of_all_items_reach_every_item_of_the_catalogue(
    history: list[list[int]] | None, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    """Also where the history's items have scores of their own: they stand in for the catalogue's."""
    items, queries, targets = item_table(12), random_queries(2, 8), [3, 11]
    left_out = None if history is None else tf.constant(history)
    contrast = FullSoftmax().contrast(queries, tf.constant(targets), items, left_out)
    scores = tf.matmul(queries, items.table[2:], transpose_b=True).numpy()
    if history is not None:
        own = np.array([[-np.inf, 1.0, 0.5, -np.inf], [0.3, -0.2, 0.1, 0.0]], np.float32)  # item 3 counts once, at its newest place
        contrast = with_repeats(contrast, tf.constant(own), tf.constant(history) == tf.constant(targets)[:, None])
        for row, indices in enumerate(history):
            for item, score in zip(indices, own[row], strict=True):
                if np.isfinite(score):
                    scores[row, item - 2] = score
    losses = AdaptiveWeight(2.0, all_items_terms=True)(contrast)
    np.testing.assert_allclose(losses, [all_items_loss(scores[n], targets[n] - 2, 2.0) for n in range(2)], rtol=1e-5)


@pytest.mark.parametrize("positive", [-200.0, 200.0])
def test_terms_of_all_items_stay_finite(positive: float) -> None:
    logits = tf.Variable([positive, 0.0, -1e9])
    with tf.GradientTape() as tape:
        loss = AdaptiveWeight(2.0, all_items_terms=True)(contrast_of(logits))
    assert np.isfinite(loss.numpy()).all()
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()


def test_terms_of_all_items_need_all_items() -> None:
    weighting = AdaptiveWeight(all_items_terms=True)
    weighting.check(FullSoftmax(), READOUTS.build({"name": "label_aware"}, "model.readout"))
    for objective, readout in ((SampledSoftmax(), "label_aware"), (FullSoftmax(), "mixture")):
        with pytest.raises(ValueError, match="all_items_terms needs every item's probability"):
            weighting.check(objective, READOUTS.build({"name": readout}, "model.readout"))
        AdaptiveWeight().check(objective, READOUTS.build({"name": readout}, "model.readout"))


@pytest.mark.parametrize("name", WEIGHTINGS.names())
def test_configuration_round_trip(name: str) -> None:
    weighting = WEIGHTINGS.build({"name": name}, "model.weighting")
    assert type(weighting).from_config(weighting.get_config()).get_config() == weighting.get_config()
    assert weighting(contrast_of(tf.constant(LOGITS))).dtype == tf.float32


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.weighting: gamma: expected a number of at least 0, got -1"):
        WEIGHTINGS.build({"name": "adaptive_weight", "gamma": -1.0}, "model.weighting")
