"""The kinds that retrieve: models with interests that are trained by steps, and heuristics that count."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.config.effects import Reasons, split_method, unread_of_split, unread_of_towers
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.dataset import InteractionDataset
from tfmi.data.loading import load_dataset, load_everybody
from tfmi.data.pipeline import TrainingBatches, examples_per_epoch
from tfmi.evaluation.bootstrap import bootstrap_intervals, write_user_metrics
from tfmi.evaluation.diagnostics import interest_diagnostics
from tfmi.evaluation.full_catalogue import CatalogueEvaluator
from tfmi.evaluation.metrics import session_metrics
from tfmi.evaluation.own_items import decide_own_items, describe_own_items, with_own_items_decided
from tfmi.evaluation.routing import Routing, routing_of_users
from tfmi.evaluation.votes import choose_weight
from tfmi.export import export_savedmodel
from tfmi.export.filter_inputs import check_filterable
from tfmi.kinds.base import Exporter, LoadedRun, ModelKind, TrainedKind, kind_of, load_finished, run_metadata
from tfmi.layers.base import EXTRACTORS, READOUTS, REPETITIONS
from tfmi.layers.graph.propagation import PROPAGATIONS
from tfmi.layers.sequence_encoders.sequence_encoder import ENCODERS
from tfmi.losses.base import OBJECTIVES, REGULARIZERS, WEIGHTINGS
from tfmi.models.heuristics.heuristic import HEURISTICS
from tfmi.models.kind_settings import register_kind
from tfmi.models.recommender import DirectRecommender, Retriever
from tfmi.models.retrieval.build_retriever import build_heuristic, build_model, build_votes
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.retrieval.part_checks import check_parts, check_sequences, usage_of
from tfmi.plots.training_plots import plot_routing
from tfmi.refresh.stored_state import STATE_FOLDER, write_state
from tfmi.refresh.warm_start import start_from, store_for_warm_starts
from tfmi.reports.gathering.gather import gather_retriever
from tfmi.training.fingerprint import data_fingerprint
from tfmi.training.fitting import Fitted
from tfmi.training.monitors import AUTO, Monitor, retrieval_monitor
from tfmi.training.projector import write_projector
from tfmi.training.run_folder import RunFolder
from tfmi.training.trainer import Trainer, TrainingTask

log = logging.getLogger(__name__)

MONITORS = ("recall", "hr", "ndcg", "mrr", "precision", "coverage")
DESCRIBED = ("recall", "hr", "ndcg", "mrr", "precision", "coverage", "diversity")
AnyRecommender = TypeVar("AnyRecommender", bound=Retriever)


class RetrievalKind(ModelKind[InteractionDataset, AnyRecommender, CatalogueEvaluator]):
    """What both kinds that retrieve have in common: data of sequences, and answers that are items of the whole catalogue."""

    heading = "systems that retrieve items"
    a_model = "a retriever"
    is_retriever = True

    def unread(self, config: RunConfig) -> Reasons:
        """See ``KindSettings.unread``."""
        of_rankers, of_tags = f"{config.system!r} retrieves; this is for models that rank", "this is for models of tags"
        return {
            **super().unread(config),
            **unread_of_split(config.data.split, split_method(config.data), config.data.dataset),
            "data.impressions": of_rankers,
            "data.embedded.impressions": of_rankers,
            "data.tagging": of_tags,
            "export.audience_size": of_tags,
            "export.ranking_pool": of_rankers,
            "export.retrieval_weight": of_rankers,
        }

    def load_data(self, config: RunConfig) -> InteractionDataset:
        """See ``ModelKind.load_data``."""
        return load_dataset(config.data)

    def load_clicks(self, config: RunConfig) -> InteractionDataset:
        """See ``ModelKind.load_clicks``."""
        return self.load_data(config)

    def load_everybody(self, config: RunConfig) -> InteractionDataset:
        """See ``ModelKind.load_everybody``."""
        return load_everybody(config.data)

    def decisions(self, config: RunConfig, data: InteractionDataset) -> list[str]:
        """What becomes of own items, and whether items without events are known by their features."""
        lines = [describe_own_items(decide_own_items(config, data))]
        cold = data.report.get("cold_items_as_candidates")
        if cold and config.model.kind == "interests" and config.model.item_tower.features == []:
            lines.append(
                f"{cold:,} items without enough events are candidates, but model.item_tower.features is empty: this model knows nothing of "
                "them but their ids. Set data.split.cold_items: left_out, or let the model read features"
            )
        return lines

    def describe_data(self, data: InteractionDataset) -> str:
        """See ``ModelKind.describe_data``."""
        return (
            f"{len(data.catalogue.vocabulary):,} items, {len(data.train):,} training sequences with {data.train.num_events:,} events, "
            f"{len(data.valid):,} validation and {len(data.test):,} test users"
        )

    def fingerprint(self, data: InteractionDataset) -> str:
        """See ``ModelKind.fingerprint``."""
        return data_fingerprint(data)

    def evaluator(self, model: AnyRecommender, data: InteractionDataset, config: RunConfig) -> CatalogueEvaluator:
        """See ``ModelKind.evaluator``."""
        decided = with_own_items_decided(config, data)
        return CatalogueEvaluator(model, data.catalogue, decided.evaluation, config.index.allotment())

    def evaluate(
        self,
        model: AnyRecommender,
        data: InteractionDataset,
        config: RunConfig,
        *,
        evaluator: CatalogueEvaluator | None = None,
        plots: Path | None = None,
    ) -> dict[str, Any]:
        """Metrics on the test and validation users over the full catalogue, slices of the test users, and how interests differ.

        The metrics of each test user are written beside the folder of plots, if there is one.
        """
        evaluator = evaluator or self.evaluator(model, data, config)
        own = decide_own_items(config, data)
        recommended = evaluator.rank(data.test, data.profiles, exclude_history=own.excluded)
        otherwise = evaluator.measure(evaluator.rank(data.test, data.profiles, exclude_history=not own.excluded), data.test)
        interests = {}
        routing: list[Routing] = []
        if isinstance(model, InterestRetrieval):
            if plots is not None:
                routing = routing_of_users(model, data.valid, profiles=data.profiles)
                plot_routing(routing, data.catalogue, plots / "routing.png")
            if model.extractor.num_interests > 1:
                size = config.evaluation.batch_size
                described = interest_diagnostics(model, recommended.items, data.test, batch_size=size, profiles=data.profiles)
                interests = {"interests": described}
        each = evaluator.measure_each(recommended, data.test)
        if plots is not None:
            folder = RunFolder(plots.parent)
            write_user_metrics(folder.test_users, each)
            if config.evaluation.report:
                gather_retriever(
                    folder,
                    data,
                    with_own_items_decided(config, data).evaluation,
                    config.data.history_length,
                    fingerprint=self.fingerprint(data),
                    recommended=recommended.items,
                    each=each,
                    monitor=_monitor(config, data).name,
                    routing=routing,
                )
        test, slices = evaluator.measure(recommended, data.test), evaluator.measure_slices(recommended, data.test)
        return {
            "test": test,
            "test_intervals": bootstrap_intervals(each),
            "test_slices": slices,
            **(_as_for_sessions(test, slices) if config.data.holds_sessions() else {}),
            "own_items": {
                **own.report(),
                "test_with": otherwise if own.excluded else test,
                "test_without": test if own.excluded else otherwise,
            },
            "valid": evaluator.evaluate(data.valid, data.profiles),
            **interests,
        }

    def describe(self, config: RunConfig, metrics: Mapping[str, Any]) -> str:
        """The test metrics as a table."""
        cutoffs = config.evaluation.cutoffs
        lines = [f"{'test':<10} " + " ".join(f"{'@' + str(cutoff):>8}" for cutoff in cutoffs)]
        for name in DESCRIBED:
            if f"{name}@{cutoffs[0]}" in metrics["test"]:
                lines.append(f"{name:<10} " + " ".join(f"{metrics['test'][f'{name}@{cutoff}']:>8.4f}" for cutoff in cutoffs))
        return "\n".join(lines)

    def state_writer(self, config: RunConfig, data: InteractionDataset, model: AnyRecommender) -> Callable[[Path], None] | None:
        """Writes into a version's folder what another version can be made from; None if there is nothing."""
        del config, data, model
        return None

    def exporter(self, config: RunConfig, data: InteractionDataset, folder: RunFolder, target: Path) -> Exporter[AnyRecommender]:
        """See ``ModelKind.exporter``."""
        del folder
        check_filterable(config.export.filterable or [], data.catalogue)
        return _RetrieverExporter(config, data, target, self.state_writer)


