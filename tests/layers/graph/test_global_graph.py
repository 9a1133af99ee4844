"""The global graph by counting pair by pair, and attention over it neighbour by neighbour."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_metrics import ragged
from tfmi.layers.common.adapting import AdaptsToSequences
from tfmi.layers.graph.global_graph import GlobalGraphAttention, near_items

NUM_ROWS, WIDTH = 12, 4
SESSIONS = ragged([[2, 3, 2, 4, 5, 6], [5, 3], [4, 4, 1, 6, 7], [8, 5, 2, 9, 8], [10], [2, 3, 4]])


def counted(distance: int) -> dict[int, Counter[int]]:
    near: dict[int, Counter[int]] = {item: Counter() for item in range(NUM_ROWS)}
    for row in range(len(SESSIONS)):
        items = SESSIONS.row(row).tolist()
        for place, item in enumerate(items):
            for other_place, other in enumerate(items):
                if 0 < abs(place - other_place) <= distance and min(item, other) >= 2:
                    near[item][other] += 1
    return near


class Table:
    """Vectors by index."""

    def __init__(self) -> None:
        self.values = np.random.default_rng(1).normal(size=[NUM_ROWS, WIDTH]).astype(np.float32)

    def embed(self, item_indices: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        assert np.min(item_indices, initial=2) >= 2, "padding is no neighbour"
        return tf.gather(self.values, item_indices)


@pytest.mark.parametrize("distance", [1, 3])
@pytest.mark.parametrize("limit", [2, 20])
def test_neighbours_are_counted_in_both_directions_the_most_frequent_first(distance: int, limit: int) -> None:
    neighbours, times = near_items(SESSIONS, NUM_ROWS, distance, limit)
    for item, near in counted(distance).items():
        expected = sorted(near.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
        assert neighbours[item].tolist() == [other for other, _ in expected] + [0] * (limit - len(expected))
        assert times[item].tolist() == [count for _, count in expected] + [0] * (limit - len(expected))


def test_what_stands_in_other_sessions_is_not_near() -> None:
    neighbours, _ = near_items(ragged([[2, 3], [4, 5]]), 6, 3, 4)
    assert neighbours[3].tolist() == [2, 0, 0, 0]


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


@pytest.mark.parametrize("log_counts", [True, False])
def test_equals_the_equations(log_counts: bool) -> None:
    layer, table = GlobalGraphAttention(NUM_ROWS, neighbours=3, log_counts=log_counts), Table()
    layer.adapt(SESSIONS, NUM_ROWS)
    indices, random = np.array([2, 5, 10]), np.random.default_rng(2)
    clicks, means = (random.normal(size=[3, WIDTH]).astype(np.float32) for _ in range(2))
    result = layer(tf.constant(clicks), tf.constant(indices), tf.constant(means), table).numpy()
    neighbours, times = near_items(SESSIONS, NUM_ROWS, 3, 3)
    kernels = [layer.likeness_kernel, layer.count_kernel, layer.logit_kernel, layer.output_kernel]
    likeness, count, logit, output = (kernel.numpy() for kernel in kernels)
    for row, item in enumerate(indices):
        near = neighbours[item][neighbours[item] > 0]
        received = np.zeros(WIDTH)
        if len(near):
            number = np.log1p(times[item][: len(near)]) if log_counts else times[item][: len(near)]
            hidden = leaky((means[row] * table.values[near]) @ likeness + number[:, None] * count)
            scores = np.exp(hidden @ logit)[:, 0]
            received = (scores / scores.sum()) @ table.values[near]
        expected = np.maximum(np.concatenate([clicks[row], received]) @ output, 0)
        np.testing.assert_allclose(result[row], expected, rtol=1e-4, atol=1e-6)


def test_an_item_without_neighbours_gets_no_message_from_any_other() -> None:
    layer, clicks, means = GlobalGraphAttention(NUM_ROWS), tf.ones([1, WIDTH]), tf.ones([1, WIDTH])
    layer.adapt(SESSIONS, NUM_ROWS)
    first, second = Table(), Table()
    second.values = second.values + 5.0
    alone, met = tf.constant([10]), tf.constant([3])
    np.testing.assert_array_equal(layer(clicks, alone, means, first), layer(clicks, alone, means, second))
    assert (layer(clicks, met, means, first).numpy() != layer(clicks, met, means, second).numpy()).any()


def test_what_was_counted_is_stored(tmp_path: Path) -> None:
    layer = GlobalGraphAttention(NUM_ROWS)
    assert isinstance(layer, AdaptsToSequences)
    layer.adapt(SESSIONS, NUM_ROWS)
    path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "checkpoint"))
    other = GlobalGraphAttention(NUM_ROWS)
    assert not other.near.numpy().any()
    tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other.near, layer.near)
    np.testing.assert_array_equal(other.times, layer.times)
    assert not layer.trainable_variables


def test_the_number_of_items_is_needed() -> None:
    with pytest.raises(ValueError, match="num_rows: required"):
        GlobalGraphAttention()(tf.ones([1, WIDTH]), tf.constant([2]), tf.ones([1, WIDTH]), Table())
