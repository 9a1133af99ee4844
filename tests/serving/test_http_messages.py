"""Where a request ends is certain, or it is refused: heads without sockets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmi.serving.http_messages import MAX_HEAD_BYTES, RefusedError, parse_head, response_bytes, take_head
from tfmi.serving.rest import error_response

LIMIT = 1000
POST = b"POST /v1/models/toy:predict HTTP/1.1\r\n"


def head_of(received: bytes) -> tuple[object, bytes]:
    buffer = bytearray(received)
    head = take_head(buffer)
    assert head is not None
    return parse_head(head, LIMIT), bytes(buffer)


def test_a_head_is_taken_and_what_follows_stays() -> None:
    head, rest = head_of(POST + b"Content-Length: 3\r\nHost: x\r\n\r\nabcGET /")
    assert (head.method, head.path, head.length, head.keep_alive) == ("POST", "/v1/models/toy:predict", 3, True)  # type: ignore[attr-defined]
    assert rest == b"abcGET /"
    assert take_head(bytearray(b"GET / HTTP/1.1\r\nHost: x\r\n")) is None


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\ncontent-length : 3\r\n\r\n", 400),
        (POST + b"Content-Length: 3, 3\r\n\r\n", 400),
        (POST + b"Content-Length: +3\r\n\r\n", 400),
        (POST + b"Content-Length: 0x3\r\n\r\n", 400),
        (POST + b"Content-Length: -3\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\n 4\r\n\r\n", 400),
        (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (POST + b"Content-Length: " + "\u0663".encode() + b"\r\n\r\n", 400),
        (POST + b"Content-Length : 3\r\n\r\n", 400),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 411),
        (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n", 400),
        (POST + b"transfer-encoding: identity, chunked\r\n\r\n", 501),
        (POST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"X: a\x00b\r\n\r\n", 400),
        (POST + b": a\r\n\r\n", 400),
        (POST + b"Content-Encoding: gzip\r\n\r\n", 415),
        (POST + b"Content-Length: 1001\r\n\r\n", 413),
        (b"POST /a b HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x1b[2J HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (POST + b"X: " + b"a" * MAX_HEAD_BYTES, 431),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, 414),
    ],
)
def test_what_two_programs_could_read_differently_is_refused(request_bytes: bytes, status: int) -> None:
    with pytest.raises(RefusedError) as refusal:
        head_of(request_bytes)
    assert refusal.value.response.status == status
    assert b"\x1b" not in refusal.value.response.body


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", POST, POST + b"Content-Length: 3\r\n", b"GET / HTTP/1.1\r\n"]))
def test_any_bytes_are_a_head_or_refused_or_incomplete(more: bytes, before: bytes) -> None:
    buffer = bytearray(before + more)
    try:
        head = take_head(buffer)
        if head is not None:
            parsed = parse_head(head, LIMIT)
            assert 0 <= parsed.length <= LIMIT
            assert parsed.path.isprintable()
    except RefusedError as refusal:
        status = refusal.response.status
    else:
        status = 400
    assert 400 <= status <= 505


def test_an_answer_has_the_length_that_it_says() -> None:
    answer = response_bytes(error_response(404, "é"), keep_alive=False)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head
    assert response_bytes(error_response(404, "é"), keep_alive=True, with_body=False).endswith(b"\r\n\r\n")
