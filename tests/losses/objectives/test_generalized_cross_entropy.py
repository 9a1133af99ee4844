"""gBCE: the equation, its limits, and what is a negative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.losses.base import OBJECTIVES, require_softmax
from tfmi.losses.objectives.generalized_cross_entropy import GeneralizedBinaryCrossEntropy

NUM_ITEMS = 12
TARGETS = np.array([2, 7, 13])


def log_sigmoid(values: np.ndarray) -> np.ndarray:
    return -np.log1p(np.exp(-values))


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("shape", [(3, 8), (3, 4, 8)])
def test_with_every_item_drawn_it_is_the_equation(
    shape: tuple[int, ...], calibration: float, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    """1,000 draws hold all 12 items: 11 negatives for each target, a sampling rate of 1 and therefore b = 1."""
    items, queries = item_table(NUM_ITEMS), random_queries(*shape)
    loss = GeneralizedBinaryCrossEntropy(1000, calibration).losses(queries, tf.constant(TARGETS, tf.int32), items)
    scores = np.einsum("bkd,cd->bkc", np.float64(queries.numpy()).reshape([3, -1, 8]), items.embed_catalogue()).max(axis=1)
    is_target = np.arange(2, NUM_ITEMS + 2) == TARGETS[:, None]
    terms = np.where(is_target, log_sigmoid(scores), log_sigmoid(-scores))
    np.testing.assert_allclose(loss, -terms.sum(axis=1) / (NUM_ITEMS + 1), rtol=1e-5)


@pytest.mark.parametrize(("calibration", "power"), [(0.0, 1.0), (1.0, 3 / 40), (0.75, 0.75 * (3 / 40 - 1) + 1)])
def test_few_negatives_raise_the_targets_probability_to_a_power(
    calibration: float, power: float, monkeypatch: pytest.MonkeyPatch, item_table: Callable[..., Any]
) -> None:
    monkeypatch.setattr("tfmi.losses.objectives.generalized_cross_entropy.draw_distinct_items", lambda *_: tf.constant([4, 9, 30]))
    items, queries = item_table(41), tf.constant(np.random.default_rng(2).normal(size=[1, 8]), tf.float32)
    loss = GeneralizedBinaryCrossEntropy(3, calibration).losses(queries, tf.constant([20]), items)
    target, *negatives = np.float64(items.table.numpy()[[20, 4, 9, 30]]) @ queries.numpy()[0]
    expected = -(power * log_sigmoid(target) + log_sigmoid(-np.array(negatives)).sum()) / 4
    np.testing.assert_allclose(loss[0], expected, rtol=1e-5)


def test_left_out_items_are_no_negatives_and_gradients_are_finite(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(NUM_ITEMS), random_queries(3, 8)
    objective = GeneralizedBinaryCrossEntropy(1000)
    left_out = tf.constant([[4, 5, 0], [4, 6, 0], [0, 0, 0]])
    with tf.GradientTape() as tape:
        contrast = objective.contrast(queries, tf.constant(TARGETS, tf.int32), items, left_out)
    by_query, by_table = tape.gradient(contrast.own_loss, [queries, items.table])
    assert np.isfinite(by_query).all()
    assert np.isfinite(by_table.values).all()
    difference = objective.losses(queries, tf.constant(TARGETS, tf.int32), items) - contrast.own_loss
    assert (difference > 1e-4).numpy().tolist() == [True, True, False]


def test_a_catalogue_of_one_item_has_no_negatives(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    assert np.isfinite(GeneralizedBinaryCrossEntropy().losses(random_queries(2, 8), tf.constant([2, 2]), item_table(1))).all()


@pytest.mark.parametrize(("arguments", "message"), [({"num_negatives": 0}, "num_negatives"), ({"calibration": 1.5}, "from 0 to 1")])
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneralizedBinaryCrossEntropy(**arguments)


def test_what_rearranges_a_softmax_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a repetition works on a softmax, but Generalized.* judges every item by itself"):
        require_softmax(OBJECTIVES.build({"name": "gbce"}, "objective"), "a repetition")
