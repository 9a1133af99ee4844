"""What can go wrong with a request, with the status codes that TensorFlow Serving gives it over gRPC and HTTP."""

from __future__ import annotations

import enum

from tfmi.core.errors import TfmiError
from tfmi.core.text import printable, shorten

MAX_MESSAGE_CHARACTERS = 1500
# gRPC carries a message in a header, where bytes other than printable ASCII take three, and callers refuse headers of more than 8 KiB.
MAX_HEADER_BYTES = 4096


class Code(enum.IntEnum):
    """The canonical status codes shared by gRPC and TensorFlow."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# As TensorFlow Serving maps them; whatever is missing here is a 500.
_HTTP_STATUSES = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        code: The canonical status code.
        message: What was wrong and what was expected, for the caller; kept free of control characters, and cut to what a header holds.
    """

    def __init__(self, code: Code, message: str) -> None:
        self.code = code
        self.message = fit_header(printable(message[: 2 * MAX_MESSAGE_CHARACTERS]))
        super().__init__(self.message)

    @property
    def http_status(self) -> int:
        """The HTTP status that TensorFlow Serving answers for this code."""
        return _HTTP_STATUSES.get(self.code, 500)


class ServerConfigError(TfmiError):
    """The server cannot start as asked: a missing model folder, a taken port, a wrong option."""


def invalid(message: str) -> RequestError:
    """An ``INVALID_ARGUMENT`` error, the most frequent one."""
    return RequestError(Code.INVALID_ARGUMENT, message)


def fit_header(text: str) -> str:
    """Return printable ``text``, cut with an ellipsis to ``MAX_MESSAGE_CHARACTERS`` and, as gRPC encodes it, ``MAX_HEADER_BYTES``."""
    text = shorten(text, MAX_MESSAGE_CHARACTERS)
    ellipsis_bytes = _header_bytes("…")
    size = 0
    for position, character in enumerate(text):
        size += _header_bytes(character)
        if size > MAX_HEADER_BYTES - ellipsis_bytes and position < len(text) - 1:
            return f"{text[:position]}…"
    return text


def _header_bytes(character: str) -> int:
    """What a character takes in a gRPC header: percent-encoded unless it is printable ASCII."""
    return 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode("utf-8"))
