"""The kind that knows users by tags: trained on labelled items with tags, measured beside two heuristic baselines."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.config.effects import Reasons
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import Vocabulary
from tfmi.data.pipeline import RowBatches
from tfmi.data.tags.tag_batches import StateGatherer, tag_batches
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.data.tags.tag_loading import load_tag_dataset
from tfmi.data.tags.tag_tasks import task_thresholds
from tfmi.evaluation.tag_diagnostics import expert_shares, gate_entropy, kernel_cosines
from tfmi.evaluation.tag_evaluation import TAG_METRICS, TagEvaluator, mean_over_tasks
from tfmi.export.tags.export_user_tags import export_user_tags
from tfmi.kinds.base import Exporter, TrainedKind, run_metadata
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS
from tfmi.layers.user_encoders.virtual_kernel_encoder import VirtualKernelEncoder
from tfmi.losses.tasks.task_losses import TASK_LOSSES
from tfmi.models.kind_settings import register_kind
from tfmi.models.user_tags.build_user_tag_model import build_user_tag_model
from tfmi.models.user_tags.user_tag_model import UserTagModel
from tfmi.plots.expert_plots import plot_experts
from tfmi.reports.gathering.gather import gather_tags
from tfmi.training.fingerprint import tagging_fingerprint
from tfmi.training.fitting import Fitted
from tfmi.training.monitors import AUTO, simple_monitor
from tfmi.training.run_folder import RunFolder
from tfmi.training.trainer import TrainingTask

log = logging.getLogger(__name__)

ROW_MONITORS = ("auc", "log_loss")
SPLIT_READS = ("method", "valid_share", "test_share")


@register_kind
class UserTagsKind(TrainedKind[TagDataset, UserTagModel, TagEvaluator]):
    """Models that say which tags a user likes, and which users like a tag."""

    name = "user_tags"
    heading = "systems that know users by tags"
    a_model = "a model of tags"
    answers = "tags"
    model_keys = ("user_tags",)
    identity_key = "user_tags.encoder"
    data_that_counts = "tags, rows or fields"

    def unread(self, config: RunConfig) -> Reasons:
        """See ``KindSettings.unread``."""
        sequences = "models of tags see users as fields, not as sequences of items"
        of_rankers, of_retrievers = "this is for models that rank", "this is for models that answer with items"
        split = {f"data.split.{key}": "models of tags are split by time" for key in type(config.data.split).model_fields}
        return {
            **super().unread(config),
            **{key: reason for key, reason in split.items() if key.rpartition(".")[2] not in SPLIT_READS},
            **_unread_of_tagging(config),
            **_unread_of_model(config),
            "data.impressions": of_rankers,
            "data.embedded.impressions": of_rankers,
            "data.history_length": sequences,
            "data.min_history": sequences,
            "data.examples": sequences,
            "evaluation.exclude_history": of_retrievers,
            "evaluation.ndcg_ideal": of_retrievers,
            "evaluation.best_test_epoch": of_retrievers,
            "index.integration": of_retrievers,
            "index.quota_exponent": of_retrievers,
            "export.diversity_pool": of_retrievers,
            "export.explain_interests": of_retrievers,
            "export.filterable": of_retrievers,
            "export.most_results": of_retrievers,
            "export.state": of_retrievers,
            "training.warm_start": of_retrievers,
            "export.ranking_pool": of_rankers,
            "export.retrieval_weight": of_rankers,
        }

    def checked(self, config: RunConfig) -> tuple[Any, ...]:
        """See ``KindSettings.checked``."""
        return config.model, task_thresholds(config.data)

    def check(self, config: RunConfig) -> None:
        """See ``KindSettings.check``."""
        user_tags = config.model.user_tags
        sizes = {"dimension": user_tags.dimension, "num_tasks": len(task_thresholds(config.data))}
        if sizes.keys() & user_tags.encoder.keys():
            raise ConfigError(
                "model.user_tags.encoder: leave out dimension and num_tasks; model.user_tags.dimension and data.tagging.tasks say them"
            )
        USER_ENCODERS.build({**user_tags.encoder, **sizes}, "model.user_tags.encoder")
        TASK_LOSSES.build(user_tags.task_loss, "model.user_tags.task_loss")
        if user_tags.tag_hidden is None and user_tags.tag_dimension not in (None, user_tags.dimension):
            raise ConfigError(
                f"model.user_tags.tag_dimension: {user_tags.tag_dimension}, but without tag_hidden a tag's embedding is its vector, as "
                f"wide as model.user_tags.dimension {user_tags.dimension}"
            )

    def check_monitor(self, config: RunConfig) -> None:
        """See ``KindSettings.check_monitor``."""
        monitor, cutoffs = config.training.monitor, config.evaluation.cutoffs
        metric, _, cutoff = monitor.partition("@")
        at_cutoff = metric in TAG_METRICS and cutoff.isdigit() and int(cutoff) in cutoffs
        if monitor not in (AUTO, *ROW_MONITORS) and not at_cutoff:
            raise ConfigError(
                f"training.monitor: a model of tags is chosen by {' or '.join(ROW_MONITORS)}, or by {', '.join(TAG_METRICS)} at one of "
                f"evaluation.cutoffs {cutoffs}, such as ndcg@{cutoffs[0]}, got {monitor!r}"
            )

    def load_data(self, config: RunConfig) -> TagDataset:
        """See ``ModelKind.load_data``."""
        return load_tag_dataset(config.data)

    def describe_data(self, data: TagDataset) -> str:
        """See ``ModelKind.describe_data``."""
        parts = ((name, getattr(data, name)) for name in ("train", "valid", "test"))
        rows = ", ".join(f"{len(rows):,} rows to {name}" for name, rows in parts)
        users = f"{len(data.users):,} users in {len(data.states):,} states"
        return f"{len(data.tags):,} tags, {users}, tasks {', '.join(data.task_names)}; {rows}"

    def vocabulary(self, data: TagDataset) -> Vocabulary:
        """The tags."""
        return data.tags

    def fingerprint(self, data: TagDataset) -> str:
        """See ``ModelKind.fingerprint``."""
        return tagging_fingerprint(data)

    def build(self, config: RunConfig, data: TagDataset) -> UserTagModel:
        """See ``ModelKind.build``."""
        return build_user_tag_model(config, data)

    def about(self, model: UserTagModel) -> str:
        """The tasks."""
        return f"tasks: {', '.join(model.task_names)}"

    def evaluator(self, model: UserTagModel, data: TagDataset, config: RunConfig) -> TagEvaluator:
        """See ``ModelKind.evaluator``."""
        return TagEvaluator(model, data, config.evaluation.cutoffs, config.evaluation.batch_size)

    def batches(self, model: UserTagModel, data: TagDataset, config: RunConfig) -> RowBatches:
        """Training batches of labelled rows."""
        del model
        return tag_batches(data.train, StateGatherer(data.states), batch_size=config.training.batch_size, seed=config.seed)

    def task(self, model: UserTagModel, data: TagDataset, config: RunConfig, evaluator: TagEvaluator | None = None) -> TrainingTask:
        """The training rows, judged on the validation part."""
        measuring = evaluator or self.evaluator(model, data, config)
        return TrainingTask(
            dataset=data.name,
            fingerprint=self.fingerprint(data),
            num_examples=len(data.train),
            batches=tag_batches(data.train, measuring.states, batch_size=config.training.batch_size, seed=config.seed),
            validate=measuring.validate,
            monitor=simple_monitor(config.training.monitor, "auc", "log_loss"),
        )

    def fit(
        self,
        config: RunConfig,
        data: TagDataset,
        folder: RunFolder | None = None,
        *,
        resume: bool = False,
        callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    ) -> Fitted[UserTagModel, TagEvaluator] | None:
        """See ``ModelKind.fit``; how many parameters the encoder of users has is reported, too."""
        fitted = super().fit(config, data, folder, resume=resume, callbacks=callbacks)
        if fitted is None:
            return None
        of_encoder = sum(int(variable.shape.num_elements()) for variable in fitted.model.user_encoder.trainable_variables)
        return dataclasses.replace(fitted, took={**fitted.took, "encoder_parameters": of_encoder})

    def evaluate(
        self,
        model: UserTagModel,
        data: TagDataset,
        config: RunConfig,
        *,
        evaluator: TagEvaluator | None = None,
        plots: Path | None = None,
    ) -> dict[str, Any]:
        """Metrics of labelled rows, of later tags beside two heuristic baselines, and how tasks use experts."""
        evaluator = evaluator or self.evaluator(model, data, config)
        tags = evaluator.tag_metrics(data.test_tags)
        experts = expert_diagnostics(model, data)
        cosines = kernel_cosines(model.user_encoder) if isinstance(model.user_encoder, VirtualKernelEncoder) else None
        if experts and plots is not None:
            shares = {name: expert_shares(model, task, data.tag_counts[task]) for task, name in enumerate(data.task_names)}
            plot_experts(shares, cosines, plots / "experts.png")
        if plots is not None and config.evaluation.report:
            gather_tags(
                RunFolder(plots.parent), data, config.evaluation, evaluator=evaluator, monitor=self.headline(config), cosines=cosines
            )
        return {
            "test": {**evaluator.row_metrics(data.test), **mean_over_tasks([kinds["all"]["model"] for kinds in tags.values()])},
            "test_intervals": evaluator.tag_intervals(data.test_tags),
            "test_tags": tags,
            "valid": evaluator.validate(),
            **({"experts": experts} if experts else {}),
            "exact_by_inner_product": model.exact_by_inner_product,
        }

    def headline(self, config: RunConfig) -> str:
        """The metric that a report speaks of first."""
        return ROW_MONITORS[0] if config.training.monitor == AUTO else config.training.monitor

    def describe(self, config: RunConfig, metrics: Mapping[str, Any]) -> str:
        """The test metrics as tables: of labelled rows, and of later tags, the model beside the two heuristic baselines."""
        rows = {name: value for name, value in metrics["test"].items() if name.partition(":")[0] in ROW_MONITORS}
        lines = [f"{'labelled rows':<28} {'':>10}", *(f"{name:<28} {value:>10.4f}" for name, value in rows.items())]
        shown = [f"{name}@{cutoff}" for name in TAG_METRICS for cutoff in config.evaluation.cutoffs]
        for task, kinds in metrics["test_tags"].items():
            for kind, by_name in kinds.items():
                title = f"{task}: {kind} later tags"
                lines += ["", f"{title:<28} " + " ".join(f"{name:>12}" for name in shown)]
                lines += [f"{name:<28} " + " ".join(f"{values[key]:>12.4f}" for key in shown) for name, values in by_name.items()]
        return "\n".join(lines)

    def exporter(self, config: RunConfig, data: TagDataset, folder: RunFolder, target: Path) -> Exporter[UserTagModel]:
        """See ``ModelKind.exporter``."""
        del folder
        return _UserTagExporter(config, data, target)


class _UserTagExporter(Exporter[UserTagModel]):
    def __init__(self, config: RunConfig, data: TagDataset, target: Path) -> None:
        self._config, self._data, self._target = config, data, target

    def publish(self, model: UserTagModel, metrics: Mapping[str, Any]) -> Path:
        log.info("Exporting (indexes, warm-up, checks) ...")
        config, data = self._config, self._data
        return export_user_tags(
            model,
            data,
            self._target,
            export=config.export,
            index=config.index,
            metadata=run_metadata(config, data, metrics),
        )


def _unread_of_tagging(config: RunConfig) -> Reasons:
    """What of ``data.tagging`` the data or the rest of it does not read."""
    tagging = config.data.tagging
    reasons: Reasons = {}
    if not tagging.negatives:
        drawn = "data.tagging.negatives is 0, so nothing is drawn"
        reasons |= {"data.tagging.negative_sampling": drawn, "data.tagging.seed": drawn}
    if len(task_thresholds(config.data)) == 1:
        reasons["data.tagging.label_space"] = "with one task no task comes before another; name several in data.tagging.tasks"
    if config.data.dataset == "lastfm":
        reasons["data.tagging.tag_columns"] = "the tags of 'lastfm' are those that users give; there is no catalogue with columns"
    return reasons


def _unread_of_model(config: RunConfig) -> Reasons:
    """What of ``model.user_tags`` the rest of it does not read."""
    model = config.model.user_tags
    reasons: Reasons = {}
    if model.tag_hidden is None:
        reasons["model.user_tags.tag_networks"] = "model.user_tags.tag_hidden is null, so tags have no network"
    if model.scoring == "dot":
        reasons["model.user_tags.initial_scale"] = "model.user_tags.scoring is dot; cosines alone are scaled"
    else:
        reasons["model.user_tags.global_bias"] = "logits of cosines always have an offset; this is for model.user_tags.scoring: dot"
    return reasons


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
