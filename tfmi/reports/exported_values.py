"""What the page of an exported model shows, measured through its signatures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.config import RunConfig
from tfmi.data.dataset import EvaluationSet, InteractionDataset
from tfmi.evaluation.bootstrap import bootstrap_intervals
from tfmi.export.metadata import as_json
from tfmi.models.kind_settings import settings_yaml
from tfmi.reports.gathering.baselines import measure_baselines
from tfmi.reports.gathering.data_card import card_of_sequences
from tfmi.reports.gathering.gather import headline_metric
from tfmi.reports.gathering.users import users_of_retriever
from tfmi.reports.run_values import RunValues, describe_version


def measured_export(
    version: Path,
    metadata: Mapping[str, Any],
    config: RunConfig,
    data: InteractionDataset,
    examples: EvaluationSet,
    *,
    recommended: np.ndarray,
    each: dict[str, np.ndarray],
    measured: Mapping[str, Any],
    name: str,
) -> RunValues:
    """The values of a page about what an exported model answers.

    Args:
        version: Its folder.
        metadata: What it says of itself.
        config: How it was measured, with ``exclude_history`` decided.
        data: The data.
        examples: The users, of ``data``.
        recommended: int32 [U, n], what they were answered.
        each: The metrics of each user with a target.
        measured: ``test`` and ``test_slices``, as of ``metrics.json``.
        name: Which users these are.
    """
    evaluation = config.evaluation
    baselines = measure_baselines(data, examples, evaluation, config.data.history_length)
    of_training: Mapping[str, Any] = metadata.get("metrics") or {}
    metric = headline_metric(str(of_training.get("train", {}).get("monitor", "")), each, evaluation.cutoffs)
    users = users_of_retriever(recommended, each[metric], data, examples, metric=metric, most=evaluation.report_users)
    gathered = {
        "kind": "retriever",
        "metric": metric,
        "example_items": data.catalogue.vocabulary.ids[:2],
        "data": card_of_sequences(data),
        "baselines": baselines.described(),
        "users": users if evaluation.report_users else {},
        "export": describe_version(version),
    }
    metrics = {
        **measured,
        "test_intervals": bootstrap_intervals(each),
        "train": of_training.get("train", {}),
        "interests": of_training.get("interests", {}),
        "data": dict(data.report),
        "versions": metadata.get("versions", {}),
        "system": metadata.get("system", version.parent.name),
        "dataset": data.name,
        "seed": config.seed,
    }
    return RunValues(
        name=f"{version.parent.name}/{version.name}, {name}",
        path=str(version),
        config=config.model_dump(mode="json"),
        config_text=settings_yaml(config),
        metrics=as_json(metrics),
        gathered=as_json(gathered),
        users=each,
        baseline_users=baselines.each,
    )
