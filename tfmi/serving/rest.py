"""TensorFlow Serving's REST API as a function from method, path and body to status and JSON; no sockets here.

POST /v1/models/<model>[/versions/<n>|/labels/<label>]:predict
GET  /v1/models/<model>[/versions/<n>|/labels/<label>]            status
GET  /v1/models/<model>[/versions/<n>|/labels/<label>]/metadata   signatures
"""

from __future__ import annotations

import json
import logging
import re
import time
import urllib.parse
from typing import Any, NamedTuple, Protocol

from tfmi.core.text import printable, shorten
from tfmi.core.version_numbers import version_number
from tfmi.serving.errors import Code, RequestError
from tfmi.serving.json_format import arrays_from_request, parse_request, requested_signature, response_from_arrays
from tfmi.serving.messages import metadata_json, status_json
from tfmi.serving.models import Models

logger = logging.getLogger(__name__)

_TARGET = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(rf"(?i:{_TARGET}:(?P<method>classify|regress|predict))", re.ASCII)
_READ = re.compile(rf"(?i:{_TARGET}(?P<metadata>/metadata)?)", re.ASCII)
_SHOWN_CHARACTERS = 200


class RestResponse(NamedTuple):
    """An HTTP status and the body that goes with it.

    Attributes:
        status, body: What is answered.
        content_type: What the body is.
        headers: Further headers.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class HttpApi(Protocol):
    """What an HTTP server asks for answers."""

    def handle(self, method: str, path: str, body: bytes, deadline: float | None = None) -> RestResponse:
        """See ``RestApi.handle``."""


class _Target(NamedTuple):
    model: str
    version: int | None
    label: str | None


class RestApi:
    """Answers REST requests from a set of models.

    Args:
        models: What to serve.
        most_values: A request with more JSON values is refused before they are made.
    """

    def __init__(self, models: Models, most_values: int | None = None) -> None:
        self._models = models
        self._most_values = most_values

    def handle(self, method: str, path: str, body: bytes, deadline: float | None = None) -> RestResponse:
        """Answer one request. Never raises: whatever goes wrong becomes ``{"error": ...}`` with the status for it.

        Args:
            method: In capitals.
            path: With the query, which is not looked at.
            body: The body.
            deadline: When its time is over, by ``time.monotonic``; None: only the limit of a run holds.
        """
        try:
            return RestResponse(200, self._answer(method, path.partition("?")[0], body, deadline))
        except RequestError as error:
            return error_response(error.http_status, error.message)
        except Exception as error:
            logger.exception("%s %s failed", method, shorten(printable(path[: 2 * _SHOWN_CHARACTERS]), _SHOWN_CHARACTERS))
            return error_response(500, f"internal error: {type(error).__name__}")

    def _answer(self, method: str, path: str, body: bytes, deadline: float | None) -> bytes:
        if deadline is not None and time.monotonic() >= deadline:
            raise RequestError(Code.DEADLINE_EXCEEDED, "the time for this request was over before it could be answered")
        match = _PREDICT.fullmatch(path) if method == "POST" else _READ.fullmatch(path) if method == "GET" else None
        if match is None:
            raise RequestError(
                Code.INVALID_ARGUMENT,
                f"Malformed request: {method} {shorten(path, _SHOWN_CHARACTERS)}. Expected POST /v1/models/<model>[/versions/<n>]:predict, "
                "GET /v1/models/<model>[/versions/<n>] or GET /v1/models/<model>[/versions/<n>]/metadata",
            )
        target = _target(match)
        if method == "GET":
            return self._metadata(target) if match["metadata"] else self._status(target)
        if match["method"].lower() != "predict":
            raise RequestError(Code.UNIMPLEMENTED, f"{match['method']} is not served here: the signatures of a tfmi model are for predict")
        return self._predict(target, body, deadline)

    def _predict(self, target: _Target, body: bytes, deadline: float | None) -> bytes:
        document = parse_request(body, self._most_values)
        signature_name = requested_signature(document)
        with self._models.acquire(*target) as (_, servable):
            arrays, row_format = arrays_from_request(document, servable.signature(signature_name).inputs)
            outputs = servable.predict(signature_name, arrays, deadline=deadline)
        return response_from_arrays(outputs, row_format)

    def _status(self, target: _Target) -> bytes:
        return _to_json(status_json(self._models.versions(target.model).statuses(target.version, target.label)))

    def _metadata(self, target: _Target) -> bytes:
        return _to_json(metadata_json(target.model, *self._models.signature_defs(*target)))


def error_response(status: int, message: str) -> RestResponse:
    """TensorFlow Serving's form of an error."""
    return RestResponse(status, json.dumps({"error": message}).encode("ascii"))


def _target(match: re.Match[str]) -> _Target:
    version = version_number(match["version"]) if match["version"] else None
    if version is None and match["version"]:
        digits = shorten(match["version"], _SHOWN_CHARACTERS)
        raise RequestError(Code.INVALID_ARGUMENT, f"Failed to convert version: {digits} to numeric.")
    label = urllib.parse.unquote(match["label"]) if match["label"] else None
    return _Target(urllib.parse.unquote(match["model"]), version, label)


def _to_json(document: Any) -> bytes:
    return json.dumps(document, indent=1).encode("ascii")
