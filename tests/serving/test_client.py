"""The client, against the local server over both protocols and against servers that misbehave."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tfmi.serving import client as client_module
from tfmi.serving.client import Client, RankedItem, RecommendedItem, ServingError, SimilarItem, main
from tfmi.serving.local_server import LocalServer

CLIENT_FILE = Path(client_module.__file__)


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, server: LocalServer) -> Client:
    return connected(server, request.param)


def connected(server: LocalServer, protocol: str = "rest", model: str = "toy", **options: Any) -> Client:
    address = server.rest_address if protocol == "rest" else server.grpc_address
    return Client(address, model, protocol, 20.0, **options)  # type: ignore[arg-type]


def found(answer: Any) -> list[str]:
    return [item.item for item in answer.items]


@pytest.mark.slow
def test_histories_of_any_length_are_padded_and_the_newest_items_kept(client: Client) -> None:
    answers = client.recommend([["a", "b"], [], list("abcdefg"), ["nobody", "c", "nobody"]])
    assert [found(answer)[0] for answer in answers] == ["c", "a", "h", "d"]
    assert answers[0].items[:2] == [RecommendedItem("c", 1.0, 0), RecommendedItem("d", 0.875, 1)]


def test_wishes_reach_the_model(client: Client) -> None:
    plain, wished = client.recommend([["a"], ["a"]], exclude=[[], ["b", "nobody"]], diversity=[0.0, 0.5])
    assert found(plain) == list("bcde")
    assert found(wished) == list("cdef")
    assert [plain.items[0].score, wished.items[0].score] == [1.0, 0.875 + 0.5]


@pytest.mark.parametrize(
    ("profile", "shift"),
    [
        ({}, 0.0),
        ({"age": 3}, 30.0),
        ({"home city": "Oslo"}, 100.0),
        ({"age": None, "home_city": "Oslo"}, 100.0),
        ({"tags": ["x"]}, 100.0),
        ({"tags": {"x": 0.5, "y": 0.25}}, 75.0),
        ({"tags": ["x", "y", "beyond the width"], "home_city": "Oslo", "age": 1.0}, 310.0),
    ],
)
def test_profiles_become_inputs(client: Client, profile: dict[str, Any], shift: float) -> None:
    (answer,) = client.recommend([["a"]], profiles=[profile])
    assert answer.items[0].score == 1.0 + shift


def test_user_interests_without_padding(client: Client) -> None:
    none, one, two = client.user_interests([[], ["a"], ["a", "b", "c"]])
    assert none.vectors == []
    assert one.vectors == [[0.25] * 3]
    assert two.vectors == [[0.25] * 3] * 2


def test_interests_are_explained_in_the_historys_own_order(client: Client) -> None:
    none, short, long = client.explain_interests([[], ["a", "b"], list("abcdefg")], exclude=[[], ["c"], []])
    assert none == []
    assert [interest.weights for interest in short] == [[0.0, 1.0], [1.0, 0.0]]
    assert [found.item for found in short[0].items] == list("defg")
    assert short[0].items[0] == SimilarItem("d", 0.875)
    assert [interest.weights for interest in long] == [[0.0] * 6 + [1.0], [0.0] * 5 + [1.0, 0.0]]
    with pytest.raises(ValueError, match=r"exported without export\.filterable"):
        client.explain_interests([["a"]], num_results=3)


def test_similar_items(client: Client) -> None:
    neighbours, unknown = client.similar_items(["g", "nobody"])
    assert neighbours[:2] == [SimilarItem("h", 1.0), SimilarItem("a", 0.875)]
    assert unknown == []


def test_candidates_come_back_best_first_and_unknown_ones_last(client: Client) -> None:
    first, none, older = client.rank([["b"], [], ["a", "c"]], [["nobody", "h", "a", "c"], [], ["b"]], profiles=[{}, {}, {"age": 2}])
    assert first == [RankedItem("c", 8.0), RankedItem("a", 0.0), RankedItem("h", -7.0), RankedItem("nobody", -math.inf)]
    assert none == []
    assert older == [RankedItem("b", 199.0)]


def test_candidates_of_another_number_of_users_are_refused(client: Client) -> None:
    with pytest.raises(ValueError, match=r"candidates: expected one list per history \(2\), got 1"):
        client.rank([["a"], ["b"]], [["c"]])


def test_rank_on_the_command_line(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["rank", "--address", server.rest_address, "--model", "toy", "--history", "b", "--candidates", "nobody,a,c"]
    assert main([*common, "--top", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["after b:", "    1. c  score 8.0000", "    2. a  score 0.0000"]
    assert main([*common, "--profile", '{"age": 1}']) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "    1. c  score 108.0000",
        "    2. a  score 100.0000",
        "    3. nobody  unknown item",
    ]


def test_no_users_need_no_server() -> None:
    unreachable = Client("http://127.0.0.1:1", "toy")
    assert unreachable.recommend([]) == []
    assert unreachable.user_interests([]) == []
    assert unreachable.similar_items([]) == []
    assert unreachable.rank([], []) == []


def test_status_and_metadata(client: Client) -> None:
    (status,) = client.status()
    assert (status.version, status.state, status.error_code, status.error_message) == (1, "AVAILABLE", "OK", "")
    metadata = client.metadata()
    assert (metadata.model, metadata.version, metadata.history_length) == ("toy", 1, 5)
    assert metadata.profile_columns == ["age", "home_city", "tags"]
    assert metadata.signatures["recommend"].inputs["exclude"].shape == (-1, 3)
    assert set(metadata.signatures) == {
        "serving_default",
        "recommend",
        "recommend_examples",
        "user_interests",
        "similar_items",
        "rank",
        "explain_interests",
    }


def test_a_version_can_be_chosen(server: LocalServer) -> None:
    for protocol in ("rest", "grpc"):
        assert found(connected(server, protocol, version=1).recommend([["a"]])[0]) == list("bcde")
        with pytest.raises(ServingError, match=r"Specific\(toy, 7\)") as error:
            connected(server, protocol, version=7).recommend([["a"]])
        assert error.value.code == "NOT_FOUND"


def test_unknown_model(server: LocalServer) -> None:
    for protocol in ("rest", "grpc"):
        with pytest.raises(ServingError, match="did you mean 'toy'") as error:
            connected(server, protocol, model="toi").recommend([["a"]])
        assert error.value.code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"histories": ["a,b"]}, "histories: expected lists of item ids"),
        ({"histories": [[1, 2]]}, "histories: expected lists of item ids"),
        ({"histories": [["a"]], "exclude": ["b"]}, "exclude: expected lists of item ids"),
        ({"histories": [["a"]], "exclude": [["b"], ["c"]]}, r"exclude: expected one list per history \(1\), got 2"),
        ({"histories": [["a"]], "exclude": [["b", "c", "d", "e"]]}, "at most 3 exclusions per user, got 4"),
        ({"histories": [["a"]], "diversity": [0.1, 0.2]}, r"diversity: expected one number, or one per history \(1\), got 2"),
        ({"histories": [["a"]], "profiles": [{}, {}]}, r"profiles: expected one per history \(1\), got 2"),
        ({"histories": [["a"]], "profiles": [{"agee": 3}]}, "no profile column agee; it has: age, home_city, tags"),
        ({"histories": [["a"]], "profiles": [{"tags_weights": [1.0]}]}, "no profile column tags_weights"),
        ({"histories": [["a"]], "profiles": [{"age": "old"}]}, "column 'age' takes a number, got 'old'"),
        ({"histories": [["a"]], "profiles": [{"home_city": 5}]}, "column 'home_city' takes a string, got 5"),
        ({"histories": [["a"]], "profiles": [{"tags": "x"}]}, "column 'tags' takes a list of strings or a mapping"),
    ],
)
def test_arguments_that_cannot_be_sent_are_refused(client: Client, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        client.recommend(**arguments)


@pytest.mark.parametrize("address", ["", "ftp://127.0.0.1", "http://"])
def test_addresses_that_cannot_be_reached_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(address)
    with pytest.raises(ValueError, match="protocol: expected 'rest' or 'grpc'"):
        Client(protocol="soap")  # type: ignore[arg-type]


class FlakyHandler(BaseHTTPRequestHandler):
    """Answers from a list of (status, body), then with an available version for ever."""

    answers: list[tuple[int, bytes]]
    asked: int

    def do_GET(self) -> None:
        type(self).asked += 1
        version = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        status, body = self.answers.pop(0) if self.answers else (200, json.dumps({"model_version_status": [version]}).encode())
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests print nothing."""


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[FlakyHandler], Client]]:
    """A server that misbehaves as told, and a client of it that does not waste time waiting."""
    monkeypatch.setattr(client_module, "_FIRST_PAUSE_SECONDS", 0.001)
    handler = type("Handler", (FlakyHandler,), {"answers": [], "asked": 0})
    with HTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield handler, Client(f"http://127.0.0.1:{running.server_port}", retries=3)
        running.shutdown()
        thread.join()


