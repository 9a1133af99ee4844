"""Version folders appear complete or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.storage import room_for
from tfmi.core.errors import ExportError, StorageError
from tfmi.export.publishing import publish, published_versions


def write_model(folder: Path) -> None:
    (folder / "variables").mkdir()
    (folder / "variables" / "data").write_text("numbers")
    (folder / "saved_model.pb").write_text("graph")


def test_versions_count_up_from_the_highest(tmp_path: Path) -> None:
    directory = tmp_path / "savedmodels" / "mind"
    assert published_versions(directory) == []
    assert publish(directory, write_model) == directory / "1"
    (directory / "41").mkdir()
    (directory / "tmp-99-1-abc").mkdir()
    (directory / "notes").mkdir()
    (directory / "77").write_text("a file, not a version")
    assert published_versions(directory) == [1, 41]
    assert publish(directory, write_model) == directory / "42"
    assert (directory / "42" / "variables" / "data").read_text() == "numbers"


def test_while_it_is_written_a_version_is_only_a_temporary_folder(tmp_path: Path) -> None:
    seen: list[str] = []

    def fill(folder: Path) -> None:
        write_model(folder)
        seen.extend(entry.name for entry in tmp_path.iterdir())
        assert published_versions(tmp_path) == []

    publish(tmp_path, fill)
    assert len(seen) == 1
    assert seen[0].startswith(f"tmp-1-{os.getpid()}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]


def test_the_servers_user_can_read_what_is_published(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        folder = publish(tmp_path, write_model)
    finally:
        os.umask(previous)
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, problem: type[BaseException]) -> None:
    def fill(folder: Path) -> None:
        write_model(folder)
        raise problem

    with pytest.raises(problem):
        publish(tmp_path, fill)
    assert list(tmp_path.iterdir()) == []


def test_a_given_version_is_taken_or_refused(tmp_path: Path) -> None:
    assert publish(tmp_path, write_model, version=7) == tmp_path / "7"
    with pytest.raises(ExportError, match=r"7.*exists already"):
        publish(tmp_path, write_model, version=7)
    assert [entry.name for entry in tmp_path.iterdir()] == ["7"]


def test_a_given_version_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        write_model(folder)
        publish(tmp_path, lambda other: (other / "mine").touch(), version=7)

    with pytest.raises(ExportError, match="exists already"):
        publish(tmp_path, fill, version=7)
    assert [entry.name for entry in tmp_path.iterdir()] == ["7"]
    assert (tmp_path / "7" / "mine").exists()


def test_exports_at_the_same_time_get_different_versions(tmp_path: Path) -> None:
    everyone_has_written = threading.Barrier(4)

    def fill(folder: Path) -> None:
        write_model(folder)
        everyone_has_written.wait(timeout=30)

    threads = [threading.Thread(target=publish, args=(tmp_path, fill)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert published_versions(tmp_path) == [1, 2, 3, 4]
    assert all((tmp_path / str(version) / "variables" / "data").exists() for version in range(1, 5))
    assert len(list(tmp_path.iterdir())) == 4


def test_a_directory_that_cannot_be_made_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ExportError, match="cannot write a model here"):
        publish(tmp_path / "file" / "mind", write_model)


def test_only_what_a_dead_process_of_this_host_left_is_removed(tmp_path: Path) -> None:
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait(timeout=30)
    host = socket.gethostname()
    kept = {
        f"tmp-3-{os.getpid()}-00ff00ff-{host}",  # alive
        f"tmp-3-1-00ff00ff-{host}",  # alive, and on many machines somebody else's
        f"tmp-3-{finished.pid}-00ff00ff-another.{host}",
        "tmp-copied-by-hand",
        f"tmp-3-{finished.pid}",
    }
    for name in {*kept, f"tmp-3-{finished.pid}-00ff00ff-{host}"}:
        (tmp_path / name).mkdir()
    publish(tmp_path, write_model)
    assert {entry.name for entry in tmp_path.iterdir()} == {*kept, "1"}


KILLED = """
import sys, time
from pathlib import Path
from tfmi.export.publishing import publish

def fill(folder):
    (folder / "saved_model.pb").write_text("half of a graph")
    print("written", flush=True)
    time.sleep(60)

publish(Path(sys.argv[1]), fill)
"""


@pytest.mark.slow
def test_a_killed_export_shows_no_version_and_does_not_stop_the_next(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    leftovers = [entry.name for entry in tmp_path.iterdir()]
    assert len(leftovers) == 1
    assert leftovers[0].startswith(f"tmp-1-{process.pid}-")
    assert published_versions(tmp_path) == []
    assert publish(tmp_path, write_model) == tmp_path / "1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]


def test_a_kill_at_the_rename_shows_the_version_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands on the disk just before and just after the rename is what a kill at that moment leaves."""
    rename, seen = os.rename, []

    def watched(source: Path, target: Path) -> None:
        seen.append(shutil.copytree(tmp_path / "mind", tmp_path / "before"))
        rename(source, target)
        seen.append(shutil.copytree(tmp_path / "mind", tmp_path / "after"))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", watched)
        publish(tmp_path / "mind", write_model)
    before, after = seen
    assert published_versions(before) == []
    assert published_versions(after) == [1]
    assert (after / "1" / "variables" / "data").read_text() == "numbers"
    for left in (before, after):  # what is left, the lock's file among it, stops nobody
        assert (publish(left, write_model) / "saved_model.pb").read_text() == "graph"


def test_a_full_disk_leaves_nothing_and_says_how_much_was_wanted(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "saved_model.pb").write_bytes(b"x" * 10_000)

    with room_for(5000), pytest.raises(StorageError, match=r"no space left: at least 5\.0 kB wanted, .* free"):
        publish(tmp_path / "mind", fill)
    assert list((tmp_path / "mind").iterdir()) == []


def test_an_empty_folder_of_the_number_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="exists already"):
        publish(tmp_path, lambda folder: (tmp_path / "7").mkdir(), version=7)
    assert [entry.name for entry in tmp_path.iterdir()] == ["7"]


def test_beyond_the_last_version_there_is_none(tmp_path: Path) -> None:
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(ExportError, match="no version number is left"):
        publish(tmp_path, write_model)
