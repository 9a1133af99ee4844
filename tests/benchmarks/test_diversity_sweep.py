"""The sweep measures a finished run as it was measured, chooses on validation, and writes what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.diversity_sweep import Row, choose, main, plot_sweeps, sweep
from tests.kinds.conftest import SMALL_RUN
from tfmi.core.errors import ConfigError, DataError
from tfmi.kinds.retrieval import load_retriever
from tfmi.kinds.runner import run
from tfmi.models.systems import load_config
from tfmi.training.run_folder import RunFolder

TINY = [*SMALL_RUN, "training.max_steps=4", "training.evaluate_every=2", "training.tensorboard=false", "evaluation.cutoffs=[10, 50]"]


def finished(path: Path, system: str, settings: list[str]) -> Path:
    folder = RunFolder(path)
    config = load_config(system=system, settings=settings)
    folder.start(config)
    run(config, folder, savedmodels=None)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("trained") / "run", "comirec_sa", TINY)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = [setting for setting in SMALL_RUN if setting.startswith(("data.", "export."))]
    return finished(tmp_path_factory.mktemp("counted") / "run", "item_knn", [*settings, "evaluation.cutoffs=[10, 50]"])


@pytest.mark.slow
def test_a_trained_run_is_described_by_its_slices_and_interests(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"history:5-9", "categories:3+"} <= metrics["test_slices"].keys()
    assert metrics["test_slices"]["history:5-9"].keys() == {"users", *metrics["test"]}
    interests = metrics["interests"]
    assert interests["active"] == len(interests["recommendation_share"]) == 4
    assert 0 < interests["attention_entropy"] <= 1
    assert -1 <= interests["cosine"] <= 1
    assert 1 <= interests["contributing@50"] <= 4


@pytest.mark.slow
def test_a_loaded_run_has_the_weights_that_were_measured(trained: Path) -> None:
    measured = json.loads((trained / "metrics.json").read_text())
    rows = sweep(load_retriever(trained), [0.0, 0.05, 5.0], num_results=10)
    for part in ("valid", "test"):
        at_zero = rows[0][part]
        assert {name: at_zero[name] for name in measured[part] if name.endswith("@10")} == pytest.approx(
            {name: value for name, value in measured[part].items() if name.endswith("@10")}
        )
    assert rows[2]["test"]["diversity@10"] > rows[0]["test"]["diversity@10"]
    assert rows[2]["test"]["category_coverage@10"] > rows[0]["test"]["category_coverage@10"]


@pytest.mark.slow
def test_a_counted_run_is_swept_from_the_command_line(counted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "interests" not in json.loads((counted / "metrics.json").read_text())
    assert main([str(counted), "--num-results", "10", "--max-loss", "0.2", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert result["benchmark"] == "diversity_sweep"
    assert json.loads((tmp_path / "sweep.json").read_text())["rows"] == result["rows"]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "| λ | recall@10 |" in (tmp_path / "table.md").read_text()
    rows = result["rows"]
    assert len(rows) == 14
    assert rows[0]["lambda"] == 0
    best = choose(rows, 10, 0.2)
    assert result["best_lambda"] == best["lambda"]
    plain, chosen = rows[0]["test"], best["test"]
    assert result["test_loss"] == pytest.approx(1 - chosen["recall@10"] / plain["recall@10"])
    assert result["test_gain"] == pytest.approx(chosen["diversity@10"] / plain["diversity@10"] - 1)
    assert f"{best['lambda']:g}. On the test users" in printed.out


@pytest.mark.slow
def test_0_is_always_swept_and_lambdas_come_in_order(counted: Path) -> None:
    rows = sweep(counted, [0.5, 0.1, 0.5])
    assert [row["lambda"] for row in rows] == [0.0, 0.1, 0.5]
    assert json.loads(json.dumps(rows)) == rows  # plain numbers, for whoever writes them


def row(strength: float, recall: float, diversity: float) -> Row:
    """A row whose test figures say the opposite of its validation figures."""
    valid = {"recall@5": recall, "diversity@5": diversity}
    return {"lambda": strength, "valid": valid, "test": {name: 1 - value for name, value in valid.items()}}


@pytest.mark.parametrize(("max_loss", "expected"), [(0.0, 0.0), (0.05, 0.1), (0.1, 0.2), (1.0, 0.4)])
def test_the_most_diverse_within_the_bound_on_validation_is_chosen(max_loss: float, expected: float) -> None:
    rows = [row(0.0, 0.5, 0.2), row(0.1, 0.48, 0.3), row(0.2, 0.46, 0.5), row(0.3, 0.46, 0.5), row(0.4, 0.1, 0.9)]
    assert choose(rows, 5, max_loss)["lambda"] == expected


def test_several_sweeps_stand_in_one_plot(tmp_path: Path) -> None:
    rows = [row(0.0, 0.5, 0.2), row(0.1, 0.48, 0.3)]
    assert plot_sweeps({"a": rows, "b": rows}, 5, tmp_path / "both.png", "valid").read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_one_message(counted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = RunFolder(tmp_path / "unfinished")
    unfinished.start(load_config())
    for complaint, arguments in {
        "expected the folder of a run": [str(tmp_path)],
        "has not come to its end": [str(unfinished.path)],
        "--max-loss: expected a share": [str(counted), "--max-loss", "5"],
        "--lambdas: expected numbers of at least 0, got -1.0": [str(counted), "--lambdas", "0.1", "-1"],
        "--num-results: expected at least 1": [str(counted), "--num-results", "0"],
    }.items():
        assert main(arguments) == 1
        assert complaint in capsys.readouterr().err


def test_items_without_categories_cannot_be_diverse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the cache of what was read
    log = tmp_path / "clicks.csv"
    log.write_text("user,item,time\n" + "".join(f"u{user},i{(user * 7 + time) % 13},{time}\n" for user in range(60) for time in range(9)))
    path = finished(tmp_path / "run", "popularity", ["data.dataset=log", f"data.path={log}"])
    with pytest.raises(DataError, match="no categories"):
        sweep(path)


@pytest.mark.slow
def test_a_run_on_other_data_or_without_weights_is_refused(trained: Path) -> None:
    folder = RunFolder(trained)
    state: dict[str, Any] = json.loads(folder.state.read_text())
    folder.write_state({**state, "data": "other"})
    with pytest.raises(DataError, match="has changed since this run"):
        load_retriever(trained)
    folder.write_state(state)
    hidden = folder.best.rename(trained / "hidden")
    try:
        with pytest.raises(ConfigError, match="weights of this run cannot be read"):
            load_retriever(trained)
    finally:
        hidden.rename(folder.best)
