"""Mean pooling, plain and by recency."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.extractors.single_vector.mean_pooling import MeanPooling

HISTORY = [[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]]


def test_plain_mean_leaves_padding_out() -> None:
    output = MeanPooling()(tf.constant(HISTORY), tf.constant([[True, True, False]]))
    np.testing.assert_allclose(output.interests, [[[2.0, 4.0]]])
    np.testing.assert_allclose(output.weights, [[[0.5, 0.5, 0.0]]])
    assert output.active.numpy().tolist() == [[True]]


def test_recency_decay_weighs_by_age() -> None:
    weights = MeanPooling(recency_decay=0.5)(tf.constant(HISTORY), tf.ones([1, 3], tf.bool)).weights
    np.testing.assert_allclose(weights[0, 0], np.array([1, 2, 4]) / 7, atol=1e-6)


def test_age_counts_real_items_only() -> None:
    weights = MeanPooling(recency_decay=0.5)(tf.constant(HISTORY), tf.constant([[True, False, True]])).weights
    np.testing.assert_allclose(weights[0, 0], [1 / 3, 0, 2 / 3], atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.1, float("nan")])
def test_impossible_decays_are_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="recency_decay: expected a number above 0 and at most 1"):
        MeanPooling(recency_decay=decay)
