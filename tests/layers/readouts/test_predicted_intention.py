"""SINE's aggregation: one vector from what the user is predicted to be after, the same in training and in serving."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, READOUTS, InterestOutput
from tfmi.layers.readouts.predicted_intention import PredictedIntention


def extracted(interests: np.ndarray | tf.Tensor, intention: np.ndarray, active: np.ndarray | None = None) -> InterestOutput:
    interests = tf.constant(interests, tf.float32)
    active = np.ones(interests.shape[:2], bool) if active is None else active
    internals = {"current_intention": tf.constant(intention, tf.float32)}
    return InterestOutput(interests, tf.constant(active), tf.zeros([*interests.shape[:2], 1]), internals)


def mixed(output: InterestOutput, scored: tf.Tensor | None = None, **arguments: Any) -> np.ndarray:
    """The query [B, d] for scored vectors that are the interests themselves, unless given."""
    scored = output.interests if scored is None else scored
    return PredictedIntention(**arguments)(scored, output.active, tf.zeros_like(scored[:, 0]), output=output).numpy()


def random_output(seed: int = 0) -> InterestOutput:
    rng = np.random.default_rng(seed)
    return extracted(rng.normal(size=[5, 3, 4]), rng.normal(size=[5, 4]))


def test_golden_weights() -> None:
    """With unit vectors as interests the query holds the weights."""
    query = mixed(extracted(np.eye(2)[None], np.array([[0.3, 0.1]])))
    np.testing.assert_allclose(query, [[0.880797, 0.119203]], atol=1e-6)


def test_temperature_goes_from_a_choice_to_the_mean() -> None:
    output = random_output()
    interests, intention = output.interests.numpy(), output.internals["current_intention"].numpy()
    np.testing.assert_allclose(mixed(output, temperature=1e9), interests.mean(axis=1), atol=1e-6)
    best = np.einsum("bkd,bd->bk", interests, intention).argmax(axis=1)
    np.testing.assert_allclose(mixed(output, temperature=1e-6), interests[np.arange(5), best], atol=1e-6)


def test_weights_come_from_the_extractors_interests_and_mix_the_scored_vectors() -> None:
    output = random_output()
    weights = mixed(output, tf.eye(3, batch_shape=[5]), temperature=0.5)  # [B, K]
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    scored = tf.random.stateless_normal([5, 3, 7], seed=[1, 2])  # of another width, as behind a user tower
    np.testing.assert_allclose(mixed(output, scored, temperature=0.5), np.einsum("bk,bkd->bd", weights, scored), atol=1e-6)


def test_weights_of_the_one_vector_are_mixed_as_it_is() -> None:
    output = extracted(np.eye(2)[None], np.array([[0.3, 0.1]]))._replace(weights=tf.constant([[[1.0, 0.0], [0.25, 0.75]]]))
    mixture = PredictedIntention().served_weights(output)
    np.testing.assert_allclose(mixture, [[[0.880797 + 0.25 * 0.119203, 0.75 * 0.119203]]], atol=1e-6)
    assert PredictedIntention(served="interests").served_weights(output) is output.weights


def test_inactive_interests_have_no_part() -> None:
    output = random_output()
    active = np.array([[True, True, False]] * 5)
    masked = extracted(output.interests.numpy(), output.internals["current_intention"].numpy(), active)
    shorter = extracted(output.interests.numpy()[:, :2], output.internals["current_intention"].numpy())
    np.testing.assert_allclose(mixed(masked), mixed(shorter), atol=1e-6)


def test_the_target_plays_no_part_and_serving_computes_the_same() -> None:
    output = random_output()
    layer = PredictedIntention(temperature=0.7)
    with tf.GradientTape() as tape:
        target = tf.ones([5, 4])
        tape.watch(target)
        query = layer(output.interests, output.active, target, output=output)
    assert tape.gradient(query, target) is None
    vectors, active = layer.serve(output.interests, output.active, output)
    np.testing.assert_array_equal(vectors, query[:, None])
    np.testing.assert_array_equal(active, np.ones([5, 1], bool))


def test_the_interests_may_be_served_instead() -> None:
    output = random_output()
    vectors, active = PredictedIntention(served="interests").serve(output.interests, output.active, output)
    np.testing.assert_array_equal(vectors, output.interests)
    np.testing.assert_array_equal(active, output.active)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_gradients_reach_interests_and_intention_and_stay_finite(scale: float) -> None:
    output = random_output()
    interests, intention = output.interests * scale, output.internals["current_intention"] * scale
    with tf.GradientTape() as tape:
        tape.watch([interests, intention])
        watched = InterestOutput(interests, output.active, output.weights, {"current_intention": intention})
        loss = tf.reduce_sum(tf.square(PredictedIntention()(interests, output.active, interests[:, 0], output=watched)))
    to_interests, to_intention = (gradient.numpy() for gradient in tape.gradient(loss, [interests, intention]))
    assert np.isfinite(to_interests).all()
    assert np.isfinite(to_intention).all()
    assert np.abs(to_interests).max() > 0
    assert (np.abs(to_intention).max() > 0) == (scale == 1.0)  # a choice teaches the intention nothing


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_weighs_in_float32(policy: str) -> None:
    dtype = tf.as_dtype(policy.removeprefix("mixed_"))
    output = extracted(np.eye(2)[None] * 300.0, np.array([[300.0, 300.001]]))  # products of 90,000 do not fit into float16
    output = output._replace(interests=tf.cast(output.interests, dtype))
    layer = PredictedIntention(dtype=policy)
    query = layer(output.interests, output.active, output.interests[:, 0], output=output)
    assert query.dtype == dtype
    expected = mixed(extracted(np.eye(2)[None] * 300.0, np.array([[300.0, 300.001]])))
    np.testing.assert_allclose(tf.cast(query, tf.float32), expected, rtol=1e-2)


def test_extractors_without_a_current_intention_are_refused() -> None:
    readout = READOUTS.build({"name": "predicted_intention"}, "readout")
    readout.check(EXTRACTORS.build({"name": "sparse_interests"}, "extractor"))
    with pytest.raises(ValueError, match=r"PredictedIntention needs current_intention .* CapsuleRouting .*that do: .*sparse_interests"):
        readout.check(EXTRACTORS.build({"name": "capsule_routing"}, "extractor"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature: expected a number above 0, got 0"),
        ({"temperature": float("nan")}, "temperature: expected a number above 0"),
        ({"served": "both"}, "served: expected one of 'aggregated', 'interests'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictedIntention(**arguments)
