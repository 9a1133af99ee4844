"""A ranker's export: the retriever in front of it, trained on the clicks of the same split, and both in one SavedModel."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmi.config import RunConfig, merge
from tfmi.core.errors import ConfigError, DataError
from tfmi.core.files import write_json
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.evaluation.own_items import with_own_items_decided
from tfmi.evaluation.two_stage_evaluation import choose_retrieval_weight, two_stage_metrics
from tfmi.export import export_savedmodel
from tfmi.kinds.base import Exporter, kind_of, run_metadata
from tfmi.kinds.runner import train
from tfmi.models.kind_settings import read_settings
from tfmi.models.ranking.ranker import InterestRanker
from tfmi.models.recommender import Retriever
from tfmi.models.systems import load_config
from tfmi.reports import write_report
from tfmi.training.run_folder import RunFolder

log = logging.getLogger(__name__)

RETRIEVER_FOLDER = "retriever"
# What the stages share, so that the ranker's configuration alone says it.
SHARED_SECTIONS = ("seed", "data", "evaluation", "index", "export")
SHOWN = ("recall", "ndcg")


def retriever_config(config: RunConfig) -> RunConfig:
    """What the retriever of a ranker's run is: the named system, with the ranker's data, seed, evaluation, index and export.

    Raises:
        ConfigError: The system does not retrieve, or its settings are wrong or not its own.
    """
    chosen = config.model.ranker.retriever
    if chosen.run is not None:
        stored = RunFolder(chosen.run).finished_config()
        _check_retrieves(stored, f"model.ranker.retriever: {chosen.run}")
        return stored
    odd = sorted(chosen.settings.keys() & set(SHARED_SECTIONS))
    if odd:
        raise ConfigError(f"model.ranker.retriever.settings: {', '.join(odd)} cannot differ between the stages; set it for the ranker")
    shared = {key: value for key, value in read_settings(config).items() if key in SHARED_SECTIONS}
    monitored = {"training": {"monitor": f"recall@{max(config.evaluation.cutoffs)}"}}
    try:
        _check_retrieves(load_config(None, chosen.system), f"system: {chosen.system!r}")
        return load_config(None, chosen.system, overrides=chosen.settings, where_read=merge(monitored, shared))
    except ConfigError as error:
        raise ConfigError(f"model.ranker.retriever: {error}") from None


class TwoStageExport(Exporter[InterestRanker]):
    """What a ranker's run does to be served. Make it before the ranker, so that nobody learns after hours what cannot be exported.

    Args:
        config: The ranker's run.
        dataset: What it is trained on.
        folder: Its run folder; the retriever gets a folder in it.
        target: The model's own folder, in which versions are published.

    Raises:
        ConfigError: The retriever, the index or the model's name cannot be had.
        DataError: The split leaves nothing to train or to judge a retriever by.
        ExportError: ``target`` cannot be written.
    """

    def __init__(self, config: RunConfig, dataset: RankingDataset, folder: RunFolder, target: Path) -> None:
        self._config, self._dataset, self._target = with_own_items_decided(config, dataset.retrieval), dataset, target
        self._folder = RunFolder(folder.path / RETRIEVER_FOLDER)
        self._retriever: Retriever  # known once ``prepare`` is done
        # Checking a configuration constructs layers in a graph of their own, which a model that is alive would not survive.
        self._retriever_config = retriever_config(config)
        kind_of(self._retriever_config).check_export(self._retriever_config, target)
        length = self._retriever_config.data.history_length
        if length != config.data.history_length:
            raise ConfigError(
                f"model.ranker.retriever.run: it sees histories of {length} items, the ranker of data.history_length = "
                f"{config.data.history_length}"
            )
        clicks = dataset.retrieval
        empty = [name for name, part in (("train", clicks.train), ("valid", clicks.valid), ("test", clicks.test)) if not len(part)]
        if empty:
            raise DataError(
                f"{dataset.name}: too few users have clicks on both sides of the split: a retriever has nothing in {', '.join(empty)}. "
                "Change data.split's shares, or train the ranker alone: --no-export"
            )

    def prepare(self, model: InterestRanker) -> dict[str, Any] | None:
        """Train the retriever or load it, and measure both stages; None if training was stopped."""
        retriever = self.obtain_retriever()
        if retriever is None:
            return None
        self._retriever = retriever
        return {"two_stage": self.measure(retriever, model)}

    def obtain_retriever(self) -> Retriever | None:
        """Train the retriever, continuing what is there, or load the run that the configuration names; None if training was stopped."""
        chosen, wanted, folder, clicks = self._config.model.ranker.retriever, self._retriever_config, self._folder, self._dataset.retrieval
        kind = kind_of(wanted)
        if chosen.run is not None:
            log.info("Retriever: %s, of %s", wanted.system, chosen.run)
            loaded: Retriever = kind.load_model(wanted, clicks, RunFolder(chosen.run))
            return loaded
        begun = folder.holds_run
        try:
            if begun:
                folder.resume(wanted)
            else:
                folder.start(wanted)
            log.info("Retriever: %s, in %s", wanted.system, folder.path)
            trained = train(kind, wanted, clicks, folder, resume=begun)
            if trained is None:
                return None
            write_json(folder.metrics, trained[1])
            if wanted.evaluation.report:
                write_report(folder)
        finally:
            folder.release()
        recommender: Retriever = trained[0]
        return recommender

    def measure(self, retriever: Retriever, ranker: InterestRanker) -> dict[str, Any]:
        """Retrieval alone and retrieve-then-rank on the clicks of the test part, with the pool that is served."""
        weight = self._weight(retriever, ranker)
        together = two_stage_metrics(retriever, ranker, self._dataset.retrieval.test, **self._measuring(), retrieval_weight=weight)
        alone = two_stage_metrics(retriever, ranker, self._dataset.retrieval.test, **self._measuring()) if weight else together
        return {
            "retriever": self._retriever_config.system,
            **together,
            "ranked_by_logits": alone["ranked"],
            "retrieval_weight": weight,
        }

    def _weight(self, retriever: Retriever, ranker: InterestRanker) -> float:
        """How much of retrieval's score is added to the ranker's: as configured, or what is best on validation users."""
        configured = self._config.export.retrieval_weight
        if configured != "auto":
            return configured
        return choose_retrieval_weight(retriever, ranker, self._dataset.retrieval.valid, **self._measuring())

    def _measuring(self) -> dict[str, Any]:
        config = self._config
        return {
            "catalogue": self._dataset.catalogue,
            "config": config.evaluation,
            "pool": config.export.ranking_pool * config.export.num_results,
            "profiles": self._dataset.profiles,
            "quota_exponent": config.index.allotment(),
        }

    def publish(self, model: InterestRanker, metrics: Mapping[str, Any]) -> Path:
        """Publish both stages as one version; see ``export_savedmodel``."""
        log.info("Exporting two stages (index, warm-up, checks) ...")
        config, clicks = self._config, self._dataset.retrieval
        return export_savedmodel(
            self._retriever,
            clicks.catalogue,
            self._target,
            export=config.export.model_copy(update={"retrieval_weight": metrics["two_stage"]["retrieval_weight"]}),
            index=config.index,
            profiles=clicks.profiles,
            histories=clicks.valid.histories,
            metadata=run_metadata(config, self._dataset, metrics),
            ranker=model,
        )


def describe_two_stage(config: RunConfig, measured: dict[str, Any]) -> str:
    """Recall and NDCG of both as a table."""
    pool = measured["pool"]
    columns = [f"{name}@{cutoff}" for name in SHOWN for cutoff in config.evaluation.cutoffs]
    lines = [f"{'clicks to come':<20} " + " ".join(f"{column:>10}" for column in columns)]
    stages = (("retrieval", measured["retriever"]), ("ranked_by_logits", "ranked by logits"), ("ranked", "ranked by both"))
    for stage, label in stages:
        lines.append(f"{label:<20} " + " ".join(f"{measured[stage][column]:>10.4f}" for column in columns))
    return "\n".join(
        [
            *lines,
            f"ranked: {pool['size']:.0f} candidates each, whose recall is {pool['recall']:.4f}; by both: logit + "
            f"{measured['retrieval_weight']:g} x retrieval's score",
        ]
    )


def _check_retrieves(config: RunConfig, what: str) -> None:
    if not kind_of(config).is_retriever:
        raise ConfigError(f"{what} is of kind {config.model.kind!r}; expected a system that retrieves, such as mind or comirec_sa")
