"""Runs whose pages are looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.kinds.conftest import FINISHED_RUN
from tests.kinds.finished import FinishedRun, finished_run
from tfmi.reports.run_values import RunValues

HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">\' \u202e & 日本語'


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run and its export, made once for all files and processes."""
    return finished_run(tmp_path_factory, list(FINISHED_RUN))


def made_up(name: str = "run", **changes: Any) -> RunValues:
    """The values of a run of a retriever with 100 test users."""
    users = np.random.default_rng(0).random(100)
    values: dict[str, Any] = {
        "name": name,
        "path": f"runs/{name}",
        "config": {"system": "mind", "seed": 1, "training": {"max_steps": 20}, "model": {"dimension": 8}},
        "config_text": "system: mind\n",
        "metrics": {
            "system": "mind",
            "dataset": "shop",
            "seed": 1,
            "test": {"recall@10": float(users.mean()), "ndcg@10": 0.2},
            "valid": {"recall@10": 0.4, "ndcg@10": 0.2},
            "train": {"steps": 20, "best_step": 10, "seconds": 2.0, "examples_per_second": 10.0, "monitor": "recall@10"},
            "data": {"items": 50, "train": {"events": 90}},
        },
        "curve": [{"step": 10.0, "loss": 2.0, "recall@10": 0.4}, {"step": 20.0, "loss": 1.0, "recall@10": 0.3}],
        "gathered": {"kind": "retriever", "metric": "recall@10"},
        "users": {"recall@10": users},
    }
    return RunValues(**{**values, **changes})


def hostile_run() -> RunValues:
    """A run whose every text that comes from data or users is an attack."""
    item = {"title": HOSTILE, "category": HOSTILE}
    user = {
        "user": HOSTILE,
        "value": 0.0,
        "history_length": 1,
        "history": [item],
        "targets": [{**item, "rank": 1}],
        "num_targets": 1,
        "answers": [{**item, "hit": True}],
    }
    run = made_up(HOSTILE)
    metrics = {
        **run.metrics,
        "system": HOSTILE,
        "dataset": HOSTILE,
        "data": {HOSTILE: HOSTILE, "read": {"file": HOSTILE, "rejected_by_reason": {HOSTILE: 3}}},
        "test_slices": {f"history:{HOSTILE}": {"users": 3, "recall@10": 0.1}},
        "versions": {HOSTILE: HOSTILE},
    }
    gathered = {
        **run.gathered,
        "data": {"features": {"of items": [HOSTILE]}, "missing": {HOSTILE: HOSTILE}},
        "baselines": {"metrics": {"popularity": {"recall@10": 0.1}}, "missing": {HOSTILE: HOSTILE}},
        "routing": [{"user": HOSTILE, "history_length": 1, "items": [item], "weights": [[0.7, 0.3]]}],
        "users": {"metric": "recall@10", "worst": [user], "best": [user]},
        "export": {"path": f"models/{HOSTILE}/1", "signatures": {"recommend": {}}, "index": {"kind": HOSTILE}},
        "example_items": [HOSTILE],
    }
    return made_up(HOSTILE, metrics=metrics, gathered=gathered, config={"data": {"path": HOSTILE}}, config_text=HOSTILE)
