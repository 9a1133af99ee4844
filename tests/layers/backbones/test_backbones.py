"""Backbones: what every one promises, and what each of them computes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.backbones.autoint import AutoInt
from tfmi.layers.backbones.backbone import BACKBONES, Backbone, BackboneHead, RankingInputs, SharedInteraction
from tfmi.layers.backbones.dcn import DeepCrossNetwork
from tfmi.layers.backbones.deepfm import DeepFM
from tfmi.layers.backbones.din import DeepInterestNetwork
from tfmi.layers.backbones.field_attention import FieldAttention
from tfmi.layers.backbones.field_graph import FieldGraph
from tfmi.layers.backbones.fignn import FieldGraphNetwork, FieldScoringHead
from tfmi.layers.backbones.finalmlp import BilinearFusionHead, FinalMLP
from tfmi.layers.backbones.target_attention import FEWEST_CANDIDATES_TOGETHER, TargetAttention
from tfmi.layers.backbones.xdeepfm import XDeepFM
from tfmi.layers.base import ConfiguredLayer

FIELDS, DIMENSION, LENGTH, ITEM_FIELDS = 5, 4, 3, 2
WIDTH = ITEM_FIELDS * DIMENSION

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("din", {"attention_hidden": [6, 4]}),
    ("din", {"attention_hidden": [6], "softmax": True}),
    ("deepfm", {}),
    ("xdeepfm", {"map_sizes": [4, 3]}),
    ("xdeepfm", {"map_sizes": [4], "activation": "identity"}),
    ("dcn", {"num_layers": 2}),
    ("dcn", {"num_layers": 1, "projection_dimension": 3}),
    ("autoint", {"num_layers": 2, "num_heads": 2, "head_dimension": 3}),
    ("fignn", {"num_steps": 2}),
    ("finalmlp", {"first_hidden": [8], "second_hidden": [6, 4], "gate_hidden": [5], "num_heads": 2}),
]
# Whatever else is registered is tested as it is by default.
VARIANTS += [(name, {}) for name in BACKBONES.names() if name not in {listed for listed, _ in VARIANTS}]


@pytest.fixture(params=VARIANTS, ids=lambda variant: f"{variant[0]}-{'-'.join(map(str, variant[1].values()))}")
def backbone(request: pytest.FixtureRequest) -> Backbone:
    tf.keras.utils.set_random_seed(3)
    name, parameters = request.param
    return BACKBONES.build({"name": name, **parameters}, "model.backbone")


@pytest.fixture
def float32_afterwards() -> Iterator[None]:
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def _inputs(rows: int = 6, users: int | None = None, missing: tuple[int, ...] = (3,), seed: int = 0, scale: float = 1.0) -> RankingInputs:
    """Rows 1, 3, ... lack the ``missing`` fields; the last user has no history."""
    rng = np.random.default_rng(seed)
    users = users or rows
    present = np.ones((rows, FIELDS), bool)
    present[1::2, list(missing)] = False
    fields = rng.normal(size=(rows, FIELDS, DIMENSION)) * present[..., None] * scale
    lengths = rng.integers(1, LENGTH + 1, users)
    lengths[-1] = 0
    mask = np.arange(LENGTH) < lengths[:, None]
    history = rng.normal(size=(users, LENGTH, WIDTH)) * mask[..., None] * scale
    floats = [tf.constant(values, tf.float32) for values in (fields, rng.normal(size=rows), history)]
    candidate = tf.reshape(floats[0][:, :ITEM_FIELDS], [rows, WIDTH])
    return RankingInputs(floats[0], tf.constant(present), floats[1], floats[2], tf.constant(mask), candidate)


def _logits(backbone: Backbone, head: ConfiguredLayer, inputs: RankingInputs) -> np.ndarray:
    return head(backbone(inputs)).numpy()


def test_heads_give_finite_logits_and_differ_from_each_other(backbone: Backbone) -> None:
    inputs = _inputs()
    first, second = (backbone.make_head([5], seed=seed, name=f"head_{seed}") for seed in (0, 100))
    logits = _logits(backbone, first, inputs)
    assert logits.shape == (6,)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert np.abs(logits - _logits(backbone, second, inputs)).max() > 1e-3
    assert not {id(weight) for weight in first.weights} & {id(weight) for weight in second.weights}


def test_more_padding_changes_nothing(backbone: Backbone) -> None:
    inputs = _inputs()
    head = backbone.make_head([5], seed=0, name="head")
    longer = inputs._replace(
        history=tf.pad(inputs.history, [[0, 0], [0, 4], [0, 0]]), history_mask=tf.pad(inputs.history_mask, [[0, 0], [0, 4]])
    )
    np.testing.assert_allclose(_logits(backbone, head, longer), _logits(backbone, head, inputs), rtol=1e-5, atol=1e-6)


def test_every_weight_is_trained(backbone: Backbone) -> None:
    inputs = _inputs(rows=32)
    head = backbone.make_head([5], seed=0, name="head")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(head(backbone(inputs)) ** 2)
    weights = backbone.trainable_weights + head.trainable_weights
    assert weights
    assert len({weight.ref() for weight in weights}) == len(weights)
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        assert gradient is not None, weight.name
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, weight.name


def test_several_candidates_of_one_user_score_as_they_do_alone(backbone: Backbone) -> None:
    inputs = _inputs(rows=6, users=2)
    head = backbone.make_head([5], seed=0, name="head")
    repeated = inputs._replace(history=tf.repeat(inputs.history, 3, axis=0), history_mask=tf.repeat(inputs.history_mask, 3, axis=0))
    np.testing.assert_allclose(_logits(backbone, head, inputs), _logits(backbone, head, repeated), rtol=1e-5, atol=1e-6)


def test_configurations_and_seeds_make_it_again(backbone: Backbone) -> None:
    inputs = _inputs()
    copy = type(backbone).from_config(json.loads(json.dumps(backbone.get_config())))
    assert json.dumps(copy.get_config()) == json.dumps(backbone.get_config())
    head = backbone.make_head([5], seed=7, name="head")
    head_copy = type(head).from_config(json.loads(json.dumps(head.get_config())))
    expected = _logits(backbone, head, inputs)
    head_copy(copy(inputs))
    copy.set_weights(backbone.get_weights())
    head_copy.set_weights(head.get_weights())
    np.testing.assert_allclose(_logits(copy, head_copy, inputs), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_close_to_single(policy: str, float32_afterwards: None) -> None:
    inputs = _inputs(scale=0.5)
    for name, parameters in VARIANTS:
        single = BACKBONES.build({"name": name, **parameters}, "model.backbone")
        single_head = single.make_head([5], seed=0, name="head")
        expected = _logits(single, single_head, inputs)
        tf.keras.mixed_precision.set_global_policy(policy)
        half = BACKBONES.build({"name": name, **parameters}, "model.backbone")
        half_head = half.make_head([5], seed=0, name="head")
        cast = {key: tf.cast(getattr(inputs, key), half.compute_dtype) for key in ("fields", "history", "candidate")}
        half_inputs = inputs._replace(**cast)
        half_head(half(half_inputs))
        half.set_weights(single.get_weights())
        half_head.set_weights(single_head.get_weights())
        with tf.GradientTape() as tape:
            logits = half_head(half(half_inputs))
        assert logits.dtype == tf.float32
        np.testing.assert_allclose(logits, expected, atol=0.1, err_msg=name)
        gradients = tape.gradient(logits, half.trainable_weights + half_head.trainable_weights)
        assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)
        tf.keras.mixed_precision.set_global_policy("float32")


def test_batches_of_unknown_size(backbone: Backbone) -> None:
    inputs = _inputs()
    head = backbone.make_head([5], seed=0, name="head")
    expected = _logits(backbone, head, inputs)
    specification = tf.nest.map_structure(lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), inputs)
    compiled = tf.function(lambda given: head(backbone(given)), input_signature=[specification], autograph=False)
    np.testing.assert_allclose(compiled(inputs), expected, rtol=1e-5, atol=1e-6)


# One by one


def test_attention_is_the_network_on_queries_keys_differences_and_products() -> None:
    rng = np.random.default_rng(0)
    candidates, history = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ((2, 3, 4), (2, 5, 4)))
    mask = tf.constant([[True] * 5, [True, True, False, False, False]])
    attention = TargetAttention([6, 3])
    attention(candidates, history, mask)
    for activation in attention.activations:
        activation.set_weights([np.full(activation.weights[0].shape, 0.25, np.float32)])
    attended = attention(candidates, history, mask).numpy()
    kernels = [attention.kernel.numpy(), attention.network[0].kernel.numpy(), attention.last.kernel.numpy()]
    for user in range(2):
        for row in range(3):
            total = np.zeros(4)
            for place in np.flatnonzero(mask[user]):
                query, key = candidates[user, row].numpy(), history[user, place].numpy()
                units = np.concatenate([query, key, query - key, query * key])
                for kernel in kernels[:2]:
                    units = units @ kernel
                    units = np.where(units > 0, units, 0.25 * units)
                total += (units @ kernels[2]) * key
            np.testing.assert_allclose(attended[user, row], total, rtol=1e-4, atol=1e-5)


def test_many_candidates_of_a_user_are_attended_to_as_a_few_are() -> None:
    rng = np.random.default_rng(0)
    count = 2 * FEWEST_CANDIDATES_TOGETHER
    candidates, history = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ((2, count, 4), (2, 5, 4)))
    mask = tf.constant([[True] * 5, [True, True, False, False, False]])
    attention = TargetAttention([6, 3])
    together = attention(candidates, history, mask)
    apart = tf.concat([attention(candidates[:, row : row + 1], history, mask) for row in range(count)], axis=1)
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-5)


def test_attention_weights_sum_to_one_only_if_asked_to() -> None:
    inputs = _inputs()
    candidates = inputs.candidate[:, None, :]
    plain, normal = TargetAttention([6]), TargetAttention([6], softmax=True)
    sums = []
    for attention in (plain, normal):
        attended = attention(candidates, inputs.history, inputs.history_mask)
        np.testing.assert_array_equal(attended[-1], np.zeros((1, WIDTH)))  # the user without history
        weights = attention.weights_of(candidates, inputs.history, inputs.history_mask)
        np.testing.assert_array_equal(weights[:, 0].numpy()[~inputs.history_mask.numpy()], 0.0)
        sums.append(tf.reduce_sum(weights, axis=-1).numpy()[:, 0])
    assert np.abs(sums[0][:-1] - 1).min() > 1e-3
    np.testing.assert_allclose(sums[1], [1, 1, 1, 1, 1, 0], rtol=1e-6)


def test_din_joins_fields_and_what_the_candidate_sees_of_the_history() -> None:
    inputs = _inputs()
    backbone = DeepInterestNetwork([6])
    shared = backbone(inputs)
    np.testing.assert_allclose(shared.stacked[:, : FIELDS * DIMENSION], tf.reshape(inputs.fields, [6, -1]))
    attended = backbone.attention(inputs.candidate[:, None, :], inputs.history, inputs.history_mask)[:, 0]
    np.testing.assert_allclose(shared.stacked[:, FIELDS * DIMENSION :], attended, rtol=1e-5)
    assert shared.logit is None
    assert shared.parallel is None


def test_deepfm_adds_first_order_weights_and_all_pairs() -> None:
    inputs = _inputs()
    fields = inputs.fields.numpy()
    pairs = sum((fields[:, i] * fields[:, j]).sum(axis=-1) for i in range(FIELDS) for j in range(i))
    np.testing.assert_allclose(DeepFM()(inputs).logit, inputs.first_order + pairs, rtol=1e-4, atol=1e-5)


def test_xdeepfm_weighs_the_pooled_maps() -> None:
    inputs = _inputs()
    backbone = XDeepFM([3], activation="identity")
    backbone(inputs)
    kernel, bias = np.ones([FIELDS * FIELDS, 3]), np.zeros(3)
    backbone.interaction.set_weights([kernel, bias])
    backbone.weighing.set_weights([np.array([[1.0], [0.0], [0.0]])])
    square = tf.reduce_sum(tf.reduce_sum(inputs.fields, axis=1) ** 2, axis=-1)
    np.testing.assert_allclose(backbone(inputs).logit, inputs.first_order + square, rtol=1e-4, atol=1e-5)


def test_dcn_crosses_and_leaves_missing_fields_at_zero() -> None:
    inputs = _inputs(missing=(3,))
    backbone = DeepCrossNetwork(num_layers=2)
    backbone(inputs)
    values = [np.random.default_rng(layer).normal(size=weight.shape) for layer, weight in enumerate(backbone.get_weights())]
    backbone.set_weights(values)
    shared = backbone(inputs)
    first = crossed = shared.stacked.numpy()
    for kernel, bias in (values[:2], values[2:]):
        crossed = first * (crossed @ kernel + bias) + crossed
    np.testing.assert_allclose(shared.parallel, crossed, rtol=1e-3)
    np.testing.assert_array_equal(shared.parallel[1, 3 * DIMENSION : 4 * DIMENSION], np.zeros(DIMENSION))
    np.testing.assert_array_equal(shared.logit, inputs.first_order)


def test_field_attention_by_hand() -> None:
    inputs = _inputs(missing=(3,))
    layer = FieldAttention(num_heads=1, head_dimension=3)
    output = layer(inputs.fields, inputs.present).numpy()
    query, key, value, residual = (weight.numpy() for weight in layer.weights)
    fields = inputs.fields[1].numpy()
    there = np.array([0, 1, 2, 4])
    logits = (fields @ query) @ (fields[there] @ key).T
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.maximum(weights @ (fields[there] @ value) + fields @ residual, 0)
    expected[3] = 0
    np.testing.assert_allclose(output[1], expected, rtol=1e-4, atol=1e-6)


def test_missing_fields_do_not_change_the_messages_to_others() -> None:
    inputs = _inputs(rows=2, missing=(4,))
    without = inputs._replace(fields=inputs.fields[:, :4], present=inputs.present[:, :4])
    attention = FieldAttention(num_heads=2, head_dimension=3)
    np.testing.assert_allclose(
        attention(inputs.fields, inputs.present)[1, :4], attention(without.fields, without.present)[1], rtol=1e-5, atol=1e-6
    )
    graph, smaller = FieldGraph(2), FieldGraph(2)
    states = graph(inputs.fields, inputs.present)[1]
    smaller(without.fields, without.present)
    cut = [weight[:4] if weight.shape[0] == FIELDS and weight.ndim == 3 else weight for weight in graph.get_weights()]
    smaller.set_weights(cut)
    np.testing.assert_allclose(states[:4], smaller(without.fields, without.present)[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(states[4], np.zeros(DIMENSION))


def test_edges_of_the_field_graph() -> None:
    inputs = _inputs(missing=(3,))
    graph = FieldGraph()
    graph(inputs.fields, inputs.present)
    edges = graph.edges(inputs.fields, inputs.present).numpy()
    np.testing.assert_allclose(edges.sum(axis=-1), np.ones((6, FIELDS)), rtol=1e-6)
    np.testing.assert_array_equal(np.einsum("bii->bi", edges), np.zeros((6, FIELDS)))
    np.testing.assert_array_equal(edges[1, :, 3], np.zeros(FIELDS))
    pair = np.concatenate([inputs.fields[0, 1], inputs.fields[0, 4]]) @ graph.edge_kernel.numpy().T.reshape(-1)
    other = np.concatenate([inputs.fields[0, 1], inputs.fields[0, 2]]) @ graph.edge_kernel.numpy().T.reshape(-1)
    leaky = [value if value > 0 else 0.2 * value for value in (pair, other)]
    np.testing.assert_allclose(np.log(edges[0, 1, 4] / edges[0, 1, 2]), leaky[0] - leaky[1], rtol=1e-4)


def test_a_scoring_head_gives_nothing_for_missing_fields() -> None:
    head = FieldScoringHead()
    states = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 4)), tf.float32)
    alone = [head(SharedInteraction(states * tf.reshape(tf.one_hot(field, 3), [1, 3, 1]))) for field in range(3)]
    np.testing.assert_allclose(head(SharedInteraction(states)), tf.add_n(alone), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(head(SharedInteraction(tf.zeros([2, 3, 4]))), [0.0, 0.0])


@pytest.mark.parametrize("num_heads", [1, 2])
def test_bilinear_fusion_by_hand(num_heads: int) -> None:
    head = BilinearFusionHead(first_width=4, num_heads=num_heads)
    stacked = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    logits = head(SharedInteraction(tf.constant(stacked)))
    expected = stacked @ head.linear.kernel.numpy()[:, 0]
    first, second = np.split(stacked[:, :4], num_heads, axis=1), np.split(stacked[:, 4:], num_heads, axis=1)
    for piece in range(num_heads):
        expected += np.einsum("bi,ij,bj->b", first[piece], head.kernel.numpy()[piece], second[piece])
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_gates_look_at_user_and_candidate() -> None:
    inputs = _inputs(missing=())
    backbone = FinalMLP(first_hidden=[8], second_hidden=[6], gate_hidden=[])
    backbone(inputs)
    user_gate, candidate_gate = backbone.gates
    assert user_gate.layers[0].kernel.shape == ((FIELDS - ITEM_FIELDS) * DIMENSION, FIELDS * DIMENSION)
    assert candidate_gate.layers[0].kernel.shape == (ITEM_FIELDS * DIMENSION, FIELDS * DIMENSION)
    context, fields = tf.reshape(inputs.fields[:, ITEM_FIELDS:], [6, -1]), tf.reshape(inputs.fields, [6, -1])
    gated = 2 * tf.sigmoid(context @ user_gate.layers[0].kernel) * fields
    expected = tf.nn.relu(gated @ backbone.streams[0].layers[0].kernel)
    np.testing.assert_allclose(backbone(inputs).stacked[:, :8], expected, rtol=1e-4, atol=1e-5)


def test_a_head_joins_and_adds() -> None:
    head = BackboneHead([3], seed=0)
    stacked, parallel, logit = tf.ones([2, 4]), tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([0.5, -0.5])
    logits = head(SharedInteraction(stacked, parallel, logit))
    hidden = np.maximum(stacked @ head.network[0].kernel, 0)
    expected = np.concatenate([hidden, parallel], axis=1) @ head.last.kernel.numpy()[:, 0] + logit
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("backbone_class", "arguments", "message"),
    [
        (DeepInterestNetwork, {"attention_hidden": []}, "hidden: expected at least one layer"),
        (DeepCrossNetwork, {"num_layers": 0}, "num_layers"),
        (DeepCrossNetwork, {"projection_dimension": 0}, "projection_dimension"),
        (AutoInt, {"num_heads": 0}, "num_heads"),
        (FieldGraphNetwork, {"num_steps": 0}, "num_steps"),
        (XDeepFM, {"map_sizes": []}, "map_sizes"),
        (FinalMLP, {"first_hidden": []}, "first_hidden: expected at least one layer"),
        (FinalMLP, {"second_hidden": [7], "num_heads": 2}, "second_hidden: expected a last width"),
    ],
)
def test_arguments_out_of_range_are_refused(backbone_class: type[Backbone], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbone_class(**arguments)
