"""Re-attend against an independent implementation and its published properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.losses.batch_contexts import ITEM_COUNTS, random_context, with_vectors
from tfmi.layers.base import EXTRACTORS
from tfmi.losses.base import BatchContext
from tfmi.losses.regularizers.re_attend import ReAttend


def similarity_shares(context: BatchContext, cosine: bool = False, temperature: float = 1.0, transformed: bool = False) -> list[np.ndarray]:
    """a' [K, n] of every user, in float64."""
    vectors = context.interests if transformed else context.output.interests
    shares = []
    for user, mask in enumerate(context.mask.numpy()):
        z, x = np.asarray(vectors[user], np.float64), np.asarray(context.history[user], np.float64)[mask]
        if cosine:
            z, x = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (z, x))
        exponentials = np.exp(z @ x.T / temperature)
        shares.append(exponentials / exponentials.sum(axis=1, keepdims=True))
    return shares


def reference(context: BatchContext, **options: Any) -> float:
    """The mean over active interests of users with a history, in float64."""
    entropies = []
    for user, shares in enumerate(similarity_shares(context, **options)):
        for k in np.flatnonzero(context.output.active.numpy()[user]):
            if shares.shape[1]:
                attention = context.output.weights.numpy()[user, k, : shares.shape[1]].astype(np.float64)
                entropies.append(-(shares[k] * np.log(attention / attention.sum())).sum())
    return float(np.mean(entropies))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ({}, {}),
        ({"stop_gradient_target": True}, {}),
        ({"similarity": "cosine", "temperature": 0.2}, {"cosine": True, "temperature": 0.2}),
        ({"use_transformed": True}, {"transformed": True}),
    ],
)
def test_equals_the_equations_written_out(arguments: dict[str, Any], options: dict[str, Any]) -> None:
    active = np.ones([len(ITEM_COUNTS), 3], bool)
    active[0, 2] = active[2, 1:] = False
    context = random_context(active=active, scored=np.random.default_rng(8).normal(size=[len(ITEM_COUNTS), 3, 4]))
    regularizer = ReAttend(0.5, **arguments)
    assert float(tf.function(regularizer, autograph=False)(context)) == pytest.approx(0.5 * reference(context, **options), rel=1e-5)


def test_attention_equal_to_the_similarity_gives_its_entropy_which_is_the_minimum() -> None:
    context = random_context()
    weights = np.zeros(context.output.weights.shape)
    entropies = []
    for user, shares in enumerate(similarity_shares(context)):
        weights[user, :, : shares.shape[1]] = shares
        entropies += [-(row * np.log(row)).sum() for row in shares if row.size]
    regularizer = ReAttend(1.0, stop_gradient_target=True)

    def loss_of(attention: tf.Tensor) -> tf.Tensor:
        return regularizer(context._replace(output=context.output._replace(weights=attention)))

    logits = tf.constant(np.log(np.maximum(weights, 1e-30)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = loss_of(tf.nn.softmax(logits))
    assert float(loss) == pytest.approx(np.mean(entropies), rel=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), tf.zeros_like(logits), atol=1e-6)
    for seed in range(5):
        elsewhere = logits + np.random.default_rng(seed).normal(size=logits.shape)
        assert float(loss_of(tf.nn.softmax(elsewhere))) > float(loss)


def gradients(regularizer: ReAttend, context: BatchContext) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with tf.GradientTape() as tape:
        sources = (context.output.interests, context.history, context.output.weights)
        tape.watch(sources)
        loss = regularizer(with_vectors(context, *sources[:2]))
    by_source = tape.gradient(loss, sources, unconnected_gradients="zero")
    return tuple(gradient.numpy() for gradient in by_source)


def test_gradients_reach_both_sides_unless_the_target_is_held() -> None:
    context = random_context()
    by_interest, by_item, by_attention = gradients(ReAttend(), context)
    assert np.abs(by_interest[:3]).max(axis=2).min() > 0
    assert np.abs(by_item[context.mask.numpy()][:12]).max(axis=1).min() > 0
    assert (by_item[~context.mask.numpy()] == 0).all()
    assert np.abs(by_attention[0]).min() > 0
    held = gradients(ReAttend(stop_gradient_target=True), context)
    assert not held[0].any()
    assert not held[1].any()
    np.testing.assert_allclose(held[2], by_attention, rtol=1e-5)


def test_items_that_get_no_attention_keep_loss_and_gradients_finite() -> None:
    weights = np.zeros([len(ITEM_COUNTS), 3, 5])
    weights[:, :, 0] = 1.0
    context = random_context(weights=weights)
    assert np.isfinite(float(ReAttend()(context)))
    assert all(np.isfinite(gradient).all() for gradient in gradients(ReAttend(), context))


def test_padding_and_empty_histories_change_nothing() -> None:
    expected = float(ReAttend(1.0)(random_context()))
    assert float(ReAttend(1.0)(random_context(length=9))) == pytest.approx(expected, rel=1e-6)
    assert float(ReAttend(1.0)(random_context(garbage=7.0))) == pytest.approx(expected, rel=1e-6)
    context = random_context()
    empty = context._replace(mask=tf.zeros_like(context.mask))
    assert float(ReAttend(1.0)(empty)) == 0.0
    assert not any(gradient.any() for gradient in gradients(ReAttend(), empty))


def test_a_single_item_costs_nothing_and_teaches_nothing() -> None:
    """Attention and similarity are both 1, whatever the vectors."""
    context = random_context()
    single = context._replace(mask=context.mask & (tf.range(context.mask.shape[1]) < 1))
    assert float(ReAttend(1.0)(single)) == pytest.approx(0.0, abs=1e-6)
    for gradient in gradients(ReAttend(1.0), single):
        np.testing.assert_allclose(gradient, 0.0, atol=1e-5)


@pytest.mark.parametrize("name", ["capsule_routing", "comirec_routing"])
def test_constant_routing_weights_are_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(ValueError, match=r"re_attend would have no effect.*stop_gradient_routing: false"):
        ReAttend().check(EXTRACTORS.build({"name": name}, "extractor"))
    ReAttend().check(EXTRACTORS.build({"name": name, "stop_gradient_routing": False}, "extractor"))
    ReAttend().check(EXTRACTORS.build({"name": "self_attentive"}, "extractor"))


def test_half_precision_vectors_are_compared_in_float32() -> None:
    context = random_context()
    half = with_vectors(context, tf.cast(context.output.interests, tf.float16), tf.cast(context.history, tf.float16))
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        loss = ReAttend()(half)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(float(ReAttend()(context)), rel=0.01)


def test_configuration_survives_a_round_trip() -> None:
    regularizer = ReAttend(0.2, stop_gradient_target=True, use_transformed=True, similarity="cosine", temperature=0.07)
    assert ReAttend.from_config(regularizer.get_config()).get_config() == regularizer.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "weight: expected a number of at least 0, got -1.0"),
        ({"temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
        ({"similarity": "euclid"}, "similarity: expected one of 'dot', 'cosine', got 'euclid'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReAttend(**arguments)
