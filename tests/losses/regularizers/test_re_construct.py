"""Re-construct against an independent implementation and its published properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.losses.batch_contexts import INTERESTS, ITEM_COUNTS, LENGTH, WIDTH, random_context, with_vectors
from tfmi.losses.base import BatchContext
from tfmi.losses.regularizers.interest_items import interest_items
from tfmi.losses.regularizers.re_construct import ReConstruct


def built(context: BatchContext | None = None, **arguments: Any) -> ReConstruct:
    """With weights of size 1 and a bias, so that nothing is small by chance."""
    tf.keras.utils.set_random_seed(2)
    regularizer = ReConstruct(arguments.pop("weight", 1.0), initializer_deviation=0.5, **arguments)
    regularizer(context or random_context())
    regularizer.upsample_bias.assign(tf.random.normal(regularizer.upsample_bias.shape))
    return regularizer


def told(regularizer: ReConstruct, interest: np.ndarray, count: int) -> np.ndarray:
    """The equations for one interest of a user with ``count`` items, in float64: [count, d], newest item first."""
    weights = {weight.name.split("/")[-1].split(":")[0]: weight.numpy().astype(np.float64) for weight in regularizer.weights}
    slots = (interest.astype(np.float64) @ weights["upsample_kernel"] + weights["upsample_bias"]).reshape(-1, WIDTH)
    answer = np.zeros([count, WIDTH])
    for j in range(count):
        scores = [weights["slot_queries"][j] @ np.tanh(slots[i] @ weights["hidden_kernel"]) for i in range(count)]
        shares = np.exp(scores) / np.exp(scores).sum()
        answer[j] = sum(share * slot @ weights["value_kernel"] for share, slot in zip(shares, slots, strict=False))
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["items", "cells"])
@pytest.mark.parametrize("threshold", [None, 0.1])
def test_equals_the_equations_written_out(reduction: str, threshold: float | None) -> None:
    active = np.ones([len(ITEM_COUNTS), INTERESTS], bool)
    active[0, 2] = active[2, 1:] = False
    context = random_context(active=active)
    regularizer = built(weight=0.3, reduction=reduction, threshold=threshold)
    members = interest_items(context, threshold).numpy()
    errors = []
    for user, k, place in np.argwhere(members):
        count = ITEM_COUNTS[user]
        answer = told(regularizer, context.output.interests.numpy()[user, k], count)[count - 1 - place]
        errors.append(((answer - context.history.numpy()[user, place]) ** 2).sum())
    assert len(errors) >= 6
    expected = np.mean(errors) if reduction == "items" else np.sum(errors) / (members.size * WIDTH)
    assert float(tf.function(regularizer, autograph=False)(context)) == pytest.approx(0.3 * expected, rel=1e-5)


def test_items_that_no_interest_stands_for_change_nothing() -> None:
    context = random_context()
    regularizer = built()
    outside = context.mask.numpy() & ~interest_items(context, None).numpy().any(axis=1)
    assert outside.any()
    expected = float(regularizer(context))
    changed = np.where(outside[..., None], 9.0, context.history.numpy())
    assert float(regularizer(context._replace(history=tf.constant(changed)))) == pytest.approx(expected, rel=1e-6)
    inside = context.mask.numpy() & ~outside
    changed = np.where(inside[..., None], 9.0, context.history.numpy())
    assert float(regularizer(context._replace(history=tf.constant(changed)))) != pytest.approx(expected, rel=0.1)


def test_is_zero_when_every_item_is_told_exactly() -> None:
    weights = np.zeros([len(ITEM_COUNTS), INTERESTS, LENGTH])
    weights[:, 0, :2] = [0.7, 0.3]
    weights[:, 1:] = np.where(np.arange(LENGTH) < np.array(ITEM_COUNTS)[:, None], 1.0, 0.0)[:, None, :]  # alike: no members
    context = random_context(weights=weights)
    regularizer = built()
    history = np.zeros_like(context.history)
    for user, count in enumerate(ITEM_COUNTS):
        history[user, :count] = told(regularizer, context.output.interests.numpy()[user, 0], count)[::-1]
    assert float(regularizer(context)) > 0.1
    assert float(regularizer(context._replace(history=tf.constant(history)))) == pytest.approx(0.0, abs=1e-9)


def test_no_members_give_zero_loss_and_zero_gradients() -> None:
    context = random_context()
    single = context._replace(mask=context.mask & (tf.range(LENGTH) < 1))
    regularizer = built()
    with tf.GradientTape() as tape:
        sources = [context.output.interests, *regularizer.trainable_variables]
        tape.watch(context.output.interests)
        loss = regularizer(single)
    assert float(loss) == 0.0
    for gradient in tape.gradient(loss, sources):
        np.testing.assert_array_equal(gradient, tf.zeros_like(gradient))


@pytest.mark.parametrize("stop_gradient_target", [True, False])
def test_item_vectors_get_a_gradient_only_on_request(stop_gradient_target: bool) -> None:
    context = random_context()
    regularizer = built(stop_gradient_target=stop_gradient_target)
    with tf.GradientTape() as tape:
        vectors = (context.output.interests, context.history)
        tape.watch(vectors)
        loss = regularizer(with_vectors(context, *vectors))
    sources = [*vectors, *regularizer.trainable_variables]
    by_interest, by_item, *by_weight = tape.gradient(loss, sources, unconnected_gradients="zero")
    assert np.abs(by_interest[:3]).max(axis=2).min() > 0
    members = interest_items(context, None).numpy().any(axis=1)
    np.testing.assert_array_equal(np.abs(by_item).max(axis=2) > 0, members & (not stop_gradient_target))
    assert all(np.abs(tf.convert_to_tensor(gradient)).max() > 0 for gradient in by_weight)


def test_padding_changes_nothing() -> None:
    regularizer = built(random_context(length=9))
    expected = float(regularizer(random_context(length=9)))
    assert float(regularizer(random_context())) == pytest.approx(expected, rel=1e-6)
    assert float(regularizer(random_context(garbage=7.0))) == pytest.approx(expected, rel=1e-6)


def test_a_longer_history_than_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than the 5 positions"):
        built()(random_context(length=6))


def test_empty_histories_are_finite() -> None:
    context = random_context()
    assert float(built()(context._replace(mask=tf.zeros_like(context.mask)))) == 0.0


def test_half_precision_vectors_are_compared_in_float32() -> None:
    context = random_context()
    half = with_vectors(context, tf.cast(context.output.interests, tf.float16), tf.cast(context.history, tf.float16))
    expected = float(built()(context))
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        loss = built(half)(half)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(expected, rel=0.01)


def test_weights_start_as_asked_and_survive_a_checkpoint(tmp_path: Path) -> None:
    context = random_context()
    regularizer, parity, other = ReConstruct(1.0), ReConstruct(1.0, initializer_deviation=1.0), ReConstruct(1.0)
    for each in (regularizer, parity, other):
        each(context)
    assert np.abs(regularizer.upsample_kernel).max() <= np.sqrt(6 / (WIDTH + LENGTH * WIDTH))
    assert np.std(parity.upsample_kernel) == pytest.approx(1.0, abs=0.2)
    assert float(other(context)) != float(regularizer(context))
    path = tf.train.Checkpoint(regularizer=regularizer).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(regularizer=other).restore(path).assert_consumed()
    assert float(other(context)) == float(regularizer(context))


def test_configuration_survives_a_round_trip() -> None:
    regularizer = ReConstruct(0.2, threshold=0.3, stop_gradient_target=False, reduction="cells", initializer_deviation=1.0)
    assert ReConstruct.from_config(regularizer.get_config()).get_config() == regularizer.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "weight: expected a number of at least 0, got -1.0"),
        ({"threshold": -0.1}, "threshold: .* at least 0"),
        ({"reduction": "sum"}, "reduction: expected one of 'items', 'cells', got 'sum'"),
        ({"initializer_deviation": -1.0}, "initializer_deviation: .* at least 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReConstruct(**arguments)
