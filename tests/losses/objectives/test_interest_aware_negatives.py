"""REMI's hard negatives against the published formula, its golden values and its limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.losses.base import OBJECTIVES
from tfmi.losses.objectives.interest_aware_negatives import InterestAwareNegatives, interest_aware_log_negatives, log_hard_mean
from tfmi.losses.objectives.sampled_softmax import SampledSoftmax, Sampler, draw_distinct_items, log_expected_counts

POSITIVE, NEGATIVES = 2.0, [1.0, 0.0, -1.0]
GOLDEN_LOSSES = [(0.0, 0.440190), (0.1, 0.460586), (1.0, 0.613559), (10.0, 0.743653)]
GOLDEN_WEIGHTS = [(0.0, [1.0, 1.0, 1.0]), (0.1, [1.101496, 0.996675, 0.901829]), (1.0, [1.995723, 0.734185, 0.270092])]


def interest_aware_losses(positive: tf.Tensor, negative: tf.Tensor, num_negatives: tf.Tensor, **options: Any) -> tf.Tensor:
    """Cross-entropy against the interest-aware negatives."""
    return tf.nn.softplus(interest_aware_log_negatives(positive, negative, num_negatives, **options) - positive)


def loss_of(positive: float, negatives: list[float], beta: float, **options: Any) -> float:
    """The loss of one example; -inf leaves a negative out."""
    count = sum(not math.isinf(negative) for negative in negatives)
    losses = interest_aware_losses(tf.constant([positive]), tf.constant([negatives]), tf.constant([float(count)]), beta=beta, **options)
    return float(losses[0])


def weights_of(negatives: list[float], beta: float, log_prior: list[float] | None = None) -> np.ndarray:
    """The weights w_j, which sum to N_s: with constant weights, d log Ng / d s_j is w_j exp(s_j) / Ng."""
    logits = tf.constant([negatives])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        prior = None if log_prior is None else tf.constant(log_prior)
        log_mean = log_hard_mean(logits, beta, prior, stop_gradient_weights=True)
    shares = tape.gradient(log_mean, logits).numpy()[0]
    return shares * len(negatives) * np.exp(np.where(np.isinf(negatives), 0.0, log_mean.numpy()[0] - np.array(negatives)))


def reference_losses(
    queries: np.ndarray,
    targets: np.ndarray,
    table: np.ndarray,
    sampled: np.ndarray,
    *,
    beta: float,
    counts: np.ndarray | None = None,
    tau_plus: float = 0.0,
) -> np.ndarray:
    """The formula in float64, one example at a time; ``counts`` [D] are the expected counts of ``sampled``, by default equal."""
    counts = np.ones(len(sampled)) if counts is None else counts
    losses = []
    for query, target in zip(queries.astype(np.float64), targets, strict=True):
        scores = (np.atleast_2d(query) @ table.astype(np.float64).T).max(axis=0)
        kept = sampled != target
        negatives = scores[sampled[kept]]
        weights = np.exp(beta * negatives) / counts[kept]
        hard = len(negatives) * (weights / weights.sum() * np.exp(negatives)).sum()
        hard = max((hard - tau_plus * len(negatives) * np.exp(scores[target])) / (1 - tau_plus), len(negatives) * np.exp(-16.0))
        losses.append(np.log(1 + hard / np.exp(scores[target])))
    return np.array(losses)


@pytest.mark.parametrize(("beta", "expected"), GOLDEN_LOSSES)
def test_published_losses(beta: float, expected: float) -> None:
    assert loss_of(POSITIVE, NEGATIVES, beta) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("beta", "expected"), GOLDEN_WEIGHTS)
def test_published_weights(beta: float, expected: list[float]) -> None:
    np.testing.assert_allclose(weights_of(NEGATIVES, beta), expected, atol=2e-6)


def test_in_the_limit_every_negative_is_as_hard_as_the_hardest() -> None:
    assert loss_of(POSITIVE, NEGATIVES, 1000.0) == pytest.approx(0.743668, abs=2e-6)
    assert loss_of(POSITIVE, NEGATIVES, 1000.0) == pytest.approx(math.log1p(3 * math.exp(1.0 - POSITIVE)), rel=1e-6)
    tied = [1.0, 1.0, -1.0]
    np.testing.assert_allclose(weights_of(tied, 1000.0), [1.5, 1.5, 0.0], atol=1e-6)


def test_without_hardness_it_is_the_cross_entropy_of_the_target_among_its_negatives() -> None:
    scores = tf.constant(np.random.default_rng(0).normal(scale=3.0, size=[6, 9]).astype(np.float32))
    values, gradients = [], []
    for hard in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            if hard:
                losses = interest_aware_losses(scores[:, 0], scores[:, 1:], tf.fill([6], 8.0), beta=0.0)
            else:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.zeros([6], tf.int32), logits=scores)
        values.append(losses)
        gradients.append(tape.gradient(losses, scores))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5)
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-6)


def test_weights_sum_to_the_number_of_negatives_and_grow_with_the_score() -> None:
    negatives = [0.3, -2.0, 1.7, 0.0, 0.9]
    for beta in (0.01, 0.5, 3.0):
        weights = weights_of(negatives, beta)
        assert weights.sum() == pytest.approx(5.0, rel=1e-5)
        assert (np.diff(weights[np.argsort(negatives)]) > 0).all()


def test_the_loss_does_not_fall_as_hardness_grows() -> None:
    losses = [loss_of(0.7, [0.3, -2.0, 1.7, 0.0, 0.9], beta) for beta in (0.0, 0.05, 0.3, 1.0, 4.0, 40.0)]
    assert (np.diff(losses) > 0).all()


@pytest.mark.parametrize("beta", [0.0, 0.1, 10.0])
def test_only_differences_of_logits_count_however_large(beta: float) -> None:
    expected = loss_of(POSITIVE, NEGATIVES, beta)
    for shift in (-500.0, 3.0, 500.0):
        assert loss_of(POSITIVE + shift, [negative + shift for negative in NEGATIVES], beta) == pytest.approx(expected, abs=1e-4)
    assert math.isfinite(loss_of(-300.0, [400.0, -400.0], beta))


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_negatives_are_a_multiset(beta: float) -> None:
    expected = loss_of(POSITIVE, NEGATIVES, beta)
    for order in itertools.permutations(NEGATIVES):
        assert loss_of(POSITIVE, list(order), beta) == pytest.approx(expected, rel=1e-6)
    # Twice the negatives are twice their sum.
    assert math.expm1(loss_of(POSITIVE, NEGATIVES * 2, beta)) == pytest.approx(2 * math.expm1(expected), rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 1e-9, 0.1, 10.0])
def test_a_left_out_negative_has_no_weight_and_is_not_counted(beta: float) -> None:
    out = -math.inf
    assert loss_of(POSITIVE, [1.0, out, 0.0, -1.0, out], beta) == pytest.approx(loss_of(POSITIVE, NEGATIVES, beta), rel=1e-6)
    weights = weights_of([1.0, out, 0.0], beta)
    assert weights[1] == 0.0
    assert (weights[[0, 2]] > 0).all()
    assert loss_of(-5.0, [out, out], beta) == 0.0


@pytest.mark.parametrize("beta", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("stop_gradient_weights", [False, True])
def test_gradient_is_that_of_the_formula(beta: float, stop_gradient_weights: bool) -> None:
    rng = np.random.default_rng(3)
    logits, prior = rng.normal(size=(3, 6)), rng.normal(size=6)
    logits[0, 2] = -np.inf
    logits[2] = -np.inf  # no negatives at all
    upstream = rng.normal(size=3)
    gradients = []
    for dtype, compute in [(tf.float32, log_hard_mean), (tf.float64, None)]:
        inputs = tf.constant(logits, dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            if compute is not None:
                log_mean = compute(inputs, beta, tf.constant(prior, dtype), stop_gradient_weights)
            else:
                finite = tf.where(tf.math.is_inf(inputs), tf.constant(-1e5, dtype), inputs)
                shares = tf.exp(beta * finite + prior) * tf.constant(np.isfinite(logits), dtype)
                weights = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=1, keepdims=True))
                weights = tf.stop_gradient(weights) if stop_gradient_weights else weights
                log_mean = tf.math.log(tf.reduce_sum(weights * tf.exp(finite), axis=1) + 1e-300)
            loss = tf.reduce_sum(log_mean[:2] * upstream[:2])
        gradients.append(tape.gradient(loss, inputs).numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-6)
    assert (gradients[0][2] == 0).all()
    assert gradients[0][0, 2] == 0


class RecordingTable:
    """Wraps an item table and keeps the indices of the last ``embed``."""

    def __init__(self, items: Any) -> None:
        self.items, self.num_rows = items, items.num_rows

    def embed(self, item_indices: tf.Tensor) -> tf.Tensor:
        self.asked = item_indices.numpy()
        return self.items.embed(item_indices)


@pytest.mark.parametrize("sampler", ["uniform", "log_uniform"])
@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8)])
@pytest.mark.parametrize("hardness", [{"beta": 0.0}, {"beta": 0.4}, {"beta": 0.4, "tau_plus": 0.02}])
def test_loss_equals_its_formula(
    sampler: Sampler,
    shape: tuple[int, ...],
    hardness: dict[str, float],
    item_table: Callable[..., Any],
    random_queries: Callable[..., tf.Variable],
) -> None:
    items: Any = RecordingTable(item_table(40))
    queries, targets = random_queries(*shape), np.array([2, 3, 17, 41, 2], np.int32)
    objective = OBJECTIVES.build(
        {"name": "interest_aware_negatives", "num_sampled": 15, "sampler": sampler, "seed": 4, **hardness}, "objective"
    )
    losses = objective.losses(queries, tf.constant(targets), items, training=True)
    sampled = items.asked[5:]
    assert len(set(sampled)) == len(sampled) <= 15
    assert sampled.min() >= 2
    assert set(targets) & set(sampled)  # there are accidental hits
    counts = np.exp(log_expected_counts(tf.constant(sampled), 15, 40, sampler).numpy())
    expected = reference_losses(queries.numpy(), targets, items.items.table.numpy(), sampled, counts=counts, **hardness)
    np.testing.assert_allclose(losses, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 8), (4, 3, 8)])
def test_without_hardness_it_is_the_sampled_softmax(
    shape: tuple[int, ...], item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries, targets = item_table(60), random_queries(*shape), tf.constant([2, 3, 4, 61])
    gradients, losses = [], []
    for objective in (InterestAwareNegatives(0.0, num_sampled=20, seed=7), SampledSoftmax(num_sampled=20, seed=7)):
        with tf.GradientTape() as tape:
            losses.append(objective.losses(queries, targets, items, training=True))
        gradients.append([tf.convert_to_tensor(gradient) for gradient in tape.gradient(losses[-1], [queries, items.table])])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("sampler", ["uniform", "log_uniform"])
def test_a_catalogue_that_fits_into_the_sample_is_used_whole(
    sampler: Sampler, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries, targets = item_table(30), random_queries(5, 8), np.array([2, 3, 31, 20, 2])
    objective = InterestAwareNegatives(0.3, num_sampled=30, sampler=sampler)
    losses = objective.losses(queries, tf.constant(targets, tf.int32), items, training=True)
    expected = reference_losses(queries.numpy(), targets, items.table.numpy(), np.arange(2, 32), beta=0.3)
    np.testing.assert_allclose(losses, expected, atol=1e-4)


def test_the_correction_estimates_the_hard_mean_of_the_catalogue_from_popular_draws(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, query, beta = item_table(300, seed=2), random_queries(1, 8) * 0.3, 0.5
    stream = SampledSoftmax(seed=3).stream
    scores = tf.linalg.matvec(items.table[2:], query[0])
    truth = float(log_hard_mean(scores[None], beta)[0])

    def estimate(correct: bool) -> float:
        def one(_: tf.Tensor) -> tf.Tensor:
            sampled = draw_distinct_items(stream, 150, 300, "log_uniform")
            log_prior = -log_expected_counts(sampled, 150, 300, "log_uniform") if correct else None
            return log_hard_mean(tf.gather(scores, sampled - 2)[None], beta, log_prior)[0]

        return float(tf.reduce_mean(tf.function(lambda: tf.map_fn(one, tf.range(400), fn_output_signature=tf.float32), autograph=False)()))

    corrected, uncorrected = abs(estimate(True) - truth), abs(estimate(False) - truth)
    assert corrected < 0.05
    assert corrected < 0.5 * uncorrected


def test_nothing_but_hits_costs_nothing_and_teaches_nothing(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(1), random_queries(3, 8)
    for tau_plus in (0.0, 0.1):
        with tf.GradientTape() as tape:
            losses = InterestAwareNegatives(0.5, tau_plus=tau_plus).losses(queries, tf.constant([2, 2, 2]), items, training=True)
        np.testing.assert_array_equal(losses, 0.0)
        assert not np.any(tape.gradient(losses, queries))


@pytest.mark.parametrize("positive", [-3.0, 2.0, 50.0])
def test_debiasing_takes_off_false_negatives_and_stays_finite(positive: float) -> None:
    mean = float(np.exp(float(log_hard_mean(tf.constant([NEGATIVES]), 0.5)[0])))
    rest = max((mean - 0.1 * math.exp(positive)) / 0.9, math.exp(-16.0))
    assert loss_of(positive, NEGATIVES, 0.5, tau_plus=0.1) == pytest.approx(math.log1p(3 * rest / math.exp(positive)), rel=1e-4, abs=1e-12)
    positives, negatives = tf.constant([positive]), tf.constant([NEGATIVES])
    with tf.GradientTape() as tape:
        tape.watch([positives, negatives])
        losses = interest_aware_losses(positives, negatives, tf.constant([3.0]), beta=0.5, tau_plus=0.1)
    for gradient in tape.gradient(losses, [positives, negatives]):
        assert np.isfinite(gradient.numpy()).all()


def test_table_gradient_is_sparse_and_spares_padding_and_unknown(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(1000), random_queries(4, 8)
    objective = InterestAwareNegatives(0.5, num_sampled=50)

    @tf.function(autograph=False)
    def gradient() -> tf.IndexedSlices:
        with tf.GradientTape() as tape:
            losses = objective.losses(queries, tf.constant([2, 3, 4, 5]), items, training=True)
        return tape.gradient(losses, items.table)

    slices = gradient()
    assert isinstance(slices, tf.IndexedSlices)
    assert slices.indices.numpy().min() >= 2
    assert np.isfinite(slices.values).all()


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_low_precision_vectors_meet_a_float32_loss(
    dtype: tf.DType, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries, targets = item_table(30), random_queries(4, 3, 8), np.array([2, 3, 4, 31])
    losses = InterestAwareNegatives(0.2, dtype=tf.keras.mixed_precision.Policy(f"mixed_{dtype.name}")).losses(
        tf.cast(queries, dtype), tf.constant(targets, tf.int32), items, training=True
    )
    assert losses.dtype == tf.float32
    expected = reference_losses(queries.numpy(), targets, items.table.numpy(), np.arange(2, 32), beta=0.2)
    np.testing.assert_allclose(losses, expected, atol=0.15)


def test_configuration_round_trip() -> None:
    arguments: dict[str, Any] = {
        "beta": 2.0,
        "tau_plus": 0.1,
        "stop_gradient_weights": True,
        "num_sampled": 7,
        "sampler": "log_uniform",
        "seed": 3,
    }
    objective = InterestAwareNegatives(**arguments)
    copy = InterestAwareNegatives.from_config(objective.get_config())
    assert {name: getattr(copy, name) for name in arguments} == arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -0.1}, "beta: expected a number of at least 0, got -0.1"),
        ({"beta": math.inf}, "beta: expected a finite number, got inf"),
        ({"tau_plus": 1.0}, "tau_plus: expected a share below 1, got 1.0"),
        ({"tau_plus": -0.5}, "tau_plus: .* at least 0"),
        ({"num_sampled": 0}, "num_sampled: .* at least 1, got 0"),
        ({"sampler": "zipf"}, "sampler: expected one of 'uniform', 'log_uniform'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InterestAwareNegatives(**arguments)
