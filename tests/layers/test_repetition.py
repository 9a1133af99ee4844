"""The learned gate between the items of a history and all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import REPETITIONS, RepeatScorer
from tfmi.layers.repetition import LearnedGate

USERS = tf.constant([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [9.0, 9.0]]])
ACTIVE = tf.constant([[True, True], [True, False]])
INDICES = tf.constant([[5, 7, 5, 0], [4, 0, 0, 0]])
VECTORS = tf.constant([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [np.nan, np.nan]], [[0.0, 1.0]] + [[0.0, 0.0]] * 3])


def gate(**arguments: Any) -> LearnedGate:
    tf.keras.utils.set_random_seed(1)
    layer = LearnedGate(**arguments)
    layer(USERS, ACTIVE, VECTORS, INDICES)
    return layer


def test_each_item_is_scored_once_at_its_newest_place_by_the_formula() -> None:
    layer = gate(similarity_start=0.5, max_count=2)
    layer.by_age.assign(tf.range(64, dtype=tf.float32))
    layer.by_count.assign([10.0, 20.0])
    layer.gate_offset.assign(100.0)
    scores, interests = layer(USERS, ACTIVE, VECTORS, INDICES)
    np.testing.assert_allclose(scores, [[-np.inf, 0.5 + 1 + 10 + 100, 0.5 + 0 + 20 + 100, -np.inf], [0.4 + 0 + 10 + 100] + [-np.inf] * 3])
    np.testing.assert_array_equal(interests.numpy()[[0, 0, 1], [1, 2, 0]], [1, 0, 0])


def test_the_gate_is_the_networks_output_written_out() -> None:
    layer = gate(similarity_start=0.0)
    layer.gate_weights.assign([0.3, -0.2])
    before = np.array(layer(USERS, ACTIVE, VECTORS, INDICES)[0])
    for row, mean in enumerate([[0.5, 0.5], [0.6, 0.8]]):
        inputs = [*mean, np.log1p([3, 1][row]), [2 / 3, 1.0][row]]
        hidden = np.tanh(np.array(inputs) @ layer.gate_kernel.numpy())
        np.testing.assert_allclose(before[row][np.isfinite(before[row])], hidden @ [0.3, -0.2], rtol=1e-5)


def test_without_similarity_and_users_scores_follow_from_counts_ages_and_lengths_alone() -> None:
    layer = gate(similarity_start=None, by_user=False)
    layer.gate_weights.assign([0.3, -0.2])
    layer.by_age.assign(tf.range(64, dtype=tf.float32))
    scores, _ = layer(USERS, ACTIVE, VECTORS, INDICES)
    other, _ = layer(5.0 - USERS, ACTIVE, 3.0 - VECTORS, INDICES)
    np.testing.assert_array_equal(scores, other)
    gates = [np.tanh(np.array([np.log1p(n), share]) @ layer.gate_kernel.numpy()) @ [0.3, -0.2] for n, share in ((3, 2 / 3), (1, 1.0))]
    np.testing.assert_allclose([scores[0, 2], scores[0, 1], scores[1, 0]], [gates[0], gates[0] + 1, gates[1]], rtol=1e-5)


def test_more_padding_and_what_stands_there_change_nothing() -> None:
    layer = gate()
    wider = tf.pad(VECTORS, [[0, 0], [0, 3], [0, 0]], constant_values=np.inf)
    expected, _ = layer(USERS, ACTIVE, VECTORS, INDICES)
    scores, _ = layer(USERS, ACTIVE, wider, tf.pad(INDICES, [[0, 0], [0, 3]]))
    np.testing.assert_allclose(scores[:, :4], expected, rtol=1e-6)
    assert np.all(np.isneginf(scores[:, 4:]))


@pytest.mark.parametrize("by_vectors", [True, False])
def test_gradients_reach_every_weight_and_are_finite(by_vectors: bool) -> None:
    layer = gate() if by_vectors else gate(similarity_start=None, by_user=False)
    layer.gate_weights.assign([0.1, 0.1])
    users, vectors = tf.Variable(USERS), tf.Variable(tf.where(tf.math.is_nan(VECTORS), 0.0, VECTORS))
    with tf.GradientTape() as tape:
        scores, _ = layer(users, ACTIVE, vectors, INDICES)
        total = tf.reduce_sum(tf.where(tf.math.is_inf(scores), 0.0, scores) * [[1.0, 2.0, 3.0, 4.0]])
    for gradient in tape.gradient(total, [*layer.trainable_variables, *([users, vectors] if by_vectors else [])]):
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all()
        assert np.abs(values).sum() > 0


@pytest.mark.parametrize("name", REPETITIONS.names())
def test_configuration_round_trip(name: str) -> None:
    layer = REPETITIONS.build({"name": name}, "model.repetition")
    assert isinstance(layer, RepeatScorer)
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="max_count"):
        LearnedGate(max_count=0)
