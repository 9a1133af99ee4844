"""DHCN's second view, session by session, and the loss that compares it with the first."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.losses.batch_contexts import make_context, random_context
from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS
from tfmi.losses.base import REGULARIZERS, BatchContext
from tfmi.losses.regularizers.line_graph_contrast import LineGraphContrast, line_graph_view, overlaps

HISTORIES = np.array([[2, 3, 2, 4], [3, 5, 0, 0], [0, 0, 0, 0], [6, 6, 0, 0], [4, 3, 2, 0]])


def context(scale: float = 1.0, **changes: np.ndarray) -> BatchContext:
    random = np.random.default_rng(4)
    vectors, sessions = random.normal(size=[5, 4, 3]), random.normal(size=[5, 1, 3])
    counts = (HISTORIES > 0).sum(axis=1).tolist()
    return make_context(
        **{"interests": sessions * scale, "history": vectors, "weights": np.ones([5, 1, 4]), "indices": HISTORIES, **changes}, counts=counts
    )


def jaccard() -> np.ndarray:
    sets = [set(row) - {0} for row in HISTORIES.tolist()]
    return np.array([[1.0 if a is b else len(a & b) / max(len(a | b), 1) for b in sets] for a in sets])


def test_overlaps_are_jaccard_similarities_of_sets() -> None:
    np.testing.assert_allclose(overlaps(tf.constant(HISTORIES), tf.constant(HISTORIES > 0)), jaccard(), rtol=1e-6)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_view_averages_steps_from_session_means(layers: int) -> None:
    batch = context()
    means = np.stack(
        [row[: max(n, 1)].mean(axis=0) * (n > 0) for row, n in zip(batch.history.numpy(), (HISTORIES > 0).sum(1), strict=True)]
    )
    steps = jaccard() / jaccard().sum(axis=1, keepdims=True)
    expected = sum(np.linalg.matrix_power(steps, power) @ means for power in range(layers + 1)) / (layers + 1)
    view = line_graph_view(batch.history, batch.history_indices, batch.mask, layers)
    np.testing.assert_allclose(view, expected, rtol=1e-5, atol=1e-6)


def test_the_loss_outside_of_training_by_its_formula() -> None:
    batch = context()
    a = batch.interests.numpy()[:, 0]
    b = line_graph_view(batch.history, batch.history_indices, batch.mask, 2).numpy()
    confused = np.roll(np.roll(a, 1, axis=0), 1, axis=1)
    sigmoid = [1 / (1 + np.exp(-(first * b).sum(axis=1))) for first in (a, confused)]
    expected = 0.5 * (-np.log(sigmoid[0]) - np.log(1 - sigmoid[1])).sum()
    np.testing.assert_allclose(LineGraphContrast(0.5, layers=2)(batch), expected, rtol=1e-5)


def test_shuffling_keeps_the_numbers_and_is_drawn_again() -> None:
    layer, sessions = LineGraphContrast(), tf.random.normal([6, 5])
    first, second = (layer._shuffled(sessions, training=True).numpy() for _ in range(2))
    np.testing.assert_allclose(np.sort(first.ravel()), np.sort(sessions.numpy().ravel()))
    assert (first != second).any()
    np.testing.assert_array_equal(LineGraphContrast()._shuffled(sessions, training=True), first)


def test_large_scores_stay_finite() -> None:
    assert np.isfinite(LineGraphContrast()(context(scale=1e4), training=True))


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_the_second_view_learns_only_if_asked_to(stop_gradient: bool) -> None:
    batch = context()
    with tf.GradientTape() as tape:
        tape.watch([batch.history, batch.interests])
        loss = LineGraphContrast(stop_gradient=stop_gradient)(batch, training=True)
    by_items, by_sessions = tape.gradient(loss, [batch.history, batch.interests])
    assert (by_items is None) == stop_gradient
    assert (by_sessions.numpy() != 0).any()
    if by_items is not None:
        assert (by_items.numpy()[HISTORIES == 0] == 0).all()


def test_what_items_were_before_propagation_is_what_counts() -> None:
    plain, doubled = context(), context()
    propagated = doubled._replace(history=2 * doubled.history, unpropagated=doubled.history)
    np.testing.assert_allclose(LineGraphContrast()(propagated), LineGraphContrast()(plain), rtol=1e-6)


def test_padding_changes_nothing() -> None:
    short, long = random_context(), random_context(length=9, garbage=3.0)
    np.testing.assert_allclose(LineGraphContrast()(long), LineGraphContrast()(short), rtol=1e-5)


def test_several_interests_are_refused() -> None:
    with pytest.raises(ValueError, match="only interest"):
        LineGraphContrast().check(EXTRACTORS.build({"name": "self_attentive", "num_interests": 3}, "extractor"))
    with pytest.raises(ConfigError, match="weight: expected"):
        REGULARIZERS.build({"name": "line_graph_contrast", "weight": -1.0}, "model.regularizers.views")
