"""The local server's command line and its start and stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfmi.serving.client import Client, ServingError
from tfmi.serving.errors import Code, RequestError, ServerConfigError
from tfmi.serving.local_server import Limits, LocalServer, describe, main, parse_labels
from tfmi.serving.models import Models
from tfmi.serving.servable import Servable

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model-base-path", "{tmp}/nothing"], "no such folder; train and export a model first"),
        (["--models-root", "{tmp}/nothing"], "no such folder; expected one with <model>/<version>/ below it"),
        (["--models-root", "{tmp}", "--model-name", "mind"], "with --models-root every folder's name is its model's"),
        (["--models-root", "{tmp}", "--poll-seconds", "0"], "--poll-seconds: expected a number above 0, got 0.0"),
        (["--models-root", "{tmp}", "--timeout-seconds", "nan"], "--timeout-seconds: expected a number above 0, got nan"),
        (["--models-root", "{tmp}", "--label", "stable=3"], "--label 'stable=3': expected MODEL:LABEL=VERSION"),
        (["--models-root", "{tmp}", "--rest-port", "{taken}", "--port", "0"], "choose another port with --rest-port"),
        (["--models-root", "{tmp}", "--port", "{taken}", "--rest-port", "0"], "choose another with --port"),
        (["--models-root", "{tmp}", "--host", "192.0.2.1", "--rest-port", "0"], "cannot listen for REST on 192.0.2.1"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: None, arguments: list[str], message: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([argument.format(tmp=tmp_path, taken=port) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err


@pytest.fixture
def signals() -> Iterator[None]:
    """Put back the signal handlers that ``main`` replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_labels_are_read() -> None:
    assert parse_labels(["mind:stable=3", "mind:canary=4", "other:stable=1"]) == {
        "mind": {"stable": 3, "canary": 4},
        "other": {"stable": 1},
    }
    with pytest.raises(ServerConfigError):
        parse_labels(["mind:=3"])


@pytest.mark.slow
def test_the_start_message_says_what_is_served_where(server: LocalServer) -> None:
    text = describe(server)
    assert "model toy: version 1, from" in text
    assert f"POST http://127.0.0.1:{server.rest_port}/v1/models/toy:predict" in text
    assert f"gRPC  127.0.0.1:{server.grpc_port}" in text
    assert "WARNING" not in text


def test_anything_but_loopback_is_warned_of(tmp_path: Path) -> None:
    with LocalServer({"toy": tmp_path}, host="0.0.0.0", rest_port=0, grpc_port=0) as open_server:  # noqa: S104
        text = describe(open_server)
    assert "WARNING: 0.0.0.0 can be reached from other machines" in text
    assert "model toy: version none yet, waiting for one" in text


@pytest.mark.slow
def test_stopping_lets_requests_finish(toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = LocalServer({"toy": toy_model}, rest_port=0, grpc_port=0, poll_seconds=0.05)
    server.start()
    running = threading.Barrier(3)
    run_graph = Servable.predict

    def predict_slowly(*arguments: object, **named: object) -> object:
        running.wait(20)
        time.sleep(0.3)
        return run_graph(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Servable, "predict", predict_slowly)
    clients = [Client(server.rest_address, "toy"), Client(server.grpc_address, "toy", "grpc")]
    for client in clients:
        client.metadata()
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(client.recommend, [["a"]]) for client in clients]
        running.wait(20)
        server.stop()
        assert [answer.result()[0].items[0].item for answer in answers] == ["b", "b"]
    with pytest.raises(ServingError):
        Client(server.rest_address, "toy", retries=0).status()


@pytest.mark.slow
def test_grpc_callers_beyond_the_limit_are_refused_at_once(toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(grpc_threads=1)
    with LocalServer({"toy": toy_model}, rest_port=0, grpc_port=0, limits=limits) as server:
        client = Client(server.grpc_address, "toy", "grpc", retries=0)
        client.metadata()
        let_go = threading.Event()
        run_graph = Servable.predict

        def predict_when_let_go(*arguments: object, **named: object) -> object:
            assert let_go.wait(20)
            return run_graph(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(Servable, "predict", predict_when_let_go)
        with ThreadPoolExecutor(9) as pool:
            calls = [pool.submit(client.recommend, [["a"]]) for _ in range(9)]
            first_to_end = next(as_completed(calls, timeout=20))
            let_go.set()
            answered = [call for call in calls if call is not first_to_end]
            assert all(call.result()[0].items[0].item == "b" for call in answered)
        with pytest.raises(ServingError) as error:
            first_to_end.result()
        assert error.value.code == "RESOURCE_EXHAUSTED"


@pytest.mark.slow
def test_a_run_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "steps")])
    def count(steps: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"counted": tf.while_loop(lambda at: tf.reduce_all(at < steps), lambda at: at + 1, [tf.zeros_like(steps)])[0]}

    module.count = count
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=count)
    servable = Servable(tmp_path / "1", timeout_seconds=0.2)
    with pytest.raises(RequestError) as error:
        servable.predict("", {"steps": np.array([10**12])})
    assert error.value.code is Code.DEADLINE_EXCEEDED
    assert error.value.http_status == 504
    assert servable.predict("", {"steps": np.array([3])})["counted"].tolist() == [3]
    servable.close()


@pytest.mark.slow
def test_run_as_a_script_until_ctrl_c(toy_model: Path) -> None:
    command = [sys.executable, "serving/local_server.py", "--model-base-path", str(toy_model), "--rest-port", "0", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not any("Ctrl-C stops" in line for line in lines):
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()[1]
        address = next(line.split()[2] for line in lines if " POST " in line).split("/v1/")[0]
        command = [sys.executable, "serving/client.py", "recommend", "--address", address, "--model", "toy", "--history", "a"]
        answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert "1. b  score 1.0000" in answer.stdout
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "stopping" in out
    assert "Traceback" not in errors


def test_stopping_does_not_wait_for_a_load_for_longer_than_the_grace(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, let_go = threading.Event(), threading.Event()

    def load(self: object, folder: Path) -> Servable:
        loading.set()
        let_go.wait(30)
        return Servable(toy_model / "1", 1.0)

    with monkeypatch.context() as patch:
        server = LocalServer({"toy": tmp_path}, rest_port=0, grpc_port=0, poll_seconds=0.05, limits=Limits(grace_seconds=0.3))
        patch.setattr(Models, "_load", load)
        server.start()
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "saved_model.pb").touch()
        assert loading.wait(30)
        started = time.monotonic()
        assert not server.stop()
        assert time.monotonic() - started < 3
        let_go.set()
