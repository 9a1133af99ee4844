"""Versions of a real SavedModel coming and going under a running server."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving.toy_servable import predict_request, save_version, write_warmup
from tfmi.serving.client import Client, ServingError, VersionStatus
from tfmi.serving.local_server import LocalServer, discover_models

pytestmark = pytest.mark.slow

GOOD = predict_request(history=[["a", "", "", "", ""]])


@pytest.fixture
def base(tmp_path: Path, toy_model: Path) -> Path:
    """A model folder of the test's own, version 1 in it; its cold start begins with "a"."""
    shutil.copytree(toy_model, tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture(scope="module")
def lasting(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, Path]]:
    """A server for several tests, and the folder of its model: version 1 stays, and every other test takes its own away again."""
    base = tmp_path_factory.mktemp("lasting") / "toy"
    shutil.copytree(toy_model, base)
    with LocalServer(lambda: discover_models(base.parent), rest_port=0, grpc_port=0, poll_seconds=0.05) as server:
        yield server, base


@pytest.fixture
def running(base: Path) -> Iterator[LocalServer]:
    with LocalServer(lambda: discover_models(base.parent), rest_port=0, grpc_port=0, poll_seconds=0.05) as server:
        yield server


def client(server: LocalServer, protocol: str = "rest") -> Client:
    address = server.rest_address if protocol == "rest" else server.grpc_address
    return Client(address, "toy", protocol, timeout=20, retries=0)  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def statuses(server: LocalServer) -> dict[int, VersionStatus]:
    return {status.version: status for status in client(server).status()}


def has_state(server: LocalServer, version: int, state: str) -> Callable[[], bool]:
    return lambda: version in statuses(server) and statuses(server)[version].state == state


def test_a_new_version_takes_over_without_a_dropped_request(running: LocalServer, base: Path) -> None:
    answers: list[str] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def ask(protocol: str) -> None:
        asking = client(running, protocol)
        while not stop.is_set():
            try:
                (answer,) = asking.recommend([[]])
                answers.append(answer.items[0].item)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask, args=(protocol,)) for protocol in ("rest", "rest", "grpc", "grpc")]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answers) > 20, "answers of version 1")
    save_version(base / "2", first="e", warmup=[GOOD])
    wait_for(has_state(running, 1, "END"), "version 1 to be unloaded")
    save_version(base / "3", first="g", warmup=[GOOD])
    wait_for(has_state(running, 2, "END"), "version 2 to be unloaded")
    settled = len(answers)
    wait_for(lambda: len(answers) > settled + 20, "answers of version 3")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(answers) == {"a", "e", "g"}
    assert answers[-1] == "g"


def break_graph(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"not a graph")


def break_by_truncation(folder: Path) -> None:
    data = folder / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:5])


def break_by_missing_graph(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()


def break_warmup(folder: Path) -> None:
    write_warmup(folder, [GOOD, predict_request(history=[["a"]])])


def break_warmup_name(folder: Path) -> None:
    write_warmup(folder, [predict_request(histori=[["a", "", "", "", ""]])])


def break_warmup_file(folder: Path) -> None:
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"not a TFRecord file")


def break_by_too_much_warmup(folder: Path) -> None:
    write_warmup(folder, [GOOD] * 1001)


@pytest.mark.parametrize(
    ("version", "damage", "reason"),
    [
        (2, break_graph, "cannot be served"),
        (3, break_by_truncation, "cannot be served"),
        (4, break_by_missing_graph, "no saved_model.pb"),
        (5, break_warmup, "warm-up request 2 failed: signature 'serving_default', input 'history': expected string [any, 5]"),
        (6, break_warmup_name, "warm-up request 1 failed"),
        (7, break_warmup_file, "cannot be read after record 0"),
        (8, break_by_too_much_warmup, "more than 1000 warm-up requests"),
    ],
)
def test_a_broken_version_is_reported_and_never_served(
    lasting: tuple[LocalServer, Path], version: int, damage: Callable[[Path], None], reason: str
) -> None:
    server, base = lasting
    shutil.copytree(base / "1", base / "tmp")
    damage(base / "tmp")
    (base / "tmp").rename(base / str(version))
    try:
        wait_for(has_state(server, version, "END"), f"version {version} to fail")
        found = statuses(server)
        assert reason in found[version].error_message
        assert found[version].error_code != "OK"
        assert found[1].state == "AVAILABLE"
        (answer,) = client(server).recommend([[]])
        assert answer.items[0].item == "a"
    finally:
        shutil.rmtree(base / str(version))


def test_other_widths_of_a_new_version_reach_a_running_client(running: LocalServer, base: Path) -> None:
    clients = [client(running, protocol) for protocol in ("rest", "grpc")]
    history = list("hgfedcb")
    for asking in clients:
        assert asking.recommend([history])[0].items[0].item == "c"
    save_version(base / "2", history_length=2, warmup=[predict_request(history=[["a", ""]])])
    wait_for(has_state(running, 1, "END"), "version 1 to be unloaded")
    for asking in clients:
        assert asking.recommend([history])[0].items[0].item == "c"


def test_a_version_without_warmup_is_served(running: LocalServer, base: Path) -> None:
    shutil.copytree(base / "1", base / "tmp-2", ignore=shutil.ignore_patterns("assets.extra"))
    (base / "tmp-2").rename(base / "2")
    wait_for(has_state(running, 2, "AVAILABLE"), "version 2")


def test_a_new_model_below_the_root_is_served(running: LocalServer, base: Path) -> None:
    shutil.copytree(base, base.parent / "tmp-other")
    (base.parent / "tmp-other").rename(base.parent / "other")
    asking = Client(running.rest_address, "other", retries=0)

    def served() -> bool:
        try:
            return asking.status()[0].state == "AVAILABLE"
        except ServingError:
            return False

    wait_for(served, "model 'other'")
