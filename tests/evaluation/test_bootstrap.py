"""Bootstrap over users: intervals that hold the truth as often as they say, and differences that chance does not make."""

from __future__ import annotations

import numpy as np
import pytest

from tfmi.evaluation.binary_metrics import auc
from tfmi.evaluation.bootstrap import (
    auc_interval,
    bootstrap_intervals,
    bootstrap_means,
    differences_from,
    holm,
    paired_difference,
    ratio_intervals,
)


def test_means_of_resampled_users_scatter_as_the_standard_error_says() -> None:
    values = np.random.default_rng(0).normal(loc=[1.0, 5.0], scale=[2.0, 0.5], size=[400, 2])
    means = bootstrap_means(values, 2000)
    np.testing.assert_allclose(means.mean(axis=0), values.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(means.std(axis=0), values.std(axis=0) / np.sqrt(400), rtol=0.1)
    np.testing.assert_array_equal(means, bootstrap_means(values, 2000))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    held = []
    for trial in range(200):
        low, high = bootstrap_intervals({"hr@10": random.random(150) < 0.3}, resamples=200, seed=trial)["hr@10"]
        held.append(low <= 0.3 <= high)
    assert 0.89 <= np.mean(held) <= 0.99


def test_a_metric_that_is_the_same_for_all_has_no_width_and_nobody_has_no_interval() -> None:
    assert bootstrap_intervals({"ndcg@20": np.full(10, 0.25)})["ndcg@20"] == pytest.approx([0.25, 0.25])
    assert bootstrap_intervals({"ndcg@20": np.zeros(0)}) == bootstrap_intervals({}) == {}


def test_a_small_difference_that_every_user_has_is_told_from_chance_and_noise_is_not() -> None:
    random = np.random.default_rng(2)
    first = random.random(300)
    steady = paired_difference(first + 0.01 + 0.005 * random.normal(size=300), first)
    assert steady.low < steady.mean < steady.high
    assert steady.mean == pytest.approx(0.01, abs=0.002)
    assert steady.p_value < 0.01
    assert steady.low > 0
    noise = paired_difference(first, random.permutation(first))
    assert noise.p_value == 1.0 or noise.p_value > 0.05
    assert paired_difference(first, first) == (0.0, 0.0, 0.0, 1.0)


def test_p_values_of_no_difference_are_spread_evenly() -> None:
    random = np.random.default_rng(3)
    p_values = [paired_difference(random.normal(size=60), random.normal(size=60), resamples=200).p_value for _ in range(300)]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.1
    assert np.median(p_values) == pytest.approx(0.5, abs=0.1)


def test_other_users_are_refused() -> None:
    with pytest.raises(ValueError, match="the same users"):
        paired_difference(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(
    ("given", "expected"),
    [([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]), ([0.5, 0.6], [1.0, 1.0]), ([], []), ([0.2], [0.2])],
)
def test_holm_corrects_the_smallest_most(given: list[float], expected: list[float]) -> None:
    assert holm(given) == pytest.approx(expected)


def test_a_ratio_over_users_of_one_row_each_is_a_mean_over_users() -> None:
    values = np.random.default_rng(4).random(80)
    assert ratio_intervals({"loss": (values, np.ones(80))})["loss"] == pytest.approx(bootstrap_intervals({"loss": values})["loss"])
    assert ratio_intervals({"loss": (np.zeros(3), np.array([1.0, 0.0, 0.0]))}, resamples=200) == {}  # some draws have no denominator
    assert ratio_intervals({}) == {}


def test_the_interval_of_an_auc_is_around_it_and_wider_where_a_users_rows_agree() -> None:
    random = np.random.default_rng(5)
    labels, noise = (random.random(600) < 0.4).astype(float), random.normal(size=600)
    scores = labels + noise
    alone = auc_interval(np.arange(600), labels, scores)
    assert alone is not None
    assert alone[0] < auc(labels, scores) < alone[1]
    assert auc_interval(np.arange(600), labels, np.zeros(600)) == pytest.approx([0.5, 0.5])
    assert auc_interval(np.arange(3), np.zeros(3), np.arange(3.0)) is None
    users = np.repeat(np.arange(30), 20)
    agreeing = labels[users * 20] + noise[users * 20]
    together = auc_interval(users, labels[users * 20], agreeing)
    assert together is not None
    assert together[1] - together[0] > alone[1] - alone[0]


def test_several_systems_are_compared_with_one() -> None:
    random = np.random.default_rng(6)
    reference = random.random(200)
    others = {"better": reference + 0.2 + 0.01 * random.normal(size=200), "same": reference}
    found = differences_from(reference, others)
    assert found["better"].p_value == pytest.approx(2 * paired_difference(others["better"], reference).p_value)
    assert found["same"] == (0.0, 0.0, 0.0, 1.0)
    assert differences_from(reference, {}) == {}
