"""The kind that ranks candidates: trained on impressions, exported behind a retriever."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmi.config import RunConfig
from tfmi.config.effects import Reasons, split_method, unread_of_split
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import InteractionDataset
from tfmi.data.impressions.impression_batches import impression_batches
from tfmi.data.impressions.impression_dataset import ImpressionRows, RankingDataset
from tfmi.data.impressions.impression_loading import load_ranking_dataset, reads_impressions
from tfmi.data.impressions.training_coarse_labels import training_coarse_labels
from tfmi.data.loading import load_everybody
from tfmi.data.pipeline import RowBatches
from tfmi.evaluation.binary_metrics import reliability_bins, sigmoid
from tfmi.evaluation.click_prediction import (
    RARE_IMPRESSIONS,
    ImpressionEvaluator,
    impression_intervals,
    impression_metrics,
    impression_slices,
    truth_metrics,
)
from tfmi.evaluation.own_items import decide_own_items, describe_own_items
from tfmi.export.filter_inputs import check_filterable
from tfmi.kinds.base import Exporter, TrainedKind, kind_named, kind_of
from tfmi.kinds.two_stage import TwoStageExport, describe_two_stage, retriever_config
from tfmi.layers.backbones.backbone import BACKBONES
from tfmi.models.kind_settings import register_kind
from tfmi.models.ranking.build_ranker import build_ranker
from tfmi.models.ranking.ranker import InterestRanker
from tfmi.models.systems import SYSTEMS
from tfmi.plots.ranking_plots import plot_reliability
from tfmi.reports.gathering.gather import gather_ranker
from tfmi.training.fingerprint import impressions_fingerprint
from tfmi.training.monitors import AUTO, simple_monitor
from tfmi.training.run_folder import RunFolder
from tfmi.training.trainer import TrainingTask

MONITORS = ("auc", "gauc", "log_loss", "calibration_error")
DESCRIBED = ("auc", "gauc", "log_loss", "calibration_error", "predicted_mean", "observed_mean")
OF_COARSE_HEADS = (
    "coarse_hidden",
    "coarse_weight",
    "soft",
    "partial_interest",
    "no_interest",
    "detach",
    "fusion",
    "fusion_bias",
    "shuffle_coarse",
)


@register_kind
class RankingKind(TrainedKind[RankingDataset, InterestRanker, ImpressionEvaluator]):
    """Models that predict the click on a candidate, with coarse heads or without."""

    name = "ranking"
    heading = "systems that rank candidates"
    a_model = "a ranker"
    model_keys = ("ranker",)
    identity_key = "ranker.backbone"
    data_that_counts = "items or impressions"

    def identity(self, model: Mapping[str, Any]) -> str | None:
        """Coarse heads make a system, whatever backbone they are around."""
        return "any, with coarse features" if model["ranker"]["coarse_features"] else self.component(model)

    def unread(self, config: RunConfig) -> Reasons:
        """See ``KindSettings.unread``. The retriever of an export has the ranker's data, evaluation and index, so that it reads these."""
        of_tags = "this is for models of tags"
        return {
            **super().unread(config),
            **_unread_data(config),
            **_unread_by_retriever(config),
            **_unread_of_heads(config),
            "data.tagging": of_tags,
            "export.audience_size": of_tags,
            "export.state": "a version of two stages is not made from its parts without training",
            "training.warm_start": "only retrievers go on where another run ended",
        }

    def check(self, config: RunConfig) -> None:
        """See ``KindSettings.check``."""
        ranker = config.model.ranker
        BACKBONES.build(ranker.backbone, "model.ranker.backbone")
        if not ranker.use_id and not ranker.use_popularity and ranker.features == []:
            raise ConfigError("model.ranker: use_id and use_popularity are false and features is empty, so nothing is left to embed")
        if len(set(ranker.coarse_features)) != len(ranker.coarse_features) and ranker.coarse_features != "auto":
            raise ConfigError(f"model.ranker.coarse_features: each once, got {', '.join(ranker.coarse_features)}")

    def check_monitor(self, config: RunConfig) -> None:
        """See ``KindSettings.check_monitor``."""
        monitor = config.training.monitor
        if monitor not in (AUTO, *MONITORS):
            raise ConfigError(f"training.monitor: a model that ranks is chosen by one of {', '.join(MONITORS)}, got {monitor!r}")

    def load_data(self, config: RunConfig) -> RankingDataset:
        """See ``ModelKind.load_data``."""
        return load_ranking_dataset(config.data)

    def load_clicks(self, config: RunConfig) -> InteractionDataset:
        """What the retriever of an export learned from; see ``ModelKind.load_clicks``."""
        return self.load_data(config).retrieval

    def load_everybody(self, config: RunConfig) -> InteractionDataset:
        """Everybody's clicks; see ``ModelKind.load_everybody``."""
        return load_everybody(config.data, clicks_alone=True)

    def decisions(self, config: RunConfig, data: RankingDataset) -> list[str]:
        """What becomes of own items in lists of both stages."""
        return [describe_own_items(decide_own_items(config, data.retrieval))]

    def describe_data(self, data: RankingDataset) -> str:
        """See ``ModelKind.describe_data``."""
        parts = ((name, getattr(data, name)) for name in ("train", "valid", "test"))
        rows = ", ".join(f"{len(rows):,} rows ({rows.labels.mean():.1%} clicked) to {name}" for name, rows in parts)
        return f"{len(data.catalogue.vocabulary):,} items, {len(data.clicks):,} users, {rows}"

    def fingerprint(self, data: RankingDataset) -> str:
        """See ``ModelKind.fingerprint``."""
        return impressions_fingerprint(data)

    def build(self, config: RunConfig, data: RankingDataset) -> InterestRanker:
        """See ``ModelKind.build``."""
        return build_ranker(config, data)

    def about(self, model: InterestRanker) -> str:
        """The coarse features."""
        return f"coarse features: {', '.join(model.coarse_features) or 'none'}"

    def evaluator(self, model: InterestRanker, data: RankingDataset, config: RunConfig) -> ImpressionEvaluator:
        """See ``ModelKind.evaluator``."""
        return ImpressionEvaluator(model, data, config.evaluation.batch_size)

    def batches(self, model: InterestRanker, data: RankingDataset, config: RunConfig) -> RowBatches:
        """Training batches, coarse labels included if the model learns from any."""
        shuffle_seed = config.seed + 4000 if config.model.ranker.shuffle_coarse else None
        coarse = training_coarse_labels(data, model.coarse_features, shuffle_seed=shuffle_seed) if model.coarse_features else None
        return impression_batches(
            data.train,
            data.clicks,
            history_length=config.data.history_length,
            batch_size=config.training.batch_size,
            seed=config.seed,
            profiles=data.profiles,
            coarse=coarse,
        )

    def task(
        self, model: InterestRanker, data: RankingDataset, config: RunConfig, evaluator: ImpressionEvaluator | None = None
    ) -> TrainingTask:
        """The training rows with their coarse labels, judged on the validation rows."""
        measuring = evaluator or self.evaluator(model, data, config)
        return TrainingTask(
            dataset=data.name,
            fingerprint=self.fingerprint(data),
            num_examples=len(data.train),
            batches=self.batches(model, data, config),
            validate=lambda: {**impression_metrics(data.valid, measuring.predict(data.valid).logits), **fusion_weights(model)},
            monitor=simple_monitor(config.training.monitor, "auc", "log_loss"),
        )

    def evaluate(
        self,
        model: InterestRanker,
        data: RankingDataset,
        config: RunConfig,
        *,
        evaluator: ImpressionEvaluator | None = None,
        plots: Path | None = None,
    ) -> dict[str, Any]:
        """Metrics of test and validation rows, of slices, of the fine head alone, and against the truth where it is known."""
        evaluator = evaluator or self.evaluator(model, data, config)
        predicted = evaluator.predict(data.test)
        if plots is not None:
            plot_reliability(reliability_bins(data.test.labels, sigmoid(predicted.logits), 20, equal_mass=True), plots / "reliability.png")
        variants = {"": predicted.logits}
        if model.fusion is not None:
            variants["_fine"] = predicted.heads[:, 0]
        measured: dict[str, Any] = {}
        for suffix, logits in variants.items():
            measured |= _measured(data.test, logits, data, suffix)
        if plots is not None and config.evaluation.report:
            folder = RunFolder(plots.parent)
            gather_ranker(folder, data, config.evaluation, predicted.logits, self.headline(config))
        return {
            **measured,
            "test_intervals": impression_intervals(data.test, predicted.logits),
            "valid": impression_metrics(data.valid, evaluator.predict(data.valid).logits),
            "fusion": fusion_weights(model),
        }

    def headline(self, config: RunConfig) -> str:
        """The metric that a report speaks of first."""
        return MONITORS[0] if config.training.monitor == AUTO else config.training.monitor

    def describe(self, config: RunConfig, metrics: Mapping[str, Any]) -> str:
        """The test metrics as a table: of all rows, of slices, of the fine head alone, and against the truth where it is known."""
        labels = {"test": "test", "test_fine": "fine head", "truth": "true likes", "truth_fine": "fine, true", "truth_rare": "rare, true"}
        rows = {label: metrics[key] for key, label in labels.items() if key in metrics} | metrics["test_slices"]
        lines = [f"{'':<15} " + " ".join(f"{name.replace('calibration_error', 'calib.err.'):>14}" for name in DESCRIBED)]
        for label, values in rows.items():
            shown = " ".join(f"{values[name]:>14.4f}" if name in values else f"{'-':>14}" for name in DESCRIBED)
            lines.append(f"{label:<15} {shown}")
        if "two_stage" in metrics:
            lines += ["", describe_two_stage(config, metrics["two_stage"])]
        return "\n".join(lines)

    def check_export(self, config: RunConfig, target: Path) -> None:
        """The retriever, the index and the folder, as far as they are known before there is data; see ``ModelKind.check_export``."""
        retriever = retriever_config(config)
        kind_of(retriever).check_export(retriever, target)

    def exporter(self, config: RunConfig, data: RankingDataset, folder: RunFolder, target: Path) -> Exporter[InterestRanker]:
        """An export is of two stages; see ``tfmi.kinds.two_stage``."""
        check_filterable(config.export.filterable or [], data.catalogue)
        return TwoStageExport(config, data, folder, target)


