"""UTPM's attention and crossing against their equations, one value and one pair at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.field_examples import COUNTS, DIMENSION, user_fields
from tfmi.layers.common.fields import FieldVectors
from tfmi.layers.user_encoders.attention_fusion import AttentionFusion, FusedFields
from tfmi.layers.user_encoders.attention_fusion_encoder import AttentionFusionEncoder
from tfmi.layers.user_encoders.feature_crossing import FeatureCrossing


def fuse(layer: AttentionFusion, fields: FieldVectors) -> FusedFields:
    return layer(fields.values, weights=fields.weights)


def softmax(logits: list[float]) -> np.ndarray:
    exponentials = np.exp(np.array(logits) - max(logits))
    return exponentials / exponentials.sum()


def hidden(dense: tf.keras.layers.Dense, vector: np.ndarray) -> np.ndarray:
    kernel, bias = dense.get_weights()
    return np.maximum(vector @ kernel + bias, 0)


def expected(layer: AttentionFusion, fields: FieldVectors, user: int) -> np.ndarray:
    """Step by step, without padding."""
    parts = []
    for head in range(layer.num_queries):
        query, vectors, logits = layer.queries.numpy()[head], [], []
        columns = slice(head * layer.attention_dimension, (head + 1) * layer.attention_dimension)
        for field, (values, weights) in enumerate(zip(fields.values, fields.weights, strict=True)):
            count = COUNTS[user][field]
            embeddings = values.numpy()[user, :count]
            if count == 0:
                continue
            if layer.weigh_values:
                embeddings = embeddings * weights.numpy()[user, :count, None]
            scores = [query @ hidden(layer.value_projections[field], e)[columns] for e in embeddings]
            vectors.append(softmax(scores) @ embeddings)
            logits.append(query @ hidden(layer.field_projections[head], vectors[-1]))
        parts.append(softmax(logits) @ np.array(vectors))
    return np.concatenate(parts)


@pytest.mark.parametrize("weigh_values", [True, False])
def test_equals_the_equations(weigh_values: bool) -> None:
    layer, fields = AttentionFusion(2, 3, weigh_values), user_fields(padding=2)
    vectors = fuse(layer, fields).vector.numpy()
    for user in range(len(COUNTS) - 1):
        np.testing.assert_allclose(vectors[user], expected(layer, fields, user), rtol=1e-4, atol=1e-5)


def test_a_single_value_is_its_embedding_for_every_query() -> None:
    fields = user_fields()
    fused = fuse(AttentionFusion(weigh_values=False), fields)
    only = fields.values[1][2, 0]  # the third user has this value alone
    np.testing.assert_allclose(fused.vector[2], np.tile(only, 2), atol=1e-6)


def test_a_user_without_fields_is_a_learned_vector() -> None:
    layer, fields = AttentionFusion(), user_fields()
    fuse(layer, fields)
    layer.default_vector.assign(tf.range(2.0 * DIMENSION))
    vectors = fuse(layer, fields).vector.numpy()
    np.testing.assert_array_equal(vectors[-1], np.arange(2 * DIMENSION))
    assert np.abs(vectors[:-1] - np.arange(2 * DIMENSION)).min(axis=1).max() > 0
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(fuse(layer, fields).vector[-1])
    np.testing.assert_array_equal(tape.gradient(loss, layer.default_vector), np.ones(2 * DIMENSION))


def test_means_ignore_what_is_not_there() -> None:
    fields = user_fields(padding=1)
    fused = fuse(AttentionFusion(weigh_values=False, pooling="mean"), fields)
    city, liked, viewed = (value.numpy()[0] for value in fields.values)
    means = [city[0], liked[:3].mean(axis=0), viewed[:2].mean(axis=0)]
    np.testing.assert_allclose(fused.vector[0], np.mean(means, axis=0), rtol=1e-5)
    np.testing.assert_allclose(fused.field_weights[1], [[0.5, 0, 0.5]], atol=1e-6)


def cross(layer: FeatureCrossing, vectors: Any) -> np.ndarray:
    return layer(tf.constant(vectors, tf.float32)).numpy()


def test_products_stay_apart() -> None:
    vectors = np.random.default_rng(0).normal(size=[2, 5])
    layer = FeatureCrossing(3)
    output = cross(layer, vectors)
    layer.linear_weights.assign([1.0, 2, 3, 4, 5])
    latent, row = layer.latent.numpy(), vectors[0]
    pairs = [latent[i] @ latent[j] * row[i] * row[j] for i in range(5) for j in range(i + 1, 5)]
    assert output.shape == (2, 5 + 10)
    np.testing.assert_allclose(cross(layer, vectors)[0], [*(row * [1, 2, 3, 4, 5]), *pairs], rtol=1e-4, atol=1e-6)


def test_products_are_of_degree_two_and_sum_to_a_factorization_machine() -> None:
    vectors = np.random.default_rng(0).normal(size=[2, 6])
    layer = FeatureCrossing(1)
    once, twice = cross(layer, vectors)[:, 6:], cross(layer, 2 * vectors)[:, 6:]
    np.testing.assert_allclose(twice, 4 * once, rtol=1e-4, atol=1e-6)
    layer.latent.assign(tf.ones([6, 1]))
    expected_sum = (vectors.sum(axis=1) ** 2 - (vectors**2).sum(axis=1)) / 2
    np.testing.assert_allclose(cross(layer, vectors)[:, 6:].sum(axis=1), expected_sum, rtol=1e-4)


def test_products_are_normalised_if_asked_for() -> None:
    vectors = np.random.default_rng(0).normal(size=[2, 6])
    np.testing.assert_allclose(np.linalg.norm(cross(FeatureCrossing(cross_norm="l2"), vectors)[:, 6:], axis=1), 1, rtol=1e-4)
    crossed = cross(FeatureCrossing(3, cross_norm="layernorm"), 10 * vectors)[:, 6:]
    np.testing.assert_allclose(crossed.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(crossed.std(axis=1), 1, atol=1e-2)


@pytest.mark.parametrize("parameters", [{"latent_dimension": 0}, {"cross_norm": "batch"}])
def test_impossible_crossings_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        FeatureCrossing(**parameters)


def test_tasks_share_all_but_the_last_networks() -> None:
    encoder = AttentionFusionEncoder(6, 2, hidden=[5])
    assert encoder.cross is not None
    with tf.GradientTape() as tape:
        first = tf.reduce_sum(tf.square(encoder(user_fields())[:, 0]))
    networks = [encoder.networks[task].trainable_variables for task in range(2)]
    shared = [encoder.fusion.queries, encoder.cross.latent]
    own, other, common = tape.gradient(first, [networks[0], networks[1], shared])
    assert all(np.abs(gradient).max() > 0 for gradient in own + common)
    assert all(gradient is None or not np.any(gradient) for gradient in other)


def test_a_final_relu_leaves_nothing_negative() -> None:
    vectors = {relu: AttentionFusionEncoder(6, final_relu=relu)(user_fields()).numpy() for relu in (False, True)}
    assert vectors[True].min() == 0
    assert vectors[False].min() < 0


def test_without_crossing_only_the_vector_is_read() -> None:
    encoder = AttentionFusionEncoder(6, hidden=[], crossing=False)
    encoder(user_fields())
    assert encoder.networks[0].weights[0].shape == [2 * DIMENSION, 6]
