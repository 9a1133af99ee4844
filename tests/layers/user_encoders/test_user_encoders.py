"""What every user encoder promises, whatever it computes."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.field_examples import COUNTS, DIMENSION, cast_values, reordered, user_fields
from tfmi.core.errors import ConfigError
from tfmi.layers.user_encoders.user_encoder import (
    USER_ENCODERS,
    ExplainsFields,
    UserEncoder,
    check_task_experts,
    overlapping_experts,
)

SMALL: dict[str, Any] = {"name": "mlp", "hidden": [6]}
# What makes an encoder small, where it takes such an argument; what is registered is found, and needs no entry of its own.
SIZES: dict[str, Any] = {"hidden": [6], "body": SMALL, "tower_hidden": [5], "upper_hidden": [6]}
TWO_TASKS: dict[str, dict[str, Any]] = {
    "attention_fusion": {"hidden": [6]},
    "virtual_kernel": {"num_experts": 3, "body": {"name": "deepfm", "hidden": [6]}},
    "two_tower": {"body": SMALL},
    "shared_bottom": {"body": SMALL, "tower_hidden": [5]},
    "mixture_of_experts": {"body": SMALL, "num_experts": 3},
    "progressive_extraction": {"body": SMALL, "upper_hidden": [6]},
}
VARIANTS: list[dict[str, Any]] = [
    {"name": "attention_fusion", "pooling": "mean", "crossing": False, "weigh_values": False, "final_relu": True},
    {"name": "attention_fusion", "cross_norm": "layernorm", "num_queries": 1, "dropout": 0.3},
    {"name": "attention_fusion", "cross_norm": "l2", "hidden": []},
    {
        "name": "virtual_kernel",
        "experts": "pooled",
        "projections": "relu",
        "shared_body": True,
        "gamma": 1.0,
        "body": SMALL,
        "projection_deviation": None,
    },
    {
        "name": "virtual_kernel",
        "num_experts": 4,
        "task_experts": [[2, 0], [1, 3]],
        "body": {"name": "xdeepfm", "map_sizes": [2, 2], "hidden": [6]},
    },
    {"name": "two_tower", "body": {"name": "mlp", "hidden": [], "dropout": 0.5}},
    {"name": "shared_bottom", "share": "embeddings", "body": SMALL, "body_dimension": 7, "tower_hidden": [], "dropout": 0.5},
    {
        "name": "mixture_of_experts",
        "num_experts": 3,
        "body": SMALL,
        "task_experts": [[0, 1], [2]],
        "tower_hidden": None,
        "gate_dropout": 0.3,
    },
    {"name": "progressive_extraction", "num_levels": 1, "experts_per_task": 0, "body": SMALL, "expert_dimension": 6},
]


def of_two_tasks(name: str) -> dict[str, Any]:
    """A small encoder's parameters."""
    return TWO_TASKS.get(name) or {size: value for size, value in SIZES.items() if size in USER_ENCODERS.parameters(name)}


SPECS = [{"name": name, **of_two_tasks(name)} for name in USER_ENCODERS.names()] + VARIANTS


def build(spec: dict[str, Any], num_tasks: int = 2, **options: Any) -> UserEncoder:
    tf.keras.utils.set_random_seed(3)
    return USER_ENCODERS.build({"dimension": DIMENSION, "num_tasks": num_tasks, **spec, **options}, "user_encoder")


@pytest.fixture(params=SPECS, ids=lambda spec: "-".join(str(value) for value in spec.values()))
def encoder(request: pytest.FixtureRequest) -> UserEncoder:
    """One encoder of each specification for all tests: none changes its weights."""
    return shared(json.dumps(request.param))


@functools.cache
def shared(spec: str) -> UserEncoder:
    encoder = build(json.loads(spec))
    encoder(user_fields())
    return encoder


@pytest.fixture
def float32_afterwards() -> Iterator[None]:
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def test_vectors_serve_every_task(encoder: UserEncoder) -> None:
    for training in (False, True):
        vectors = encoder(user_fields(), training=training)
        assert vectors.dtype == tf.float32
        assert vectors.shape == [len(COUNTS), vectors.shape[1], DIMENSION]
        assert np.isfinite(vectors).all()
    for task in range(2):
        experts = encoder.experts_of(task)
        assert set(experts) <= set(range(vectors.shape[1]))
        gate = encoder.gate(task, tf.random.normal([3, 2, DIMENSION])).numpy()
        assert gate.shape == (3, 2, len(experts))
        assert gate.dtype == np.float32
        assert (gate >= 0).all()
        np.testing.assert_allclose(gate.sum(axis=-1), 1, atol=1e-6)


