"""Re-contrast against its golden value, an independent implementation and its published properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.losses.batch_contexts import ITEM_COUNTS, make_context, random_context, with_vectors
from tfmi.losses.base import BatchContext
from tfmi.losses.regularizers.re_contrast import ReContrast

GOLDEN_INTERESTS = np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
GOLDEN_ITEMS = np.array([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, 0.0]]])
# User 0: item 0 is interest 0's, and interest 1 attends to both items alike. User 1 has one item, hence no members.
GOLDEN_WEIGHTS = np.array([[[0.9, 0.1], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]]])


def golden(interests: np.ndarray = GOLDEN_INTERESTS, items: np.ndarray = GOLDEN_ITEMS, **options: Any) -> float:
    context = make_context(interests, items, GOLDEN_WEIGHTS, counts=[2, 1])
    return float(ReContrast(1.0, temperature=0.5, **options)(context))


def direction(degrees: float) -> list[float]:
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


def reference(
    context: BatchContext, temperature: float, threshold: float | None, include_all_positives: bool, reduction: str
) -> tuple[float, int]:
    """The equations for one positive at a time in float64; also the number of positives."""
    z, x = (np.asarray(vectors, np.float64) for vectors in (context.output.interests, context.history))
    weights, indices = context.output.weights.numpy().astype(np.float64), context.history_indices.numpy()
    active, counts = context.output.active.numpy(), context.mask.numpy().sum(axis=1)

    def similarity(first: np.ndarray, second: np.ndarray) -> float:
        return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second) / temperature)

    losses = []
    for user, count in enumerate(counts):
        for k in np.flatnonzero(active[user]):
            attention = weights[user, k, :count] / max(weights[user, k, :count].sum(), 1e-30)
            positives = np.flatnonzero(attention > (1 / max(count, 1) if threshold is None else threshold) + 1e-6)
            own = set(indices[user, :count])
            inside = range(count) if include_all_positives else sorted(set(range(count)) - set(positives))
            negatives = [x[user, i] for i in inside]
            negatives += [z[user, other] for other in np.flatnonzero(active[user]) if other != k]
            negatives += [x[user - 1, j] for j in range(counts[user - 1]) if indices[user - 1, j] not in own]
            for i in positives:
                candidates = [similarity(z[user, k], y) for y in negatives]
                positive = similarity(z[user, k], x[user, i])
                if not include_all_positives:
                    candidates.append(positive)
                losses.append(np.log(np.exp(candidates).sum()) - positive)
    cells = weights.size if reduction == "cells" else max(len(losses), 1)
    return float(np.sum(losses) / cells), len(losses)


def test_golden_value() -> None:
    assert golden() == pytest.approx(0.253856, abs=2e-6)
    assert golden(reduction="cells") == pytest.approx(0.253856 / 8, abs=1e-6)


@pytest.mark.parametrize("include_all_positives", [False, True])
@pytest.mark.parametrize("reduction", ["items", "cells"])
@pytest.mark.parametrize("threshold", [None, 0.1])
def test_equals_the_equations_written_out(include_all_positives: bool, reduction: str, threshold: float | None) -> None:
    active = np.ones([len(ITEM_COUNTS), 3], bool)
    active[0, 2] = active[2, 1:] = False
    context = random_context(active=active)
    options: dict[str, Any] = {"include_all_positives": include_all_positives, "reduction": reduction, "threshold": threshold}
    expected, positives = reference(context, temperature=0.2, **options)
    assert positives >= 6
    regularizer = ReContrast(0.3, temperature=0.2, **options)
    assert float(tf.function(regularizer, autograph=False)(context)) == pytest.approx(0.3 * expected, rel=1e-5)


def test_other_positives_are_negatives_only_on_request() -> None:
    context = random_context()
    assert float(ReContrast(include_all_positives=True, threshold=0.1)(context)) > float(ReContrast(threshold=0.1)(context))


def test_falls_when_another_interest_turns_away() -> None:
    losses = []
    for angle in (20.0, 60.0, 90.0, 150.0):
        interests = GOLDEN_INTERESTS.copy()
        interests[0, 1] = direction(angle)
        losses.append(golden(interests))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] + 0.1


def test_falls_when_the_positive_turns_towards_the_interest() -> None:
    losses = []
    for angle in (80.0, 40.0, 10.0, 0.0):
        items = GOLDEN_ITEMS.copy()
        items[0, 0] = direction(-angle)
        losses.append(golden(items=items))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] + 0.1


def test_lengths_of_vectors_do_not_matter() -> None:
    assert golden(3.0 * GOLDEN_INTERESTS, 0.2 * GOLDEN_ITEMS) == pytest.approx(golden(), rel=1e-6)


def test_another_users_history_matters_as_negatives_only_and_its_interests_never() -> None:
    items = GOLDEN_ITEMS.copy()
    items[1, 0] = [1.0, 0.0]  # the outside item is now what interest 0 looks for
    assert golden(items=items) == pytest.approx(-2 + np.log(2 * np.exp(2) + 2), abs=1e-5)
    interests = GOLDEN_INTERESTS.copy()
    interests[1] = direction(45.0)
    assert golden(interests) == pytest.approx(golden(), rel=1e-6)


def test_one_user_has_no_negatives_from_outside() -> None:
    context = make_context(GOLDEN_INTERESTS[:1], GOLDEN_ITEMS[:1], GOLDEN_WEIGHTS[:1])
    alone = float(ReContrast(1.0, temperature=0.5)(context))
    assert alone == pytest.approx(-2 + np.log(np.exp(2) + 2), abs=1e-5)


def test_items_that_both_users_have_are_no_negatives() -> None:
    shared = make_context(GOLDEN_INTERESTS, GOLDEN_ITEMS, GOLDEN_WEIGHTS, counts=[2, 1], indices=np.array([[5, 6], [5, 0]]))
    assert float(ReContrast(1.0, temperature=0.5)(shared)) == pytest.approx(-2 + np.log(np.exp(2) + 2), abs=1e-5)


def test_no_members_give_zero_loss_and_zero_gradients() -> None:
    uniform = np.where(np.arange(5) < np.array(ITEM_COUNTS)[:, None, None], 1 / np.maximum(ITEM_COUNTS, 1)[:, None, None], 0.0)
    context = random_context(weights=np.repeat(uniform, 3, axis=1))
    with tf.GradientTape() as tape:
        vectors = (context.output.interests, context.history)
        tape.watch(vectors)
        loss = ReContrast()(with_vectors(context, *vectors))
    assert float(loss) == 0.0
    for gradient in tape.gradient(loss, vectors):
        np.testing.assert_array_equal(gradient, tf.zeros_like(gradient))


def test_gradients_reach_interests_and_items_but_neither_padding_nor_inactive_interests() -> None:
    active = np.ones([len(ITEM_COUNTS), 3], bool)
    active[:, 2] = False
    context = random_context(active=active)
    interests = tf.where(context.output.active[..., None], context.output.interests, 0.0)  # zeros have no direction
    with tf.GradientTape() as tape:
        vectors = (interests, context.history)
        tape.watch(vectors)
        loss = ReContrast()(with_vectors(context, *vectors))
    by_interest, by_item = (gradient.numpy() for gradient in tape.gradient(loss, vectors))
    assert np.isfinite(by_interest).all()
    assert np.isfinite(by_item).all()
    assert (np.abs(by_interest[:3, :2]).max(axis=2) > 0).all()
    assert (by_interest[:, 2] == 0).all()
    assert (by_item[~context.mask.numpy()] == 0).all()
    assert (np.abs(by_item[:3][context.mask.numpy()[:3]]).max(axis=1) > 0).all()


def test_padding_changes_nothing() -> None:
    expected = float(ReContrast()(random_context()))
    assert float(ReContrast()(random_context(length=9))) == pytest.approx(expected, rel=1e-6)
    assert float(ReContrast()(random_context(garbage=7.0))) == pytest.approx(expected, rel=1e-6)


def test_empty_histories_are_finite() -> None:
    context = random_context()
    empty = context._replace(mask=tf.zeros_like(context.mask), history_indices=tf.zeros_like(context.history_indices))
    assert float(ReContrast()(empty)) == 0.0


def test_half_precision_vectors_are_compared_in_float32() -> None:
    context = random_context()
    half = with_vectors(context, tf.cast(context.output.interests, tf.float16), tf.cast(context.history, tf.float16))
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        loss = ReContrast()(half)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(float(ReContrast()(context)), rel=0.02)


def test_warm_up_raises_the_weight_step_by_step_and_survives_a_checkpoint(tmp_path: Path) -> None:
    context = random_context()
    whole = float(ReContrast(0.2)(context))
    regularizer = ReContrast(0.2, warmup_steps=4)
    step = tf.function(lambda: regularizer(context, training=True), autograph=False)
    assert [float(step()) / whole for _ in range(2)] == pytest.approx([0.25, 0.5])
    assert float(regularizer(context, training=False)) / whole == pytest.approx(0.5)  # does not count
    path = tf.train.Checkpoint(regularizer=regularizer).save(str(tmp_path / "checkpoint"))
    fresh = ReContrast(0.2, warmup_steps=4)
    fresh(context)
    tf.train.Checkpoint(regularizer=fresh).restore(path).assert_consumed()
    assert [float(fresh(context, training=True)) / whole for _ in range(3)] == pytest.approx([0.75, 1.0, 1.0])
    assert fresh.trainable_variables == []


def test_configuration_survives_a_round_trip() -> None:
    regularizer = ReContrast(0.2, temperature=0.1, threshold=0.3, include_all_positives=True, reduction="cells", warmup_steps=3)
    copy = ReContrast.from_config(regularizer.get_config())
    assert copy.get_config() == regularizer.get_config()
    assert (copy.weight, copy.threshold, copy.reduction) == (0.2, 0.3, "cells")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "weight: expected a number of at least 0, got -1.0"),
        ({"temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
        ({"temperature": float("nan")}, "temperature: .* above 0"),
        ({"threshold": -0.1}, "threshold: .* at least 0"),
        ({"reduction": "sum"}, "reduction: expected one of 'items', 'cells', got 'sum'"),
        ({"warmup_steps": -1}, "warmup_steps: .* at least 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReContrast(**arguments)
