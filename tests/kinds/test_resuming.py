"""A run goes on from wherever it was stopped, as if it never had been; with other data or another model it does not."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kinds.finished import FinishedRun
from tfmi.cli.train import main
from tfmi.config import RunConfig
from tfmi.kinds.runner import run
from tfmi.models.kind_settings import settings_yaml
from tfmi.models.systems import load_config
from tfmi.training import trainer as training
from tfmi.training.run_folder import RunFolder

STEPS = 30  # three rounds of the small run


def _start(config: RunConfig, path: Path) -> dict[str, Any] | None:
    folder = RunFolder(path)
    folder.start(config)
    return run(config, folder, savedmodels=None).metrics


def _curve(path: Path) -> list[dict[str, float]]:
    curve: list[dict[str, float]] = json.loads(RunFolder(path).curves.read_text())
    return curve


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture
def interrupt_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes this process get a Ctrl-C, once, during a step of its training."""
    original = training._Progress.on_train_batch_end

    def arm(step: int) -> None:
        def patched(self: Any, batch: int, logs: dict[str, float] | None = None) -> None:
            if self.first_step + batch + 1 == step:
                monkeypatch.setattr(training._Progress, "on_train_batch_end", original)
                signal.raise_signal(signal.SIGINT)
            original(self, batch, logs)

        monkeypatch.setattr(training._Progress, "on_train_batch_end", patched)

    return arm


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[RunConfig], Path]:
    """Return a function that gives the folder of a configuration's run, made once."""
    folders: dict[str, Path] = {}

    def find(config: RunConfig) -> Path:
        key = settings_yaml(config)
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("whole") / "run"
            assert _start(config, folders[key]) is not None
        return folders[key]

    return find


def _metrics(path: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(RunFolder(path).metrics.read_text())
    return metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "settings"),
    [
        (17, []),
        (20, []),  # just before the validation
        (STEPS, []),
        pytest.param(17, ["model.objective={name: in_batch}"], marks=pytest.mark.long),
        pytest.param(17, ["data.examples=random_position"], marks=pytest.mark.long),
        pytest.param(
            17,
            ["data.examples=sequences", "model.encoder={name: transformer}", "model.readout={name: sampled_interest, balance: 1.0}"],
            marks=pytest.mark.long,
        ),
        (18, ["training.steps_per_execution=4"]),  # ends of executions: 4, 8, 10 in each round
    ],
    ids=["mid-round", "round's end", "run's end", "in_batch", "random_position", "whole sequences", "several steps per execution"],
)
def test_ctrl_c_and_resume_equal_an_uninterrupted_run(
    *,
    step: int,
    settings: list[str],
    tmp_path: Path,
    small_run: list[str],
    interrupt_after: Callable[[int], None],
    uninterrupted: Callable[[RunConfig], Path],
) -> None:
    every_step = ["training.steps_per_execution=1", "training.tensorboard=false"]
    config = load_config(settings=[*small_run, *every_step, *settings, f"training.max_steps={STEPS}"])
    whole = uninterrupted(config)
    interrupt_after(step)
    assert _start(config, tmp_path) is None
    folder = RunFolder(tmp_path)
    stored = json.loads(folder.state.read_text(), parse_constant=_refuse_constant)
    assert (stored["step"], stored["stopped"]) == (step, True)
    resumed = run(config, folder, savedmodels=None, resume=True).metrics
    assert resumed is not None
    expected = _metrics(whole)
    assert (resumed["test"], resumed["valid"]) == (expected["test"], expected["valid"])
    assert resumed["train"]["best_step"] == expected["train"]["best_step"]
    # The loss of a round that was stopped is the mean over all of its steps.
    first, second = _curve(whole), _curve(tmp_path)
    assert [row["loss"] for row in second] == pytest.approx([row["loss"] for row in first], rel=1e-5)
    assert [row["recall@50"] for row in second] == [row["recall@50"] for row in first]


