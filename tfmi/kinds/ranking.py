"""A run of a model that ranks: load impressions, build, train, evaluate, draw."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.core.files import write_json
from tfmi.core.versions import versions
from tfmi.data.impressions.impression_batches import impression_batches
from tfmi.data.impressions.impression_dataset import ImpressionRows, RankingDataset
from tfmi.data.impressions.impression_loading import load_ranking_dataset
from tfmi.data.impressions.training_coarse_labels import training_coarse_labels
from tfmi.data.pipeline import RowBatches
from tfmi.evaluation.binary_metrics import reliability_bins, sigmoid
from tfmi.evaluation.click_prediction import RARE_IMPRESSIONS, ImpressionEvaluator, impression_metrics, impression_slices, truth_metrics
from tfmi.kinds.finished_run import finished_config, restore_best, set_precision
from tfmi.kinds.two_stage import TwoStageExport, describe_two_stage
from tfmi.models.ranking.build_ranker import build_ranker
from tfmi.models.ranking.ranker import InterestRanker
from tfmi.models.retrieval.build_retriever import create_variables
from tfmi.plots.ranking_plots import plot_reliability
from tfmi.training.fingerprint import impressions_fingerprint
from tfmi.training.fitting import fit_model
from tfmi.training.run_folder import RunFolder
from tfmi.training.run_result import RunResult
from tfmi.training.trainer import TrainingTask

log = logging.getLogger(__name__)

SHOWN = ("auc", "gauc", "log_loss", "calibration_error", "predicted_mean", "observed_mean")


def run(config: RunConfig, folder: RunFolder, target: Path | None, resume: bool = False) -> RunResult:
    """Do what the configuration of a ranker describes; see ``tfmi.kinds.runner.run``. An export is of two stages: see ``two_stage``."""
    started = time.perf_counter()
    dataset = load_ranking_dataset(config.data)
    log.info("Loaded %s in %.1f s: %s", dataset.name, time.perf_counter() - started, _counts(dataset))
    stages = None if target is None else TwoStageExport(config, dataset, folder, target)
    fitted = fit_model(
        lambda: build_ranker(config, dataset),
        lambda model: ranking_task(model, dataset, config),
        config,
        folder,
        resume=resume,
        about=lambda model: f"coarse features: {', '.join(model.coarse_features) or 'none'}",
    )
    if fitted is None:
        return RunResult(None, folder, None)
    model = fitted.model
    metrics = _measure(model, config, dataset, folder, fitted.took)
    if stages is None:
        write_json(folder.metrics, metrics)
        return RunResult(metrics, folder, None)
    retriever = stages.obtain_retriever()
    if retriever is None:
        return RunResult(None, folder, None)
    metrics["two_stage"] = stages.measure(retriever, model)
    write_json(folder.metrics, metrics)
    return RunResult(metrics, folder, stages.publish(retriever, model, metrics))


def describe(config: RunConfig, metrics: dict[str, Any]) -> str:
    """The test metrics as a table: of all rows, of slices, of the fine head alone, and against the truth where it is known."""
    labels = {"test": "test", "test_fine": "fine head", "truth": "true likes", "truth_fine": "fine, true", "truth_rare": "rare, true"}
    rows = {label: metrics[key] for key, label in labels.items() if key in metrics} | metrics["test_slices"]
    lines = [f"{'':<15} " + " ".join(f"{name.replace('calibration_error', 'calib.err.'):>14}" for name in SHOWN)]
    for label, values in rows.items():
        lines.append(f"{label:<15} " + " ".join(f"{values[name]:>14.4f}" if name in values else f"{'-':>14}" for name in SHOWN))
    if "two_stage" in metrics:
        lines += ["", describe_two_stage(config, metrics["two_stage"])]
    return "\n".join(lines)


@dataclass(frozen=True)
class LoadedRanker:
    """What a run trained, on what, and how it was described."""

    config: RunConfig
    dataset: RankingDataset
    model: InterestRanker


def load_ranker(path: str | Path) -> LoadedRanker:
    """Load the folder of a ranker's run: its data again, and the weights that were best on validation.

    Sets the global precision policy to the run's.

    Raises:
        ConfigError: The folder holds no run of a ranker, or one that has not come to its end.
        DataError: The data cannot be read, or is not what the run was trained on.
    """
    folder = RunFolder(path)
    config = finished_config(folder)
    if config.model.kind != "ranking":
        raise ConfigError(f"{folder.path}: expected the run of a ranker, but {config.system!r} is of kind {config.model.kind!r}")
    dataset = load_ranking_dataset(config.data)
    if (folder.read_state() or {}).get("data") != impressions_fingerprint(dataset):
        raise DataError(f"{folder.path}: the data {dataset.name!r} has changed since this run: its items or impressions differ")
    set_precision(config)
    model = build_ranker(config, dataset)
    create_variables(model, next(iter(ranker_batches(dataset, model, config).from_step(0).take(1))))
    restore_best(model, folder)
    return LoadedRanker(config, dataset, model)


def ranking_task(model: InterestRanker, dataset: RankingDataset, config: RunConfig) -> TrainingTask:
    """What a ranker learns from: the training rows with their coarse labels, judged on the validation rows."""
    evaluator = ImpressionEvaluator(model, dataset, config.evaluation.batch_size)
    return TrainingTask(
        dataset=dataset.name,
        fingerprint=impressions_fingerprint(dataset),
        num_examples=len(dataset.train),
        batches=ranker_batches(dataset, model, config),
        validate=lambda: {**impression_metrics(dataset.valid, evaluator.predict(dataset.valid).logits), **fusion_weights(model)},
    )


def ranker_batches(dataset: RankingDataset, model: InterestRanker, config: RunConfig) -> RowBatches:
    """Training batches, coarse labels included if the model learns from any."""
    shuffle_seed = config.seed + 4000 if config.model.ranker.shuffle_coarse else None
    coarse = training_coarse_labels(dataset, model.coarse_features, shuffle_seed=shuffle_seed) if model.coarse_features else None
    return impression_batches(
        dataset.train,
        dataset.clicks,
        history_length=config.data.history_length,
        batch_size=config.training.batch_size,
        seed=config.seed,
        profiles=dataset.profiles,
        coarse=coarse,
    )


def fusion_weights(model: InterestRanker) -> dict[str, float]:
    """How much each head counts in the prediction, by name; a negative weight turns a head around. Nothing without fusion."""
    if model.fusion is None:
        return {}
    names = ["fine", *model.coarse_features]
    weights = {f"fusion_{name}": float(value) for name, value in zip(names, model.fusion.weighing.numpy(), strict=True)}
    return weights if model.fusion.bias is None else {**weights, "fusion_bias": float(model.fusion.bias.numpy())}


def _measure(
    model: InterestRanker, config: RunConfig, dataset: RankingDataset, folder: RunFolder, train: dict[str, float]
) -> dict[str, Any]:
    evaluator = ImpressionEvaluator(model, dataset, config.evaluation.batch_size)
    predicted = evaluator.predict(dataset.test)
    bins = reliability_bins(dataset.test.labels, sigmoid(predicted.logits), 20, equal_mass=True)
    plot_reliability(bins, folder.plots / "reliability.png")
    variants = {"": predicted.logits}
    if model.fusion is not None:
        variants["_fine"] = predicted.heads[:, 0]
    measured: dict[str, Any] = {}
    for suffix, logits in variants.items():
        measured |= _measured(dataset.test, logits, dataset, suffix)
    return {
        **measured,
        "valid": impression_metrics(dataset.valid, evaluator.predict(dataset.valid).logits),
        "fusion": fusion_weights(model),
        "train": train,
        "data": dict(dataset.report),
        "versions": versions(),
        "system": config.system,
        "dataset": dataset.name,
        "seed": config.seed,
    }


def _measured(rows: ImpressionRows, logits: Any, dataset: RankingDataset, suffix: str) -> dict[str, Any]:
    """Test metrics and their slices, and where it is known the same against the truth."""
    measured: dict[str, Any] = {
        f"test{suffix}": impression_metrics(rows, logits),
        f"test{suffix}_slices": impression_slices(rows, logits, dataset),
    }
    if dataset.truth:
        shown = rows.row_ids < len(dataset.truth["liked"])  # nobody knows of drawn rows what they would have come to
        rows, logits = rows.take(shown), logits[shown]
        rare = dataset.catalogue.counts[rows.items] < RARE_IMPRESSIONS
        measured[f"truth{suffix}"] = truth_metrics(rows, logits, dataset)
        if rare.any():
            measured[f"truth{suffix}_rare"] = truth_metrics(rows.take(rare), logits[rare], dataset)
    return measured


def _counts(dataset: RankingDataset) -> str:
    parts = ((name, getattr(dataset, name)) for name in ("train", "valid", "test"))
    rows = ", ".join(f"{len(rows):,} rows ({rows.labels.mean():.1%} clicked) to {name}" for name, rows in parts)
    return f"{len(dataset.catalogue.vocabulary):,} items, {len(dataset.clicks):,} users, {rows}"