def test_busy_servers_are_asked_again(flaky: tuple[type[FlakyHandler], Client]) -> None:
    handler, client = flaky
    handler.answers = [(503, b'{"error": "busy"}')] * 3
    assert client.status()[0].state == "AVAILABLE"
    assert handler.asked == 4


def test_retries_are_bounded(flaky: tuple[type[FlakyHandler], Client]) -> None:
    handler, client = flaky
    handler.answers = [(503, b'{"error": "busy"}')] * 9
    with pytest.raises(ServingError, match="busy") as error:
        client.status()
    assert error.value.code == "UNAVAILABLE"
    assert handler.asked == 4


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (400, b'{"error": "no"}', "INVALID_ARGUMENT", "no"),
        (429, b'{"error": "too much"}', "RESOURCE_EXHAUSTED", "too much"),
        (500, b"<html>", "UNKNOWN", "answered 500 without the JSON of TensorFlow Serving"),
        (200, b"hello", "UNKNOWN", "is something else listening there?"),
        (200, b"[]", "UNKNOWN", "is something else listening there?"),
    ],
)
def test_other_errors_are_raised_at_once(
    flaky: tuple[type[FlakyHandler], Client], status: int, body: bytes, code: str, message: str
) -> None:
    handler, client = flaky
    handler.answers = [(status, body)]
    with pytest.raises(ServingError) as error:
        client.status()
    assert error.value.code == code
    assert message in str(error.value)
    assert handler.asked == 1


