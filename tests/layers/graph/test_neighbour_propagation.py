"""Neighbour propagation against the similarities of item-KNN, written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_metrics import ragged
from tfmi.core.errors import ConfigError
from tfmi.layers.common.adapting import AdaptsToSequences
from tfmi.layers.graph.neighbour_propagation import NeighbourPropagation
from tfmi.layers.graph.propagation import PROPAGATIONS

NUM_ROWS, WIDTH = 9, 4
SEQUENCES = ragged([[2, 3, 4], [2, 3, 3], [4, 5, 1], [6, 1], [2, 5]])  # 6 stands alone, 7 and 8 nowhere
COUNTS = np.array([0, 0, 3, 2, 2, 2, 1, 0, 0])


def vectors(seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=[NUM_ROWS, WIDTH]), tf.float32)


def adapted(**arguments: Any) -> NeighbourPropagation:
    layer = NeighbourPropagation(**arguments)
    layer.adapt(SEQUENCES, NUM_ROWS)
    return layer


def dense(share: np.ndarray, limit: int = 20) -> np.ndarray:
    """The whole map as a matrix, from cosines of the items' sets of histories."""
    together = {(2, 3): 2, (2, 4): 1, (3, 4): 1, (4, 5): 1, (2, 5): 1}
    weights = np.zeros([NUM_ROWS, NUM_ROWS])
    for (first, second), count in together.items():
        weights[first, second] = weights[second, first] = count / np.sqrt(COUNTS[first] * COUNTS[second])
    for row in weights:
        row[np.argsort(-row, kind="stable")[limit:]] = 0
    totals = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)
    share = np.where(totals[:, 0] > 0, share, 0)[:, None]
    return np.diag(1 - share[:, 0]) + share * weights


@pytest.mark.parametrize("limit", [1, 20])
def test_equals_the_mixture_written_out(limit: int) -> None:
    layer = adapted(neighbours=limit, share_start=0.3)
    np.testing.assert_allclose(layer(vectors()), dense(np.full(NUM_ROWS, 0.3), limit) @ vectors().numpy(), rtol=1e-4, atol=1e-6)
    layer.slope.assign(-0.7)
    share = 1 / (1 + np.exp(-(np.log(0.3 / 0.7) - 0.7 * np.log1p(COUNTS))))
    np.testing.assert_allclose(layer(vectors()), dense(share, limit) @ vectors().numpy(), rtol=1e-4, atol=1e-6)


def test_items_without_neighbours_keep_their_vectors_and_padding_sends_no_message() -> None:
    start = vectors().numpy()
    start[:2] = 1e6
    result = adapted()(tf.constant(start)).numpy()
    np.testing.assert_array_equal(result[[6, 7, 8]], start[[6, 7, 8]])
    assert np.abs(result[2:]).max() < 10


def test_gradients_are_those_of_the_dense_matrix_and_reach_the_shares() -> None:
    layer, start, upstream = adapted(), vectors(), vectors(1)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(start)
        total = tf.reduce_sum(layer(start) * upstream)
        expected = tf.reduce_sum(tf.constant(dense(np.full(NUM_ROWS, 0.5)), tf.float32) @ start * upstream)
    np.testing.assert_allclose(tape.gradient(total, start), tape.gradient(expected, start), rtol=1e-4, atol=1e-6)
    for weight in layer.trainable_variables:
        before = float(weight.numpy())
        values = []
        for step in (-0.01, 0.01):
            weight.assign(before + step)
            values.append(float(tf.reduce_sum(layer(start) * upstream)))
        weight.assign(before)
        assert float(tape.gradient(total, weight)) == pytest.approx((values[1] - values[0]) / 0.02, rel=0.02, abs=1e-3)


def test_what_was_counted_is_stored(tmp_path: Path) -> None:
    layer = adapted()
    assert len(layer.trainable_variables) == 2
    path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "checkpoint"))
    other = NeighbourPropagation.from_config(layer.get_config())
    other.adapt(ragged([[3, 4, 5], [3, 4, 4], [5, 2, 1], [6, 1], [3, 2]]), NUM_ROWS)  # of the same size, with other neighbours
    assert not np.allclose(other(vectors()), layer(vectors()))
    tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other(vectors()), layer(vectors()))


def test_the_data_comes_first() -> None:
    assert isinstance(NeighbourPropagation(), AdaptsToSequences)
    with pytest.raises(ValueError, match="call adapt"):
        NeighbourPropagation()(vectors())


@pytest.mark.parametrize("arguments", [{"neighbours": 0}, {"shrink": -1.0}, {"power": 2.0}, {"share_start": 1.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        PROPAGATIONS.build({"name": "neighbours", **arguments}, "model.item_tower.propagation")
