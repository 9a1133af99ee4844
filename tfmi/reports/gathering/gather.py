"""All values of a run of each sort of model, put together."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmi.config import EvaluationConfig
from tfmi.data.dataset import InteractionDataset
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.evaluation.binary_metrics import reliability_bins, sigmoid
from tfmi.evaluation.routing import Routing
from tfmi.evaluation.tag_evaluation import TagEvaluator
from tfmi.reports.gathering.baselines import baselines_key, click_baselines, measure_baselines
from tfmi.reports.gathering.data_card import card_of_impressions, card_of_sequences, card_of_tags
from tfmi.reports.gathering.routing import routing_values
from tfmi.reports.gathering.stored import read_gathered, write_gathered
from tfmi.reports.gathering.users import users_of_ranker, users_of_retriever, users_of_tags
from tfmi.training.run_folder import RunFolder

CALIBRATION_BINS = 20


def headline_metric(monitor: str, measured: dict[str, Any], cutoffs: list[int]) -> str:
    """The metric that a page speaks of first: what training watched, if single users have it, else recall at the longest cutoff."""
    return monitor if monitor in measured else f"recall@{max(cutoffs)}"


def gather_retriever(
    folder: RunFolder,
    data: InteractionDataset,
    evaluation: EvaluationConfig,
    history_length: int,
    *,
    fingerprint: str,
    recommended: np.ndarray,
    each: dict[str, np.ndarray],
    monitor: str,
    routing: list[Routing],
) -> None:
    """Store what the page of a retriever shows.

    Args:
        folder: The run's.
        data: Its data.
        evaluation: With ``exclude_history`` decided.
        history_length: L.
        fingerprint: Of the data: baselines of the same data are not measured again.
        recommended: int32 [U, n], the test users' lists.
        each: The metrics of each test user with a target.
        monitor: What training watched.
        routing: Of validation users; empty for models without interests.
    """
    key = baselines_key(fingerprint, evaluation, history_length)
    baselines = read_gathered(folder).get("baselines")
    if baselines is None or baselines.get("key") != key or not folder.baseline_users.exists():
        measured = measure_baselines(data, data.test, evaluation, history_length, key)
        measured.write_users(folder.baseline_users)
        baselines = measured.described()
    metric = headline_metric(monitor, each, evaluation.cutoffs)
    users = users_of_retriever(recommended, each[metric], data, data.test, metric=metric, most=evaluation.report_users)
    shown_routing = routing if evaluation.report_users else []
    write_gathered(
        folder,
        {
            "kind": "retriever",
            "metric": metric,
            "example_items": data.catalogue.vocabulary.ids[:2],
            "data": card_of_sequences(data),
            "baselines": baselines,
            "routing": routing_values(shown_routing, data.valid, data.catalogue, data.profiles),
            "users": users if evaluation.report_users else {},
        },
    )


def gather_ranker(folder: RunFolder, data: RankingDataset, evaluation: EvaluationConfig, logits: np.ndarray, monitor: str) -> None:
    """Store what the page of a ranker shows; ``logits`` float [rows] are those of the test rows."""
    bins = reliability_bins(data.test.labels, sigmoid(logits), CALIBRATION_BINS, equal_mass=True)
    write_gathered(
        folder,
        {
            "kind": "ranker",
            "metric": monitor,
            "example_items": data.catalogue.vocabulary.ids[:2],
            "data": card_of_impressions(data),
            "baselines": {"metrics": click_baselines(data), "missing": {}},
            "calibration": {"predicted": bins.predicted, "observed": bins.observed, "counts": bins.counts},
            "users": users_of_ranker(data.test, logits, data, evaluation.report_users) if evaluation.report_users else {},
        },
    )


def gather_tags(
    folder: RunFolder, data: TagDataset, evaluation: EvaluationConfig, *, evaluator: TagEvaluator, monitor: str, cosines: np.ndarray | None
) -> None:
    """Store what the page of a model of tags shows; ``cosines`` [K, K] are those of its kernels, if it has any."""
    users: dict[str, Any] = {}
    if evaluation.report_users:
        metric, task = f"ndcg@{max(evaluation.cutoffs)}", 0
        answers, values, counted = evaluator.answers_of(data.test_tags, task)
        users = users_of_tags(answers, values[metric], counted, metric=metric, data=data, task=task, most=evaluation.report_users)
    write_gathered(
        folder,
        {
            "kind": "tags",
            "metric": monitor,
            "data": card_of_tags(data),
            "kernel_cosines": None if cosines is None else cosines.astype(float),
            "users": users,
        },
    )
