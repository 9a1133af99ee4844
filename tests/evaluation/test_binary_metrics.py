"""Metrics of predicted clicks, against counts of pairs and numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tfmi.core.errors import DataError
from tfmi.evaluation.binary_metrics import (
    auc,
    click_metrics,
    expected_calibration_error,
    grouped_auc,
    log_loss,
    reliability_bins,
    sigmoid,
)


def _auc_of_pairs(labels: np.ndarray, scores: np.ndarray) -> float:
    differences = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


def _rows(count: int = 400, levels: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.3).astype(np.float32)
    scores = rng.integers(0, levels, count) + labels if levels else rng.normal(size=count) + labels
    return rng.integers(-5, 40, count), labels, scores


@pytest.mark.parametrize("levels", [0, 12])
def test_auc_counts_pairs_and_half_of_the_ties(levels: int) -> None:
    _, labels, scores = _rows(levels=levels)
    assert auc(labels, scores) == pytest.approx(_auc_of_pairs(labels, scores))


def test_auc_at_its_ends() -> None:
    labels = np.array([0, 1, 1, 0])
    assert auc(labels, np.array([1.0, 3.0, 2.0, 0.0])) == 1.0
    assert auc(labels, -np.array([1.0, 3.0, 2.0, 0.0])) == 0.0
    assert auc(labels, np.ones(4)) == 0.5
    assert np.isnan(auc(np.ones(3), np.arange(3.0)))
    assert np.isnan(auc(np.zeros(3), np.arange(3.0)))


def test_grouped_auc_is_the_mean_over_users_by_their_rows() -> None:
    users, labels, scores = _rows()
    values, weights = [], []
    for user in np.unique(users):
        of_user = users == user
        if len(set(labels[of_user])) == 2:
            values.append(_auc_of_pairs(labels[of_user], scores[of_user]))
            weights.append(of_user.sum())
    found = grouped_auc(users, labels, scores)
    assert found.groups == len(values) < len(np.unique(users))
    assert found.value == pytest.approx(np.average(values, weights=weights))
    order = np.random.default_rng(1).permutation(len(users))
    assert grouped_auc(users[order], labels[order], scores[order]).value == pytest.approx(found.value)


def test_grouped_auc_by_hand() -> None:
    # User 7: 2 of 2 pairs right, 3 rows. User 2: 0 of 1, 2 rows. User 3 has one class only.
    users = np.array([7, 2, 7, 3, 2, 7])
    labels = np.array([1, 1, 0, 1, 0, 0])
    scores = np.array([3.0, -9.0, 1.0, 5.0, -8.0, 2.0])
    found = grouped_auc(users, labels, scores)
    assert found.value == pytest.approx(3 / 5)
    assert found.groups == 2
    nobody = grouped_auc(np.arange(3), np.array([0, 1, 0]), np.zeros(3))
    assert np.isnan(nobody.value)
    assert nobody.groups == 0


def test_log_loss_matches_the_definition_and_bears_any_logit() -> None:
    labels, logits = np.array([1.0, 0.0, 1.0]), np.array([0.0, 2.0, -1.0])
    probabilities = 1 / (1 + np.exp(-logits))
    expected = -np.mean(np.log(np.where(labels == 1, probabilities, 1 - probabilities)))
    assert log_loss(labels, logits) == pytest.approx(expected)
    assert log_loss(np.array([1.0, 0.0]), np.array([-1000.0, 1000.0])) == pytest.approx(1000.0)
    assert log_loss(np.array([1.0, 0.0]), np.array([1000.0, -1000.0])) == 0.0
    np.testing.assert_allclose(sigmoid(np.array([-1000.0, 0.0, 1000.0])), [0.0, 0.5, 1.0])


def test_reliability_by_hand() -> None:
    probabilities = np.array([0.0, 0.05, 0.25, 0.2, 0.95, 1.0])
    labels = np.array([0, 1, 0, 0, 1, 0])
    bins = reliability_bins(labels, probabilities, bins=10)
    np.testing.assert_array_equal(bins.counts, [2, 2, 2])
    np.testing.assert_allclose(bins.predicted, [0.025, 0.225, 0.975])
    np.testing.assert_allclose(bins.observed, [0.5, 0.0, 0.5])
    assert expected_calibration_error(bins) == pytest.approx((0.475 + 0.225 + 0.475) / 3)


def test_bins_of_equal_mass_divide_rare_clicks_and_keep_ties_together() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(1000) * 0.01
    labels = (rng.random(1000) < probabilities).astype(np.float32)
    assert len(reliability_bins(labels, probabilities, 10).counts) == 1
    np.testing.assert_array_equal(reliability_bins(labels, probabilities, 10, equal_mass=True).counts, np.full(10, 100))
    tied = np.array([0.1] * 7 + [0.2] * 3)
    bins = reliability_bins(np.arange(10) % 2, tied, 5, equal_mass=True)
    np.testing.assert_array_equal(bins.counts, [7, 3])
    np.testing.assert_allclose(bins.predicted, [0.1, 0.2])


def test_a_calibrated_prediction_has_a_small_error_and_a_shifted_one_a_large_one() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=20_000) - 2
    labels = (rng.random(20_000) < sigmoid(logits)).astype(np.float32)
    users = rng.integers(0, 100, 20_000)
    right, shifted = click_metrics(labels, logits, users), click_metrics(labels, logits + 1, users)
    assert right["calibration_error"] < 0.02
    assert shifted["calibration_error"] > 0.08
    assert shifted["auc"] == pytest.approx(right["auc"])
    assert shifted["log_loss"] > right["log_loss"]
    assert right["predicted_mean"] == pytest.approx(right["observed_mean"], abs=0.01)
    assert right["gauc_users"] == 100


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(DataError, match="at least one row"):
        auc(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="one length, got 2, 3"):
        log_loss(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        reliability_bins(np.zeros(2), np.array([0.5, np.nan]))
    with pytest.raises(ValueError, match="at least one bin"):
        reliability_bins(np.zeros(2), np.zeros(2), bins=0)
