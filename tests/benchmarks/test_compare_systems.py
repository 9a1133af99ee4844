"""Configurations are compared over seeds, and a run with another configuration is never taken for one of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.compare_systems import main

METRICS = ["--metrics", "recall@20", "hr@20"]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    log = tmp_path / "clicks.csv"
    rows = [f"u{user},i{(user * 7 + time * time) % 13},{time}\n" for user in range(60) for time in range(9)]
    log.write_text("user,item,time\n" + "".join(rows))
    config = tmp_path / "configs" / "counted.yaml"
    config.parent.mkdir()
    config.write_text("system: popularity\nevaluation: {cutoffs: [20]}\ntraining: {monitor: recall@20}\n")
    return ["--configs", str(config), "--data", f"clicks={log}", "--dataset", "log", "--output", str(tmp_path / "compare"), *METRICS]


@pytest.mark.slow
def test_a_finished_run_is_kept_and_another_configuration_refused(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the cache of what was read
    assert main([*arguments, "--seeds", "1", "2"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["runs"] == 1  # counting gives the same answer under every seed
    folder = tmp_path / "compare" / "clicks" / "counted-1"
    measured = json.loads((folder / "metrics.json").read_text())
    assert result["results"][0]["mean"]["recall@20"] == measured["test"]["recall@20"]
    assert (folder.with_suffix(".yaml")).read_text() == (folder / "config.yaml").read_text()
    written = (folder / "metrics.json").stat().st_mtime_ns
    assert main([*arguments, "--seeds", "1"]) == 0
    assert (folder / "metrics.json").stat().st_mtime_ns == written
    assert main([*arguments, "--seeds", "1", "--set", "data.history_length=5"]) == 1
    assert "counted-1: an earlier run is here with other values of: data.history_length." in capsys.readouterr().err


def test_data_needs_a_name(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*arguments, "--data", "clicks.csv"])
    assert "expected NAME=DIR, got 'clicks.csv'" in capsys.readouterr().err
