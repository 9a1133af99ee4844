"""The penalty on interests that point the same way."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestOutput
from tfmi.losses.base import REGULARIZERS, BatchContext
from tfmi.losses.regularizers.interest_cosine import InterestCosine, mean_pairwise_cosine


def context_of(interests: np.ndarray | tf.Tensor, active: np.ndarray | None = None) -> BatchContext:
    interests = tf.convert_to_tensor(interests, tf.float32)
    active = np.ones(interests.shape[:2], bool) if active is None else active
    output = InterestOutput(tf.zeros_like(interests), tf.constant(active), tf.zeros([*interests.shape[:2], 3]), {})
    history = tf.zeros([interests.shape[0], 3, interests.shape[2]])
    return BatchContext(
        output, history, tf.zeros(history.shape[:2], tf.int32), tf.zeros(history.shape[:2], tf.bool), history[:, 0], interests
    )


@pytest.mark.parametrize(
    ("interests", "expected"),
    [
        ([[1, 2], [2, 4], [3, 6]], 1.0),  # all one way
        ([[1, 0, 0], [0, 5, 0], [0, 0, 2]], 0.5),  # orthogonal
        ([[1, 0], [-3, 0]], 0.0),  # opposite
        ([[1, 0], [1, 1], [0, 1]], 0.5 + (2 * np.sqrt(0.5)) / 6),
    ],
)
def test_golden_values(interests: list[list[float]], expected: float) -> None:
    np.testing.assert_allclose(InterestCosine(2.0)(context_of(np.array([interests], np.float32))), 2 * expected, atol=1e-6)


def test_equals_the_sum_over_pairs_and_leaves_inactive_interests_out() -> None:
    interests = np.random.default_rng(0).normal(size=[4, 5, 6]).astype(np.float32)
    active = np.arange(5) < np.array([5, 3, 2, 1])[:, None]
    expected = np.zeros(4)
    for user, count in enumerate([5, 3, 2, 1]):
        units = interests[user, :count] / np.linalg.norm(interests[user, :count], axis=1, keepdims=True)
        pairs = [units[j] @ units[k] for j in range(count) for k in range(j)]
        expected[user] = np.mean(pairs) if pairs else 0.0
    np.testing.assert_allclose(mean_pairwise_cosine(tf.constant(interests), tf.constant(active)), expected, atol=1e-6)
    loss = InterestCosine(1.0)(context_of(interests, active))
    np.testing.assert_allclose(loss, np.mean(0.5 + 0.5 * expected), atol=1e-6)


def test_gradients_turn_interests_apart_and_are_finite_for_empty_histories() -> None:
    interests = tf.constant([[[1.0, 0.1], [1.0, -0.1]], [[0.0, 0.0], [0.0, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch(interests)
        loss = InterestCosine(1.0)(context_of(interests))
    gradient = tape.gradient(loss, interests).numpy()
    assert np.isfinite(gradient).all()
    assert InterestCosine(1.0)(context_of(interests - gradient)) < loss


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_compares_in_float32(policy: str) -> None:
    context = context_of(np.random.default_rng(0).normal(size=[4, 3, 6]))
    np.testing.assert_array_equal(InterestCosine(dtype=policy)(context), InterestCosine()(context))


def test_extractors_of_one_interest_are_refused() -> None:
    regularizer = REGULARIZERS.build({"name": "interest_cosine"}, "regularizer")
    regularizer.check(EXTRACTORS.build({"name": "self_attentive"}, "extractor"))
    for spec in ({"name": "mean_pooling"}, {"name": "self_attentive", "num_interests": 1}):
        with pytest.raises(ValueError, match="InterestCosine compares the interests of a user, but the extractor gives 1"):
            regularizer.check(EXTRACTORS.build(spec, "extractor"))


def test_configuration_survives_a_round_trip_and_a_negative_weight_is_refused() -> None:
    config = InterestCosine(0.3).get_config()
    assert InterestCosine.from_config(config).get_config() == config
    with pytest.raises(ValueError, match="weight: expected a number of at least 0, got -1"):
        InterestCosine(-1.0)
