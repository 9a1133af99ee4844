"""Files appear complete or not at all, with the umask's permissions, and a full disk is one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.storage import room_for
from tfmi.core.errors import StorageError, TrainingError
from tfmi.core.files import (
    file_appears_complete,
    folder_appears_complete,
    readable_size,
    remove_leftovers,
    report_no_space,
    write_atomically,
    write_json,
    writing,
)


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "new" / "file", "first")
    assert write_atomically(str(path), b"second") == path
    assert path.read_text() == "second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    assert write_json(tmp_path / "x.json", {"ä": 1}).read_text(encoding="utf-8") == '{\n  "ä": 1\n}\n'


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_new_files_and_folders_have_what_the_umask_leaves(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        file = write_atomically(tmp_path / "file", "x")
        with folder_appears_complete(tmp_path / "folder") as temporary:
            (temporary / "inside").touch()
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("name", ["n" * 249, "ä" * 127, "😀" * 62])
def test_names_as_long_as_the_file_system_takes(name: str, tmp_path: Path) -> None:
    assert write_atomically(tmp_path / name, "x").read_text() == "x"
    with folder_appears_complete(tmp_path / name[:-1]):
        pass


def test_a_full_disk_is_one_line_and_the_older_file_stays(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "file.json", "before")
    with room_for(1000), pytest.raises(StorageError) as failure:
        write_atomically(path, "x" * 2_500_000)
    assert str(failure.value).startswith(f"{path}: cannot write here, no space left: 2.5 MB wanted, ")
    assert "\n" not in str(failure.value)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file.json"]


def test_what_other_libraries_write_is_reported_alike(tmp_path: Path) -> None:
    table = pa.table({"x": list(range(100_000))})

    def write_table() -> None:
        with file_appears_complete(tmp_path / "x.parquet") as temporary:
            pyarrow.parquet.write_table(table, temporary)

    def write_folder() -> None:
        with folder_appears_complete(tmp_path / "folder") as temporary:
            (temporary / "part").write_bytes(b"x" * 9000)

    with room_for(5000), pytest.raises(StorageError, match=r"x\.parquet: cannot write here, no space left: at least .* wanted"):
        write_table()
    with room_for(5000), pytest.raises(StorageError, match=r"folder: cannot write here, no space left: at least 5\.0 kB wanted"):
        write_folder()
    assert os.listdir(tmp_path) == []


def test_errors_of_tensorflow_are_reported_alike(tmp_path: Path) -> None:
    import tensorflow as tf

    def write_records() -> None:
        with file_appears_complete(tmp_path / "records") as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for _ in range(10):
                writer.write(b"x" * 100_000)

    with room_for(5000), pytest.raises(StorageError, match=r"records: cannot write here, no space left"):
        write_records()
    with pytest.raises(TrainingError, match=r"cannot write here"), writing(tmp_path, raises=TrainingError):
        raise tf.errors.PermissionDeniedError(None, None, "records; Permission denied")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_kind_of_no_space(number: int, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no space left: 7 bytes wanted"), report_no_space(tmp_path, 7):
        raise OSError(number, os.strerror(number))


def test_a_block_that_reads_too_keeps_other_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), file_appears_complete(tmp_path / "x"):
        (tmp_path / "absent").read_text()
    with pytest.raises(ZeroDivisionError), folder_appears_complete(tmp_path / "x"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/x: cannot write here: (Not a directory|File exists)"):
        write_atomically(tmp_path / "file" / "x", "")


def test_a_replaced_folder_is_whole_at_all_times(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with folder_appears_complete(tmp_path / "folder") as temporary:
            (temporary / content).touch()
        assert os.listdir(tmp_path / "folder") == [content]
    assert os.listdir(tmp_path) == ["folder"]


KILLED = """
import os, sys
from tfmi.core.files import file_appears_complete, folder_appears_complete
with file_appears_complete(sys.argv[1] + "/file") as file, folder_appears_complete(sys.argv[1] + "/folder") as folder:
    file.write_text("half")
    (folder / "inside").touch()
    os.kill(os.getpid(), 9)
"""


def test_leftovers_of_killed_processes_are_removed_and_those_at_work_are_not(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env={**os.environ, "PYTHONPATH": root}, check=False)
    assert len(os.listdir(tmp_path)) == 2
    (tmp_path / ".of-the-user").touch()
    elsewhere = tmp_path / ".file.tmp-00000000-1-00000000"
    elsewhere.touch()
    with file_appears_complete(tmp_path / "mine"):
        assert len(remove_leftovers(tmp_path)) == 2
    assert sorted(os.listdir(tmp_path)) == [elsewhere.name, ".of-the-user", "mine"]
    assert remove_leftovers(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (10**15, "1000.0 TB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert readable_size(size) == text
