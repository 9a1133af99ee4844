"""A run that is killed, or finds no space, at a write goes on from what is on the disk at that moment, to the same result.

Kills are aimed, not left to luck: at every step of every write (before and after a file is renamed into place, before and after TensorFlow
writes a checkpoint, and in the middle of it) the run folder is copied as it stands, which is what a kill at that moment leaves.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tests.storage import room_for
from tfmi.cli.train import main
from tfmi.config import RunConfig
from tfmi.core import files
from tfmi.core.errors import ConfigError, TfmiError
from tfmi.kinds.runner import run
from tfmi.models.systems import load_config
from tfmi.training.run_folder import RunFolder

pytestmark = pytest.mark.slow
STEPS = 30  # three rounds of the small run


class Snapshots:
    """Copies of a folder at the moments of its writes."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source, self._target = source, target
        self.moments: list[tuple[str, Path]] = []

    def take(self, moment: str) -> None:
        copy = self._target / f"{len(self.moments):03}"
        shutil.copytree(self._source, copy)
        self.moments.append((moment, copy))


@contextmanager
def watched(snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    replace, save, write = os.replace, tf.train.CheckpointManager.save, tf.train.Checkpoint.write

    def watched_replace(source: Any, target: Any) -> None:
        snapshots.take(f"before {Path(target).name}")
        replace(source, target)
        snapshots.take(f"after {Path(target).name}")

    def watched_save(self: Any, *arguments: Any, **named: Any) -> Any:
        half = Path(self.directory) / "ckpt-99.data-00000-of-00001.tempstate7"
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(b"half of a checkpoint")
        snapshots.take("within a checkpoint")
        half.unlink()
        path = save(self, *arguments, **named)
        snapshots.take("after a checkpoint")
        return path

    def watched_write(self: Any, path: str, *arguments: Any, **named: Any) -> Any:
        if Path(path).name != "weights":  # of a checkpoint
            return write(self, path, *arguments, **named)
        snapshots.take("before the best weights")
        written = write(self, path, *arguments, **named)
        snapshots.take("after the best weights")
        return written

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", watched_replace)
        patch.setattr(tf.train.CheckpointManager, "save", watched_save)
        patch.setattr(tf.train.Checkpoint, "write", watched_write)
        yield


@pytest.fixture(scope="module")
def config(small_settings: list[str]) -> RunConfig:
    return load_config(settings=[*small_settings, "training.tensorboard=false", f"training.max_steps={STEPS}"])


@pytest.fixture(scope="module")
def killed(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshots, dict[str, Any]]:
    """What kills leave of one run, and the metrics that it comes to."""
    folder = RunFolder(tmp_path_factory.mktemp("watched") / "run")
    snapshots = Snapshots(folder.path, tmp_path_factory.mktemp("killed"))
    folder.start(config)
    with pytest.MonkeyPatch.context() as monkeypatch, watched(snapshots, monkeypatch):
        metrics = run(config, folder, savedmodels=None).metrics
    assert metrics is not None
    return snapshots, {**metrics, "losses": [row["loss"] for row in json.loads(folder.curves.read_text())]}


def expect_the_same_result(config: RunConfig, path: Path, expected: dict[str, Any]) -> None:
    folder = RunFolder(path)
    resumed = run(config, folder, savedmodels=None, resume=True).metrics
    assert resumed is not None
    assert (resumed["test"], resumed["valid"]) == (expected["test"], expected["valid"])
    assert [row["loss"] for row in json.loads(folder.curves.read_text())] == expected["losses"]
    assert resumed["train"]["best_step"] == expected["train"]["best_step"]
    assert json.loads(folder.metrics.read_text()) == resumed


# Of every kind of moment one in the middle of the run; all of them with -m long.
AIMED = ("within a checkpoint", "after the best weights", "before state.json", "after a checkpoint")


@pytest.mark.parametrize("moment", AIMED)
def test_a_kill_at_a_write_is_resumed_to_the_same_result(config: RunConfig, killed: tuple[Snapshots, dict[str, Any]], moment: str) -> None:
    snapshots, expected = killed
    found = [path for name, path in snapshots.moments if name == moment]
    expect_the_same_result(config, found[len(found) // 2], expected)


@pytest.mark.long
def test_a_kill_at_any_write_is_resumed_to_the_same_result(
    config: RunConfig, killed: tuple[Snapshots, dict[str, Any]], tmp_path: Path
) -> None:
    snapshots, expected = killed
    assert len(snapshots.moments) > 20
    for number, (_, path) in enumerate(snapshots.moments):
        copy = shutil.copytree(path, tmp_path / str(number)) if path.exists() else path
        expect_the_same_result(config, Path(copy), expected)


@pytest.mark.parametrize("room", [2_000, 60_000])
def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_space(
    config: RunConfig, killed: tuple[Snapshots, dict[str, Any]], tmp_path: Path, room: int
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.start(config)
    with pytest.raises(TfmiError) as failure, room_for(room):
        run(config, folder, savedmodels=None)
    message = str(failure.value)
    assert "\n" not in message
    assert str(folder.path) in message
    assert "no space left" in message
    assert " wanted, " in message
    left = [entry.name for entry in folder.path.rglob("*") if "temp" in entry.name or ".tmp-" in entry.name]
    assert left == []
    expect_the_same_result(config, folder.path, killed[1])


@pytest.fixture
def occupied(config: RunConfig, tmp_path: Path) -> Callable[[], RunFolder]:
    def occupy() -> RunFolder:
        folder = RunFolder(tmp_path / "run")
        folder.start(config)
        return folder

    return occupy


def test_a_second_run_in_a_folder_is_told_of_the_first(
    occupied: Callable[[], RunFolder], config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = occupied()
    with pytest.raises(ConfigError, match=rf"process {os.getpid()} on .* is working there"):
        RunFolder(first.path).start(config)
    assert main(["--resume", "--output", str(first.path)]) == 1
    assert f"error: --output {first.path}: process {os.getpid()} on" in capsys.readouterr().err
    first.release()
    again = RunFolder(first.path)
    again.resume(config)
    again.release()
