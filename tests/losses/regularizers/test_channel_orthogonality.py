"""The regulariser that keeps Octopus' channels apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS
from tfmi.layers.extractors.multi_interest.elastic_archive import ElasticArchive
from tfmi.losses.base import REGULARIZERS, BatchContext
from tfmi.losses.regularizers.channel_orthogonality import ChannelOrthogonality, squared_cosines

WIDTH = 6


def context_of(layer: ElasticArchive) -> BatchContext:
    history, mask = tf.ones([2, 3, WIDTH]), tf.ones([2, 3], tf.bool)
    output = layer(history, mask)
    return BatchContext(output, history, tf.ones([2, 3], tf.int32), mask, history[:, 0], output.interests)


def channels_of(layer: ElasticArchive) -> np.ndarray:
    return np.asarray(layer.channels.numpy())


def test_is_the_mean_squared_cosine_of_two_different_channels() -> None:
    channels = np.random.default_rng(0).normal(size=(5, WIDTH))
    lengths = np.linalg.norm(channels, axis=1)
    expected = np.mean([(channels[i] @ channels[j] / lengths[i] / lengths[j]) ** 2 for i in range(5) for j in range(5) if i != j])
    np.testing.assert_allclose(squared_cosines(tf.constant(channels, tf.float32)), expected, rtol=1e-5)


def test_orthonormal_channels_cost_nothing_and_lengths_do_not_matter() -> None:
    np.testing.assert_allclose(squared_cosines(tf.eye(4, WIDTH)), 0.0, atol=1e-12)
    channels = np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float32)
    scaled = channels * np.array([[0.01], [1], [2], [30], [500]], np.float32)
    np.testing.assert_allclose(squared_cosines(tf.constant(scaled)), squared_cosines(tf.constant(channels)), rtol=1e-5)
    np.testing.assert_allclose(squared_cosines(tf.ones([3, WIDTH])), 1.0, rtol=1e-6)


def test_channels_cost_nothing_at_the_start_unless_they_outnumber_the_dimensions() -> None:
    for num_channels, free in [(2, True), (WIDTH, True), (WIDTH + 1, False)]:
        cost = float(ChannelOrthogonality()(context_of(ElasticArchive(num_channels))))
        assert (cost < 1e-10) == free


def test_a_single_channel_costs_nothing() -> None:
    assert squared_cosines(tf.ones([1, WIDTH])).numpy() == pytest.approx(0.0, abs=1e-12)


def test_reads_the_channels_from_the_internals_and_its_gradient_pulls_them_apart() -> None:
    layer = ElasticArchive(4)
    context_of(layer)
    layer.channels.assign(np.random.default_rng(1).normal(size=(4, WIDTH)))
    optimizer = tf.keras.optimizers.SGD(1.0)
    losses = []
    for _ in range(60):
        with tf.GradientTape() as tape:
            loss = ChannelOrthogonality(2.0)(context_of(layer))
        losses.append(float(loss))
        optimizer.apply_gradients([(tape.gradient(loss, layer.channels), layer.channels)])
    assert losses[-1] < 0.01 * losses[0]


def test_weight_is_a_factor() -> None:
    layer = ElasticArchive(9)  # more than WIDTH: not orthogonal
    context = context_of(layer)
    np.testing.assert_allclose(ChannelOrthogonality(0.5)(context), 5 * ChannelOrthogonality()(context), rtol=1e-6)
    assert ChannelOrthogonality.from_config(ChannelOrthogonality(0.5).get_config()).weight == 0.5


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_is_computed_in_float32_under_mixed_precision(policy: str) -> None:
    layer = ElasticArchive(9)
    expected = ChannelOrthogonality()(context_of(layer))
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        mixed = ElasticArchive(9)
        context = context_of(mixed)
        mixed.channels.assign(channels_of(layer))
        found = ChannelOrthogonality()(context._replace(output=mixed(context.history, context.mask)))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("arguments", [{"name": "self_attentive"}, {"name": "capsule_routing"}])
def test_extractors_without_channels_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs channel_vectors from the extractor.*extractors that do: elastic_archive"):
        ChannelOrthogonality().check(EXTRACTORS.build(arguments, "extractor"))
    ChannelOrthogonality().check(ElasticArchive(4))


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="weight: expected a number of at least 0"):
        REGULARIZERS.build({"name": "channel_orthogonality", "weight": -1.0}, "model.regularizers.x")
