"""A run leaves what it promises, repeats itself under one seed, and continues exactly after being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kinds.conftest import FINISHED_RUN
from tests.kinds.finished import FinishedRun
from tfmi.cli.train import main
from tfmi.config import RunConfig, parse_settings, validate_config
from tfmi.data.loading import load_dataset
from tfmi.evaluation.bootstrap import read_user_metrics
from tfmi.evaluation.full_catalogue import CatalogueEvaluator
from tfmi.export import ExportedModel
from tfmi.export.warmup import read_warmup
from tfmi.kinds.runner import run
from tfmi.models.kind_settings import settings_yaml
from tfmi.models.systems import SYSTEMS, load_config
from tfmi.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, str(ROOT / "training" / "train.py")]


def _run(config: RunConfig, path: Path) -> dict[str, Any]:
    folder = RunFolder(path)
    folder.start(config)
    result = run(config, folder, savedmodels=None)
    assert result.metrics is not None
    return result.metrics


def _quality(metrics: dict[str, Any]) -> dict[str, Any]:
    return {part: metrics[part] for part in ("test", "valid")}


@pytest.mark.slow
def test_a_run_leaves_everything_in_its_folder(finished: FinishedRun) -> None:
    config = load_config(system="mind", settings=FINISHED_RUN)
    metrics, folder = finished.returned, RunFolder(finished.trained)
    assert json.loads(folder.metrics.read_text()) == metrics
    assert validate_config(yaml.safe_load(folder.config.read_text())) == config
    assert {"recall@20", "hr@20", "ndcg@20", "mrr@20", "precision@20", "coverage@20", "diversity@20", "recall@50"} <= metrics["test"].keys()
    assert metrics["train"]["steps"] == 30
    assert metrics["train"]["parameters"] > 80 * 8
    assert metrics["train"]["examples_per_second"] > 0
    assert metrics["versions"]["tensorflow"].startswith("2.20")
    assert metrics["seed"] == 1
    assert len(json.loads(folder.curves.read_text())) == 3
    assert (folder.plots / "training.png").read_bytes().startswith(b"\x89PNG")
    assert (folder.plots / "routing.png").read_bytes().startswith(b"\x89PNG")
    assert list(folder.tensorboard.iterdir())


@pytest.mark.slow
def test_equal_seeds_give_equal_metrics(finished: FinishedRun, tmp_path: Path) -> None:
    """The first run may well have been another process'."""
    first = finished.returned
    settings = [*FINISHED_RUN, "evaluation.report=false", "training.tensorboard=false"]  # which change no metric
    second = _run(load_config(system="mind", settings=settings), tmp_path / "b")
    other = _run(load_config(system="mind", settings=[*settings, "seed=2"]), tmp_path / "c")
    assert _quality(first) == _quality(second)
    assert _quality(first) != _quality(other)


@pytest.mark.slow
@pytest.mark.long  # test_killed_runs.py aims its kills at every moment; here it is left to luck, and a process
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, small_run_flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*small_run_flags, "--max-steps", "60", "--no-export", "--set", "training.patience=100"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*flags, "--output", str(whole)]) == 0
    process = subprocess.Popen([*TRAIN, *flags, "--output", str(broken)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = RunFolder(broken).state
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stored = json.loads(state.read_text())
    assert not RunFolder(broken).metrics.exists()
    assert 0 < stored["step"] < 60
    capsys.readouterr()
    assert main(["--resume", "--no-export", "--output", str(broken)]) == 0
    assert f"Resuming at step {stored['step']}" in capsys.readouterr().out
    first, second = (json.loads((path / "metrics.json").read_text()) for path in (whole, broken))
    assert _quality(first) == _quality(second)
    curves = [
        [row["valid_loss"] if "valid_loss" in row else row["loss"] for row in json.loads((p / "curves.json").read_text())]
        for p in (whole, broken)
    ]
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_goes_on(tmp_path: Path, small_run_flags: list[str]) -> None:
    output = tmp_path / "run"
    flags = [
        *small_run_flags,
        "--max-steps",
        "100000",
        "--no-export",
        "--set",
        "training.patience=1000",
        "--set",
        "training.evaluate_every=20",
    ]
    process = subprocess.Popen([*TRAIN, *flags, "--output", str(output)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    state = RunFolder(output).state
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Continue with --resume" in printed
    stored = json.loads(state.read_text())
    assert stored["stopped"]
    assert stored["step"] >= 20


@pytest.mark.slow
def test_training_beats_popularity_by_a_wide_margin(tmp_path: Path) -> None:
    base = ["data.embedded.users=800", "data.embedded.items=400"]
    popular = _run(load_config(system="popularity", settings=base), tmp_path / "popularity")
    steps = ["training.tensorboard=false", "training.max_steps=300", "training.evaluate_every=100"]
    trained = _run(load_config(system="mind", settings=[*base, *steps]), tmp_path / "mind")
    assert trained["test"]["recall@20"] > 2 * popular["test"]["recall@20"]


# A graph of few experts is made in no time.
SMALLER = {"mvke": ["model.user_tags.encoder={name: virtual_kernel, num_experts: 3, body: {name: deepfm, hidden: [8]}}"]}

# Of a ranker: what trains the retriever before it.
SHORT_RETRIEVER = "model.ranker.retriever.settings={model: {dimension: 8}, training: {max_steps: 6, batch_size: 64, tensorboard: false}}"

# One or two of each kind: the others differ from these in a layer, which has tests of its own, and are left to `make test-all`.
ALWAYS_RUN = {"comirec_sa", "gce_gnn", "item_knn", "mgipf", "mind", "mvke", "octopus", "s2_dhcn"}


@pytest.mark.slow
@pytest.mark.parametrize("system", [pytest.param(s, marks=() if s in ALWAYS_RUN else pytest.mark.long) for s in sorted(SYSTEMS)])
def test_every_system_runs_through_the_same_commands(system: str, tmp_path: Path, small_run: list[str]) -> None:
    # Few steps and one validation: what is tested is that all parts fit together.
    few = [*small_run, *SMALLER.get(system, []), SHORT_RETRIEVER, "training.max_steps=10", "training.tensorboard=false", "index.kind=exact"]
    settings = parse_settings(few)
    config = tmp_path / "config.yaml"
    config.write_text(settings_yaml(load_config(system=system, where_read=settings)))
    output, models = tmp_path / "run", tmp_path / "models"
    assert main(["--config", str(config), "--output", str(output), "--savedmodels", str(models)]) == 0
    assert (output / "metrics.json").exists()
    version = models / system / "1"
    assert (version / "saved_model.pb").exists()
    questions = {request.signature: request.inputs for request in read_warmup(version)}
    signature = "recommend" if "recommend" in questions else "user_tags"
    answer = ExportedModel(version).predict(signature, questions[signature])
    found = [values for name, values in answer.items() if name.endswith(("item_ids", "_tags"))]
    assert found
    assert all(len(values) and all(values[:, 0]) for values in found)  # everybody gets something


def test_a_used_folder_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(tmp_path).start(load_config())
    assert main(["--output", str(tmp_path)]) == 1
    assert "already holds a run" in capsys.readouterr().err


def test_resume_without_a_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--resume", "--output", str(tmp_path)]) == 1
    assert "holds no run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--system", "minds"], "did you mean 'mind'"),
        (["--set", "model.dimension=-1"], "model.dimension"),
        (["--config", "absent.yaml"], "absent.yaml"),
        (["--dataset", "sequences"], "--data"),
        (["--dataset", "log", "--data", "absent.csv"], "absent.csv"),
    ],
)
def test_mistakes_are_one_message_without_a_stack_trace(
    flags: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, "--output", str(tmp_path / "run")]) == 1
    printed = capsys.readouterr()
    assert expected in printed.err
    assert "Traceback" not in printed.err


