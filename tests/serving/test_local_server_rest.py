"""The REST side of the local server: formats, bad requests, limits."""

from __future__ import annotations

import base64
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tests.serving.toy_servable import MAX_REQUEST_BYTES, Rest
from tfmi.serving.local_server import Limits, LocalServer
from tfmi.serving.rest import RestApi

PREDICT = "/v1/models/toy:predict"
HISTORY = ["a", "b", "", "", ""]
ANSWER = {"item_ids": ["c", "d", "e", "f"], "scores": [1.0, 0.875, 0.75, 0.625], "interests": [0, 1, 0, 1]}
RECOMMEND = {
    "history": HISTORY,
    "exclude": ["", "", ""],
    "diversity": 0.0,
    "profile_age": float("nan"),
    "profile_home_city": "",
    "profile_tags": ["", ""],
    "profile_tags_weights": [0.0, 0.0],
}


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/toy/versions/1:predict", "/V1/Models/toy:Predict?x=1", "/v1/models/%74oy:predict"])
def test_rows_and_columns(rest: Rest, path: str) -> None:
    assert rest(path, {"instances": [HISTORY]}) == (200, {"predictions": [ANSWER]})
    assert rest(path, {"instances": [{"history": HISTORY}] * 2}) == (200, {"predictions": [ANSWER] * 2})
    assert rest(path, {"inputs": {"history": [HISTORY]}}) == (200, {"outputs": {name: [value] for name, value in ANSWER.items()}})


def test_missing_items_are_empty_strings_and_minus_infinity(rest: Rest) -> None:
    instance = RECOMMEND | {"exclude": ["c", "d", "e"]}
    status, answer = rest(PREDICT, {"signature_name": "recommend", "instances": [instance]})
    assert status == 200
    assert answer["predictions"][0]["item_ids"] == ["f", "g", "h", "a"]
    status, answer = rest(PREDICT, {"signature_name": "similar_items", "instances": ["a", "nobody"]})
    assert answer["predictions"][0]["item_ids"] == ["b", "c", "d", "e"]
    assert answer["predictions"][1] == {"item_ids": [""] * 4, "scores": [-float("inf")] * 4}


def test_binary_strings_come_in_as_base64(rest: Rest) -> None:
    names = [name.encode() for name in "habcdefg"]
    features = {"history": tf.train.Feature(bytes_list=tf.train.BytesList(value=names))}
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    document = {"signature_name": "recommend_examples", "instances": [{"b64": base64.b64encode(example).decode()}]}
    assert rest(PREDICT, document)[1]["predictions"][0]["item_ids"] == ["h", "a", "b", "c"]


@pytest.mark.parametrize(
    ("history", "first"),
    [
        (["", "", "", "", ""], "a"),  # empty
        (["nobody"] * 5, "a"),  # all unknown
        (["a", "nobody", "", "", ""], "b"),
        (["x" * 1_000_000, "a", "", "", ""], "b"),  # an id of 1 MB
        (["東京", "a\x00b", "", "", ""], "a"),
    ],
)
def test_odd_histories_have_an_answer(rest: Rest, history: list[str], first: str) -> None:
    status, answer = rest(PREDICT, {"instances": [history]})
    assert (status, answer["predictions"][0]["item_ids"][0]) == (200, first)


def test_nan_arrives_as_nan(rest: Rest) -> None:
    status, answer = rest(PREDICT, {"signature_name": "recommend", "instances": [RECOMMEND | {"diversity": float("nan")}]})
    assert (status, answer["predictions"][0]["scores"][0]) == (200, 1.0)


