"""The interests of several extractors side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.extractors.multi_interest.joined import JoinedInterests

HISTORY = tf.constant(np.random.default_rng(0).normal(size=[3, 5, 4]).astype(np.float32))
MASK = tf.sequence_mask([5, 2, 0], 5)


def joined(*specs: dict[str, Any], **arguments: Any) -> JoinedInterests:
    tf.keras.utils.set_random_seed(2)
    layer = JoinedInterests(list(specs), **arguments)
    layer(HISTORY, MASK)
    return layer


def test_interests_are_those_of_the_parts_times_their_gains() -> None:
    layer = joined({"name": "mean_pooling", "recency_decay": 0.5}, {"name": "self_attentive", "num_interests": 2})
    layer.gains.assign([2.0, -1.0, 0.5])
    output = layer(HISTORY, MASK)
    parts = [part(HISTORY, MASK) for part in layer.parts]
    found = tf.concat([part.interests for part in parts], axis=1)
    np.testing.assert_allclose(output.interests, found * np.array([2.0, -1.0, 0.5])[:, None], atol=1e-6)
    np.testing.assert_array_equal(output.weights, tf.concat([part.weights for part in parts], axis=1))
    assert layer.num_interests == 3


def test_descriptions_stay_plain_dictionaries() -> None:
    specs: list[dict[str, Any]] = [{"name": "mean_pooling"}, {"name": "newest_state", "encoder": {"name": "transformer", "num_blocks": 1}}]
    described = JoinedInterests(specs).get_config()["extractors"]
    assert described == specs
    assert {type(part) for part in (specs, specs[1], specs[1]["encoder"], described[1], described[1]["encoder"])} == {list, dict}
    assert JoinedInterests(described).parts[1].encoder.num_blocks == 1


def test_of_the_interests_the_first_are_kept() -> None:
    specs: list[dict[str, Any]] = [{"name": "mean_pooling"}, {"name": "self_attentive", "num_interests": 2}]
    whole = joined(*specs)(HISTORY, MASK)
    for count, parts in ((1, 1), (2, 2), (3, 2)):
        layer = joined(*specs, num_interests=count)
        assert (layer.num_interests, len(layer.parts)) == (count, parts)
        np.testing.assert_allclose(layer(HISTORY, MASK).interests, whole.interests[:, :count], atol=1e-6)
    for count in (0, 4):
        with pytest.raises(ValueError, match=r"num_interests: expected 1 to 3.*, got"):
            joined(*specs, num_interests=count)


def test_active_interests_come_first_whatever_part_they_are_of() -> None:
    output = joined({"name": "capsule_routing", "num_interests": 3}, {"name": "mean_pooling"})(HISTORY, MASK)
    active = output.active.numpy()
    assert active.sum(axis=1).tolist() == [3, 2, 2]
    assert (np.sort(~active, axis=1) == ~active).all()
    mean = tf.reduce_mean(HISTORY[1, :2], axis=0)
    np.testing.assert_allclose(output.interests[1, active[1].sum() - 1], mean, atol=1e-6)
    assert not output.interests.numpy()[~active].any()


def test_each_part_has_a_seed_of_its_own() -> None:
    layer = JoinedInterests([{"name": "newest_state"}, {"name": "newest_state"}, {"name": "newest_state", "seed": 7}], seed=3)
    assert [part.seed for part in layer.parts] == [3, 103, 7]


def test_gradients_reach_the_gains_and_every_part() -> None:
    layer = joined({"name": "newest_state", "encoder": {"name": "gru"}, "project": True}, {"name": "self_attentive", "num_interests": 2})
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(HISTORY, MASK).interests) * [[1.0], [2.0], [3.0]])
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.abs(tf.convert_to_tensor(gradient).numpy()).sum() > 0


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([{"name": "mean_pooling"}], "two or more to join, got 1"),
        ([{"name": "mean_pooling"}, {"name": "mean_poling"}], "unknown extractor 'mean_poling' .did you mean 'mean_pooling'"),
        ([{"name": "mean_pooling"}, {"name": "graph_self_attention"}], r"extractors\[1\]: graph_self_attention needs history_indices"),
    ],
)
def test_what_cannot_be_joined_is_refused(specs: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JoinedInterests(specs)
