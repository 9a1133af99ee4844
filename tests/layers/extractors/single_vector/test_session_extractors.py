"""NARM's, STAMP's, SR-GNN's, GC-SAN's and FPMC's single interests, against their equations for one session at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.attention.click_attention import ClickAttention
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, RealItems
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.extractors.single_vector.attention_memory import AttentionMemoryInterest
from tfmi.layers.extractors.single_vector.factorized_transitions import FactorizedTransitions
from tfmi.layers.extractors.single_vector.graph_self_attention import GraphSelfAttentionInterest
from tfmi.layers.extractors.single_vector.neural_attentive import NeuralAttentiveInterest
from tfmi.layers.extractors.single_vector.session_graph_interest import SessionGraphInterest

LENGTH, WIDTH, NUM_ROWS = 6, 4, 12
SESSIONS = [[4, 7, 4, 9, 7, 2], [5, 8, 5], [3]]
CLICKS = tf.constant([session + [0] * (LENGTH - len(session)) for session in [*SESSIONS, []]])
TABLE = np.random.default_rng(0).normal(size=[NUM_ROWS, WIDTH]).astype(np.float32)
SPECS: list[dict[str, Any]] = [
    {"name": "neural_attentive"},
    {"name": "attention_memory"},
    {"name": "session_graph"},
    {"name": "graph_self_attention"},
    {"name": "graph_self_attention", "attention_share": 0.0},
    {"name": "newest_state", "project": True, "encoder": {"name": "dilated_convolution"}},
    {"name": "factorized_transitions", "num_rows": NUM_ROWS},
    {"name": "interest_trend"},
]


def randomized(extractor: InterestExtractor) -> InterestExtractor:
    """Weights far from where training starts them, biases included."""
    extractor.build((None, LENGTH, WIDTH))
    random = np.random.default_rng(1)
    extractor.set_weights([random.normal(scale=0.7, size=weight.shape) for weight in extractor.get_weights()])
    return extractor


def read(extractor: InterestExtractor, clicks: Any = CLICKS, table: np.ndarray = TABLE, training: bool = False) -> InterestOutput:
    clicks = tf.convert_to_tensor(clicks)
    asked = {"history_indices": clicks} if "history_indices" in extractor.requested_inputs() else {}
    return extractor(tf.gather(table, clicks), clicks > 0, training=training, **asked)


def interest(extractor: InterestExtractor, clicks: list[int]) -> np.ndarray:
    return read(extractor, [clicks]).interests.numpy()[0, 0]


def alphas(attention: ClickAttention, clicks: np.ndarray, known: list[np.ndarray]) -> np.ndarray:
    """[n], of one session's clicks [n, d]; tests of the attention itself say that this is right."""
    arguments = [tf.constant(context[None], tf.float32) for context in known]
    return attention(tf.constant(clicks[None], tf.float32), tf.ones([1, len(clicks)], tf.bool), arguments).numpy()[0]


def dense(layer: tf.keras.layers.Dense, values: np.ndarray) -> np.ndarray:
    return values @ layer.kernel.numpy() + (layer.bias.numpy() if layer.use_bias else 0)