@register_kind
class InterestsKind(RetrievalKind[InterestRetrieval], TrainedKind[InteractionDataset, InterestRetrieval, CatalogueEvaluator]):
    """Models that know a user as one or several interests, trained by gradient."""

    name = "interests"
    model_keys = (
        "dimension",
        "encoder",
        "extractor",
        "readout",
        "objective",
        "weighting",
        "repetition",
        "votes",
        "regularizers",
        "item_tower",
        "user_tower",
        "normalize",
        "temperature",
        "history_dropout",
        "negatives_weight",
    )
    identity_key = "extractor"

    def identity(self, model: Mapping[str, Any]) -> str | None:
        """The extractor, and for one that is nothing but its encoder's state, the encoder."""
        extractor = model["extractor"]
        encoder = extractor.get("encoder")
        return f"newest_state over {encoder['name']}" if extractor["name"] == "newest_state" and encoder else self.component(model)

    def unread(self, config: RunConfig) -> Reasons:
        """See ``KindSettings.unread``."""
        reasons = {**super().unread(config), **unread_of_towers(config.model)}
        # What a prepared log holds is known once it is read.
        if config.data.dataset != "prepared" and (config.data.dataset != "log" or config.data.log.negative_events is None):
            reasons["model.negatives_weight"] = "data.log.negative_events names no type of event that turns an item down"
        return reasons

    def checked(self, config: RunConfig) -> tuple[Any, ...]:
        """See ``KindSettings.checked``."""
        return config.model, config.data.examples, config.index.integration

    def check(self, config: RunConfig) -> None:
        """See ``KindSettings.check``."""
        model = config.model
        extractor = EXTRACTORS.build(model.extractor, "model.extractor")
        readout = READOUTS.build(model.readout, "model.readout")
        encoder = None if model.encoder is None else ENCODERS.build(model.encoder, "model.encoder")
        if config.data.examples == "sequences":
            check_sequences(extractor, encoder)
        if model.item_tower.propagation is not None:
            PROPAGATIONS.build(model.item_tower.propagation, "model.item_tower.propagation")
        objective = OBJECTIVES.build(model.objective, "model.objective")
        weighting = WEIGHTINGS.build(model.weighting, "model.weighting")
        if model.repetition is not None:
            REPETITIONS.build(model.repetition, "model.repetition")
        build_votes(config)
        regularizers = {label: REGULARIZERS.build(spec, f"model.regularizers.{label}") for label, spec in model.regularizers.items()}
        repeats, learned = model.repetition is not None, model.votes is not None and model.votes.learned
        check_parts(extractor, readout, objective, weighting, regularizers, repeats=repeats, learned_votes=learned)
        if config.index.integration == "allotted":
            if model.repetition is not None:
                raise ConfigError("index.integration: 'allotted' gives places to interests, but model.repetition to a user's own items")
            if model.votes is not None:
                raise ConfigError("index.integration: 'allotted' gives places to interests, but model.votes to what counts vote for")
            usage_of(regularizers.values(), readout)
        if not model.item_tower.use_id and model.item_tower.features == []:
            raise ConfigError("model.item_tower: use_id is false and features is empty, so nothing is left to embed")

    def check_monitor(self, config: RunConfig) -> None:
        """See ``KindSettings.check_monitor``."""
        monitor, cutoffs = config.training.monitor, config.evaluation.cutoffs
        metric, _, cutoff = monitor.partition("@")
        if monitor == AUTO:
            return
        if metric not in MONITORS or not cutoff.isdigit() or int(cutoff) not in cutoffs:
            raise ConfigError(
                f"training.monitor: expected one of {', '.join(MONITORS)} at one of evaluation.cutoffs {cutoffs}, "
                f"such as recall@{cutoffs[-1]}, got {monitor!r}"
            )

    def build(self, config: RunConfig, data: InteractionDataset) -> InterestRetrieval:
        """See ``ModelKind.build``."""
        return build_model(config, data)

    def batches(self, model: InterestRetrieval, data: InteractionDataset, config: RunConfig) -> TrainingBatches:
        """Training batches of the dataset's sequences."""
        del model
        return TrainingBatches(
            data.train,
            history_length=config.data.history_length,
            min_history=config.data.min_history,
            batch_size=config.training.batch_size,
            seed=config.seed,
            order=config.data.examples,
            profiles=data.profiles,
        )

    def task(
        self, model: InterestRetrieval, data: InteractionDataset, config: RunConfig, evaluator: CatalogueEvaluator | None = None
    ) -> TrainingTask:
        """The dataset's training sequences, judged on its validation users over the full catalogue.

        Raises:
            DataError: There is not a single training example.
        """
        wanted = config.data
        examples = examples_per_epoch(data.train, wanted.min_history, wanted.examples, wanted.history_length)
        if examples == 0:
            raise DataError(
                f"{data.name}: no training example: no training sequence has more than data.min_history = {config.data.min_history} "
                "items. Lower data.min_history, or bring longer histories."
            )
        measuring = evaluator or self.evaluator(model, data, config)
        votes = model.votes
        return TrainingTask(
            dataset=data.name,
            fingerprint=self.fingerprint(data),
            num_examples=examples,
            batches=self.batches(model, data, config),
            validate=lambda: measuring.evaluate(data.valid, data.profiles),
            monitor=_monitor(config, data),
            settle=None
            if votes is None or votes.chosen is None
            else lambda metric: {"votes_weight": choose_weight(votes, measuring, data.valid, data.profiles, metric)},
            observe=(lambda: measuring.evaluate(data.test, data.profiles)) if config.evaluation.best_test_epoch else None,
            targets_per_example=examples_per_epoch(data.train, wanted.min_history) / examples,
        )

    def begin(self, trainer: Trainer, data: InteractionDataset, config: RunConfig) -> None:
        """See ``TrainedKind.begin``: a warm start goes on where an earlier run ended."""
        if config.training.warm_start is not None:
            start_from(Path(config.training.warm_start), trainer, data)

    def fit(
        self,
        config: RunConfig,
        data: InteractionDataset,
        folder: RunFolder | None = None,
        *,
        resume: bool = False,
        callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    ) -> Fitted[InterestRetrieval, CatalogueEvaluator] | None:
        """See ``ModelKind.fit``. Beside the checkpoints it stores what their rows stand for, for warm starts on newer data, and beside the
        event files the item vectors, for TensorBoard's projector."""
        fitted = super().fit(config, data, folder, resume=resume, callbacks=callbacks)
        if fitted is not None and folder is not None:
            store_for_warm_starts(folder, config, data)
            if config.training.tensorboard:
                write_projector(folder, fitted.model.item_vectors().numpy(), data.catalogue)
        return fitted

    def state_writer(self, config: RunConfig, data: InteractionDataset, model: InterestRetrieval) -> Callable[[Path], None] | None:
        """See ``RetrievalKind.state_writer``."""
        return lambda version: write_state(version / STATE_FOLDER, config, data, model)

    def measure(
        self, fitted: Fitted[InterestRetrieval, CatalogueEvaluator], data: InteractionDataset, config: RunConfig, plots: Path | None = None
    ) -> dict[str, Any]:
        """See ``ModelKind.measure``; with ``evaluation.best_test_epoch`` what was seen of the test users on the way, too."""
        metrics, observed = super().measure(fitted, data, config, plots), fitted.observed_best
        if observed:
            metrics["best_test_epoch"] = {**session_metrics(observed), **observed} if config.data.holds_sessions() else observed
        return metrics