def test_padding_and_the_order_of_values_change_nothing(encoder: UserEncoder) -> None:
    expected = encoder(user_fields())
    np.testing.assert_allclose(encoder(user_fields(padding=2)), expected, atol=1e-6)
    np.testing.assert_allclose(encoder(reordered(user_fields(), 2, [3, 1, 0, 2])), expected, atol=1e-6)


def test_which_field_holds_what_matters(encoder: UserEncoder) -> None:
    fields = user_fields()
    swapped = fields._replace(values=fields.values[:1] + fields.values[:0:-1], weights=fields.weights[:1] + fields.weights[:0:-1])
    if getattr(encoder, "pooling", "") == "mean" or getattr(encoder, "experts", "") == "pooled":
        pytest.skip("a sum of fields does not know which is which")
    before = encoder(fields).numpy()
    assert np.abs(before - encoder(swapped).numpy())[0].max() > 1e-6


def test_every_weight_learns_from_some_task(encoder: UserEncoder) -> None:
    fields = user_fields()
    encoder(fields)
    tags = tf.random.stateless_normal([len(COUNTS), DIMENSION], seed=[1, 2])
    with tf.GradientTape() as tape:
        vectors = encoder(fields)
        loss = tf.reduce_sum(tf.square(vectors))
        for task in range(2):
            chosen = tf.gather(vectors, list(encoder.experts_of(task)), axis=1)
            mixed = tf.einsum("bs,bsd->bd", encoder.gate(task, tags), chosen)
            loss += tf.reduce_sum(tf.square(mixed - tags))
    gradients = tape.gradient(loss, encoder.trainable_variables)
    for gradient, weight in zip(gradients, encoder.trainable_variables, strict=True):
        assert gradient is not None, weight.name
        assert np.isfinite(gradient).all(), weight.name
    assert sum(np.abs(gradient).sum() for gradient in gradients) > 0


def test_bodies_are_as_described_even_by_a_layers_own_attribute() -> None:
    encoder = build({"name": "two_tower", "body": {"name": "mlp", "hidden": [6]}})
    for described in (encoder, type(encoder).from_config(encoder.get_config())):
        assert [body.hidden for body in described.bodies] == [(6,), (6,)]


@pytest.mark.slow
def test_one_task_is_enough() -> None:
    for name in USER_ENCODERS.names():
        encoder = build({"name": name, **of_two_tasks(name)}, num_tasks=1)
        vectors = encoder(user_fields())
        assert set(encoder.experts_of(0)) == set(range(vectors.shape[1]))


def test_configuration_and_weights_survive(encoder: UserEncoder, tmp_path: Path) -> None:
    expected = encoder(user_fields())
    tf.train.Checkpoint(encoder=encoder).write(str(tmp_path / "encoder"))
    copy = type(encoder).from_config(encoder.get_config())
    assert copy.get_config() == encoder.get_config()
    copy(user_fields())
    tf.train.Checkpoint(encoder=copy).read(str(tmp_path / "encoder")).assert_consumed()
    np.testing.assert_array_equal(copy(user_fields()), expected)


def test_any_batch_size_compiles(encoder: UserEncoder) -> None:
    fields = user_fields()
    expected = encoder(fields)
    compiled = tf.function(
        lambda values, weights: encoder(fields._replace(values=values, weights=weights)),
        input_signature=[
            tuple(tf.TensorSpec([None, None, DIMENSION]) for _ in fields.values),
            tuple(tf.TensorSpec([None, None]) for _ in fields.weights),
        ],
        autograph=False,
    )
    np.testing.assert_allclose(compiled(fields.values, fields.weights), expected, rtol=1e-5, atol=1e-6)
    assert compiled(tuple(v[:0] for v in fields.values), tuple(w[:0] for w in fields.weights)).shape[0] == 0


