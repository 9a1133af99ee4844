"""Hypergraph propagation against a dense matrix built hyperedge by hyperedge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_metrics import ragged
from tfmi.core.errors import ConfigError
from tfmi.layers.common.adapting import AdaptsToSequences
from tfmi.layers.graph.hypergraph import HyperedgeKind, HypergraphPropagation, hyperedges
from tfmi.layers.graph.propagation import PROPAGATIONS

NUM_ROWS, WIDTH = 12, 4
# 9 is only ever a target, 10 stands with unknown items alone, 11 nowhere.
SESSIONS = ragged([[2, 3, 2, 4], [5, 3], [4, 4, 1, 6, 7], [8, 5, 2, 9], [1, 10, 1], [6]])


def dense(kind: HyperedgeKind) -> np.ndarray:
    """P by its definition; items without hyperedge get their own message."""
    rows = [SESSIONS.row(r).tolist() for r in range(len(SESSIONS))]
    edges = [row[:end] for row in rows for end in range(1, len(row))] if kind == "prefixes" else rows
    sets = [set(edge) - {0, 1} for edge in edges]
    result = np.zeros([NUM_ROWS, NUM_ROWS])
    for item in range(2, NUM_ROWS):
        own = [edge for edge in sets if item in edge]
        for edge in own:
            for other in edge:
                result[item, other] += 1 / len(edge) / len(own)
        if not own:
            result[item, item] = 1
    return result


def adapted(layers: int = 3, kind: HyperedgeKind = "prefixes") -> HypergraphPropagation:
    layer = HypergraphPropagation(layers, kind)
    layer.adapt(SESSIONS, NUM_ROWS)
    return layer


def vectors(seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=[NUM_ROWS, WIDTH]), tf.float32)


def test_hyperedges_hold_an_item_once_and_no_target_without_successor() -> None:
    incidence = hyperedges(ragged([[2, 3, 2, 4], [5]]), 6, "prefixes").toarray()
    np.testing.assert_array_equal(incidence, [[0] * 3, [0] * 3, [1, 1, 1], [1, 1, 0], [0] * 3, [0] * 3])
    whole = hyperedges(ragged([[2, 3, 2, 4], [5]]), 6, "sequences").toarray()
    np.testing.assert_array_equal(whole[2:], [[1, 0], [1, 0], [1, 0], [0, 1]])


@pytest.mark.parametrize("kind", ["prefixes", "sequences"])
@pytest.mark.parametrize("layers", [1, 3])
def test_equals_the_mean_of_powers_of_the_dense_matrix(layers: int, kind: HyperedgeKind) -> None:
    matrix, start = dense(kind), vectors().numpy()
    expected = sum(np.linalg.matrix_power(matrix, power) @ start for power in range(layers + 1)) / (layers + 1)
    np.testing.assert_allclose(adapted(layers, kind)(vectors())[2:], expected[2:], rtol=1e-5, atol=1e-6)


def test_rows_sum_to_one_so_that_equal_vectors_stay() -> None:
    np.testing.assert_allclose(adapted()(tf.ones([NUM_ROWS, WIDTH]))[2:], np.ones([NUM_ROWS - 2, WIDTH]), rtol=1e-6)


def test_without_layers_vectors_are_raw() -> None:
    np.testing.assert_array_equal(HypergraphPropagation(0)(vectors()), vectors())


def test_items_in_no_hyperedge_keep_their_vectors_and_padding_sends_no_message() -> None:
    start = vectors().numpy()
    start[:2] = 1e6
    result = adapted()(tf.constant(start)).numpy()
    np.testing.assert_allclose(result[[9, 11]], start[[9, 11]], rtol=1e-6)
    assert np.abs(result[2:]).max() < 10


@pytest.mark.parametrize("kind", ["prefixes", "sequences"])
def test_gradients_are_those_of_the_dense_matrix(kind: HyperedgeKind) -> None:
    layer, start, upstream = adapted(2, kind), vectors(), vectors(1)
    matrix = tf.constant(dense(kind), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(start)
        ours = tf.reduce_sum(layer(start)[2:] * upstream[2:])
        plain = (start + matrix @ start + matrix @ (matrix @ start)) / 3
        expected = tf.reduce_sum(plain[2:] * upstream[2:])
    np.testing.assert_allclose(tape.gradient(ours, start), tape.gradient(expected, start), rtol=1e-5, atol=1e-6)


def test_what_was_counted_is_stored(tmp_path: Path) -> None:
    layer = adapted()
    assert not layer.trainable_variables
    path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "checkpoint"))
    other = HypergraphPropagation.from_config(layer.get_config())
    # Of the same size, with other weights.
    shuffled = ragged([[3, 2, 3, 5], [4, 2], [5, 5, 1, 7, 6], [8, 4, 3, 9], [1, 10, 1], [7]])
    other.adapt(shuffled, NUM_ROWS)
    assert not np.allclose(other(vectors()), layer(vectors()))
    tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other(vectors()), layer(vectors()))


def test_the_data_comes_first() -> None:
    assert isinstance(HypergraphPropagation(), AdaptsToSequences)
    with pytest.raises(ValueError, match="call adapt"):
        HypergraphPropagation()(vectors())


def test_a_negative_number_of_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="layers: expected a number of at least 0"):
        PROPAGATIONS.build({"name": "hypergraph", "layers": -1}, "model.item_tower.propagation")
