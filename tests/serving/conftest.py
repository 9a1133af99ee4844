"""A served toy model, once for all tests of this folder."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.toy_servable import MAX_REQUEST_BYTES, Rest, predict_request, save_version
from tfmi.serving.local_server import Limits, LocalServer

# The notice that sessions are deprecated, for every load.
logging.getLogger("tensorflow").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with version 1 in it; not to be changed."""
    base = tmp_path_factory.mktemp("models") / "toy"
    base.mkdir()
    save_version(base / "1", warmup=[predict_request(history=[["a", "", "", "", ""]])])
    return base


@pytest.fixture(scope="session")
def server(toy_model: Path) -> Iterator[LocalServer]:
    """A server of the toy model on free ports."""
    limits = Limits(max_request_bytes=MAX_REQUEST_BYTES, max_connections=8)
    with LocalServer({"toy": toy_model}, rest_port=0, grpc_port=0, poll_seconds=0.2, limits=limits) as running:
        yield running


@pytest.fixture(scope="session")
def rest(server: LocalServer) -> Rest:
    """A function from path and body (JSON value or bytes; None for GET) to status and parsed answer."""

    def ask(path: str, body: Any = None, method: str | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(server.rest_address + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    return ask
