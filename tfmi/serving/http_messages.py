"""One HTTP/1.1 message at a time, between bytes and what they say, on ``h11``. No sockets and no waiting here.

Where two programs could disagree about where a request ends (a proxy before this server, say), the request is refused: several lengths,
a length that is no number, blanks before a colon, folded lines, line feeds alone. ``h11`` refuses some of these itself.
"""

from __future__ import annotations

import email.utils
import re
from typing import NamedTuple

import h11

from tfmi.serving.rest import RestResponse, error_response

MAX_HEAD_BYTES = 1 << 16
SERVER_NAME = b"tfmi-local-server"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_END_OF_HEAD = b"\r\n\r\n"
_LONE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_FOLDED_LINE = re.compile(rb"\r\n[ \t]")
_HOST = re.compile(rb"\r\nhost[ \t]*:", re.IGNORECASE)
_LENGTHS = re.compile(rb"\r\ncontent-length[ \t]*:([^\r\n]*)", re.IGNORECASE)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_PORT = re.compile(r":\d*$", re.ASCII)
_LENGTH_DIGITS = 19
_SHOWN_CHARACTERS = 40


class Head(NamedTuple):
    """What stands before a body.

    Attributes:
        method, path: As they were sent; ``path`` with the query.
        length: Bytes of the body.
        keep_alive: Whether the sender wants to go on with the connection.
        wants_continue: Whether it waits to be told to send the body.
        host: Whom the sender believes to speak to, without a port; "" if it does not say.
    """

    method: str
    path: str
    length: int
    keep_alive: bool
    wants_continue: bool
    host: str


class RefusedError(Exception):
    """A request that is not going to be answered by the API; its connection ends with ``response``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = error_response(status, message)


def take_head(received: bytearray) -> bytes | None:
    """Remove a whole head from what has been received; None if there is none yet.

    Raises:
        RefusedError: What has been received cannot become one.
    """
    while received.startswith(b"\r\n"):  # some send an empty line behind a body
        del received[:2]
    if received and not 0x21 <= received[0] <= 0x7E:  # TLS, say
        raise RefusedError(400, "this is not HTTP")
    end = received.find(_END_OF_HEAD)
    head = bytes(received[: end + len(_END_OF_HEAD)] if end >= 0 else received)
    if len(head) > MAX_HEAD_BYTES:
        if b"\n" not in head[:MAX_HEAD_BYTES]:
            raise RefusedError(414, "the request line is too long")
        raise RefusedError(431, f"the headers have more than {MAX_HEAD_BYTES} bytes")
    if _LONE_LINE_FEED.search(head):
        raise RefusedError(400, "a line of the request ends with a line feed alone; HTTP ends lines with CR LF")
    if end < 0:
        return None
    del received[: len(head)]
    return head


def parse_head(head: bytes, max_request_bytes: int) -> Head:
    """What a head says.

    Raises:
        RefusedError: It is broken, or announces a body that this server does not read.
    """
    if _FOLDED_LINE.search(head):
        raise RefusedError(400, "a header goes on in a second line, which HTTP no longer has")
    lengths = [found.strip(b" \t") for found in _LENGTHS.findall(head)]
    if len(lengths) > 1:
        raise RefusedError(400, "several Content-Lengths")
    text = lengths[0] if lengths else b"0"
    if not (text.isdigit() and len(text) <= _LENGTH_DIGITS):
        raise RefusedError(400, "Content-Length is not a number")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES + len(_END_OF_HEAD))
    try:
        # There is one site here, so that nothing depends on the Host that h11 wants to see.
        connection.receive_data(head if _HOST.search(head) else head[: -len(_END_OF_HEAD)] + b"\r\nHost: -" + _END_OF_HEAD)
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise RefusedError(error.error_status_hint if error.error_status_hint != 431 else 400, f"bad request: {error}") from None
    if not isinstance(request, h11.Request):
        raise RefusedError(400, "bad request")
    if request.http_version not in (b"1.0", b"1.1"):
        raise RefusedError(505, "HTTP/1.1 is spoken here")
    headers = dict(request.headers)
    method = request.method.decode("ascii")
    if method not in _METHODS:
        raise RefusedError(501, f"the method {method[:_SHOWN_CHARACTERS]} is not known here")
    if b"transfer-encoding" in headers:
        raise RefusedError(411, "send the body with a Content-Length, not chunked")
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.lower() != "identity":
        raise RefusedError(415, f"send the body as it is, not as {encoding[:_SHOWN_CHARACTERS]}")
    length = int(text)
    if length > max_request_bytes:
        raise RefusedError(413, f"the body has {length} bytes, more than the {max_request_bytes} that this server takes")
    return Head(
        method,
        request.target.decode("latin-1"),
        length,
        keep_alive=request.http_version >= b"1.1" and b"close" not in headers.get(b"connection", b"").lower(),
        wants_continue=connection.they_are_waiting_for_100_continue,
        host=_PORT.sub("", headers.get(b"host", b"").decode("latin-1")).lower(),
    )


def response_bytes(response: RestResponse, *, keep_alive: bool, with_body: bool = True) -> bytes:
    """A whole answer; to HEAD without its body."""
    reason = _REASONS.get(response.status, b"")
    lines = [
        b"HTTP/1.1 %d %s" % (response.status, reason),
        b"Server: " + SERVER_NAME,
        b"Date: " + email.utils.formatdate(usegmt=True).encode("ascii"),
        b"Content-Type: " + response.content_type.encode("ascii"),
        b"X-Content-Type-Options: nosniff",
        b"Content-Length: %d" % len(response.body),
    ]
    lines += [f"{name}: {value}".encode("ascii") for name, value in response.headers]
    if not keep_alive:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + _END_OF_HEAD + (response.body if with_body else b"")


_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    411: b"Length Required",
    413: b"Payload Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    421: b"Misdirected Request",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
