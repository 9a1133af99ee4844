"""Expert bodies against their equations."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.interactions.factorization import pairwise_products
from tfmi.layers.user_encoders.expert_body import EXPERT_BODIES, build_body

FIELDS = tf.constant(np.random.default_rng(0).normal(size=[3, 5, 4]), tf.float32)


@pytest.mark.parametrize("name", EXPERT_BODIES.names())
@pytest.mark.parametrize("num_fields", [1, 5])
def test_makes_one_vector_of_any_number_of_fields(name: str, num_fields: int) -> None:
    body = build_body({"name": name, "hidden": [6, 5]}, 7, seed=0)
    assert body(FIELDS[:, :num_fields]).shape == [3, 7]
    copy = type(body).from_config(body.get_config())
    copy(FIELDS[:, :num_fields])
    copy.set_weights(body.get_weights())
    np.testing.assert_array_equal(copy(FIELDS[:, :num_fields]), body(FIELDS[:, :num_fields]))


def test_the_default_is_an_mlp() -> None:
    assert build_body(None, 7, seed=5).get_config()["hidden"] == (128, 64)


def test_dropout_is_seeded_and_only_in_training() -> None:
    body, same = (build_body({"name": "mlp", "hidden": [32], "dropout": 0.5}, 7, seed=5) for _ in range(2))
    body(FIELDS)
    same(FIELDS)
    same.set_weights(body.get_weights())
    trained = body(FIELDS, training=True)
    np.testing.assert_array_equal(same(FIELDS, training=True), trained)
    assert np.abs(trained - body(FIELDS)).max() > 0


@pytest.mark.parametrize("scaled", [False, True])
def test_deepfm_joins_products_and_deep_part(scaled: bool) -> None:
    body = build_body({"name": "deepfm", "hidden": [6], "scale_products": scaled}, 2, seed=0)
    body(FIELDS)
    hidden, hidden_bias, kernel, bias = (weight.numpy() for weight in body.weights)
    deep = np.maximum(FIELDS.numpy().reshape([3, 20]) @ hidden + hidden_bias, 0)
    products = pairwise_products(FIELDS).numpy() * (5**-0.5 if scaled else 1)
    np.testing.assert_allclose(body(FIELDS), np.concatenate([products, deep], axis=1) @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_xdeepfm_joins_maps_and_deep_part() -> None:
    body = build_body({"name": "xdeepfm", "hidden": [6], "map_sizes": [4, 3]}, 2, seed=0)
    joined = body(FIELDS)
    parts = tf.concat([body.interaction(FIELDS), body.deep(tf.reshape(FIELDS, [3, 20]))], axis=1)
    assert parts.shape == [3, 4 + 3 + 6]
    np.testing.assert_allclose(joined, body.join(parts), rtol=1e-5)
