"""One process holds a folder, by the operating system's lock; the next is told which."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfmi.core.errors import ConfigError, StorageError
from tfmi.core.folder_lock import FolderLock, only_holder

HOLDER = """
import sys
from pathlib import Path
from tfmi.core.folder_lock import only_holder
lock = only_holder(Path(sys.argv[1]), "first")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_process_is_told_the_first_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=rf"--output x: process {process.pid} on .* is working there"):
            only_holder(path, "--output x")
        process.kill()
        process.wait(timeout=30)
    only_holder(path, "--output x").release()


def test_within_a_process_too(tmp_path: Path) -> None:
    first = only_holder(tmp_path / "lock", "x")
    with pytest.raises(ConfigError, match=rf"x: process {os.getpid()} on"):
        only_holder(tmp_path / "lock", "x")
    first.release()
    first.release()
    second = only_holder(tmp_path / "lock", "x")
    second.release_and_remove()
    assert os.listdir(tmp_path) == []


def test_readers_share(tmp_path: Path) -> None:
    first = FolderLock(tmp_path / "lock", "shared", "x")
    second = FolderLock(tmp_path / "lock", "shared", "x", wait=False)
    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path / "lock", "exclusive", "x", wait=False)
    first.release()
    second.release()


def test_a_place_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        only_holder(tmp_path / "file" / "lock", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder: cannot be locked"):
        only_holder(tmp_path / "folder", "x")


IMPORTED_AS_ON_WINDOWS = """
import sys, types
sys.platform = "win32"
sys.modules["fcntl"] = None
sys.modules["msvcrt"] = types.SimpleNamespace(locking=lambda *_: None, LK_NBLCK=2)
import tfmi.core.folder_lock, tfmi.core.files, tfmi.core.processes
assert "fcntl" not in vars(tfmi.core.folder_lock)
"""


def test_nothing_needs_fcntl_to_be_imported() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", IMPORTED_AS_ON_WINDOWS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
