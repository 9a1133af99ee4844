"""How interests are shared out over items, and which extractors let a loss change that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.losses.regularizers.interest_attention import attention_over_items, require_differentiable_weights

LENGTH, WIDTH, ITEM_COUNTS = 6, 4, [6, 3, 1, 0]


def extract(extractor: InterestExtractor) -> tuple[InterestOutput, tf.Tensor]:
    history = tf.constant(np.random.default_rng(0).normal(size=[len(ITEM_COUNTS), LENGTH, WIDTH]), tf.float32)
    mask = tf.sequence_mask(ITEM_COUNTS, LENGTH)
    return extractor(history, mask, training=False), mask


def test_rows_of_active_interests_sum_to_one_and_the_others_are_zero() -> None:
    routing = tf.constant([[[0.5, 0.1, 0.7], [0.25, 0.9, 0.7], [0.25, 0.0, 0.7]]])
    active, mask = tf.constant([[True, True, False]]), tf.constant([[True, True, False]])
    attention = attention_over_items(InterestOutput(tf.zeros([1, 3, 2]), active, routing, {}), mask)
    np.testing.assert_allclose(attention, [[[5 / 6, 1 / 6, 0.0], [0.25 / 1.15, 0.9 / 1.15, 0.0], [0.0, 0.0, 0.0]]], rtol=1e-6)


@pytest.mark.parametrize("name", ["capsule_routing", "comirec_routing", "self_attentive", "mean_pooling"])
def test_attention_of_extractors(name: str) -> None:
    output, mask = extract(EXTRACTORS.build({"name": name}, "extractor"))
    attention = attention_over_items(output, mask)
    assert attention.dtype == tf.float32
    expected = output.active.numpy() & (np.array(ITEM_COUNTS) > 0)[:, None]
    np.testing.assert_allclose(tf.reduce_sum(attention, axis=2), expected.astype(float), atol=1e-6)
    if name == "self_attentive":
        np.testing.assert_allclose(attention, output.weights, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "capsule_routing"}, "tidy would have no effect.*set stop_gradient_routing: false"),
        ({"name": "comirec_routing"}, "tidy would have no effect.*set stop_gradient_routing: false"),
        ({"name": "mean_pooling"}, "tidy would have no effect.*fixed by the items' ages; take an extractor"),
    ],
)
def test_constant_weights_are_refused_with_reason_and_remedy(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_differentiable_weights(EXTRACTORS.build(spec, "extractor"), "tidy")


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "capsule_routing"},
        {"name": "capsule_routing", "stop_gradient_routing": False},
        {"name": "comirec_routing", "initializer_deviation": 0.3},
        {"name": "comirec_routing", "initializer_deviation": 0.3, "stop_gradient_routing": False},
        {"name": "self_attentive"},
        {"name": "mean_pooling", "recency_decay": 0.8},
    ],
)
def test_an_extractor_admits_constant_weights_exactly_where_no_gradient_reaches_its_variables(spec: dict[str, Any]) -> None:
    tf.keras.utils.set_random_seed(1)
    extractor = EXTRACTORS.build(spec, "extractor")
    extract(extractor)
    with tf.GradientTape() as tape:
        output, mask = extract(extractor)
        loss = tf.reduce_sum(tf.square(attention_over_items(output, mask)))
    gradients = [gradient for gradient in tape.gradient(loss, extractor.trainable_variables) if gradient is not None]
    norms = [float(tf.norm(tf.convert_to_tensor(gradient))) for gradient in gradients]
    assert all(np.isfinite(norms))
    assert any(norm > 1e-6 for norm in norms) == (extractor.why_weights_are_constant is None)