BAD_REQUESTS: list[tuple[str, str, Any, int, str]] = [
    ("wrong type", PREDICT, {"instances": [[1, 2, 3, 4, 5]]}, 400, "JSON Value: 1 Type: Number is not of expected type: string"),
    ("null", PREDICT, {"instances": [[None] * 5]}, 400, "Type: Null is not of expected type: string"),
    ("history too long", PREDICT, {"instances": [["a"] * 6]}, 400, "input 'history': expected string [any, 5], got string [1, 6]"),
    ("history too short", PREDICT, {"instances": [["a"]]}, 400, "expected string [any, 5], got string [1, 1]"),
    ("wrong rank", PREDICT, {"inputs": ["a"]}, 400, "expected string [any, 5], got string [1]"),
    ("uneven rows", PREDICT, {"instances": [HISTORY, ["a"]]}, 400, "lists of different lengths, 5 and 1"),
    ("no rows", PREDICT, {"instances": []}, 400, "no values in the 'instances' list"),
    ("no columns", PREDICT, {"inputs": {"history": []}}, 400, "expected string [any, 5], got string [0]"),
    ("neither key", PREDICT, {"rows": []}, 400, "expected one of the keys 'inputs' and 'instances' in the request, got neither"),
    ("both keys", PREDICT, {"instances": [HISTORY], "inputs": [HISTORY]}, 400, "got both"),
    ("unknown signature", PREDICT, {"signature_name": "recomend", "instances": [HISTORY]}, 400, "did you mean 'recommend'?"),
    ("signature not to call", PREDICT, {"signature_name": "__saved_model_init_op", "instances": [1]}, 400, "not found in signature def"),
    (
        "missing input",
        PREDICT,
        {"signature_name": "recommend", "inputs": {"history": [HISTORY]}},
        400,
        "Missing named input: diversity, exclude",
    ),
    (
        "missing in a row",
        PREDICT,
        {"signature_name": "recommend", "instances": [{"history": HISTORY}]},
        400,
        "must only have keys: diversity",
    ),
    (
        "unnamed of several",
        PREDICT,
        {"signature_name": "recommend", "instances": [HISTORY]},
        400,
        "takes several inputs by name: diversity",
    ),
    ("extra input", PREDICT, {"inputs": {"history": [HISTORY], "more": [1]}}, 400, "unknown named input in 'inputs' object: more"),
    ("extra in a row", PREDICT, {"instances": [{"history": HISTORY, "more": 1}]}, 400, "must only have keys: history"),
    (
        "different row counts",
        PREDICT,
        {"signature_name": "recommend", "inputs": {name: [value] for name, value in RECOMMEND.items()} | {"diversity": [0.0, 0.0]}},
        400,
        "all inputs must have the same number of rows, got diversity: 2, exclude: 1",
    ),
    ("not JSON", PREDICT, b"{'instances': []}", 400, "JSON Parse error"),
    ("empty body", PREDICT, b"", 400, "The document is empty"),
    ("not an object", PREDICT, [1], 400, "Is not object"),
    ("giant body", PREDICT, b" " * (MAX_REQUEST_BYTES + 1), 413, "more than the"),
    ("unknown model", "/v1/models/toi:predict", {"instances": [HISTORY]}, 404, "Latest(toi) (did you mean 'toy'?)"),
    ("unknown version", "/v1/models/toy/versions/7:predict", {"instances": [HISTORY]}, 404, "Specific(toy, 7); versions being served: 1"),
    ("unknown label", "/v1/models/toy/labels/stable:predict", {"instances": [HISTORY]}, 400, "Unrecognized servable version label: stable"),
    ("giant version", f"/v1/models/toy/versions/{2**63}:predict", {"instances": [HISTORY]}, 400, "Failed to convert version"),
    ("classify", "/v1/models/toy:classify", {"examples": [{}]}, 501, "classify is not served here"),
    ("GET of predict", PREDICT, None, 400, "Malformed request: GET /v1/models/toy:predict. Expected POST"),
    ("POST without verb", "/v1/models/toy", {"instances": [HISTORY]}, 400, "Malformed request: POST /v1/models/toy"),
    ("elsewhere", "/", None, 400, "Malformed request: GET /"),
    ("status of an unknown model", "/v1/models/nobody", None, 404, "models: toy"),
    ("status of an unknown version", "/v1/models/toy/versions/7", None, 404, "Could not find version 7 of model toy"),
    ("metadata of an unknown version", "/v1/models/toy/versions/7/metadata", None, 404, "Specific(toy, 7)"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), [case[1:] for case in BAD_REQUESTS], ids=[case[0] for case in BAD_REQUESTS])
def test_bad_requests_get_a_clear_error_and_the_server_lives_on(rest: Rest, path: str, body: Any, status: int, message: str) -> None:
    found_status, answer = rest(path, body)
    assert found_status == status
    assert list(answer) == ["error"]
    assert message in answer["error"]
    assert len(answer["error"]) <= 1500
    assert rest(PREDICT, {"instances": [HISTORY]}) == (200, {"predictions": [ANSWER]})


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(rest: Rest, method: str) -> None:
    status, answer = rest(PREDICT, {"instances": [HISTORY]}, method=method)
    assert status == 400
    assert f"Malformed request: {method}" in answer["error"]


def test_encodings_that_are_not_read_are_refused(rest: Rest) -> None:
    assert rest(PREDICT, b"...", headers={"Content-Encoding": "gzip"})[0] == 415
    assert rest(PREDICT, b"0\r\n\r\n", headers={"Transfer-Encoding": "chunked"})[0] == 411


def test_an_error_in_the_graph_becomes_an_error_of_the_request(rest: Rest) -> None:
    status, answer = rest(PREDICT, {"signature_name": "recommend_examples", "instances": ["not an example"]})
    assert status == 400
    assert "Could not parse example" in answer["error"]
    assert "File " not in answer["error"]  # no stack trace of the exporter


def test_status(rest: Rest) -> None:
    expected = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/toy", "/v1/models/toy/versions/1"):
        assert rest(path) == (200, {"model_version_status": [expected]})