def test_nobody_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_PAUSE_SECONDS", 0.001)
    with pytest.raises(ServingError, match="is the server running") as error:
        Client("http://127.0.0.1:1").status()
    assert error.value.code == "UNAVAILABLE"
    with pytest.raises(ServingError) as error:
        Client("127.0.0.1:1", protocol="grpc", retries=1).status()
    assert error.value.code == "UNAVAILABLE"


def test_rest_imports_the_standard_library_only(server: LocalServer) -> None:
    program = f"""
import sys
sys.path = [path for path in sys.path if "site-packages" not in path]
sys.path.insert(0, {str(CLIENT_FILE.parent)!r})
from client import Client
print(Client({server.rest_address!r}, "toy").recommend([["a"]])[0].items[0].item)
assert not {{"tensorflow", "grpc", "numpy", "tfmi"}} & set(sys.modules)
try:
    Client(protocol="grpc")
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    first, second = result.stdout.splitlines()
    assert first == "b"
    assert "protocol 'grpc' needs the package tensorflow-serving-api" in second


def run(server: LocalServer, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main([*arguments, "--address", server.rest_address, "--model", "toy"])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_command_line_recommend(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(server, capsys, "recommend", "--history", "a, b", "--history", '["h"]', "--exclude", "d,e", "--diversity", "0.5")
    assert status == 0
    assert out.splitlines() == [
        "after a, b:",
        "    1. c  score 1.5000  interest 0",
        "    2. f  score 1.1250  interest 1",
        "    3. g  score 1.0000  interest 0",
        "    4. h  score 0.8750  interest 1",
        "after h:",
        "    1. a  score 1.5000  interest 0",
        "    2. b  score 1.3750  interest 1",
        "    3. c  score 1.2500  interest 0",
        "    4. f  score 0.8750  interest 1",
    ]


def test_command_line_json(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(server, capsys, "recommend", "--history", "a", "--profile", '{"age": 1}', "--json")
    assert json.loads(out)[0]["items"][0] == {"item": "b", "score": 11.0, "interest": 0}
    _, out, _ = run(server, capsys, "similar", "a", "--json")
    assert json.loads(out)[0][0] == {"item": "b", "score": 1.0}
    _, out, _ = run(server, capsys, "metadata", "--json")
    assert json.loads(out)["signatures"]["serving_default"]["inputs"]["history"] == {"dtype": "DT_STRING", "shape": [-1, 5]}


def test_command_line_similar_status_metadata(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert "    1. b  score 1.0000\n" in run(server, capsys, "similar", "a", "nobody")[1]
    assert "like nobody: unknown item" in run(server, capsys, "similar", "a", "nobody")[1]
    assert run(server, capsys, "status")[1] == "version 1  AVAILABLE\n"
    assert "  serving_default takes history DT_STRING[-1, 5]\n" in run(server, capsys, "metadata")[1]


def test_command_line_prints_the_best_only(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, capsys, "recommend", "--history", "a", "--top", "1")[1].splitlines()[1:] == ["    1. b  score 1.0000  interest 0"]
    assert run(server, capsys, "similar", "a", "--top", "1")[1].splitlines()[1:] == ["    1. b  score 1.0000"]


def test_command_line_bears_a_reader_that_leaves(server: LocalServer) -> None:
    command = [sys.executable, str(CLIENT_FILE), "status", "--address", server.rest_address, "--model", "toy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend", "--history", "a", "--version", "7"], "error: NOT_FOUND: Servable not found for request: Specific(toy, 7)"),
        (["recommend", "--history", "a", "--exclude", "a,b,c,d"], "error: exclude: this model takes at most 3 exclusions"),
        (["recommend", *["--history", "a"] * 3, *["--exclude", "b"] * 2], "error: --exclude: give it once for all histories, or once per"),
        (["recommend", "--history", "a", "--profile", '{"shoe": 5}'], "error: profiles: this model has no profile column shoe"),
    ],
)
def test_command_line_errors(server: LocalServer, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    status, out, err = run(server, capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith(message)


@pytest.mark.parametrize(
    "arguments", [["recommend"], ["recommend", "--history", "[1]"], ["recommend", "--history", "a", "--profile", "[]"], []]
)
def test_command_line_refuses_what_it_cannot_read(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_teaches() -> None:
    result = subprocess.run([sys.executable, str(CLIENT_FILE), "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "python serving/client.py recommend --model mind --history" in result.stdout
