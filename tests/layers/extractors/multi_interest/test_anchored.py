"""Interests anchored in the whole history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.extractors.multi_interest.anchored import AnchoredInterests
from tfmi.layers.extractors.single_vector.mean_pooling import MeanPooling

HISTORY = tf.constant(np.random.default_rng(0).normal(size=[3, 5, 4]).astype(np.float32))
MASK = tf.sequence_mask([5, 2, 0], 5)


def anchored(**arguments: Any) -> AnchoredInterests:
    tf.keras.utils.set_random_seed(2)
    layer = AnchoredInterests(3, **arguments)
    layer(HISTORY, MASK)
    return layer


def test_adds_the_mean_of_the_history_times_what_each_interest_learned() -> None:
    layer = anchored(anchor="mean", recency_decay=0.5)
    layer.anchors.assign([0.0, 1.0, -2.0])
    plain = layer.base(HISTORY, MASK)
    output = layer(HISTORY, MASK)
    mean = MeanPooling(0.5)(HISTORY, MASK).interests
    np.testing.assert_allclose(output.interests, plain.interests + np.array([0.0, 1.0, -2.0])[:, None] * mean, atol=1e-6)
    np.testing.assert_array_equal(output.weights, plain.weights)


def test_a_learned_anchor_is_one_more_interest() -> None:
    layer = anchored()
    layer.anchors.assign([0.0, 1.0, -2.0])
    plain = layer.base(HISTORY, MASK)
    assert plain.interests.shape == [3, 4, 4]
    output = layer(HISTORY, MASK)
    np.testing.assert_allclose(
        output.interests, plain.interests[:, 1:] + np.array([0.0, 1.0, -2.0])[:, None] * plain.interests[:, :1], atol=1e-6
    )
    np.testing.assert_array_equal(output.weights, plain.weights[:, 1:])
    np.testing.assert_array_equal(output.internals["logits"], plain.internals["logits"][:, 1:])


def test_an_overwhelming_anchor_is_mean_pooling() -> None:
    output = anchored(anchor="mean", anchor_start=1e4)(HISTORY, MASK)
    mean = MeanPooling(0.9)(HISTORY, MASK).interests
    unit = tf.math.l2_normalize(output.interests, axis=-1)[:2]
    np.testing.assert_allclose(unit, tf.repeat(tf.math.l2_normalize(mean, axis=-1), 3, axis=1)[:2], atol=1e-3)


def test_inactive_interests_stay_zero() -> None:
    output = anchored(extractor={"name": "capsule_routing"})(HISTORY, MASK)
    assert not output.active.numpy().all()
    assert (output.interests.numpy()[~output.active.numpy()] == 0).all()


def test_gradients_reach_the_anchors_and_the_base() -> None:
    layer = anchored()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(HISTORY, MASK).interests) * [[1.0], [2.0], [3.0]])
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.abs(tf.convert_to_tensor(gradient).numpy()).sum() > 0


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        ({"name": "mean_pooling"}, "expected one with several interests"),
        ({"name": "self_attentive", "num_interests": 2}, "whose number is given beside it"),
        ({"name": "nothing"}, "unknown extractor 'nothing'"),
        ({"name": "self_attentive", "positions": "sideways"}, "positions"),
    ],
)
def test_what_cannot_be_anchored_is_refused(extractor: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnchoredInterests(3, extractor=extractor)
