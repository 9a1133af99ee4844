"""Virtual kernels, their experts and gates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.field_examples import DIMENSION, user_fields
from tfmi.layers.user_encoders.virtual_kernel import VirtualKernels
from tfmi.layers.user_encoders.virtual_kernel_encoder import VirtualKernelEncoder

FIELDS = np.random.default_rng(0).normal(size=[2, 3, DIMENSION]).astype(np.float32)
PRESENT = np.array([[True, True, True], [True, False, True]])
FIELDS[~PRESENT] = 0


def kernels(**parameters: Any) -> VirtualKernels:
    layer = VirtualKernels(3, DIMENSION, kernel_deviation=1.0, projection_deviation=0.5, **parameters)
    look(layer)
    for weight in layer.trainable_variables:  # biases, too, say something
        weight.assign_add(0.1 * tf.random.stateless_normal(weight.shape, seed=[1, 1]))
    return layer


def look(layer: VirtualKernels, fields: np.ndarray = FIELDS, present: np.ndarray = PRESENT) -> tuple[np.ndarray, np.ndarray]:
    seen, attention = layer(tf.constant(fields), present=tf.constant(present))
    return seen.numpy(), attention.numpy()


def projected(layer: VirtualKernels, dense: tf.keras.layers.Dense, vectors: np.ndarray) -> np.ndarray:
    kernel, bias = dense.get_weights()
    result = vectors @ kernel + bias
    return np.maximum(result, 0) if layer.projections == "relu" else result


@pytest.mark.parametrize("experts", ["per_field", "pooled"])
@pytest.mark.parametrize("projections", ["linear", "relu"])
def test_equals_the_equations(experts: Any, projections: Any) -> None:
    layer = kernels(experts=experts, projections=projections)
    seen, attention = look(layer)
    query = projected(layer, layer._query, layer.kernels.numpy())
    for user in range(2):
        there = np.flatnonzero(PRESENT[user])
        keys, values = (projected(layer, dense, FIELDS[user, there]) for dense in (layer._key, layer._value))
        for k in range(3):
            logits = keys @ query[k] / np.sqrt(DIMENSION)
            weights = np.exp(logits) / np.exp(logits).sum()
            np.testing.assert_allclose(attention[user, k, there], weights, rtol=1e-4)
            if experts == "pooled":
                np.testing.assert_allclose(seen[user, k, 0], weights @ values, rtol=1e-3, atol=1e-5)
                continue
            assert layer._norm is not None
            gain, offset = layer._norm.get_weights()
            joined = weights[:, None] * values + FIELDS[user, there]
            centred = joined - joined.mean(axis=1, keepdims=True)
            normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6) * gain + offset
            np.testing.assert_allclose(seen[user, k, there], normal, rtol=1e-3, atol=1e-4)


def test_missing_fields_have_no_weight_and_stay_zero() -> None:
    seen, attention = look(kernels())
    assert (attention[1, :, 1] == 0).all()
    np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-6)
    assert (seen[1, :, 1] == 0).all()


def test_the_order_of_fields_is_kept() -> None:
    layer, order = kernels(), [2, 0, 1]
    seen, attention = look(layer)
    other, other_attention = look(layer, FIELDS[:, order], PRESENT[:, order])
    np.testing.assert_allclose(other, seen[:, :, order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other_attention, attention[:, :, order], rtol=1e-5, atol=1e-6)


def test_a_gate_is_a_softmax_over_the_kernels_of_a_task_alone() -> None:
    layer = kernels(gamma=2.0)
    tags = np.random.default_rng(1).normal(size=[4, DIMENSION]).astype(np.float32)
    logits = 2 * tags @ layer.kernels.numpy()[[2, 0]].T
    np.testing.assert_allclose(layer.gate(tf.constant(tags), [2, 0]), tf.nn.softmax(logits), rtol=1e-4)
    default = kernels()
    scaled = tags @ default.kernels.numpy().T / np.sqrt(DIMENSION)
    np.testing.assert_allclose(default.gate(tf.constant(tags), [0, 1, 2]), tf.nn.softmax(scaled), rtol=1e-4)


def test_fields_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="virtual kernels have the width of the fields, 4, got 5"):
        VirtualKernelEncoder(5, num_experts=2)(user_fields())


def test_a_gate_is_known_before_any_user_is() -> None:
    encoder = VirtualKernelEncoder(DIMENSION, num_experts=2)
    np.testing.assert_allclose(encoder.gate(0, tf.zeros([1, DIMENSION])), [[0.5, 0.5]])


def test_one_expert_is_never_weighed() -> None:
    encoder = VirtualKernelEncoder(DIMENSION, num_experts=1, kernel_deviation=5.0)
    np.testing.assert_array_equal(encoder.gate(0, tf.random.normal([3, DIMENSION])), np.ones([3, 1]))
    assert encoder(user_fields()).shape[1] == 1


def test_experts_differ_from_the_start_unless_they_share_body_and_kernel() -> None:
    tf.keras.utils.set_random_seed(0)
    vectors = tf.math.l2_normalize(VirtualKernelEncoder(16, num_experts=3)(user_fields(dimension=16)), axis=-1)[:-1]
    cosines = tf.matmul(vectors, vectors, transpose_b=True).numpy()[:, ~np.eye(3, dtype=bool)]
    assert cosines.max() < 0.99
    twins = VirtualKernelEncoder(DIMENSION, num_experts=2, shared_body=True, kernel_deviation=0.0)(user_fields())
    np.testing.assert_allclose(twins[:, 0], twins[:, 1], atol=1e-6)


def test_a_shared_body_is_applied_to_every_expert() -> None:
    encoder = VirtualKernelEncoder(DIMENSION, num_experts=3, shared_body=True, kernel_deviation=1.0, projection_deviation=None)
    vectors = encoder(user_fields())
    assert len(encoder.bodies) == 1
    pooled, present = user_fields().pooled()
    seen, _ = encoder.virtual_kernels(pooled, present=present)
    for k in range(3):
        np.testing.assert_allclose(vectors[:, k], encoder.bodies[0](seen[:, k]), rtol=1e-4, atol=1e-5)


def test_experts_outside_of_a_task_have_no_gradient_from_it() -> None:
    encoder = VirtualKernelEncoder(DIMENSION, 2, num_experts=5, kernel_deviation=0.5)
    tags = tf.random.stateless_normal([len(user_fields().values[0]), DIMENSION], seed=[1, 2])
    with tf.GradientTape() as tape:
        vectors = tf.gather(encoder(user_fields()), list(encoder.experts_of(0)), axis=1)
        loss = tf.reduce_sum(tf.square(tf.einsum("bs,bsd->bd", encoder.gate(0, tags), vectors)))
    bodies = [body.trainable_variables for body in encoder.bodies]
    gradients, kernel = tape.gradient(loss, [bodies, encoder.virtual_kernels.kernels])
    for k, of_body in enumerate(gradients):
        touched = [gradient is not None and bool(np.any(gradient)) for gradient in of_body]
        assert any(touched) == (k in (0, 1, 2))
    assert np.any(kernel[:3])
    np.testing.assert_array_equal(kernel[3:], np.zeros([2, DIMENSION]))
