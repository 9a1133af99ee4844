"""A run of a user-tag model: load, build, train, evaluate beside counting, draw, export."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.core.files import write_json
from tfmi.core.versions import versions
from tfmi.data.tags.tag_batches import StateGatherer, tag_batches
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.data.tags.tag_loading import load_tag_dataset
from tfmi.evaluation.tag_diagnostics import expert_shares, gate_entropy, kernel_cosines
from tfmi.evaluation.tag_evaluation import TagEvaluator, mean_over_tasks
from tfmi.export import check_export
from tfmi.export.tags.export_user_tags import export_user_tags
from tfmi.kinds.finished_run import finished_config, restore_best, set_precision
from tfmi.layers.user_encoders.virtual_kernel_encoder import VirtualKernelEncoder
from tfmi.models.retrieval.build_retriever import create_variables
from tfmi.models.user_tags.build_user_tag_model import build_user_tag_model
from tfmi.models.user_tags.user_tag_model import UserTagModel
from tfmi.plots.expert_plots import plot_experts
from tfmi.training.fingerprint import tagging_fingerprint
from tfmi.training.fitting import fit_model
from tfmi.training.run_folder import RunFolder
from tfmi.training.run_result import RunResult
from tfmi.training.trainer import TrainingTask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedTagRun:
    """What a run trained, on what, and how it was described."""

    config: RunConfig
    dataset: TagDataset
    model: UserTagModel


def run(config: RunConfig, folder: RunFolder, target: Path | None, resume: bool = False) -> RunResult:
    """Do what the configuration of a user-tag model describes; see ``tfmi.kinds.runner.run``."""
    if target is not None:
        check_export(config.index, target, needs_index=True)
    started = time.perf_counter()
    dataset = load_tag_dataset(config.data)
    log.info("Loaded %s in %.1f s: %s", dataset.name, time.perf_counter() - started, _counts(dataset))
    fitted = fit_model(
        lambda: build_user_tag_model(config, dataset),
        lambda model: tag_task(model, dataset, config),
        config,
        folder,
        resume=resume,
        about=lambda model: f"tasks: {', '.join(model.task_names)}",
    )
    if fitted is None:
        return RunResult(None, folder, None)
    model = fitted.model
    of_encoder = sum(int(variable.shape.num_elements()) for variable in model.user_encoder.trainable_variables)
    metrics = _measure(model, config, dataset, folder, {**fitted.took, "encoder_parameters": of_encoder})
    write_json(folder.metrics, metrics)
    savedmodel = None
    if target is not None:
        log.info("Exporting (indexes, warm-up, checks) ...")
        savedmodel = export_user_tags(
            model,
            dataset,
            target,
            export=config.export,
            index=config.index,
            metadata={"system": config.system, "configuration": config.model_dump(), "metrics": metrics, "data": dict(dataset.report)},
        )
    return RunResult(metrics, folder, savedmodel)


def describe(config: RunConfig, metrics: dict[str, Any]) -> str:
    """The test metrics as tables: of labelled rows, and of tags to foresee, the model beside the two ways of counting."""
    rows = {name: value for name, value in metrics["test"].items() if name.partition(":")[0] in ("auc", "log_loss")}
    lines = [f"{'labelled rows':<28} {'':>10}", *(f"{name:<28} {value:>10.4f}" for name, value in rows.items())]
    shown = [f"{name}@{cutoff}" for name in ("precision", "recall", "ndcg") for cutoff in config.evaluation.cutoffs]
    for task, kinds in metrics["test_tags"].items():
        for kind, by_name in kinds.items():
            title = f"{task}: {kind} later tags"
            lines += ["", f"{title:<28} " + " ".join(f"{name:>12}" for name in shown)]
            lines += [f"{name:<28} " + " ".join(f"{values[key]:>12.4f}" for key in shown) for name, values in by_name.items()]
    return "\n".join(lines)


def load_tag_run(folder: str | Path) -> LoadedTagRun:
    """Load the folder of a finished run: its data again, and the weights that were best on validation.

    Sets the global precision policy to the run's.

    Raises:
        ConfigError: The folder holds no run of a user-tag model, or one that has not come to its end.
        DataError: The data cannot be read, or is not what the run was trained on.
    """
    run_folder = RunFolder(folder)
    config = run_folder.stored_config()
    if config.model.kind != "user_tags":
        raise ConfigError(f"{run_folder.path}: expected the run of a model of tags, but its model.kind is {config.model.kind!r}")
    finished_config(run_folder)
    dataset = load_tag_dataset(config.data)
    if (run_folder.read_state() or {}).get("data") != tagging_fingerprint(dataset):
        raise DataError(f"{run_folder.path}: the data {dataset.name!r} has changed since this run: its tags, rows or fields differ")
    set_precision(config)
    model = build_user_tag_model(config, dataset)
    batches = tag_batches(dataset.train, StateGatherer(dataset.states), batch_size=config.training.batch_size)
    create_variables(model, next(iter(batches.from_step(0).take(1))))
    restore_best(model, run_folder)
    return LoadedTagRun(config, dataset, model)


def tag_task(model: UserTagModel, dataset: TagDataset, config: RunConfig) -> TrainingTask:
    """What a user-tag model learns from: the training rows, judged on the validation part."""
    evaluator = TagEvaluator(model, dataset, config.evaluation.cutoffs, config.evaluation.batch_size)
    return TrainingTask(
        dataset=dataset.name,
        fingerprint=tagging_fingerprint(dataset),
        num_examples=len(dataset.train),
        batches=tag_batches(dataset.train, evaluator.states, batch_size=config.training.batch_size, seed=config.seed),
        validate=evaluator.validate,
    )


def expert_diagnostics(model: UserTagModel, dataset: TagDataset) -> dict[str, Any]:
    """How tasks use the experts: per task ``gate_entropy`` (1: all tags mix all alike) and ``shares``, over tags by their frequency; with
    kernels, the largest and the mean ``kernel_cosine`` of two. Empty for models without a gate."""
    tasks = range(len(dataset.task_names))
    if all(len(model.user_encoder.experts_of(task)) == 1 for task in tasks):
        return {}
    described: dict[str, Any] = {
        dataset.task_names[task]: {
            "gate_entropy": gate_entropy(model, task),
            "shares": {str(expert): share for expert, share in expert_shares(model, task, dataset.tag_counts[task]).items()},
        }
        for task in tasks
    }
    if isinstance(model.user_encoder, VirtualKernelEncoder):
        cosines = kernel_cosines(model.user_encoder)
        pairs = cosines[np.triu_indices(len(cosines), k=1)]
        described["kernel_cosine"] = {"largest": float(pairs.max(initial=-1.0)), "mean": float(pairs.mean())}
    return described


def _measure(model: UserTagModel, config: RunConfig, dataset: TagDataset, folder: RunFolder, train: dict[str, float]) -> dict[str, Any]:
    evaluator = TagEvaluator(model, dataset, config.evaluation.cutoffs, config.evaluation.batch_size)
    tags = evaluator.tag_metrics(dataset.test_tags)
    experts = expert_diagnostics(model, dataset)
    if experts:
        shares = {name: expert_shares(model, task, dataset.tag_counts[task]) for task, name in enumerate(dataset.task_names)}
        cosines = kernel_cosines(model.user_encoder) if isinstance(model.user_encoder, VirtualKernelEncoder) else None
        plot_experts(shares, cosines, folder.plots / "experts.png")
    return {
        "test": {**evaluator.row_metrics(dataset.test), **mean_over_tasks([kinds["all"]["model"] for kinds in tags.values()])},
        "test_tags": tags,
        "valid": evaluator.validate(),
        **({"experts": experts} if experts else {}),
        "exact_by_inner_product": model.exact_by_inner_product,
        "train": train,
        "data": dict(dataset.report),
        "versions": versions(),
        "system": config.system,
        "dataset": dataset.name,
        "seed": config.seed,
    }


def _counts(dataset: TagDataset) -> str:
    parts = ((name, getattr(dataset, name)) for name in ("train", "valid", "test"))
    rows = ", ".join(f"{len(rows):,} rows to {name}" for name, rows in parts)
    users = f"{len(dataset.users):,} users in {len(dataset.states):,} states"
    return f"{len(dataset.tags):,} tags, {users}, tasks {', '.join(dataset.task_names)}; {rows}"
