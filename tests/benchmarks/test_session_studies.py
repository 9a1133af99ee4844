"""Studies on sessions: what is run, what is made of it, and that nothing is run twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import session_studies
from benchmarks.comparison import jobs
from benchmarks.comparison.jobs import Task
from benchmarks.session_studies import CONFIGS, WITHOUT_WEIGHT, efficiency_rows, gamma_entries, main
from tfmi.config import read_config_file, validate_config
from tfmi.core.files import write_json
from tfmi.training.run_folder import RunFolder


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands in for train.py, and remembers the weightings that were trained: P@20 is 0.3 less 0.01 for each gamma above 4 or below."""
    ran: list[dict[str, Any]] = []

    def run(task: Task, environment: Mapping[str, str]) -> int:
        arguments = list(task.command)
        folder = RunFolder(arguments[arguments.index("--output") + 1])
        config = validate_config(read_config_file(arguments[arguments.index("--config") + 1]))
        folder.start(config)
        ran.append(config.model.weighting)
        value = 0.3 - 0.01 * abs(config.model.weighting.get("gamma", 0.0) - 4)
        figures = {"p@10": value / 2, "mrr@10": value / 4, "p@20": value, "mrr@20": value / 3}
        train = {"seconds": 2.0, "examples_per_second": 1000.0, "parameters": 12}
        write_json(folder.metrics, {"test": figures, "valid": figures, "train": train})
        return 0

    monkeypatch.setattr(jobs, "run_logged", run)
    return ran


def test_each_gamma_is_trained_once_and_drawn(trained: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["gamma", "--data", "somewhere", "--gammas", "0", "4", "6", "--jobs", "1", "--output", str(tmp_path)]
    assert main(call) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert [row["gamma"] for row in results] == [0.0, 4.0, 6.0, None]
    assert [row["mean"]["p@20"] for row in results] == pytest.approx([0.26, 0.3, 0.28, 0.26])
    assert [weighting.get("gamma") for weighting in trained] == [0.0, 4.0, 6.0, None]
    assert trained[-1]["name"] == "cross_entropy"
    assert "| gamma 4 | 1 | 0.1500 | 0.0750 | 0.3000 | 0.1000 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "gamma.png").read_bytes().startswith(b"\x89PNG")
    assert main([*call, "--seeds", "1", "2"]) == 0  # the first seed's runs are kept
    assert len(trained) == 8


def test_a_system_without_the_weight_has_no_gamma(
    trained: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gamma", "--config", str(CONFIGS / "stamp.yaml"), "--data", "somewhere", "--output", str(tmp_path)]) == 1
    assert "gamma" in capsys.readouterr().err
    assert not trained


def test_gammas_differ_in_nothing_but_the_weighting() -> None:
    entries = gamma_entries(CONFIGS / "mtaw.yaml", [2.0])
    with_weight, without = (entries[gamma].config([], {}) for gamma in (2.0, None))
    assert entries[None].label == WITHOUT_WEIGHT
    assert with_weight.model.model_copy(update={"weighting": without.model.weighting}) == without.model


def test_turns_are_measured_once_and_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []

    def contender(command: list[str], threads: int) -> dict[str, Any]:
        config = validate_config(read_config_file(Path(command[command.index("--config") + 1])))
        ran.append(config.system)
        seconds = {"mtaw": 1.0, "sr_gnn": 3.0}[config.system]
        measured = {"seconds": [2 * seconds], "processor_seconds": [seconds], "work_per_round": 10}
        return {**measured, "steps_per_epoch": 100, "batch_size": 7, "parameters": 1000 * int(seconds)}

    monkeypatch.setattr(session_studies, "run_contender", contender)
    call = ["efficiency", "--data", "somewhere", "--configs", str(CONFIGS / "sr_gnn.yaml"), "--output", str(tmp_path)]
    assert main([*call, "--turns", "2"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert ran == ["mtaw", "sr_gnn"] * 2
    peer = rows["sessions/sr_gnn"]
    assert (peer["seconds_per_epoch"], peer["processor_seconds_per_epoch"]) == (60.0, 30.0)
    assert (peer["times_seconds"], peer["times_parameters"]) == (3.0, 3.0)
    assert main([*call, "--turns", "3"]) == 0
    assert len(ran) == 6
    assert main([*call, "--turns", "3", "--steps", "7"]) == 1
    assert "measured with another configuration" in capsys.readouterr().err


def test_counting_systems_have_no_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["efficiency", "--data", "somewhere", "--configs", str(CONFIGS / "item_knn_sum.yaml"), "--output", str(tmp_path)]
    assert main(call) == 1
    assert "counts, it is not trained by steps" in capsys.readouterr().err


def test_an_epoch_is_extrapolated_from_the_median_round() -> None:
    turn = {"seconds": [9.0, 2.0], "processor_seconds": [1.0, 1.0], "work_per_round": 4, "steps_per_epoch": 40, "batch_size": 1}
    rows = efficiency_rows({"a": [{**turn, "parameters": 5}, {**turn, "seconds": [2.0], "parameters": 5}]}, "a")
    assert rows["a"]["seconds_per_epoch"] == 20.0
    assert rows["a"]["times_seconds"] == 1.0


@pytest.mark.slow
@pytest.mark.long
def test_efficiency_trains_for_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    data = tmp_path / "data"
    data.mkdir()
    sessions = [" ".join(map(str, random.integers(1, 30, random.integers(2, 9)))) for _ in range(80)]
    (data / "train_sessions.txt").write_text("\n".join(sessions) + "\n", encoding="utf-8")
    (data / "test_examples.txt").write_text("1 2 3\t4\n5\t6\n", encoding="utf-8")
    small = ["--set", "model.dimension=8", "--set", "training.batch_size=8", "--steps", "3", "--turns", "1"]
    call = ["efficiency", "--data", str(data), "--configs", str(CONFIGS / "stamp.yaml"), "--output", str(tmp_path / "out"), *small]
    assert main(call) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert rows["sessions/mtaw"]["times_seconds"] == 1.0
    assert all(row["seconds_per_epoch"] > 0 and row["parameters"] > 0 for row in rows.values())
