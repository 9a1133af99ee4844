"""HTTP for the REST API on the standard library: one thread per connection, with limits on connections, sizes and idle time."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tfmi.serving.errors import ServerConfigError
from tfmi.serving.rest import RestApi, RestResponse, error_response

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
# A refused body is read on for a while, so that its sender gets to the answer instead of a reset connection.
_MAX_DRAINED_BYTES = 1 << 28
_DRAIN_SECONDS = 5.0
_REFUSAL_SECONDS = 0.05
_CHUNK = 1 << 16


class RestServer(ThreadingHTTPServer):
    """Serves a ``RestApi``.

    Args:
        api: What answers the requests.
        host: The address to listen on.
        port: The port, or 0 for a free one.
        max_connections: Connections open at a time; further ones get 503 at once.
        max_request_bytes: A larger body gets 413.

    Raises:
        ServerConfigError: The address cannot be listened on.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, api: RestApi, host: str, port: int, max_connections: int, max_request_bytes: int) -> None:
        self.api = api
        self.max_request_bytes = max_request_bytes
        self._slots = threading.BoundedSemaphore(max_connections)
        self._under_way = 0
        self._changed = threading.Condition()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler, bind_and_activate=False)
        with self._listening():
            self.server_bind()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, name="rest", daemon=True)

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Serve in the background. Until then connections are refused, although the port is taken."""
        with self._listening():
            self.server_activate()
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Stop accepting connections, and wait for requests under way to be answered, at most ``grace_seconds``."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, timeout=grace_seconds)

    @contextlib.contextmanager
    def request_under_way(self) -> Iterator[None]:
        """Count a request from when it has been read until it has been answered."""
        with self._changed:
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.socket.close()
            host, port = self.server_address[:2]
            reason = error.strerror or error
            raise ServerConfigError(f"cannot listen for REST on {host!s}:{port}: {reason}; choose another port with --rest-port") from None

    def server_bind(self) -> None:
        """Bind without the standard library's look-up of the host's full name, which can take seconds and is not needed."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread of its own if there is a slot for it."""
        if self._slots.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # no thread to be had
                self._slots.release()
                raise
            return
        with contextlib.suppress(OSError):
            request.settimeout(_REFUSAL_SECONDS)
            request.recv(_CHUNK)  # closing with unread data would reset the connection before the answer is read
            request.sendall(_raw(error_response(503, "too many connections; try again")))
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection, then free its slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with a connection: usually a client that went away."""
        logger.debug("connection from %s ended", client_address, exc_info=True)

    def server_close(self) -> None:
        """Close the listening socket without waiting for connections that are idle."""
        self.socket.close()


def _raw(response: RestResponse) -> bytes:
    head = f"HTTP/1.1 {response.status} Service Unavailable\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(response.body)}\r\nConnection: close\r\n\r\n".encode("ascii") + response.body


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "tfmi-local-server"
    sys_version = ""
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one piece
    server: RestServer

    def do_GET(self) -> None:
        """Answer status and metadata."""
        self._respond()

    # Everything else goes to the API too, which says what it expected.
    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = do_GET  # noqa: N815

    def _respond(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self._refuse(refusal)
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the sender went away
            self.close_connection = True
            return
        with self.server.request_under_way():
            self._send(self.server.api.handle(self.command, self.path, body))

    def _refusal(self) -> RestResponse | None:
        """The answer to a request whose body is not going to be read, or None."""
        if "Transfer-Encoding" in self.headers:
            return error_response(411, "send the body with a Content-Length, not chunked")
        encoding = self.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            return error_response(415, f"send the body as it is, not as {encoding[:40]}")
        text = self.headers.get("Content-Length") or "0"
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            return error_response(400, "Content-Length is not a number")
        if int(text) > self.server.max_request_bytes:
            limit = self.server.max_request_bytes
            return error_response(413, f"the body has {text} bytes, more than the {limit} that this server takes")
        return None

    def _refuse(self, response: RestResponse) -> None:
        self.close_connection = True
        self._send(response)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_DRAIN_SECONDS)
            deadline = time.monotonic() + _DRAIN_SECONDS
            drained = 0
            while drained < _MAX_DRAINED_BYTES and time.monotonic() < deadline and (chunk := self.connection.recv(_CHUNK)):
                drained += len(chunk)

    def handle_expect_100(self) -> bool:
        """Ask for the body only if it is going to be read."""
        refusal = self._refusal()
        if refusal is None:
            return super().handle_expect_100()
        self._refuse(refusal)
        return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the standard library refuses (a broken request line, say) as JSON too."""
        self.close_connection = True
        self._send(error_response(int(code), message or "bad request"))

    def _send(self, response: RestResponse) -> None:
        if self.request_version == "HTTP/0.9":  # also what an unreadable request line counts as
            self.request_version = "HTTP/1.0"
        self.send_response(response.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Log requests where the server logs everything."""
        logger.debug("%s %s", self.address_string(), format % args)