def test_state_before_the_first_validation_is_strict_json(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_state(vars(training.TrainingState()))
    json.loads(RunFolder(tmp_path).state.read_text(), parse_constant=_refuse_constant)


@pytest.mark.slow
def test_a_stopped_run_is_finished_with_what_it_has(
    tmp_path: Path, small_run: list[str], interrupt_after: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*small_run, "training.steps_per_execution=1", "training.tensorboard=false", f"training.max_steps={STEPS}"]
    interrupt_after(14)
    assert _start(load_config(settings=settings), tmp_path) is None
    assert main(["--resume", "--output", str(tmp_path), "--max-steps", "14", "--no-export"]) == 0
    assert "Continuing with training.max_steps: 14 instead of 30" in capsys.readouterr().out
    metrics = _metrics(tmp_path)
    assert metrics["train"]["steps"] == 14
    assert metrics["train"]["best_step"] in {10, 14}
    assert [row["step"] for row in _curve(tmp_path)] == [10, 14]  # what was stopped in between is validated, too
    assert metrics["test"]


@pytest.mark.slow
def test_a_finished_run_is_exported_without_training(finished: FinishedRun) -> None:
    before, after = RunFolder(finished.trained), RunFolder(finished.exported)
    assert "Training had finished at step 30 of 30" in finished.printed
    assert "Continuing with export.name: 'mine' instead of None; index.kind: 'exact' instead of 'scann';" in finished.printed
    assert (finished.savedmodels / "mine" / "1" / "saved_model.pb").exists()
    assert before.stored_config().index.kind == "scann"
    assert yaml.safe_load(after.config.read_text())["index"]["kind"] == "exact"
    first, second = (json.loads(folder.metrics.read_text()) for folder in (before, after))
    assert (first["test"], first["train"]) == (second["test"], second["train"])
    checkpoints = [sorted(path.name for path in folder.checkpoints.iterdir()) for folder in (before, after)]
    assert checkpoints[0] == checkpoints[1]


@pytest.mark.slow
@pytest.mark.long
def test_more_steps_continue_a_finished_run(
    tmp_path: Path, small_run: list[str], uninterrupted: Callable[[RunConfig], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*small_run, "training.tensorboard=false"]
    assert _start(load_config(settings=[*settings, "training.max_steps=10"]), tmp_path) is not None
    assert main(["--resume", "--output", str(tmp_path), "--max-steps", str(STEPS), "--no-export"]) == 0
    assert "Resuming at step 10 of 30" in capsys.readouterr().out
    expected = _metrics(uninterrupted(load_config(settings=[*settings, f"training.max_steps={STEPS}"])))
    assert _metrics(tmp_path)["train"]["steps"] == STEPS
    assert _metrics(tmp_path)["test"] == expected["test"]


@pytest.mark.slow
def test_changed_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "clicks.csv"
    rows = [f"u{user},i{(user * 7 + time * time) % 13},{time}\n" for user in range(60) for time in range(9)]
    log.write_text("user,item,time\n" + "".join(rows))
    settings = ["model.dimension=4", "training.batch_size=32", "training.max_steps=4", f"data.cache={tmp_path / 'cache'}"]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    output = ["--output", str(tmp_path / "run"), "--no-export"]
    assert main(["--dataset", "log", "--data", str(log), *flags, *output]) == 0
    log.write_text("user,item,time\n" + "".join(rows[9:]))
    assert main(["--resume", *output]) == 1
    assert "the data 'log' has changed since the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "refused"),
    [
        (["--seed", "0"], "seed"),
        (["--system", "comirec_sa"], "system"),
        (["--max-steps", "99"], "training.max_steps"),  # fewer
        (["--set", "training.max_epochs=3"], "training.max_epochs"),
        (["--set", "evaluation.cutoffs=[50]"], "evaluation.cutoffs"),
        (["--set", "index.kind=exact", "--set", "model.dimension=3"], "model.dimension"),
        (["--data", "elsewhere"], "data.path"),
    ],
)
def test_what_training_depends_on_cannot_change(flags: list[str], refused: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(tmp_path).start(load_config(settings=["training.max_steps=100"]))
    before = (tmp_path / "config.yaml").read_text()
    assert main(["--resume", "--output", str(tmp_path), *flags]) == 1
    assert f"was started with other values of: {refused}." in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    "setting",
    ["index.leaves=3", "export.num_results=7", "evaluation.batch_size=9", "training.max_steps=101", "training.max_steps=null"],
)
def test_what_training_does_not_depend_on_may_change(setting: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.start(load_config(settings=["training.max_steps=100"]))
    changed = load_config(settings=["training.max_steps=100", setting])
    folder.resume(changed)
    assert folder.stored_config() == changed


def test_mistakes_on_resuming_are_refused_like_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(tmp_path).start(load_config())
    assert main(["--resume", "--output", str(tmp_path), "--set", "index.leafs=3"]) == 1
    assert "index.leafs: unknown key (did you mean 'leaves'?)" in capsys.readouterr().err
