"""Session graphs and the gated network on them, against loops over one session."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import RealItems
from tfmi.layers.graph.gated_graph import GatedGraph
from tfmi.layers.graph.session_graph import SessionGraph, session_graph

LENGTH, WIDTH, NUM_ROWS = 7, 4, 20
SESSIONS = [[4, 7, 4, 9, 7, 4], [5], [6, 6, 3], [2, 3, 4, 5, 6, 7, 8], []]


def padded(sessions: list[list[int]], length: int = LENGTH) -> tf.Tensor:
    return tf.constant([session + [0] * (length - len(session)) for session in sessions])


def graph_of(*sessions: list[int], length: int = LENGTH) -> SessionGraph:
    clicks = padded(list(sessions), length)
    return session_graph(clicks, clicks > 0)


def matrices(session: list[int]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Nodes in order of their first clicks, and both matrices of means among them, edge by edge."""
    nodes = list(dict.fromkeys(session))
    edges = np.zeros([len(nodes), len(nodes)])
    for before, after in pairwise(session):
        edges[nodes.index(before), nodes.index(after)] = 1
    incoming, outgoing = np.zeros_like(edges), np.zeros_like(edges)
    for node in range(len(nodes)):
        if edges[:, node].any():
            incoming[node] = edges[:, node] / edges[:, node].sum()
        if edges[node].any():
            outgoing[node] = edges[node] / edges[node].sum()
    return nodes, incoming, outgoing


@pytest.mark.parametrize("session", SESSIONS, ids=str)
def test_matrices_equal_those_of_a_loop_over_the_session(session: list[int]) -> None:
    graph = graph_of(session)
    nodes, incoming, outgoing = matrices(session)
    places = [session.index(node) for node in nodes]
    np.testing.assert_array_equal(np.flatnonzero(graph.nodes[0]), places)
    assert [session[place] for place in graph.node_of_click[0].numpy()[: len(session)]] == session
    for found, expected in ((graph.incoming, incoming), (graph.outgoing, outgoing)):
        np.testing.assert_allclose(found[0].numpy()[np.ix_(places, places)], expected, atol=1e-6)
        np.testing.assert_allclose(found[0].numpy().sum(), expected.sum(), atol=1e-6)  # nothing anywhere else


def test_rows_sum_to_one_or_zero() -> None:
    graph = graph_of(*SESSIONS)
    for rows in (graph.incoming.numpy().sum(axis=2), graph.outgoing.numpy().sum(axis=2)):
        assert np.logical_or(np.isclose(rows, 0), np.isclose(rows, 1)).all()


def test_an_edge_is_there_or_not_however_often_it_is_taken() -> None:
    again, once = graph_of([5, 6, 5, 6]), graph_of([5, 6])
    np.testing.assert_array_equal(again.incoming[0, 1], once.incoming[0, 1])
    assert again.outgoing[0, 1, 0] == 1  # and there is one back


def test_the_same_item_twice_in_a_row_is_an_edge_to_itself() -> None:
    graph = graph_of([6, 6, 3])
    np.testing.assert_array_equal(graph.outgoing[0, 0, :3], [0.5, 0, 0.5])
    np.testing.assert_array_equal(graph.incoming[0, 0, :3], [1, 0, 0])


def test_what_items_are_called_and_more_padding_changes_nothing() -> None:
    names = np.random.default_rng(0).permutation(np.arange(30, 60))
    renamed = [[int(names[item]) for item in session] for session in SESSIONS]
    for found, expected in zip(graph_of(*renamed), graph_of(*SESSIONS), strict=True):
        np.testing.assert_array_equal(found, expected)
    wide = graph_of(*SESSIONS, length=11)
    narrow = graph_of(*SESSIONS)
    np.testing.assert_array_equal(wide.incoming[:, :LENGTH, :LENGTH], narrow.incoming)
    assert not wide.outgoing[:, LENGTH:].numpy().any()


def test_a_history_of_one_place_has_no_edges() -> None:
    graph = graph_of([5], [], length=1)
    assert graph.nodes.numpy().tolist() == [[True], [False]]
    assert not graph.incoming.numpy().any()


# The network


def randomized(network: GatedGraph) -> GatedGraph:
    network.build((None, LENGTH, WIDTH))
    random = np.random.default_rng(1)
    network.set_weights([random.normal(scale=0.7, size=weight.shape) for weight in network.get_weights()])
    return network


