"""A ranker's run: it learns, is judged on clicks and on the truth, repeats itself and continues exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfmi.config import RunConfig, parse_settings
from tfmi.core.errors import ConfigError
from tfmi.data.impressions.impression_loading import load_ranking_dataset
from tfmi.data.impressions.training_coarse_labels import training_coarse_labels
from tfmi.evaluation.click_prediction import ImpressionEvaluator, impression_metrics
from tfmi.kinds.ranking import RankingKind, fusion_weights
from tfmi.kinds.retrieval import load_retriever
from tfmi.kinds.runner import describe_metrics, run
from tfmi.models.ranking.build_ranker import build_ranker
from tfmi.models.systems import load_config
from tfmi.training.run_folder import RunFolder

SMALL = (
    "data.embedded.users=120",
    "data.embedded.items=60",
    "data.history_length=6",
    "model.ranker.dimension=4",
    "model.ranker.hidden=[8]",
    "model.ranker.coarse_hidden=[4]",
    "training.batch_size=64",
    "training.evaluate_every=20",
    "training.max_steps=40",
    "training.tensorboard=false",
    "evaluation.report=false",
    "optimizer.learning_rate=1e-2",
)


def small(system: str = "mgipf", *settings: str) -> RunConfig:
    return load_config(system=system, settings=settings, where_read=parse_settings(SMALL))


def _run(config: RunConfig, path: Path, resume: bool = False) -> dict[str, Any]:
    folder = RunFolder(path)
    if resume:
        folder.resume(config)
    else:
        folder.start(config)
    result = run(config, folder, None, resume)
    assert result.metrics is not None
    return result.metrics


@pytest.mark.slow
def test_a_run_leaves_everything_in_its_folder(tmp_path: Path) -> None:
    config = small()
    metrics = _run(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert json.loads(folder.metrics.read_text()) == metrics
    names = {"auc", "gauc", "gauc_users", "log_loss", "calibration_error", "predicted_mean", "observed_mean"}
    assert names <= metrics["test"].keys()
    assert names <= metrics["test_fine"].keys()
    assert metrics["test"]["auc"] != metrics["test_fine"]["auc"]
    assert {"preference_correlation", "best_auc"} <= metrics["truth"].keys()
    assert metrics["truth"]["auc"] > 0.55
    assert {"items:rare", "items:frequent", "users:known"} <= metrics["test_slices"].keys()
    assert set(metrics["fusion"]) == {"fusion_fine", "fusion_brand", "fusion_category"}
    curve = json.loads(folder.curves.read_text())
    assert [row["step"] for row in curve] == [20, 40]
    assert {"fusion_fine", "coarse_brand", "auc", "log_loss", "calibration_error"} <= curve[0].keys()
    for plot in ("training", "reliability"):
        assert (folder.plots / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
    loaded = RankingKind().load_finished(tmp_path / "run")
    evaluator = ImpressionEvaluator(loaded.model, loaded.dataset, batch_size=50)
    assert impression_metrics(loaded.dataset.test, evaluator.predict(loaded.dataset.test).logits) == pytest.approx(metrics["test"])
    with pytest.raises(ConfigError, match="expected the run of a retriever, but 'mgipf' is of kind 'ranking'"):
        load_retriever(tmp_path / "run")
    table = describe_metrics(config, metrics)
    assert f"{metrics['test']['auc']:.4f}" in table
    assert "items:rare" in table


@pytest.mark.slow
def test_a_bare_backbone_has_neither_coarse_heads_nor_fusion(tmp_path: Path) -> None:
    metrics = _run(small("deepfm"), tmp_path / "run")
    assert metrics["fusion"] == {}
    assert "test_fine" not in metrics
    assert not any(name.startswith("coarse") for name in json.loads(RunFolder(tmp_path / "run").curves.read_text())[0])


@pytest.mark.slow
def test_the_truth_is_that_of_shown_rows_also_where_others_are_drawn(tmp_path: Path) -> None:
    metrics = _run(small("deepfm", "data.impressions.sampled_negatives=2"), tmp_path / "run")
    assert metrics["truth"]["observed_mean"] > metrics["test"]["observed_mean"]


@pytest.mark.slow
@pytest.mark.long
def test_a_longer_run_continues_a_shorter_one_exactly(tmp_path: Path) -> None:
    settings = ("model.ranker.backbone={name: deepfm}", "training.patience=9")
    whole = _run(small("mgipf", *settings), tmp_path / "whole")
    _run(small("mgipf", *settings, "training.max_steps=20"), tmp_path / "broken")
    continued = _run(small("mgipf", *settings), tmp_path / "broken", resume=True)
    assert continued["test"] == whole["test"]
    assert continued["fusion"] == whole["fusion"]


def test_training_batches_carry_the_coarse_labels_of_their_rows() -> None:
    for setting, shuffled in (("model.ranker.shuffle_coarse=false", False), ("model.ranker.shuffle_coarse=true", True)):
        config = small("mgipf", setting)
        dataset = load_ranking_dataset(config.data)
        model = build_ranker(config, dataset)
        assert model.coarse_features == ("brand", "category")
        batch = next(iter(RankingKind().batches(model, dataset, config).from_step(0).take(1)))
        assert batch["coarse"].shape == (64, 2)
        below = batch["coarse"].numpy() < batch["label"].numpy()[:, None]
        assert below.any() == shuffled
        total = training_coarse_labels(dataset, model.coarse_features).mean()
        assert np.mean(batch["coarse"]) == pytest.approx(total, abs=0.15)


def test_fusion_starts_as_the_mean() -> None:
    config = small("mgipf", "model.ranker.coarse_features=[category]", "model.ranker.fusion_bias=true")
    dataset = load_ranking_dataset(config.data)
    model = build_ranker(config, dataset)
    model.compute_loss(next(iter(RankingKind().batches(model, dataset, config).from_step(0).take(1))))
    assert fusion_weights(model) == {"fusion_fine": 0.5, "fusion_category": 0.5, "fusion_bias": 0.0}


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the folder of a run"):
        RankingKind().load_finished(tmp_path)


def test_an_unknown_coarse_feature_is_refused() -> None:
    config = small("mgipf", "model.ranker.coarse_features=[brnd]")
    with pytest.raises(ConfigError, match=r"model\.ranker\.coarse_features: .*'brnd'.*'brand'"):
        build_ranker(config, load_ranking_dataset(config.data))
