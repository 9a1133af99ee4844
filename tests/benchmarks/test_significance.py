"""Differences between systems are judged user by user, against the one that is best on validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.comparison.significance import add_differences, differences_table
from benchmarks.comparison.summary import Notes
from tfmi.evaluation.bootstrap import read_user_metrics, write_user_metrics
from tfmi.training.run_folder import RunFolder

RECALL = "recall@20"


@dataclass
class FinishedRun:
    """What is asked of a job."""

    label: str
    folder: RunFolder
    finished: bool = True


def run(folder: Path, label: str, seed: int, values: np.ndarray | None) -> FinishedRun:
    job = FinishedRun(label, RunFolder(folder / label / str(seed)))
    job.folder.path.mkdir(parents=True)
    if values is not None:
        write_user_metrics(job.folder.test_users, {RECALL: values})
    return job


def compared(jobs: list[Any], valid: dict[str, float]) -> tuple[list[dict[str, Any]], Notes]:
    notes = Notes()
    rows = [{"config": label, "dataset": "shop", "valid": {RECALL: value}} for label, value in valid.items()]
    add_differences(rows, jobs, RECALL, notes)
    return rows, notes


def test_the_best_on_validation_is_compared_with_all_others_over_the_mean_of_its_seeds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    base = random.random(200)
    jobs = [run(tmp_path, "best", seed, np.clip(base + shift, 0, 2)) for seed, shift in ((1, 0.3), (2, 0.1))]
    jobs += [run(tmp_path, "worse", 1, base), run(tmp_path, "noisy", 1, base + 0.2 + 0.5 * random.normal(size=200))]
    rows, notes = compared(jobs, {"worse": 0.1, "best": 0.3, "noisy": 0.2})
    found = {row["config"]: row["difference"] for row in rows}
    assert found["best"] is None
    assert found["worse"]["reference"] == "best"
    assert found["worse"]["mean"] == pytest.approx(-0.2, abs=1e-6)
    assert found["worse"]["p_value"] == pytest.approx(2 / 1001)  # of two comparisons
    assert found["noisy"]["low"] < 0 < found["noisy"]["high"]
    assert found["noisy"]["p_value"] > 0.05
    assert not notes.lines
    table = differences_table(rows)
    assert "| worse | -0.2000 | -0.2000 .. -0.2000 | 0.002 |" in table
    assert "best |" not in table.splitlines()[2]


def test_runs_without_users_are_named_and_left_out(tmp_path: Path) -> None:
    jobs = [run(tmp_path, "a", 1, np.ones(5)), run(tmp_path, "b", 1, np.zeros(5)), run(tmp_path, "old", 1, None)]
    rows, notes = compared(jobs, {"a": 0.3, "b": 0.2, "old": 0.4})
    assert [row["difference"] is not None for row in rows] == [False, True, False]
    assert notes.lines == ["differences user by user left out for old on shop: their runs have none"]
    assert differences_table([{"config": "a", "difference": None}]) == ""


def test_what_is_stored_of_users_is_read_again(tmp_path: Path) -> None:
    values = {RECALL: np.array([0.5, 0.0, 1.0]), "hr@20": np.array([1.0, 0.0, 1.0])}
    write_user_metrics(tmp_path / "users.npz", values)
    stored = read_user_metrics(tmp_path / "users.npz")
    assert stored.keys() == values.keys()
    for name, expected in values.items():
        np.testing.assert_array_equal(stored[name], expected)
