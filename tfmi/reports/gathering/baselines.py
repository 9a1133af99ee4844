"""The simple systems on the same data: what a model has to beat before anything else is said of it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.config import EvaluationConfig
from tfmi.core.errors import DataError
from tfmi.core.heartbeat import doing
from tfmi.data.dataset import EvaluationSet, InteractionDataset, Sequences
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.evaluation.bootstrap import bootstrap_intervals, write_user_metrics
from tfmi.evaluation.click_prediction import impression_metrics
from tfmi.evaluation.full_catalogue import CatalogueEvaluator
from tfmi.models.heuristics.heuristic import HEURISTICS, HeuristicModel, Popularity

log = logging.getLogger(__name__)

NAMES = ("popularity", "recent_popularity", "item_knn")
# Item-KNN is left out where counting pairs, or keeping neighbours, would take minutes or gigabytes.
MOST_PAIRS = 1e9
MOST_NEIGHBOURS = 1e8
NEIGHBOURS = 1000
# Seconds from which on people want to know where they went.
WORTH_SAYING = 10.0
# A change of what baselines are, so that none of an earlier version is taken for it.
VERSION = 1


@dataclass(frozen=True)
class Baselines:
    """What simple systems reach.

    Attributes:
        metrics: By system, as of ``ranking_metrics``.
        each: By system, the metrics of each user with a target.
        missing: By system, why it is not here.
        key: What they were computed of.
        seconds: What that took.
    """

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    each: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    key: str = ""
    seconds: float = 0.0

    def described(self) -> dict[str, Any]:
        """As plain values, with the interval of every metric."""
        intervals = {name: bootstrap_intervals(values) for name, values in self.each.items()}
        return {"key": self.key, "metrics": self.metrics, "intervals": intervals, "missing": self.missing, "seconds": self.seconds}

    def write_users(self, path: Path) -> None:
        """Store the values of each user, for paired comparisons, as ``<system>/<metric>``."""
        write_user_metrics(path, {f"{name}/{metric}": values for name, each in self.each.items() for metric, values in each.items()})


def baselines_key(fingerprint: str, evaluation: EvaluationConfig, history_length: int) -> str:
    """A digest of what baselines depend on."""
    depends = [VERSION, fingerprint, evaluation.cutoffs, evaluation.exclude_history, evaluation.ndcg_ideal, history_length]
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()


def measure_baselines(
    data: InteractionDataset, examples: EvaluationSet, evaluation: EvaluationConfig, history_length: int, key: str = ""
) -> Baselines:
    """Count and measure the heuristics ``NAMES`` as a model is measured, on the same users.

    Args:
        data: What to count, and the catalogue.
        examples: The users.
        evaluation: Cutoffs and options, with ``exclude_history`` decided.
        history_length: Items of a history that count.
        key: See ``baselines_key``.
    """
    started = time.perf_counter()
    metrics: dict[str, dict[str, float]] = {}
    each: dict[str, dict[str, np.ndarray]] = {}
    missing: dict[str, str] = {}
    with doing("measuring the simple baselines"):
        for name in NAMES:
            try:
                heuristic = _counted(name, data, history_length)
            except DataError as error:
                missing[name] = str(error)
                continue
            evaluator = CatalogueEvaluator(heuristic, data.catalogue, evaluation)
            recommended = evaluator.rank(examples, data.profiles)
            metrics[name] = evaluator.measure(recommended, examples)
            each[name] = evaluator.measure_each(recommended, examples)
    seconds = time.perf_counter() - started
    if seconds > WORTH_SAYING:
        log.info("Measured the simple baselines in %.1f s (evaluation.report: false leaves them out): %s", seconds, ", ".join(metrics))
    return Baselines(metrics, each, missing, key, seconds)


def _counted(name: str, data: InteractionDataset, history_length: int) -> HeuristicModel:
    """A heuristic that has counted; raises ``DataError`` with the reason where it cannot."""
    heuristic = HEURISTICS.build({"name": name}, f"baseline {name}")
    sequences, num_rows = data.train, data.catalogue.num_rows
    if isinstance(sequences, Sequences):
        if name == "item_knn":
            _refuse_too_many_pairs(sequences, num_rows)
        heuristic.fit(sequences, num_rows, history_length)
    elif isinstance(heuristic, Popularity) and name == "popularity":
        heuristic.fit_counts(data.catalogue.counts, history_length)
    else:
        raise DataError(f"{name}: training sequences stream from disk, and counting needs them in memory")
    return heuristic


def _refuse_too_many_pairs(sequences: Sequences, num_rows: int) -> None:
    pairs = float(np.square(sequences.lengths().astype(np.float64)).sum())
    neighbours = min(pairs, float(num_rows) * min(num_rows, NEIGHBOURS))
    if pairs > MOST_PAIRS or neighbours > MOST_NEIGHBOURS:
        raise DataError(
            f"item_knn: {pairs:,.0f} pairs of items in histories are too many to count beside a run; train --system item_knn by itself"
        )


def click_baselines(data: RankingDataset) -> dict[str, dict[str, float]]:
    """What a ranker has to beat: every row with the mean click rate, and with that of its item in training (smoothed by 10 impressions)."""
    train, test = data.train, data.test
    rate = float(np.clip(train.labels.mean(), 1e-6, 1 - 1e-6))
    num_rows = data.catalogue.num_rows
    shown = np.bincount(train.items, minlength=num_rows)
    clicked = np.bincount(train.items, weights=train.labels, minlength=num_rows)
    of_item = (clicked + 10 * rate) / (shown + 10)
    constant = np.full(len(test), rate)
    return {
        "mean_click_rate": impression_metrics(test, _logits(constant)),
        "item_click_rate": impression_metrics(test, _logits(of_item[test.items])),
    }


def _logits(probabilities: np.ndarray) -> np.ndarray:
    logits: np.ndarray = np.log(probabilities) - np.log1p(-probabilities)
    return logits