@register_kind
class HeuristicKind(RetrievalKind[DirectRecommender]):
    """Heuristic models: they rank by themselves, without vectors or an index."""

    name = "heuristic"
    model_keys = ("heuristic",)
    identity_key = "heuristic"
    needs_index = False

    def unread(self, config: RunConfig) -> Reasons:
        """See ``KindSettings.unread``."""
        counts = f"{config.system!r} counts; it is not trained by steps"
        no_index = f"{config.system!r} counts and ranks by itself; there are no vectors to search"
        return {
            **super().unread(config),
            "seed": f"{config.system!r} counts; nothing is drawn",
            "data.min_history": counts,
            "data.examples": counts,
            "optimizer": counts,
            "export.explain_interests": counts,
            "export.state": counts,
            "training": counts,
            "evaluation.best_test_epoch": counts,
            "index": no_index,
        }

    def check(self, config: RunConfig) -> None:
        """See ``KindSettings.check``."""
        if config.model.heuristic is None:
            raise ConfigError(f"model.heuristic: model.kind 'heuristic' needs one; available: {', '.join(HEURISTICS.names())}")
        HEURISTICS.build(config.model.heuristic, "model.heuristic")

    def check_monitor(self, config: RunConfig) -> None:
        """Nothing is monitored."""

    def build(self, config: RunConfig, data: InteractionDataset) -> DirectRecommender:
        """See ``ModelKind.build``: counting is all that it does."""
        return build_heuristic(config, data)

    def fit(
        self,
        config: RunConfig,
        data: InteractionDataset,
        folder: RunFolder | None = None,
        *,
        resume: bool = False,
        callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    ) -> Fitted[DirectRecommender, CatalogueEvaluator]:
        """See ``ModelKind.fit``. There is nothing to resume, and no step for callbacks."""
        del folder, resume, callbacks
        started = time.perf_counter()
        heuristic = self.build(config, data)
        seconds = time.perf_counter() - started
        events = data.train.num_events
        log.info("Counted %s events in %.1f s", f"{events:,}", seconds)
        # Nothing is watched, but whoever compares systems chooses by it.
        took = {
            "steps": 0,
            "seconds": seconds,
            "examples_per_second": events / max(seconds, 1e-9),
            "parameters": 0,
            "monitor": _monitor(config, data).name,
        }
        return Fitted(heuristic, self.evaluator(heuristic, data, config), took)

    def load_model(self, config: RunConfig, data: InteractionDataset, folder: RunFolder) -> DirectRecommender:
        """See ``ModelKind.load_model``: counts again, whatever the data is now."""
        del folder
        return self.build(config, data)

    def _restored(self, config: RunConfig, data: InteractionDataset, folder: RunFolder) -> DirectRecommender:
        return self.load_model(config, data, folder)