def _unread_data(config: RunConfig) -> Reasons:
    """What of ``data`` impressions do not read."""
    data = config.data
    reasons: Reasons = {}
    if reads_impressions(data):
        reasons |= unread_of_split(data.split, "given" if split_method(data) == "given" else "by_time", data.dataset)
    else:
        reasons |= unread_of_split(data.split, split_method(data), data.dataset)
    drawn = "data.impressions.sampled_negatives is 0, so nothing is drawn"
    clicks_alone = f"{data.dataset!r} holds clicks alone"
    if not data.impressions.sampled_negatives:
        reasons["data.impressions.seed"] = drawn
    if data.dataset == "embedded":
        clicks_alone = "the generator says what is clicked"
    if data.dataset != "log" or not reads_impressions(data):
        reasons["data.impressions.positive_events"] = clicks_alone if data.dataset != "movielens" else "ratings have values, and no types"
    if data.dataset not in ("log", "movielens") or not reads_impressions(data):
        reasons["data.impressions.positive_weight"] = clicks_alone
    return reasons


def _unread_by_retriever(config: RunConfig) -> Reasons:
    """What nothing reads where the stage before counts: it is neither trained by steps nor searched with an index."""
    chosen = config.model.ranker.retriever
    system = SYSTEMS.get(chosen.system)
    if chosen.run is not None or system is None or kind_named(system.kind).needs_index:
        return {}
    counts = f"the retriever {chosen.system!r} counts"
    keys = ["index", "data.examples", "evaluation.best_test_epoch"]
    # Clicks alone become rows of the ranker's from their min_history-th on.
    return dict.fromkeys((*keys, *(["data.min_history"] if reads_impressions(config.data) else [])), counts)


def _unread_of_heads(config: RunConfig) -> Reasons:
    """What of ``model.ranker`` its heads do not read."""
    ranker = config.model.ranker
    if ranker.coarse_features == []:
        bare = "model.ranker.coarse_features is empty: a bare backbone has no coarse heads"
        return {f"model.ranker.{key}": bare for key in OF_COARSE_HEADS}
    reasons: Reasons = {}
    if not ranker.soft:
        soft = "model.ranker.soft is false, so all rows count alike"
        reasons |= {"model.ranker.partial_interest": soft, "model.ranker.no_interest": soft}
    if not ranker.fusion:
        reasons["model.ranker.fusion_bias"] = "model.ranker.fusion is false: the fine head predicts alone"
    return reasons


def fusion_weights(model: InterestRanker) -> dict[str, float]:
    """How much each head counts in the prediction, by name; a negative weight turns a head around. Nothing without fusion."""
    if model.fusion is None:
        return {}
    names = ["fine", *model.coarse_features]
    weights = {f"fusion_{name}": float(value) for name, value in zip(names, model.fusion.weighing.numpy(), strict=True)}
    return weights if model.fusion.bias is None else {**weights, "fusion_bias": float(model.fusion.bias.numpy())}


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
