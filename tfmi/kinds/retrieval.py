"""A run of a retriever: load, build or count, train, evaluate, draw, export."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from tfmi.config import RunConfig
from tfmi.core.errors import DataError
from tfmi.core.files import write_json
from tfmi.core.versions import versions
from tfmi.data.dataset import Dataset
from tfmi.data.loading import load_dataset
from tfmi.data.pipeline import TrainingBatches, examples_per_epoch
from tfmi.evaluation.diagnostics import interest_diagnostics
from tfmi.evaluation.full_catalogue import CatalogueEvaluator
from tfmi.evaluation.metrics import session_metrics
from tfmi.export import check_export, export_savedmodel
from tfmi.models.recommender import Recommender
from tfmi.models.retrieval.build_retriever import build_heuristic, build_model
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.plots.training_plots import plot_routing
from tfmi.training.fingerprint import data_fingerprint
from tfmi.training.fitting import fit_model
from tfmi.training.run_folder import RunFolder, differing_keys
from tfmi.training.run_result import RunResult
from tfmi.training.trainer import TrainingTask

log = logging.getLogger(__name__)


def run(config: RunConfig, folder: RunFolder, target: Path | None, resume: bool = False) -> RunResult:
    """Do what the configuration of a retriever describes; see ``tfmi.kinds.runner.run``."""
    if target is not None:
        check_export(config.index, target, needs_index=config.model.kind == "interests")
    started = time.perf_counter()
    dataset = load_dataset(config.data)
    log.info("Loaded %s in %.1f s: %s", dataset.name, time.perf_counter() - started, _counts(dataset))
    trained = train_recommender(config, dataset, folder, resume)
    if trained is None:
        return RunResult(None, folder, None)
    recommender, metrics = trained
    savedmodel = None
    if target is not None:
        log.info("Exporting (index, warm-up, checks) ...")
        savedmodel = export_savedmodel(
            recommender,
            dataset.catalogue,
            target,
            export=config.export,
            index=config.index,
            profiles=dataset.profiles,
            histories=dataset.valid.histories,
            metadata={"system": config.system, "configuration": config.model_dump(), "metrics": metrics, "data": dict(dataset.report)},
        )
    return RunResult(metrics, folder, savedmodel)


def train_recommender(
    config: RunConfig, dataset: Dataset, folder: RunFolder, resume: bool = False
) -> tuple[Recommender, dict[str, Any]] | None:
    """Train or count a retriever on a dataset, and measure it.

    Args:
        config: What to train.
        dataset: What to train it on, whatever ``config.data`` names.
        folder: Already started or resumed with this configuration; gets everything that a run leaves, ``metrics.json`` included.
        resume: Continue from the folder's last checkpoint.

    Returns:
        The retriever and its metrics; None if training was stopped.
    """
    if config.model.kind == "heuristic":
        recommender, train = _count(config, dataset)
        observed: dict[str, float] = {}
    else:
        fitted = fit_model(
            lambda: build_model(config, dataset), lambda model: retrieval_task(model, dataset, config), config, folder, resume=resume
        )
        if fitted is None:
            return None
        plot_routing(fitted.model, dataset.valid, dataset.catalogue, folder.plots / "routing.png", profiles=dataset.profiles)
        recommender, train, observed = fitted.model, fitted.took, fitted.observed_best
    metrics = _measure(recommender, config, dataset, train)
    if observed:
        metrics["best_test_epoch"] = {**session_metrics(observed), **observed} if config.data.holds_sessions() else observed
    write_json(folder.metrics, metrics)
    return recommender, metrics


def describe(config: RunConfig, metrics: dict[str, Any]) -> str:
    """The test metrics as a table."""
    cutoffs = config.evaluation.cutoffs
    names = ("recall", "hr", "ndcg", "mrr", "precision", "coverage", "diversity")
    lines = [f"{'test':<10} " + " ".join(f"{'@' + str(cutoff):>8}" for cutoff in cutoffs)]
    for name in names:
        if f"{name}@{cutoffs[0]}" in metrics["test"]:
            lines.append(f"{name:<10} " + " ".join(f"{metrics['test'][f'{name}@{cutoff}']:>8.4f}" for cutoff in cutoffs))
    return "\n".join(lines)


def retrieval_task(model: InterestRetrieval, dataset: Dataset, config: RunConfig) -> TrainingTask:
    """What a retriever learns from: the dataset's training sequences, judged on its validation users over the full catalogue.

    Raises:
        DataError: There is not a single training example.
    """
    data = config.data
    examples = examples_per_epoch(dataset.train, data.min_history, data.examples, data.history_length)
    if examples == 0:
        raise DataError(
            f"{dataset.name}: no training example: no training sequence has more than data.min_history = {config.data.min_history} "
            "items. Lower data.min_history, or bring longer histories."
        )
    batches = TrainingBatches(
        dataset.train,
        history_length=config.data.history_length,
        min_history=config.data.min_history,
        batch_size=config.training.batch_size,
        seed=config.seed,
        order=config.data.examples,
        profiles=dataset.profiles,
    )
    evaluator = CatalogueEvaluator(model, dataset.catalogue, config.evaluation, config.index.allotment())
    return TrainingTask(
        dataset=dataset.name,
        fingerprint=data_fingerprint(dataset),
        num_examples=examples,
        batches=batches,
        validate=lambda: evaluator.evaluate(dataset.valid, dataset.profiles),
        observe=(lambda: evaluator.evaluate(dataset.test, dataset.profiles)) if config.evaluation.best_test_epoch else None,
    )


def _count(config: RunConfig, dataset: Dataset) -> tuple[Recommender, dict[str, float]]:
    defaults = RunConfig()
    for name in ("training", "optimizer"):
        for key in differing_keys(getattr(defaults, name).model_dump(), getattr(config, name).model_dump(), f"{name}."):
            log.info("%s does nothing here: %s counts, it is not trained by steps", key, config.system)
    started = time.perf_counter()
    heuristic = build_heuristic(config, dataset)
    seconds = time.perf_counter() - started
    events = dataset.train.num_events
    log.info("Counted %s events in %.1f s", f"{events:,}", seconds)
    return heuristic, {"steps": 0, "seconds": seconds, "examples_per_second": events / max(seconds, 1e-9), "parameters": 0}


def _measure(recommender: Recommender, config: RunConfig, dataset: Dataset, train: dict[str, float]) -> dict[str, Any]:
    evaluator = CatalogueEvaluator(recommender, dataset.catalogue, config.evaluation, config.index.allotment())
    recommended = evaluator.rank(dataset.test, dataset.profiles)
    interests = {}
    if isinstance(recommender, InterestRetrieval) and recommender.extractor.num_interests > 1:
        described = interest_diagnostics(
            recommender, recommended.items, dataset.test, batch_size=config.evaluation.batch_size, profiles=dataset.profiles
        )
        interests = {"interests": described}
    test, slices = evaluator.measure(recommended, dataset.test), evaluator.measure_slices(recommended, dataset.test)
    return {
        "test": test,
        "test_slices": slices,
        **(_as_for_sessions(test, slices) if config.data.holds_sessions() else {}),
        "valid": evaluator.evaluate(dataset.valid, dataset.profiles),
        **interests,
        "train": train,
        "data": dict(dataset.report),
        "versions": versions(),
        "system": config.system,
        "dataset": dataset.name,
        "seed": config.seed,
    }


def _as_for_sessions(test: dict[str, float], slices: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The test metrics with those by which papers on sessions report, and these again by whether a target repeats its own session."""
    repetition = {label: slices[f"target:{label}"] for label in ("repeat", "new") if f"target:{label}" in slices}
    by_label = {f"test_{label}": {"users": each["users"], **session_metrics(each)} for label, each in repetition.items()}
    return {"test": {**session_metrics(test), **test}, **by_label}


def _counts(dataset: Dataset) -> str:
    return (
        f"{len(dataset.catalogue.vocabulary):,} items, {len(dataset.train):,} training sequences with {dataset.train.num_events:,} events, "
        f"{len(dataset.valid):,} validation and {len(dataset.test):,} test users"
    )
