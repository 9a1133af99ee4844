"""``training/evaluate.py`` on a real run's export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.kinds.finished import NAME, FinishedRun
from tests.programs import run_program
from tfmi.cli import evaluate as evaluate_cli
from tfmi.cli import train as cli

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded_once")]


@pytest.fixture(scope="module")
def version(finished: FinishedRun) -> str:
    """The exported version."""
    return str(finished.savedmodels / NAME / "1")


def assert_measured_again(finished: FinishedRun, split: str, output: str) -> None:
    result = json.loads(output.splitlines()[-1])
    assert result["savedmodel"].endswith(f"{NAME}/1")
    assert "@[20, 50] are left out" in output
    metrics = json.loads((finished.exported / "metrics.json").read_text())
    measured = metrics[split]
    assert set(result["metrics"]) == {name for name in measured if not name.endswith(("@20", "@50"))}
    assert result["metrics"] == pytest.approx({name: measured[name] for name in result["metrics"]})
    if split == "test":
        assert result["slices"].keys() == metrics["test_slices"].keys()
        for name, values in result["slices"].items():
            assert values == pytest.approx({each: metrics["test_slices"][name][each] for each in values})


def test_the_program_finds_what_the_run_measured(finished: FinishedRun) -> None:
    program = Path(__file__).resolve().parents[2] / "training" / "evaluate.py"
    done = run_program(program, str(finished.savedmodels / NAME), "--batch-size", "7", "--set", "evaluation.report=false")
    assert done.code == 0, done.err
    assert "100%" in done.err  # the progress bar
    assert_measured_again(finished, "test", done.out)


def test_validation_users_can_be_asked_for(finished: FinishedRun, version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_cli.main([version, "--split", "valid", "--output", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert_measured_again(finished, "valid", output)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"Report         {tmp_path / 'report.html'}" in output
    assert f"{NAME}/1, valid users" in page
    for shown in ("item-KNN", "Worst and best users", "Data card", "against exact search", "Latency of one small request"):
        assert shown in page


def test_the_configuration_can_be_changed(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = {}
    for excluded in ("false", "true"):
        assert (
            evaluate_cli.main(
                [
                    version,
                    "--set",
                    f"evaluation.exclude_history={excluded}",
                    "--set",
                    "evaluation.cutoffs=[3]",
                    "--set",
                    "evaluation.report=false",
                ]
            )
            == 0
        )
        results[excluded] = json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]
    assert {name.partition("@")[2] for name in results["true"]} == {"3"}
    assert results["true"] != results["false"]


def test_mistakes_are_one_message(version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sessions = tmp_path / "clicks.csv"
    sessions.write_text("user,item,time\n" + "".join(f"u{u},other-{(u + t) % 7},{t}\n" for u in range(40) for t in range(8)))
    other = tmp_path / "another" / "1"
    shutil.copytree(version, other)
    metadata_file = other / "assets.extra" / "tfmi_metadata.json"
    metadata = json.loads(metadata_file.read_text())
    del metadata["configuration"]
    metadata_file.write_text(json.dumps(metadata))
    for complaint, arguments in {
        "not a model that tfmi exported": [str(tmp_path)],
        "export.num_results=99": [version, "--num-results", "5", "99"],
        "needs its files": [version, "--dataset", "comirec"],
        "batch_size": [version, "--batch-size", "0"],
        "profile features": [version, "--dataset", "log", "--data", str(sessions)],
        "no run configuration": [str(other)],
        "--set model: measuring": [version, "--set", "model.dimension=3"],
        "data.datset: unknown key": [version, "--set", "data.datset=log"],
        # The path of the model's own data is not the log's.
        "dataset 'log' needs": [version, "--set", "data.dataset=log"],
    }.items():
        assert evaluate_cli.main(arguments) == 1
        assert complaint in capsys.readouterr().err


def test_everybody_in_a_file_is_tested_by_the_models_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The export leaves out own items, since this log never repeats, and whoever measures it follows."""
    log, later = tmp_path / "clicks.csv", tmp_path / "later.csv"
    log.write_text("user,item,time\n" + "".join(f"u{u},i{(u * 3 + t) % 12},{t}\n" for u in range(60) for t in range(8)))
    later.write_text("user,item,time\n" + "".join(f"n{u},i{(u + t) % 12},{t}\n" for u in range(5) for t in range(2 + u % 3)))
    flags = ["--system", "popularity", "--dataset", "log", "--data", str(log), "--set", f"data.cache={tmp_path / 'cache'}"]
    flags += [
        "--set",
        "evaluation.report=false",
        "--set",
        "evaluation.cutoffs=[3]",
        "--set",
        "export.num_results=5",
        "--set",
        "export.warmup_batch_sizes=[1]",
    ]
    assert cli.main([*flags, "--output", str(tmp_path / "run"), "--savedmodels", str(tmp_path / "models")]) == 0
    assert "Items that a user has already are left out of lists (0.0% of the events repeat" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["own_items"]["excluded"]
    assert metrics["own_items"]["test_without"] == metrics["test"] != metrics["own_items"]["test_with"]
    version = str(tmp_path / "models" / "popularity")
    assert evaluate_cli.main([version]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"] == pytest.approx(metrics["test"])
    assert evaluate_cli.main([version, "--data", str(later), "--all-users"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["split"], result["users"]) == ("all", 5)
    assert evaluate_cli.main([version, "--dataset", "embedded", "--all-users"]) == 1
    assert "not in 'embedded'" in capsys.readouterr().err