def item_vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=[NUM_ROWS, WIDTH]).astype(np.float32)


def states_of(network: GatedGraph, clicks: tf.Tensor, table: np.ndarray | None = None) -> np.ndarray:
    return network(tf.gather(item_vectors() if table is None else table, clicks), clicks > 0, clicks).numpy()


def float64(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def looped(network: GatedGraph, session: list[int]) -> np.ndarray:
    """The equations for one session in float64, one node and one neighbour at a time: a state for each click, [n, d]."""
    cell = network.cell
    w, b = float64(cell.message_layer.kernel), float64(cell.message_layer.bias)
    u, u_bias = float64(cell.heard_layer.kernel), float64(cell.heard_layer.bias)
    v, v_bias = float64(cell.own_layer.kernel), float64(cell.own_layer.bias)
    c = float64(cell.heard_bias) if network.message_bias else np.zeros(2 * WIDTH)
    nodes, incoming, outgoing = matrices(session)
    states = [float64(item_vectors()[node]) for node in nodes]
    for _ in range(network.steps):
        updated = []
        for node, state in enumerate(states):
            received = c.copy()
            for other, sent in enumerate(states):
                received[:WIDTH] += incoming[node, other] * (sent @ w[:, :WIDTH] + b[:WIDTH])
                received[WIDTH:] += outgoing[node, other] * (sent @ w[:, WIDTH:] + b[WIDTH:])
            received_reset, received_update, received_new = np.split(received @ u + u_bias, 3)
            own_reset, own_update, own_new = np.split(state @ v + v_bias, 3)
            update = sigmoid(received_update + own_update)
            new = np.tanh(received_new + sigmoid(received_reset + own_reset) * own_new)
            updated.append((1 - update) * state + update * new)
        states = updated
    return np.array([states[nodes.index(item)] for item in session])


@pytest.mark.parametrize("message_bias", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_states_equal_those_of_a_loop_over_nodes_and_neighbours(steps: int, message_bias: bool) -> None:
    network = randomized(GatedGraph(steps, message_bias=message_bias))
    states = states_of(network, padded(SESSIONS))
    for session, found in zip(SESSIONS[:4], states, strict=False):
        np.testing.assert_allclose(found[: len(session)], looped(network, session), atol=1e-5)
        assert not found[len(session) :].any()
    assert not states[4].any()


def test_a_node_without_neighbours_gets_the_message_bias_alone() -> None:
    network = randomized(GatedGraph())
    expected = states_of(network, padded([[5]]))
    network.cell.message_layer.set_weights([weight + 1 for weight in network.cell.message_layer.get_weights()])
    np.testing.assert_array_equal(states_of(network, padded([[5]])), expected)
    network.cell.heard_bias.assign_add(tf.ones([2 * WIDTH]))
    assert not np.allclose(states_of(network, padded([[5]])), expected, atol=1e-3)


def test_states_do_not_depend_on_what_items_are_called() -> None:
    network = randomized(GatedGraph(2))
    names = np.concatenate([[0], 1 + np.random.default_rng(2).permutation(NUM_ROWS - 1)])
    renamed_table = item_vectors()[np.argsort(names)]
    clicks = padded(SESSIONS)
    np.testing.assert_allclose(states_of(network, tf.gather(names, clicks), renamed_table), states_of(network, clicks), atol=1e-6)


def test_clicks_of_one_item_share_a_state_and_its_first_click_is_its_vector() -> None:
    network, clicks = randomized(GatedGraph()), padded([[4, 7, 4]])
    history = tf.random.stateless_normal([1, LENGTH, WIDTH], [1, 2])  # two clicks of item 4, from which dropout has dropped differently
    with tf.GradientTape() as tape:
        tape.watch(history)
        states = network(history, clicks > 0, clicks)
    np.testing.assert_array_equal(states[0, 0], states[0, 2])
    moved = np.abs(tape.gradient(states, history).numpy()[0]).max(axis=1) > 0
    assert moved.tolist() == [True, True] + [False] * 5


def test_work_is_done_for_nodes_alone() -> None:
    assert RealItems(graph_of(*SESSIONS).nodes).places.shape[0] == 3 + 1 + 2 + 7


def test_steps_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="steps: expected a number of at least 1"):
        GatedGraph(0)