@pytest.mark.slow
def test_mixed_precision_stays_close(float32_afterwards: None) -> None:
    for spec in SPECS:
        tf.keras.mixed_precision.set_global_policy("float32")
        reference = shared(json.dumps(spec))
        expected = reference(user_fields())
        tf.keras.mixed_precision.set_global_policy("mixed_float16")
        encoder = USER_ENCODERS.build({"dimension": DIMENSION, "num_tasks": 2, **spec}, "user_encoder")
        fields = cast_values(user_fields(), tf.float16)
        encoder(fields)
        encoder.set_weights(reference.get_weights())
        vectors = encoder(fields)
        assert vectors.dtype == tf.float16, spec
        np.testing.assert_allclose(tf.cast(vectors, tf.float32), expected, atol=0.15, err_msg=str(spec))
        assert all(weight.dtype == tf.float32 for weight in encoder.trainable_variables)
        assert encoder.gate(0, tf.ones([2, DIMENSION], tf.float16)).dtype == tf.float32


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec["name"] in ("attention_fusion", "virtual_kernel")], ids=str)
def test_explanations_are_shares_of_what_is_there(spec: dict[str, Any]) -> None:
    encoder, fields = build(spec), user_fields(padding=1)
    assert isinstance(encoder, ExplainsFields)
    attention = encoder.explain(fields)
    assert attention.names == fields.names
    _, present = fields.pooled()
    weights = attention.field_weights.numpy()
    there = np.broadcast_to(present.numpy()[:, None], weights.shape)
    assert (weights[~there] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), there.any(axis=-1), atol=1e-6)
    for shares, counts in zip(attention.value_weights, fields.weights, strict=True):
        assert shares.shape[1] == weights.shape[1]
        known = np.broadcast_to(counts.numpy()[:, None] > 0, shares.shape)
        assert (shares.numpy()[~known] == 0).all()
        np.testing.assert_allclose(shares.numpy().sum(axis=-1), known.any(axis=-1), atol=1e-6)


def test_encoders_without_attention_explain_nothing() -> None:
    assert not isinstance(build({"name": "two_tower"}), ExplainsFields)


@pytest.mark.parametrize(
    ("num_tasks", "num_experts", "expected"),
    [
        (1, 3, ((0, 1, 2),)),
        (2, 5, ((0, 1, 2), (1, 2, 3, 4))),
        (2, 3, ((0, 1), (1, 2))),
        (3, 5, ((0, 1), (1, 2, 3), (3, 4))),
        (3, 7, ((0, 1), (1, 2, 3, 4), (3, 4, 5, 6))),
    ],
)
def test_neighbouring_tasks_overlap(num_tasks: int, num_experts: int, expected: tuple[tuple[int, ...], ...]) -> None:
    assert overlapping_experts(num_tasks, num_experts) == expected
    for task, experts in enumerate(expected):
        others = {expert for other, chosen in enumerate(expected) if other != task for expert in chosen}
        assert set(experts) - others


def test_too_few_experts_do_not_overlap() -> None:
    with pytest.raises(ValueError, match="num_experts: expected at least 3 for 2 tasks"):
        overlapping_experts(2, 2)


@pytest.mark.parametrize(
    ("task_experts", "message"),
    [
        ([[0]], "one list of experts for each of 2 tasks, got 1"),
        ([[0], []], "expected distinct experts"),
        ([[0], [1, 1]], r"got \[1, 1\]"),
        ([[0], [3]], "from 0 to 2"),
    ],
)
def test_impossible_subsets_are_refused(task_experts: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_task_experts(task_experts, 2, 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "two_tower", "body": {"name": "deepfn"}}, "did you mean 'deepfm'"),
        ({"name": "two_tower", "body": {"name": "mlp", "dimension": 3}}, "body.dimension: follows from the encoder's"),
        ({"name": "two_tower", "body": {"name": "deepfm", "hidden": []}}, "hidden: expected at least one width"),
        ({"name": "two_tower", "dimension": 0}, "dimension: expected a number of at least 1"),
        ({"name": "virtual_kernel", "experts": "pooled", "body": {"name": "deepfm"}}, "'deepfm' crosses fields"),
        ({"name": "virtual_kernel", "gamma": -1.0}, "gamma"),
        ({"name": "mixture_of_experts", "tower_hidden": None, "expert_dimension": 9}, "expert_dimension: without towers"),
        ({"name": "mixture_of_experts", "num_experts": 0}, "num_experts"),
        ({"name": "progressive_extraction", "experts_per_task": 0, "shared_experts": 0}, "at least one expert"),
        ({"name": "progressive_extraction", "shared_experts": 0}, "levels above the first"),
        ({"name": "progressive_extraction", "num_levels": 0}, "num_levels"),
        ({"name": "attention_fusion", "num_queries": 0}, "num_queries"),
        ({"name": "shared_bottom", "share": "top"}, "share"),
    ],
)
def test_impossible_parameters_are_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(spec)
