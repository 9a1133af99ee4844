"""Which versions are served when, without TensorFlow: loading reads a file."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfmi.export.publishing import published_versions
from tfmi.serving.errors import Code, RequestError
from tfmi.serving.local_server import discover_models
from tfmi.serving.models import Models
from tfmi.serving.versions import ModelVersions, State


class Loaded:
    def __init__(self, folder: Path) -> None:
        self.content = (folder / "model").read_text()
        if self.content == "broken":
            raise RequestError(Code.DATA_LOSS, "cannot be read")
        self.closed = False

    def close(self) -> None:
        self.closed = True


def write(base: Path, name: str, content: str = "good") -> None:
    (base / name).mkdir(parents=True, exist_ok=True)
    (base / name / "model").write_text(content)


def poll_until_settled(model: ModelVersions[Loaded]) -> None:
    model.poll()
    model.poll()


@pytest.fixture
def model(tmp_path: Path) -> ModelVersions[Loaded]:
    return ModelVersions("toy", tmp_path, Loaded)


def states(model: ModelVersions[Loaded]) -> dict[int, State]:
    return {status.version: status.state for status in model.statuses()}


def test_newest_version_is_served_and_replaces_the_old_one(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "2")
    write(tmp_path, "10")  # numbers, not text, are compared
    poll_until_settled(model)
    assert model.available == [10]
    with model.acquire() as (_, old):
        write(tmp_path, "11")
        poll_until_settled(model)
        with model.acquire() as (version, new):
            assert version == 11
        assert not old.closed
        assert states(model) == {11: State.AVAILABLE, 10: State.UNLOADING}
    model.poll()
    assert old.closed
    assert not new.closed
    assert states(model) == {11: State.AVAILABLE, 10: State.END}


def test_old_version_answers_while_the_new_one_is_loading(tmp_path: Path) -> None:
    loading, may_finish = threading.Event(), threading.Event()

    def load(folder: Path) -> Loaded:
        if folder.name == "2":
            loading.set()
            assert may_finish.wait(10)
        return Loaded(folder)

    model = ModelVersions("toy", tmp_path, load)
    write(tmp_path, "1")
    poll_until_settled(model)
    write(tmp_path, "2")
    model.poll()
    poller = threading.Thread(target=model.poll)
    poller.start()
    assert loading.wait(10)
    with model.acquire() as (version, _):
        assert version == 1
    assert states(model) == {2: State.LOADING, 1: State.AVAILABLE}
    may_finish.set()
    poller.join()
    with model.acquire() as (version, _):
        assert version == 2


@pytest.mark.parametrize("name", ["tmp-2-99", "2.bak", "-2", "²", "latest", ".2"])
def test_names_that_are_not_numbers_are_ignored(model: ModelVersions[Loaded], tmp_path: Path, name: str) -> None:
    write(tmp_path, "1")
    write(tmp_path, name)
    poll_until_settled(model)
    assert states(model) == {1: State.AVAILABLE}


def test_a_file_named_by_a_number_is_not_a_version(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1")
    (tmp_path / "2").write_text("not a folder")
    poll_until_settled(model)
    assert model.available == [1]


def test_broken_version_is_reported_and_the_old_one_keeps_serving(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1")
    poll_until_settled(model)
    write(tmp_path, "2", "broken")
    poll_until_settled(model)
    broken, good = model.statuses()
    assert (broken.version, broken.state, broken.code) == (2, State.END, Code.DATA_LOSS)
    assert "cannot be read" in broken.message
    assert (good.version, good.state) == (1, State.AVAILABLE)


def test_broken_version_is_loaded_once_mended_and_not_tried_before(tmp_path: Path) -> None:
    tried: list[str] = []

    def load(folder: Path) -> Loaded:
        tried.append((folder / "model").read_text())
        return Loaded(folder)

    model = ModelVersions("toy", tmp_path, load)
    write(tmp_path, "1", "broken")
    for _ in range(5):
        model.poll()
    assert tried == ["broken"]
    write(tmp_path, "1", "fixed")
    poll_until_settled(model)
    assert tried == ["broken", "fixed"]
    assert model.available == [1]


def test_newest_broken_at_the_start_leaves_the_one_before(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1")
    write(tmp_path, "2", "broken")
    poll_until_settled(model)
    assert model.available == [1]


def test_version_that_is_still_being_copied_waits(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1")
    poll_until_settled(model)
    for size in range(1, 5):
        write(tmp_path, "2", "x" * size)
        model.poll()
        assert states(model) == {2: State.START, 1: State.AVAILABLE}
    model.poll()
    assert model.available == [2]


def test_removing_the_newest_goes_back_to_the_one_before(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1")
    write(tmp_path, "2")
    poll_until_settled(model)
    (tmp_path / "2").rename(tmp_path / "tmp-2")
    poll_until_settled(model)
    assert model.available == [1]
    assert states(model) == {2: State.END, 1: State.AVAILABLE}


def test_removing_the_only_version_keeps_it_serving(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1")
    poll_until_settled(model)
    (tmp_path / "1").rename(tmp_path / "tmp-1")
    poll_until_settled(model)
    assert model.available == [1]


def test_broken_version_that_is_removed_is_forgotten(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1")
    write(tmp_path, "2", "broken")
    poll_until_settled(model)
    assert 2 in states(model)
    (tmp_path / "2").rename(tmp_path / "tmp-2")
    model.poll()
    assert states(model) == {1: State.AVAILABLE}


def test_several_versions_and_labels(tmp_path: Path) -> None:
    model = ModelVersions("toy", tmp_path, Loaded, num_versions=2, labels={"stable": 2, "gone": 1})
    for name in ("1", "2", "3"):
        write(tmp_path, name)
    poll_until_settled(model)
    assert model.available == [3, 2]
    with model.acquire(label="stable") as (version, _):
        assert version == 2
    with model.acquire(version=3) as (version, _):
        assert version == 3
    with pytest.raises(RequestError, match="versions being served: 3, 2") as missing, model.acquire(label="gone"):
        pass
    assert missing.value.code is Code.NOT_FOUND
    with pytest.raises(RequestError, match="labels of toy: gone, stable") as unknown, model.acquire(label="canary"):
        pass
    assert unknown.value.code is Code.INVALID_ARGUMENT


def test_folder_may_appear_later(tmp_path: Path) -> None:
    model = ModelVersions("toy", tmp_path / "later", Loaded)
    model.poll()
    with pytest.raises(RequestError, match="Could not find any versions of model toy"):
        model.statuses()
    with pytest.raises(RequestError, match=r"Latest\(toy\); versions being served: none"), model.acquire():
        pass
    write(tmp_path / "later", "1")
    poll_until_settled(model)
    assert model.available == [1]


def test_close_waits_for_requests_under_way(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1")
    poll_until_settled(model)
    with model.acquire() as (_, loaded):
        assert not model.close()
        assert not loaded.closed
        with pytest.raises(RequestError), model.acquire():
            pass
    assert model.close()
    assert loaded.closed
    poll_until_settled(model)
    assert model.available == []


def replace(base: Path, name: str, content: str) -> None:
    shutil.rmtree(base)
    write(base, name, content)


def test_a_folder_replaced_under_the_same_number_is_loaded_again(
    model: ModelVersions[Loaded], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write(tmp_path, "1", "first")
    poll_until_settled(model)
    replace(tmp_path, "1", "other")  # of the same length: neither the name nor the size tells
    with model.acquire() as (_, before):
        poll_until_settled(model)
        with model.acquire() as (version, loaded):
            assert (version, loaded.content) == (1, "other")
        assert not before.closed
    model.poll()
    assert before.closed
    assert states(model) == {1: State.AVAILABLE}
    assert "version 1 in" in caplog.text
    assert "has been replaced" in caplog.text


def test_files_with_the_same_contents_are_not_loaded_again(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1", "first")
    poll_until_settled(model)
    with model.acquire() as (_, before):
        pass
    replace(tmp_path, "1", "first")
    for _ in range(3):
        model.poll()
    with model.acquire() as (_, after):
        assert after is before


def test_a_broken_replacement_leaves_the_former_one_answering(model: ModelVersions[Loaded], tmp_path: Path) -> None:
    write(tmp_path, "1", "first")
    poll_until_settled(model)
    replace(tmp_path, "1", "broken")
    poll_until_settled(model)
    (status,) = model.statuses()
    assert status.state is State.AVAILABLE
    assert "has been replaced by one that cannot be served: cannot be read" in status.message
    with model.acquire() as (_, loaded):
        assert loaded.content == "first"
    replace(tmp_path, "1", "fixed")
    poll_until_settled(model)
    with model.acquire() as (_, loaded):
        assert loaded.content == "fixed"
    assert model.statuses()[0].message == ""


@pytest.mark.parametrize("name", [str(2**63), "9" * 25, "1" * 255])
def test_numbers_beyond_64_bits_are_no_versions(model: ModelVersions[Loaded], tmp_path: Path, name: str) -> None:
    write(tmp_path, "1")
    write(tmp_path, name)
    poll_until_settled(model)
    assert states(model) == {1: State.AVAILABLE}
    assert published_versions(tmp_path) == [1]
    write(tmp_path, str(2**63 - 1))
    poll_until_settled(model)
    assert model.available == [2**63 - 1]


def test_an_unreadable_folder_stops_neither_its_neighbours_nor_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bad", "good"):
        write(tmp_path / name, "1")
    list_folder = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == "bad":
            raise PermissionError(13, "Permission denied", str(self))
        return list_folder(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    unreadable: set[Path] = set()
    for _ in range(3):
        assert discover_models(tmp_path, unreadable) == {"good": tmp_path / "good"}
    assert caplog.text.count("is left out: it cannot be read: Permission denied") == 1
    monkeypatch.undo()
    assert set(discover_models(tmp_path, unreadable)) == {"bad", "good"}


def test_a_root_that_cannot_be_read_is_said_once_and_looked_at_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = Models(lambda: discover_models(tmp_path / "absent"), poll_seconds=1.0, request_timeout_seconds=1.0)
    for _ in range(3):
        models.poll()
    assert caplog.text.count("cannot look for models") == 1