def test_metadata(rest: Rest) -> None:
    status, answer = rest("/v1/models/toy/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    history = signature["inputs"]["history"]
    assert history["dtype"] == "DT_STRING"
    assert history["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}, {"size": "5", "name": ""}], "unknown_rank": False}
    assert set(signature["outputs"]) == {"item_ids", "scores", "interests"}


ODD_REQUESTS: list[tuple[str, str, Any]] = [
    ("version of thousands of digits", f"/v1/models/toy/versions/{'1' * 5000}:predict", {"instances": [HISTORY]}),
    ("status of such a version", f"/v1/models/toy/versions/{'1' * 5000}", None),
    ("an example that is none", PREDICT, {"signature_name": "recommend_examples", "inputs": {"examples": [{"b64": "tg=="}]}}),
    ("bytes that are not UTF-8 as an example", PREDICT, {"signature_name": "recommend_examples", "instances": [{"b64": "//79/A=="}]}),
    ("too many rows", PREDICT, {"instances": [HISTORY] * 1025}),
    ("a number of thousands of digits", PREDICT, b'{"instances": [[' + b"1" * 5000 + b"]]}"),
    ("brackets", PREDICT, b"[" * 100_000),
    ("half of a pair in the signature's name", PREDICT, b'{"signature_name": "\\ud800\\u001b[2J", "instances": []}'),
    ("emojis", PREDICT, {"signature_name": "\U0001f600" * 5000, "instances": [HISTORY]}),
    ("an odd model", "/v1/models/%1b%5b2J%f0%9f%98%80%ff:predict", {"instances": [HISTORY]}),
]


@pytest.mark.parametrize(("path", "body"), [case[1:] for case in ODD_REQUESTS], ids=[case[0] for case in ODD_REQUESTS])
def test_nothing_that_a_request_says_is_an_internal_error(rest: Rest, path: str, body: Any, caplog: pytest.LogCaptureFixture) -> None:
    status, answer = rest(path, body)
    assert status in (400, 404)
    assert answer["error"].isprintable()
    assert len(answer["error"]) <= 1500
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


def connect(server: LocalServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.rest_port), timeout=10)


def receive(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(1 << 16):
        received += chunk
    return received


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"BREW /v1/models/toy HTTP/1.1\r\n\r\n", b"501"),
        (b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: minus one\r\n\r\n", b"400"),
        (b"POST /v1/models/toy:predict HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
    ],
)
def test_broken_http_is_answered_in_json(server: LocalServer, request_bytes: bytes, status: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        head, _, body = receive(connection).partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert list(json.loads(body)) == ["error"]


def test_connections_are_kept_open_between_requests(server: LocalServer) -> None:
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"AVAILABLE" in connection.recv(1 << 16)


def test_too_many_connections_get_503_and_the_rest_go_on(server: LocalServer, rest: Rest) -> None:
    idle = [connect(server) for _ in range(8)]
    try:
        deadline = time.monotonic() + 10
        status = 200
        while status != 503 and time.monotonic() < deadline:
            status, answer = rest("/v1/models/toy")
        assert status == 503
        assert "too many connections" in answer["error"]
    finally:
        for connection in idle:
            connection.close()
    deadline = time.monotonic() + 10
    while rest("/v1/models/toy")[0] != 200:
        assert time.monotonic() < deadline


def ask(connection: socket.socket) -> bytes:
    connection.sendall(b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return receive(connection)


@pytest.mark.slow
def test_connections_that_wait_make_room_for_others(server: LocalServer) -> None:
    trickling = [connect(server) for _ in range(8)]
    for connection in trickling:
        connection.sendall(b"POST /v1/models/toy:predict HTTP/1.1\r\nX: ")
    time.sleep(2.2)
    for connection in trickling:  # they trickle on, and yet
        connection.sendall(b"a")
    try:
        for _ in range(3):
            with connect(server) as connection:
                assert b"200 OK" in ask(connection)
    finally:
        for connection in trickling:
            connection.close()


@pytest.mark.parametrize(
    "sent", [b"POST /v1/models/toy:predict HTTP/1.1\r\nX: ", b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"]
)
def test_a_request_that_does_not_arrive_is_given_up(toy_model: Path, sent: bytes) -> None:
    limits = Limits(head_seconds=0.2, body_seconds=0.2)
    with LocalServer({"toy": toy_model.parent / "later"}, rest_port=0, grpc_port=0, limits=limits) as slow, connect(slow) as connection:
        connection.sendall(sent)
        assert b"408 Request Timeout" in receive(connection)


def test_nothing_behind_a_refused_request_is_answered(server: LocalServer) -> None:
    second = b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\n\r\n"
    for refused in (
        b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\n",
        b"POST /v1/models/toy:predict HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
        b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    ):
        with connect(server) as connection:
            connection.sendall(refused + second)
            connection.shutdown(socket.SHUT_WR)
            answer = receive(connection)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"Connection: close" in answer


def test_requests_sent_ahead_are_answered_in_order(server: LocalServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection).count(b"AVAILABLE") == 3


def test_a_request_whose_time_is_over_is_not_run(server: LocalServer) -> None:
    response = RestApi(server.models).handle("POST", PREDICT, b"{}", deadline=time.monotonic() - 1)
    assert response.status == 504
