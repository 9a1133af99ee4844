"""Rankers are measured on what they predict, by slices, and against the truth where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from tfmi.config import DataConfig
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.data.impressions.impression_loading import load_ranking_dataset
from tfmi.evaluation.binary_metrics import auc
from tfmi.evaluation.click_prediction import impression_metrics, impression_slices, rank_correlation, truth_metrics


@pytest.fixture(scope="module")
def dataset() -> RankingDataset:
    split = {"min_user_events": 1, "min_item_events": 1}
    return load_ranking_dataset(DataConfig.model_validate({"embedded": {"users": 200, "items": 200}, "split": split}))


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability) - np.log1p(-probability)


def test_slices_cut_the_rows_by_item_and_by_user(dataset: RankingDataset) -> None:
    rows = dataset.test
    logits = np.random.default_rng(0).normal(size=len(rows))
    slices = impression_slices(rows, logits, dataset)
    rare = dataset.catalogue.counts[rows.items] < 10
    assert slices["items:rare"]["rows"] == rare.sum() > 0
    assert slices["items:rare"]["rows"] + slices["items:frequent"]["rows"] == len(rows)
    assert slices["users:new"]["rows"] + slices["users:known"]["rows"] == len(rows)
    assert slices["items:rare"]["auc"] == pytest.approx(auc(rows.labels[rare], logits[rare]))
    assert slices["items:rare"]["observed_mean"] == pytest.approx(rows.labels[rare].mean())


def test_what_has_no_value_is_left_out(dataset: RankingDataset) -> None:
    rows = dataset.test.take(dataset.test.labels == 0)
    metrics = impression_metrics(rows, np.zeros(len(rows)))
    assert "auc" not in metrics
    assert "gauc" not in metrics
    assert metrics["log_loss"] == pytest.approx(np.log(2))


def test_the_true_preference_is_perfect_against_the_truth(dataset: RankingDataset) -> None:
    rows = dataset.test
    perfect = truth_metrics(rows, logit(dataset.truth["preference"][rows.row_ids].astype(np.float64)), dataset)
    assert perfect["preference_correlation"] == pytest.approx(1.0)
    assert perfect["auc"] == pytest.approx(perfect["best_auc"])
    assert perfect["calibration_error"] < 0.08
    chance = truth_metrics(rows, np.random.default_rng(0).normal(size=len(rows)), dataset)
    assert abs(chance["preference_correlation"]) < 0.1
    assert chance["auc"] < perfect["auc"] - 0.1


def test_rank_correlation() -> None:
    values = np.array([0.1, 0.2, 0.2, 5.0, 7.0])
    assert rank_correlation(values, np.exp(values)) == pytest.approx(1.0)
    assert rank_correlation(values, -values) == pytest.approx(-1.0)
    # Ranks 1 2 3 against 2 1 3: 1 - 6 * 2 / (3 * 8).
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0])) == pytest.approx(0.5)
    assert np.isnan(rank_correlation(values, np.zeros(5)))
