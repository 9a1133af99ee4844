"""Sampled softmax: what is drawn, with what probability, and what the correction makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.common.randomness import RandomStream
from tfmi.losses.base import OBJECTIVES
from tfmi.losses.objectives.sampled_softmax import SampledSoftmax, Sampler, draw_distinct_items, draw_probabilities, log_expected_counts

SAMPLERS = ["uniform", "log_uniform"]


class RecordingTable:
    """Wraps an item table and keeps the indices of the last ``embed``."""

    def __init__(self, items: Any) -> None:
        self.items = items
        self.num_rows = items.num_rows
        self.asked = np.zeros(0)

    def embed(self, item_indices: tf.Tensor) -> tf.Tensor:
        self.asked = item_indices.numpy()
        return self.items.embed(item_indices)


def log_sum_exp(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    largest = values.max(axis=axis, keepdims=True)
    return np.log(np.exp(values - largest).sum(axis=axis)) + np.squeeze(largest, axis=axis)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_follow_the_stated_distribution(sampler: Sampler) -> None:
    num_items, rounds = 7, 10_000
    stream = RandomStream(3, "test")
    # One draw at a time: then the distinct items of a draw are the draw itself.
    draw = tf.function(
        lambda: tf.map_fn(lambda _: draw_distinct_items(stream, 1, num_items, sampler)[0], tf.range(rounds)), autograph=False
    )
    drawn = draw().numpy()
    assert drawn.min() >= 2
    shares = np.bincount(drawn, minlength=num_items + 2)[2:] / rounds
    expected = draw_probabilities(tf.range(2, num_items + 2), num_items, sampler).numpy()
    assert expected.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(shares, expected, atol=4 * np.sqrt(0.25 / rounds))
    if sampler == "log_uniform":
        np.testing.assert_allclose(expected, np.log((np.arange(7) + 2) / (np.arange(7) + 1)) / np.log(8))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_expected_counts_are_how_often_an_item_is_among_the_distinct_draws(sampler: Sampler) -> None:
    num_items, num_draws, rounds = 12, 10, 6000
    stream = RandomStream(5, "test")

    def inclusion(_: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.one_hot(draw_distinct_items(stream, num_draws, num_items, sampler) - 2, num_items), axis=0)

    included = tf.function(lambda: tf.map_fn(inclusion, tf.range(rounds), fn_output_signature=tf.float32), autograph=False)().numpy()
    assert included.max() == 1.0
    expected = np.exp(log_expected_counts(tf.range(2, num_items + 2), num_draws, num_items, sampler).numpy())
    np.testing.assert_allclose(included.mean(axis=0), expected, atol=4 * np.sqrt(0.25 / rounds))


def test_log_uniform_reaches_every_item_of_a_huge_catalogue() -> None:
    num_items = 20_000_000
    drawn = draw_distinct_items(RandomStream(1, "test"), 200_000, num_items, "log_uniform").numpy()
    assert drawn.min() >= 2
    assert drawn.max() < num_items + 2
    # float32 uniform numbers would leave gaps: every drawn index above 8 million would be even.
    rare = drawn[drawn > 8_000_000]
    assert len(rare) > 1000
    assert 0.4 < np.mean(rare % 2) < 0.6


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8)])
def test_loss_equals_its_formula(
    sampler: Sampler, shape: tuple[int, ...], item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items: Any = RecordingTable(item_table(40))
    queries, targets = random_queries(*shape), np.array([2, 3, 17, 41, 2], np.int32)
    losses = SampledSoftmax(num_sampled=15, sampler=sampler, seed=4).losses(queries, tf.constant(targets), items, training=True).numpy()

    sampled = items.asked[5:]
    np.testing.assert_array_equal(items.asked[:5], targets)
    assert len(set(sampled)) == len(sampled) <= 15
    assert sampled.min() >= 2
    table = items.items.table.numpy().astype(np.float64)
    stacked = queries.numpy().reshape(5, -1, 8)
    scores = np.einsum("bkd,cd->bkc", stacked, table[2:]).max(axis=1)
    counts = 1 - (1 - draw_probabilities(tf.range(2, 42), 40, sampler).numpy()) ** 15
    corrected = scores - np.log(counts)
    for row, target in enumerate(targets):
        candidates = [target, *(item for item in sampled if item != target)]
        chosen = corrected[row, np.array(candidates) - 2]
        assert losses[row] == pytest.approx(log_sum_exp(chosen) - chosen[0], abs=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("shape", [(6, 8), (6, 3, 8)])
def test_a_catalogue_that_fits_into_the_sample_gets_the_full_softmax_and_its_gradient(
    sampler: Sampler,
    shape: tuple[int, ...],
    item_table: Callable[..., Any],
    random_queries: Callable[..., tf.Variable],
    reference_losses: Callable[..., np.ndarray],
) -> None:
    items, queries = item_table(30), random_queries(*shape)
    targets = tf.constant([2, 3, 4, 31, 20, 2])
    gradients, losses = {}, {}
    for name, parameters in [("sampled_softmax", {"num_sampled": 30, "sampler": sampler}), ("full_softmax", {})]:
        with tf.GradientTape() as tape:
            losses[name] = OBJECTIVES.build({"name": name, **parameters}, "objective").losses(queries, targets, items, training=True)
        gradients[name] = tape.gradient(losses[name], [queries, items.table])
    np.testing.assert_allclose(
        losses["sampled_softmax"], reference_losses(queries.numpy(), targets.numpy(), items.table.numpy()), atol=1e-4
    )
    np.testing.assert_allclose(gradients["sampled_softmax"][0], gradients["full_softmax"][0], atol=1e-4)
    sampled, full = (tf.convert_to_tensor(gradients[name][1]) for name in ("sampled_softmax", "full_softmax"))
    np.testing.assert_allclose(sampled, full, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("correct_frequency", "unbiased"), [(True, True), (False, False)])
def test_frequency_correction_removes_the_samplers_bias(
    correct_frequency: bool, unbiased: bool, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    """The sampled sum of exp(s_j) / Q(j) has the full sum over the other items as its mean; the uncorrected one does not."""
    items, query, target = item_table(50, seed=2), random_queries(1, 8) * 0.5, 30
    objective = SampledSoftmax(num_sampled=20, sampler="log_uniform", correct_frequency=correct_frequency, seed=1)

    def negatives_sum(_: tf.Tensor) -> tf.Tensor:
        # From loss = log(1 + N / P): N = P (exp(loss) - 1), P the target's own term.
        return tf.math.expm1(objective.losses(query, tf.constant([target]), items, training=True))[0]

    mean = tf.function(
        lambda: tf.reduce_mean(tf.map_fn(negatives_sum, tf.range(8000), fn_output_signature=tf.float32)), autograph=False
    )().numpy()
    scores = (items.table.numpy()[2:] @ query.numpy()[0]).astype(np.float64)
    log_count = log_expected_counts(tf.constant([target]), 20, 50, "log_uniform").numpy()[0] if correct_frequency else 0.0
    estimate = mean * np.exp(scores[target - 2] - log_count)
    truth = np.exp(np.delete(scores, target - 2)).sum()
    assert (abs(estimate / truth - 1) < 0.03) == unbiased


@pytest.mark.parametrize("remove", [True, False])
def test_accidental_hits(remove: bool, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, queries, targets = item_table(4), random_queries(4, 8), tf.constant([2, 3, 4, 5])
    objective = SampledSoftmax(num_sampled=500, remove_accidental_hits=remove)  # all four items are drawn
    losses = objective.losses(queries, targets, items, training=True).numpy()
    scores = queries.numpy() @ items.table.numpy()[2:].T
    own = np.diag(scores)
    with_hit = np.log(np.exp(own) + np.exp(scores).sum(axis=1)) - own
    without_hit = np.log(np.exp(scores).sum(axis=1)) - own
    np.testing.assert_allclose(losses, without_hit if remove else with_hit, rtol=1e-4)


def test_nothing_but_hits_costs_nothing(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    items, queries = item_table(1), random_queries(3, 8)
    with tf.GradientTape() as tape:
        losses = SampledSoftmax().losses(queries, tf.constant([2, 2, 2]), items, training=True)
    np.testing.assert_allclose(losses, 0.0, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(losses, queries), 0.0, atol=1e-6)


def test_table_gradient_is_sparse_and_spares_padding_and_unknown(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(1000), random_queries(4, 8)
    objective = SampledSoftmax(num_sampled=50)

    @tf.function(autograph=False)
    def gradient() -> tf.IndexedSlices:
        with tf.GradientTape() as tape:
            losses = objective.losses(queries, tf.constant([2, 3, 4, 5]), items, training=True)
        return tape.gradient(losses, items.table)

    slices = gradient()
    assert isinstance(slices, tf.IndexedSlices)
    assert slices.indices.shape[0] <= 54
    assert slices.indices.numpy().min() >= 2
    assert np.all(np.isfinite(slices.values))


def test_equal_seeds_draw_equally_and_a_checkpoint_continues_the_stream(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable], tmp_path: Path
) -> None:
    items, queries, targets = item_table(500), random_queries(3, 8), tf.constant([2, 3, 4])
    first, second, other = (SampledSoftmax(num_sampled=20, seed=seed) for seed in (7, 7, 8))

    def run(objective: SampledSoftmax, times: int) -> list[np.ndarray]:
        return [objective.losses(queries, targets, items, training=True).numpy() for _ in range(times)]

    losses = run(first, 4)
    np.testing.assert_array_equal(losses[:2], run(second, 2))
    assert not np.array_equal(losses[0], losses[1])
    assert not np.array_equal(losses[0], run(other, 1)[0])
    path = tf.train.Checkpoint(objective=second).save(str(tmp_path / "checkpoint"))
    restored = SampledSoftmax(num_sampled=20, seed=99)
    tf.train.Checkpoint(objective=restored).restore(path).assert_consumed()
    np.testing.assert_array_equal(losses[2:], run(restored, 2))


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_low_precision_vectors_meet_a_float32_softmax(
    dtype: tf.DType, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable], reference_losses: Callable[..., np.ndarray]
) -> None:
    items, queries, targets = item_table(30), random_queries(4, 3, 8), tf.constant([2, 3, 4, 31])
    losses = SampledSoftmax(num_sampled=3000, dtype=tf.keras.mixed_precision.Policy(f"mixed_{dtype.name}")).losses(
        tf.cast(queries, dtype), targets, items, training=True
    )
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, reference_losses(queries.numpy(), targets.numpy(), items.table.numpy()), atol=0.1)


def test_configuration_round_trip() -> None:
    objective = SampledSoftmax(num_sampled=7, sampler="log_uniform", correct_frequency=False, remove_accidental_hits=False, seed=3)
    copy = SampledSoftmax.from_config(objective.get_config())
    assert copy.get_config() == objective.get_config()
    assert (copy.num_sampled, copy.sampler, copy.correct_frequency, copy.remove_accidental_hits, copy.seed) == (
        7,
        "log_uniform",
        False,
        False,
        3,
    )


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="num_sampled must be at least 1"):
        SampledSoftmax(num_sampled=0)
