"""Typed edges step by step, and attention along them node by node."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.graph.session_graph import session_graph
from tfmi.layers.graph.typed_graph import TypedGraphAttention, edge_types

WIDTH = 4
SESSIONS = [[2, 3, 2, 4], [5, 5, 6], [7], [2, 3, 4, 2], []]


def padded(sessions: list[list[int]], length: int = 5) -> tf.Tensor:
    return tf.constant([session + [0] * (length - len(session)) for session in sessions])


def types_of(session: list[int]) -> dict[tuple[int, int], int]:
    """Types 0 self, 1 next, 2 previous, 3 both, by pairs of items."""
    followed = set(pairwise(session))
    found = {}
    for first in session:
        for second in session:
            forward, backward = (first, second) in followed, (second, first) in followed
            if first == second:
                found[first, second] = 0
            elif forward or backward:
                found[first, second] = 3 if forward and backward else 1 if forward else 2
    return found


def test_types_are_self_next_previous_and_both() -> None:
    clicks = padded(SESSIONS)
    types = edge_types(session_graph(clicks, clicks > 0)).numpy()
    for row, session in enumerate(SESSIONS):
        first_click = {item: session.index(item) for item in session}
        expected = np.zeros([4, 5, 5], bool)
        for (first, second), kind in types_of(session).items():
            expected[kind, first_click[first], first_click[second]] = True
        np.testing.assert_array_equal(types[row], expected)


def test_equals_the_equations() -> None:
    layer, clicks = TypedGraphAttention(), padded(SESSIONS)
    vectors = np.random.default_rng(0).normal(size=[8, WIDTH]).astype(np.float32)
    vectors[0] = 0
    states = layer(tf.gather(vectors, clicks), clicks > 0, clicks).numpy()
    for row, session in enumerate(SESSIONS):
        for place, item in enumerate(session):
            near = {other: kind for (first, other), kind in types_of(session).items() if first == item}
            raw = np.array([layer.type_vectors.numpy()[kind] @ (vectors[item] * vectors[other]) for other, kind in near.items()])
            weights = np.exp(np.where(raw > 0, raw, 0.2 * raw))
            expected = (weights / weights.sum()) @ vectors[list(near)]
            np.testing.assert_allclose(states[row, place], expected, rtol=1e-4, atol=1e-6)
        assert (states[row, len(session) :] == 0).all()


def test_direction_matters() -> None:
    layer, there, back = TypedGraphAttention(), padded([[2, 3, 4]]), padded([[4, 3, 2]])
    vectors = tf.random.stateless_normal([8, WIDTH], [1, 2])
    forward, backward = (layer(tf.gather(vectors, clicks), clicks > 0, clicks)[0, 1] for clicks in (there, back))
    assert not np.allclose(forward, backward)
    layer.type_vectors.assign(tf.ones([4, WIDTH]))
    forward, backward = (layer(tf.gather(vectors, clicks), clicks > 0, clicks)[0, 1] for clicks in (there, back))
    np.testing.assert_allclose(forward, backward, rtol=1e-5)


def test_a_single_click_is_itself() -> None:
    clicks = padded([[7]])
    vectors = tf.random.stateless_normal([8, WIDTH], [1, 2])
    state = TypedGraphAttention()(tf.gather(vectors, clicks), clicks > 0, clicks)[0, 0]
    np.testing.assert_allclose(state, vectors[7], rtol=1e-6)


@pytest.mark.parametrize("shift", [1, 4])
def test_what_items_are_called_makes_no_difference(shift: int) -> None:
    layer, clicks = TypedGraphAttention(), padded(SESSIONS)
    history = tf.random.stateless_normal([5, 5, WIDTH], [1, 2]) * tf.cast(clicks > 0, tf.float32)[..., None]
    renamed = tf.where(clicks > 0, clicks + shift, 0)
    np.testing.assert_array_equal(layer(history, clicks > 0, renamed), layer(history, clicks > 0, clicks))
