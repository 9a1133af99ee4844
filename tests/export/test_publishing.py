"""Version folders appear complete or not at all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tfmi.core.errors import ExportError
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
