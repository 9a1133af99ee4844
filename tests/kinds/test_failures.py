"""Whatever ends a run early is one message that says what to do."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.storage import room_for
from tfmi.cli.program import run_program
from tfmi.cli.train import main
from tfmi.core.errors import DataError
from tfmi.kinds.runner import run
from tfmi.models.systems import load_config
from tfmi.training.run_folder import RunFolder


def _raise(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("clicks.csv: no rows"), 1, "error: clicks.csv: no rows\n"),
        (OSError(28, "No space left on device", "runs/x"), 1, "error: [Errno 28] No space left on device: 'runs/x'\n"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
    ],
)
def test_mistakes_become_a_message_and_an_exit_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_program(lambda: _raise(error)) == code
    assert capsys.readouterr().err == message


def test_mistakes_of_the_program_itself_keep_their_stack_trace() -> None:
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: _raise(ZeroDivisionError()))


def test_an_output_that_cannot_be_a_folder_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--output", str(tmp_path / "file" / "run")]) == 1
    assert capsys.readouterr().err.startswith("error: [Errno")


def test_a_savedmodels_folder_that_cannot_be_written_stops_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--output", str(tmp_path / "run"), "--index", "exact", "--savedmodels", str(tmp_path / "file")]) == 1
    printed = capsys.readouterr()
    assert "--savedmodels" in printed.err
    assert "Loaded" not in printed.out


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_one_message(
    tmp_path: Path, small_run_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*small_run_flags, "--max-steps", "10", "--no-export", "--set", "training.tensorboard=false", "--output", str(tmp_path / "run")]
    with room_for(16_000):
        assert main(flags) == 1
    printed = capsys.readouterr().err
    assert f"error: {tmp_path / 'run' / 'checkpoints'}" in printed
    assert "cannot write here" in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_advice(
    tmp_path: Path, small_run_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # Raw inner products under an absurd learning rate overflow within a few steps.
    absurd = ["optimizer.learning_rate=1e30", "model.normalize=false", "training.max_steps=40"]
    flags = [flag for setting in absurd for flag in ("--set", setting)]
    assert main([*small_run_flags, *flags, "--no-export", "--output", str(tmp_path / "run")]) == 1
    message = capsys.readouterr().err
    assert "training stopped at step" in message
    assert "the loss is not finite" in message
    assert "optimizer.learning_rate (now 1e+30)" in message
    assert "optimizer.clip_norm" in message
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.slow
def test_a_warm_up_longer_than_training_is_noted(tmp_path: Path, small_run: list[str], caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(settings=[*small_run, "training.max_steps=2", "optimizer.warmup_steps=2", "training.tensorboard=false"])
    folder = RunFolder(tmp_path / "run")
    folder.start(config)
    with caplog.at_level(logging.WARNING):
        run(config, folder, savedmodels=None)
    assert "2 steps of warm-up fill all 2 training steps" in caplog.text


def test_heuristic_systems_refuse_what_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--system", "popularity", "--max-steps", "7", "--set", "optimizer.learning_rate=0.1", "--no-export"]
    small = ["--set", "data.embedded.users=60", "--set", "data.embedded.items=40", "--set", "data.split.min_item_events=1"]
    assert main([*flags, *small, "--output", str(tmp_path / "run")]) == 1
    refused = capsys.readouterr().err
    assert "training.max_steps: given, but 'popularity' counts" in refused
    assert "optimizer.learning_rate: given, but 'popularity' counts" in refused
    assert "training.batch_size" not in refused
    assert main(["--system", "popularity", "--no-export", *small, "--output", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert f"precision  {metrics['test']['precision@10']:>8.4f}" in printed
