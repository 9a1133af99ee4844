"""Baselines of several tasks: what they share, and what they must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.field_examples import DIMENSION, user_fields
from tests.layers.user_encoders.test_user_encoders import build
from tfmi.layers.user_encoders.gated_mixture import GatedMixture
from tfmi.layers.user_encoders.user_encoder import UserEncoder

BODY: dict[str, Any] = {"name": "mlp", "hidden": [8]}
FIELDS = user_fields()


def touched(encoder: UserEncoder, task: int, layers: list[tf.keras.layers.Layer]) -> list[bool]:
    """Which of the layers a task's vector has gradients in."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(encoder(FIELDS)[:, task] - 1))
    gradients = tape.gradient(loss, [layer.trainable_variables for layer in layers])
    return [any(gradient is not None and bool(np.any(gradient)) for gradient in of_layer) for of_layer in gradients]


def test_hard_sharing_shares_the_bottom_or_only_the_embeddings() -> None:
    bottom = build({"name": "shared_bottom", "body": BODY})
    assert touched(bottom, 0, [*bottom.bodies, *bottom.towers]) == [True, True, False]
    embeddings = build({"name": "shared_bottom", "body": BODY, "share": "embeddings"})
    assert touched(embeddings, 0, [*embeddings.bodies, *embeddings.towers]) == [True, False, True, False]


def test_two_towers_share_nothing() -> None:
    encoder = build({"name": "two_tower", "body": BODY})
    assert touched(encoder, 1, encoder.bodies) == [False, True]


def test_of_one_task_hard_sharing_is_one_network_whatever_is_shared() -> None:
    bottom, embeddings = (build({"name": "shared_bottom", "body": BODY, "share": share}, num_tasks=1) for share in ("bottom", "embeddings"))
    bottom(FIELDS)
    embeddings(FIELDS)
    embeddings.set_weights(bottom.get_weights())
    np.testing.assert_array_equal(embeddings(FIELDS), bottom(FIELDS))


def test_one_expert_is_a_shared_bottom() -> None:
    mixture = build({"name": "mixture_of_experts", "num_experts": 1, "body": BODY})
    bottom = build({"name": "shared_bottom", "body": BODY})
    mixture(FIELDS)
    bottom(FIELDS)
    assert len(mixture.weights) == len(bottom.weights)  # a single expert has no gate
    for ours, theirs in zip([*mixture.bodies, *mixture.towers], [*bottom.bodies, *bottom.towers], strict=True):
        theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(mixture(FIELDS), bottom(FIELDS), atol=1e-6)


def test_a_mixture_is_the_gates_mean_of_experts() -> None:
    encoder = build({"name": "mixture_of_experts", "num_experts": 3, "body": BODY, "task_experts": [[0, 1], [2, 1]], "tower_hidden": None})
    encoder(FIELDS)
    for mixture in encoder.mixtures:
        mixture.logits.kernel.assign_add(tf.random.stateless_normal(mixture.logits.kernel.shape, seed=[1, 1]))
    vectors, _ = FIELDS.pooled()
    experts = np.stack([body(vectors) for body in encoder.bodies], axis=1)
    for task, (gate, subset) in enumerate(zip(encoder.mixing_weights(FIELDS), [[0, 1], [2, 1]], strict=True)):
        assert (gate.numpy() >= 0).all()
        np.testing.assert_allclose(gate.numpy().sum(axis=1), 1, rtol=1e-5)
        expected = np.einsum("bn,bnd->bd", gate, experts[:, subset])
        np.testing.assert_allclose(encoder(FIELDS)[:, task], expected, rtol=1e-4, atol=1e-6)
    assert touched(encoder, 0, [*encoder.bodies, *encoder.mixtures]) == [True, True, False, True, False]


def test_renaming_the_experts_changes_nothing() -> None:
    encoder = build({"name": "mixture_of_experts", "num_experts": 3, "body": BODY})
    before, order = encoder(FIELDS).numpy(), [2, 0, 1]
    of_bodies = [body.get_weights() for body in encoder.bodies]
    for body, source in zip(encoder.bodies, order, strict=True):
        body.set_weights(of_bodies[source])
    for mixture in encoder.mixtures:
        kernel, bias = mixture.logits.get_weights()
        mixture.logits.set_weights([kernel[:, order], bias[order]])
    np.testing.assert_allclose(encoder(FIELDS), before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["mixture_of_experts", "two_tower", "shared_bottom", "progressive_extraction"])
def test_networks_differ_from_the_start(name: str) -> None:
    options = {"share": "embeddings"} if name == "shared_bottom" else {}
    encoder = build({"name": name, "dimension": 16, **options})
    encoder(user_fields(dimension=16))
    bodies = encoder.levels[0].bodies if name == "progressive_extraction" else [encoder.bodies]
    vectors, _ = user_fields(dimension=16).pooled()
    outputs = tf.math.l2_normalize(tf.stack([body(vectors) for group in bodies for body in group], axis=1), axis=-1)[:-1]
    cosines = tf.matmul(outputs, outputs, transpose_b=True).numpy()[:, ~np.eye(outputs.shape[1], dtype=bool)]
    assert cosines.max() < 0.99


def test_dropped_gates_sum_to_one_and_never_drop_all() -> None:
    mixture = GatedMixture(3, dropout=0.6, seed=1)
    gates = mixture.weights_of(tf.ones([200, 2]), training=True).numpy()
    np.testing.assert_allclose(gates.sum(axis=1), 1, rtol=1e-5)
    dropped = (gates == 0).mean()
    assert 0.3 < dropped < 0.6
    assert (mixture.weights_of(tf.ones([2, 2])).numpy() > 0).all()


def test_one_level_keeps_tasks_from_each_others_experts() -> None:
    encoder = build({"name": "progressive_extraction", "num_levels": 1, "body": BODY})
    level = encoder.levels[0]
    own, others, shared = level.bodies
    assert touched(encoder, 0, [*own, *others, *shared]) == [True, True, False, False, True, True]


def test_a_second_level_reaches_all_experts_below_through_the_shared_stream() -> None:
    encoder = build({"name": "progressive_extraction", "num_levels": 2, "body": BODY})
    first, second = encoder.levels
    assert touched(encoder, 0, [body for bodies in first.bodies for body in bodies]) == [True] * 6
    assert touched(encoder, 0, [body for bodies in second.bodies for body in bodies]) == [True, True, False, False, True, True]
    # Only a level that feeds another has a gate for the shared stream, over all experts.
    assert [mixture.num_experts for mixture in first.mixtures] == [4, 4, 6]
    assert [mixture.num_experts for mixture in second.mixtures] == [4, 4]


def test_one_level_of_shared_experts_is_a_mixture_of_experts() -> None:
    progressive = build({"name": "progressive_extraction", "num_levels": 1, "experts_per_task": 0, "shared_experts": 3, "body": BODY})
    mixture = build({"name": "mixture_of_experts", "num_experts": 3, "body": BODY})
    progressive(FIELDS)
    mixture(FIELDS)
    level = progressive.levels[0]
    ours = [*level.bodies[-1], *level.mixtures, *progressive.towers]
    for source, target in zip(ours, [*mixture.bodies, *mixture.mixtures, *mixture.towers], strict=True):
        target.set_weights(source.get_weights())
    assert len(mixture.weights) == len(progressive.weights)
    np.testing.assert_allclose(mixture(FIELDS), progressive(FIELDS), atol=1e-6)
    assert progressive(FIELDS).shape[2] == DIMENSION