# All


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_more_padding_and_the_other_users_change_nothing_and_one_click_is_enough(spec: dict[str, Any]) -> None:
    extractor = randomized(EXTRACTORS.build(spec, "extractor"))
    expected = read(extractor).interests.numpy()
    assert np.isfinite(expected).all()
    assert (np.abs(expected[:3]).max(axis=(1, 2)) > 0).all()
    assert not expected[3].any()
    for user, session in enumerate(SESSIONS):
        np.testing.assert_allclose(interest(extractor, session), expected[user, 0], atol=1e-6)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_weights_are_shares_of_the_clicks(spec: dict[str, Any]) -> None:
    weights = read(randomized(EXTRACTORS.build(spec, "extractor"))).weights.numpy()
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), [1, 1, 1, 0], atol=1e-5)
    assert (weights >= 0).all()
    assert weights[2, 0, 0] == pytest.approx(1)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_weights_are_constant_exactly_where_no_gradient_passes(spec: dict[str, Any]) -> None:
    extractor = randomized(EXTRACTORS.build(spec, "extractor"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(read(extractor).weights))
    gradients = tape.gradient(loss, extractor.trainable_variables, unconnected_gradients="zero")
    flows = any(float(tf.norm(tf.convert_to_tensor(gradient))) > 1e-6 for gradient in gradients)
    assert flows == (extractor.why_weights_are_constant is None)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_weight_learns(spec: dict[str, Any]) -> None:
    extractor = randomized(EXTRACTORS.build(spec, "extractor"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(read(extractor).interests[:3] - 1.0))
    blocks_are_read = spec.get("attention_share") != 0.0
    for variable, gradient in zip(extractor.trainable_variables, tape.gradient(loss, extractor.trainable_variables), strict=True):
        size = np.abs(tf.convert_to_tensor(gradient)).max()
        assert (size > 0) == (blocks_are_read or "block_" not in variable.name), variable.name


# NARM


@pytest.mark.parametrize("hidden_dimension", [None, 5])
def test_narm_equals_its_equations(hidden_dimension: int | None) -> None:
    extractor = randomized(NeuralAttentiveInterest(hidden_dimension))
    output = read(extractor)
    for user, session in enumerate(SESSIONS):
        states = extractor.encoder(TABLE[session][None], tf.ones([1, len(session)], tf.bool)).states.numpy()[0]
        alpha = alphas(extractor.attention, states, [states[-1]])
        expected = dense(extractor.projection, np.concatenate([alpha @ states, states[-1]]))
        np.testing.assert_allclose(output.interests[user, 0], expected, atol=1e-5)
        np.testing.assert_allclose(output.internals["attention"][user, 0, : len(session)], alpha, atol=1e-6)
        np.testing.assert_allclose(output.weights[user, 0, : len(session)], np.abs(alpha) / np.abs(alpha).sum(), atol=1e-6)


def test_narm_without_v_knows_the_last_state_alone() -> None:
    extractor = randomized(NeuralAttentiveInterest())
    extractor.attention.alpha_kernel.assign(tf.zeros([WIDTH, 1]))
    states = extractor.encoder(tf.gather(TABLE, CLICKS), CLICKS > 0, newest_only=True).states
    expected = tf.matmul(states[:, 0], extractor.projection.kernel[WIDTH:])
    np.testing.assert_allclose(read(extractor).interests[:3, 0], expected[:3], atol=1e-6)


def test_narm_knows_the_order_of_earlier_clicks_has_no_bias_and_drops_in_training() -> None:
    extractor = randomized(NeuralAttentiveInterest(dropout=0.5))
    assert not np.allclose(interest(extractor, [4, 7, 9]), interest(extractor, [7, 4, 9]), atol=1e-3)
    shapes = [tuple(weight.shape) for weight in extractor.trainable_variables]
    square = (WIDTH, WIDTH)
    assert shapes == [(WIDTH, 3 * WIDTH), (WIDTH, 3 * WIDTH), square, square, (WIDTH, 1), (2 * WIDTH, WIDTH)]
    assert not np.allclose(read(extractor, training=True).interests, read(extractor).interests, atol=1e-3)


def test_narm_with_softmax_takes_a_mean() -> None:
    alpha = read(randomized(NeuralAttentiveInterest(softmax=True))).internals["attention"]
    np.testing.assert_allclose(tf.reduce_sum(alpha, axis=[1, 2]), [1, 1, 1, 0], atol=1e-6)


# STAMP


@pytest.mark.parametrize("add_mean", [True, False])
def test_stamp_equals_its_equations(add_mean: bool) -> None:
    extractor = randomized(AttentionMemoryInterest(add_mean=add_mean))
    output = read(extractor)
    for user, session in enumerate(SESSIONS):
        clicks = TABLE[session]
        alpha = alphas(extractor.attention, clicks, [clicks[-1], clicks.mean(axis=0)])
        memory = alpha @ clicks + add_mean * clicks.mean(axis=0)
        expected = np.tanh(dense(extractor.memory_layer, memory)) * np.tanh(dense(extractor.newest_layer, clicks[-1]))
        np.testing.assert_allclose(output.interests[user, 0], expected, atol=1e-5)
        np.testing.assert_allclose(output.internals["attention"][user, 0, : len(session)], alpha, atol=1e-6)


def test_stamp_knows_which_click_is_the_last_and_no_other_order() -> None:
    extractor = randomized(AttentionMemoryInterest())
    np.testing.assert_allclose(interest(extractor, [4, 7, 2, 9]), interest(extractor, [2, 4, 7, 9]), atol=1e-6)
    assert not np.allclose(interest(extractor, [4, 7, 2, 9]), interest(extractor, [4, 7, 9, 2]), atol=1e-3)


def test_stamps_coordinates_are_below_one_and_its_start_is_small() -> None:
    extractor = AttentionMemoryInterest()
    assert np.abs(read(extractor, table=10 * TABLE).interests).max() < 1
    extractor = AttentionMemoryInterest(initializer_deviation=0.05)
    extractor.build((None, LENGTH, 100))
    kernels = [weight for weight in extractor.trainable_variables if weight.shape.rank == 2]
    assert len(kernels) == 5
    assert all(abs(np.std(kernel) - 0.05) < 0.01 for kernel in kernels)
    assert not any(weight.numpy().any() for weight in extractor.trainable_variables if weight.shape.rank == 1)


def test_stamp_without_memory_is_its_newest_item_gated_by_a_constant() -> None:
    extractor = randomized(AttentionMemoryInterest())
    extractor.memory_layer.kernel.assign(tf.zeros([WIDTH, WIDTH]))
    newest = dense(extractor.newest_layer, TABLE[[session[-1] for session in SESSIONS]])
    expected = np.tanh(extractor.memory_layer.bias.numpy()) * np.tanh(newest)
    np.testing.assert_allclose(read(extractor).interests[:3, 0], expected, atol=1e-6)


# SR-GNN


def test_sr_gnn_equals_its_equations() -> None:
    extractor = randomized(SessionGraphInterest(steps=2))
    output = read(extractor)
    for user, session in enumerate(SESSIONS):
        states = extractor.graph(TABLE[session][None], tf.ones([1, len(session)], tf.bool), tf.constant([session])).numpy()[0]
        beta = alphas(extractor.attention, states, [states[-1]])
        expected = dense(extractor.projection, np.concatenate([beta @ states, states[-1]]))
        np.testing.assert_allclose(output.interests[user, 0], expected, atol=1e-5)
        np.testing.assert_allclose(output.internals["attention"][user, 0, : len(session)], beta, atol=1e-6)


@pytest.mark.parametrize("name", ["session_graph", "graph_self_attention"])
def test_graph_systems_do_not_depend_on_what_items_are_called(name: str) -> None:
    extractor = randomized(EXTRACTORS.build({"name": name}, "extractor"))
    names = np.concatenate([[0], 1 + np.random.default_rng(2).permutation(NUM_ROWS - 1)])
    renamed = read(extractor, tf.gather(names, CLICKS), TABLE[np.argsort(names)])
    np.testing.assert_allclose(renamed.interests, read(extractor).interests, atol=1e-6)


def test_sr_gnn_counts_clicks_that_its_graph_does_not() -> None:
    extractor = randomized(SessionGraphInterest())
    circle, longer = [1, 2, 1, 2], [1, 2, 1, 2, 1, 2]  # the same graph, and the same last node
    np.testing.assert_allclose(
        extractor.graph(TABLE[circle][None], tf.ones([1, 4], tf.bool), tf.constant([circle]))[0, :2],
        extractor.graph(TABLE[longer][None], tf.ones([1, 6], tf.bool), tf.constant([longer]))[0, :2],
        atol=1e-6,
    )
    assert not np.allclose(interest(extractor, circle), interest(extractor, longer), atol=1e-3)


def test_sr_gnn_sees_an_earlier_click_through_the_graph_alone() -> None:
    extractor = randomized(SessionGraphInterest())
    extractor.attention.alpha_kernel.assign(tf.zeros([WIDTH, 1]))  # no attention: the newest state is all there is
    assert not np.allclose(interest(extractor, [4, 7]), interest(extractor, [9, 7]), atol=1e-3)
    np.testing.assert_allclose(interest(extractor, [4, 9, 7]), interest(extractor, [5, 9, 7]), atol=1e-6)  # two edges away


# GC-SAN


def gc_san(share: float, **options: Any) -> GraphSelfAttentionInterest:
    return randomized(GraphSelfAttentionInterest(attention_share=share, **options))


def test_gc_san_is_linear_in_its_share_between_the_last_graph_state_and_attention() -> None:
    graph_alone, attention_alone, mixed = (read(gc_san(share)).interests for share in (0.0, 1.0, 0.6))
    np.testing.assert_allclose(mixed, 0.6 * attention_alone + 0.4 * graph_alone, atol=1e-5)
    extractor = gc_san(0.0)
    states = extractor.graph(tf.gather(TABLE, CLICKS), CLICKS > 0, CLICKS).numpy()
    for user, session in enumerate(SESSIONS):
        np.testing.assert_allclose(graph_alone[user, 0], states[user, len(session) - 1], atol=1e-6)


def test_gc_sans_attention_is_its_blocks_on_graph_states_click_by_click() -> None:
    extractor = gc_san(1.0, num_blocks=3)
    output = read(extractor)
    for user, session in enumerate(SESSIONS):
        everything = tf.ones([1, len(session)], tf.bool)
        rows = extractor.graph(TABLE[session][None], everything, tf.constant([session]))[0]
        causal = tf.linalg.band_part(tf.ones([1, len(session), len(session)]), -1, 0) > 0
        for block in extractor.blocks:
            rows, weights = block(rows, RealItems(everything), causal)
        np.testing.assert_allclose(output.interests[user, 0], rows[-1], atol=1e-4)
        np.testing.assert_allclose(output.weights[user, 0, : len(session)], tf.reduce_mean(weights[0, :, -1], axis=0), atol=1e-5)


def test_gc_san_passes_every_argument_on_and_every_dropout_has_a_seed_of_its_own() -> None:
    arguments: dict[str, Any] = {
        "num_heads": 4,
        "inner_dimension": 5,
        "activation": "relu",
        "dropout": 0.1,
        "attention_dropout": 0.3,
        "initializer_deviation": 0.4,
    }
    extractor = GraphSelfAttentionInterest(steps=3, num_blocks=3, seed=7, **arguments)
    assert all(arguments.items() <= block.get_config().items() for block in extractor.blocks)
    assert (extractor.graph.steps, extractor.graph.message_bias) == (3, False)
    seeds = [layer.seed for layer in extractor._flatten_layers() if isinstance(layer, ElementDropout)]
    assert sorted(seeds) == list(range(7, 7 + 9))


@pytest.mark.parametrize(("options", "message"), [({"attention_share": 1.1}, "attention_share"), ({"num_blocks": 0}, "num_blocks")])
def test_impossible_gc_sans_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphSelfAttentionInterest(**options)


# FPMC


def test_fpmc_is_the_row_of_the_last_click_and_nothing_else() -> None:
    extractor = randomized(FactorizedTransitions(NUM_ROWS))
    output = read(extractor)
    for user, session in enumerate(SESSIONS):
        np.testing.assert_array_equal(output.interests[user, 0], extractor.transitions[session[-1]])
        np.testing.assert_array_equal(output.weights[user, 0], np.eye(LENGTH)[len(session) - 1])
    np.testing.assert_array_equal(interest(extractor, [4, 7, 9]), interest(extractor, [7, 4, 9]))
    np.testing.assert_array_equal(read(extractor, table=5 * TABLE).interests, output.interests)


def test_fpmc_touches_the_rows_that_a_batch_clicked_last() -> None:
    extractor = randomized(FactorizedTransitions(NUM_ROWS))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(read(extractor).interests)
    gradient = tape.gradient(loss, extractor.transitions)
    assert isinstance(gradient, tf.IndexedSlices)
    dense_gradient = tf.convert_to_tensor(gradient).numpy()
    assert np.flatnonzero(dense_gradient.any(axis=1)).tolist() == [2, 3, 5]


def test_fpmc_needs_to_know_the_items() -> None:
    with pytest.raises(ValueError, match="num_rows: required"):
        FactorizedTransitions().build((None, LENGTH, WIDTH))
    with pytest.raises(ValueError, match="num_rows: expected a number of at least 1"):
        FactorizedTransitions(0)
