"""SINE's covariance of prototypes: golden values, invariances, and what subsampling estimates."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestOutput
from tfmi.losses.base import REGULARIZERS, BatchContext
from tfmi.losses.regularizers.concept_covariance import ConceptCovariance, covariance_off_diagonal


def context_of(prototypes: np.ndarray | tf.Tensor) -> BatchContext:
    interests = tf.zeros([1, 2, prototypes.shape[1]])
    output = InterestOutput(
        interests, tf.ones([1, 2], tf.bool), tf.zeros([1, 2, 3]), {"prototypes": tf.convert_to_tensor(prototypes, tf.float32)}
    )
    history = tf.zeros([1, 3, prototypes.shape[1]])
    return BatchContext(output, history, tf.zeros([1, 3], tf.int32), tf.zeros([1, 3], tf.bool), interests[:, 0], interests)


def random_prototypes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("prototypes", "expected"),
    [([[1, -1], [1, -1]], 1.0), ([[1, 0, -1], [0, 1, -1], [2, -1, -1]], 1.111111)],
)
def test_golden_values(prototypes: list[list[float]], expected: float) -> None:
    np.testing.assert_allclose(covariance_off_diagonal(tf.constant(prototypes, tf.float32)), expected, atol=1e-6)
    np.testing.assert_allclose(ConceptCovariance(0.5)(context_of(np.array(prototypes))), 0.5 * expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 8), (8, 8), (40, 8)])
def test_equals_the_equations_written_out(shape: tuple[int, int]) -> None:
    prototypes = random_prototypes(*shape)
    covariances = np.cov(prototypes.astype(np.float64), bias=True)  # of rows, over their entries
    expected = (covariances[np.triu_indices(len(covariances), 1)] ** 2).sum()
    np.testing.assert_allclose(covariance_off_diagonal(tf.constant(prototypes)), expected, rtol=1e-4)


def test_is_zero_exactly_where_centred_prototypes_are_orthogonal() -> None:
    # Rows of a Hadamard matrix without the constant one are centred and mutually orthogonal.
    hadamard = np.array([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], np.float32)
    lengths = np.array([[1.0], [2.0], [0.5]], np.float32)
    np.testing.assert_allclose(covariance_off_diagonal(tf.constant(hadamard * lengths)), 0.0, atol=1e-6)
    shifts = np.array([[3.0], [-1.0], [7.0]], np.float32)
    np.testing.assert_allclose(covariance_off_diagonal(tf.constant(hadamard + shifts)), 0.0, atol=1e-5)
    assert covariance_off_diagonal(tf.constant(hadamard + 0.1 * random_prototypes(3, 4))) > 1e-4


def test_a_shift_of_a_prototype_changes_nothing_and_a_scale_has_the_fourth_power() -> None:
    prototypes = random_prototypes(6, 5)
    expected = covariance_off_diagonal(tf.constant(prototypes))
    shifted = prototypes + np.arange(6, dtype=np.float32)[:, None]
    np.testing.assert_allclose(covariance_off_diagonal(tf.constant(shifted)), expected, rtol=1e-4)
    np.testing.assert_allclose(covariance_off_diagonal(tf.constant(2 * prototypes)), 16 * expected, rtol=1e-5)


def test_its_gradient_moves_prototypes_that_nobody_activates_apart() -> None:
    prototypes = tf.Variable(random_prototypes(20, 6))
    before = covariance_off_diagonal(prototypes)
    with tf.GradientTape() as tape:
        loss = ConceptCovariance(1.0)(context_of(prototypes), training=True)
    gradient = tape.gradient(loss, prototypes)
    assert (np.abs(gradient.numpy()).max(axis=1) > 0).all()
    prototypes.assign_sub(0.01 * gradient)
    assert covariance_off_diagonal(prototypes) < before


def test_a_subsample_estimates_the_sum_over_all() -> None:
    context = context_of(random_prototypes(30, 6))
    whole = ConceptCovariance(1.0)(context)
    sampled = ConceptCovariance(1.0, reg_subsample=10, seed=3)
    np.testing.assert_array_equal(sampled(context, training=False), whole)
    draws = [float(sampled(context, training=True)) for _ in range(200)]
    assert len(set(draws)) > 190
    np.testing.assert_allclose(np.mean(draws), whole, rtol=0.1)
    np.testing.assert_array_equal(ConceptCovariance(1.0, reg_subsample=30)(context, training=True), whole)
    again = ConceptCovariance(1.0, reg_subsample=10, seed=3)
    assert [float(again(context, training=True)) for _ in range(3)] == draws[:3]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_all_digits(policy: str) -> None:
    context = context_of(random_prototypes(30, 6) * 1e-3)
    np.testing.assert_array_equal(ConceptCovariance(dtype=policy)(context), ConceptCovariance()(context))
    assert ConceptCovariance(dtype=policy)(context).dtype == tf.float32


def test_extractors_without_prototypes_are_refused() -> None:
    regularizer = REGULARIZERS.build({"name": "concept_covariance"}, "regularizer")
    regularizer.check(EXTRACTORS.build({"name": "sparse_interests"}, "extractor"))
    with pytest.raises(ValueError, match=r"ConceptCovariance needs prototypes .* SelfAttentiveInterests .* do: .*sparse_interests"):
        regularizer.check(EXTRACTORS.build({"name": "self_attentive"}, "extractor"))


def test_configuration_survives_a_round_trip_and_impossible_arguments_are_refused() -> None:
    config = ConceptCovariance(0.3, reg_subsample=7, seed=5).get_config()
    assert ConceptCovariance.from_config(config).get_config() == config
    with pytest.raises(ValueError, match="weight: expected a number of at least 0, got -1"):
        ConceptCovariance(-1.0)
    with pytest.raises(ValueError, match="reg_subsample: expected a number of at least 2, got 1"):
        ConceptCovariance(reg_subsample=1)