def load_retriever(path: str | Path) -> LoadedRun[InteractionDataset, Retriever]:
    """Load the folder of a retriever's run, trained or counted; see ``ModelKind.load_finished``."""
    config = RunFolder(path).finished_config()
    if not kind_of(config).is_retriever:
        raise ConfigError(f"{path}: expected the run of a retriever, but {config.system!r} is of kind {config.model.kind!r}")
    return load_finished(path)


class _RetrieverExporter(Exporter[AnyRecommender]):
    def __init__(
        self,
        config: RunConfig,
        data: InteractionDataset,
        target: Path,
        state_writer: Callable[[RunConfig, InteractionDataset, AnyRecommender], Callable[[Path], None] | None],
    ) -> None:
        self._config, self._data, self._target, self._state_writer = config, data, target, state_writer

    def publish(self, model: AnyRecommender, metrics: Mapping[str, Any]) -> Path:
        log.info("Exporting (index, warm-up, checks) ...")
        config, data = self._config, self._data
        return export_savedmodel(
            model,
            data.catalogue,
            self._target,
            export=with_own_items_decided(config, data).export,
            index=config.index,
            profiles=data.profiles,
            histories=data.valid.histories,
            metadata=run_metadata(config, data, metrics),
            write_state=self._state_writer(config, data, model),
        )


def _monitor(config: RunConfig, data: InteractionDataset) -> Monitor:
    evaluation = with_own_items_decided(config, data).evaluation
    requested = config.training.monitor if kind_of(config).name == "interests" else AUTO
    return retrieval_monitor(requested, evaluation, data.valid, len(data.catalogue.vocabulary))


def _as_for_sessions(test: dict[str, float], slices: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The test metrics with those by which papers on sessions report, and these again by whether a target repeats its own session."""
    repetition = {label: slices[f"target:{label}"] for label in ("repeat", "new") if f"target:{label}" in slices}
    by_label = {f"test_{label}": {"users": each["users"], **session_metrics(each)} for label, each in repetition.items()}
    return {"test": {**session_metrics(test), **test}, **by_label}