def test_help_lists_every_system(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(system in printed for system in SYSTEMS)


def test_the_embedded_data_is_the_default() -> None:
    assert load_dataset(load_config().data).name == "embedded"


def test_sessions_are_reported_by_their_names_and_by_whether_the_target_repeats(tmp_path: Path) -> None:
    (tmp_path / "train_sessions.txt").write_text("".join(f"{n % 7} {n % 5} {n % 3}\n" for n in range(30)), encoding="utf-8")
    (tmp_path / "test_examples.txt").write_text("0 1 2\t1\n3 4\t0\n5\t1\n", encoding="utf-8")
    data = ["data.dataset=sessions", f"data.path={tmp_path}", "data.history_length=1"]
    settings = [*data, "evaluation.cutoffs=[1, 3]"]
    metrics = _run(load_config(system="popularity", settings=settings), tmp_path / "run")
    for name in ("test", "test_repeat", "test_new"):
        assert {"p@1", "p@3", "mrr@1", "mrr@3"} <= metrics[name].keys()
    assert metrics["test"]["p@3"] == metrics["test"]["hr@3"] == 1.0
    assert (metrics["test_repeat"]["users"], metrics["test_new"]["users"]) == (1, 2)
    mean = (metrics["test_repeat"]["mrr@3"] + 2 * metrics["test_new"]["mrr@3"]) / 3
    assert metrics["test"]["mrr@3"] == pytest.approx(mean)


@pytest.mark.slow
def test_the_best_test_epoch_is_reported_and_chooses_nothing(small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [*small_run, "training.max_steps=30", "evaluation.cutoffs=[5]", "training.monitor=recall@5"]
    plain = _run(load_config(settings=settings), tmp_path / "plain")
    measured: list[dict[str, float]] = []
    evaluate = CatalogueEvaluator.evaluate

    def remembering(evaluator: CatalogueEvaluator, *arguments: Any) -> dict[str, float]:
        measured.append(evaluate(evaluator, *arguments))
        return measured[-1]

    monkeypatch.setattr(CatalogueEvaluator, "evaluate", remembering)
    looking = _run(load_config(settings=[*settings, "evaluation.best_test_epoch=true"]), tmp_path / "looking")
    *rounds, _ = measured  # the last one is the finished model's on the validation users
    assert len(rounds) == 6
    assert looking["best_test_epoch"] == {name: max(each[name] for each in rounds[1::2]) for name in rounds[1]}
    assert "best_test_epoch" not in plain
    for name in ("test", "valid", "test_slices"):
        assert looking[name] == plain[name]
    assert looking["best_test_epoch"]["recall@5"] >= looking["test"]["recall@5"]
    users = read_user_metrics(RunFolder(tmp_path / "looking").test_users)
    for name, (low, high) in looking["test_intervals"].items():
        assert low <= looking["test"][name] <= high
        assert users[name].mean() == pytest.approx(looking["test"][name], abs=1e-6)
    state = RunFolder(tmp_path / "looking").read_state()
    assert state is not None
    assert state["observed_best"] == looking["best_test_epoch"]
