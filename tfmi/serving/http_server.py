"""HTTP for the REST API: connections on one event loop, answers from a few threads, with limits on counts, sizes and times.

A connection that waits costs neither a thread nor a place: when all places are taken, the one that has been idle longest, or that has been
sending its request longest, makes room for a new one. Reading a request, answering it and sending the answer have a deadline each.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import socket
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tfmi.core.text import printable, shorten
from tfmi.serving.errors import ServerConfigError
from tfmi.serving.http_messages import CONTINUE, Head, RefusedError, parse_head, response_bytes, take_head
from tfmi.serving.rest import HttpApi, RestResponse, error_response

logger = logging.getLogger(__name__)

# A refused body is read on for a while, so that its sender gets to the answer instead of a reset connection.
_MAX_DRAINED_BYTES = 1 << 28
_DRAIN_SECONDS = 5.0
_REFUSAL_SECONDS = 0.05
_BACKLOG = 128
_CHUNK = 1 << 16
_SHOWN_CHARACTERS = 200
# How long a connection is safe from making room for another.
_YOUNG_SECONDS = {"idle": 0.5, "reading": 2.0, "sending": 2.0}


@dataclass(frozen=True)
class HttpLimits:
    """What keeps one caller from taking the whole server.

    Attributes:
        connections: Open at a time; where none of them waits, further ones get 503 at once.
        threads: Requests answered at a time; the others queue.
        request_bytes: A larger body gets 413.
        idle_seconds: How long a connection is kept open between requests.
        head_seconds: How long the headers may take.
        body_seconds: How long the body may take.
        answer_seconds: The time of a request once it has been read, waiting for a thread included; then 504.
        send_seconds: How long its caller may take to read the answer.
    """

    connections: int = 64
    threads: int = 8
    request_bytes: int = 16 << 20
    idle_seconds: float = 30.0
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    answer_seconds: float = 30.0
    send_seconds: float = 30.0


class _Phase(enum.Enum):
    IDLE = "idle"  # a request has been answered, and no byte of the next one has come
    READING = "reading"
    ANSWERING = "answering"
    SENDING = "sending"


@dataclass(eq=False)
class _Connection:
    """One connection and what it is doing, since when."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    phase: _Phase = _Phase.READING
    since: float = field(default_factory=time.monotonic)
    received: bytearray = field(default_factory=bytearray)

    def enter(self, phase: _Phase) -> None:
        """Begin to do something else."""
        self.phase, self.since = phase, time.monotonic()

    @property
    def can_make_room(self) -> bool:
        """Whether it has been waiting for the other side for longer than a moment."""
        return self.phase is not _Phase.ANSWERING and time.monotonic() - self.since > _YOUNG_SECONDS[self.phase.value]


class RestServer:
    """Serves a ``RestApi``, or another ``HttpApi``.

    Args:
        api: What answers the requests.
        host: The address to listen on.
        port: The port, or 0 for a free one.
        limits: Counts, sizes and times.
        port_flag: The option that sets the port, for messages.
        known_as: The names by which requests may call this server, so that no page of another site can have a browser ask it under a
            name of its own that leads here; None: any.

    Raises:
        ServerConfigError: The address cannot be listened on.
    """

    def __init__(
        self,
        api: HttpApi,
        host: str,
        port: int,
        limits: HttpLimits | None = None,
        *,
        port_flag: str = "--rest-port",
        known_as: Collection[str] | None = None,
    ) -> None:
        self.api = api
        self._port_flag, self._known_as = port_flag, known_as
        self.limits = limits or HttpLimits()
        self._connections: set[_Connection] = set()
        self._refusing = 0
        self._stopping = False
        self._under_way = 0
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(self.limits.threads, thread_name_prefix="rest")
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_quietly)
        self._thread = threading.Thread(target=self._run, name="rest", daemon=True)
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._address = (host, port)
        with self._listening():
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(self._address)

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Serve in the background. Until then connections are refused, although the port is taken."""
        with self._listening():
            self._socket.listen(_BACKLOG)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def stop(self, grace_seconds: float) -> bool:
        """Stop accepting connections, and wait for requests under way to be answered, at most ``grace_seconds``.

        Returns:
            Whether all of them were.
        """
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._stop_listening(), self._loop).result()
        with self._changed:
            finished = self._changed.wait_for(lambda: not self._under_way, timeout=grace_seconds)
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close_all(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._socket.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        return finished

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._socket.close()
            host, port = self._address
            reason = error.strerror or error
            message = f"cannot listen for REST on {host}:{port}: {reason}; choose another port with {self._port_flag}"
            raise ServerConfigError(message) from None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, sock=self._socket, limit=_CHUNK)

    async def _stop_listening(self) -> None:
        self._stopping = True
        self._server.close()
        for connection in list(self._connections):
            if connection.phase is _Phase.IDLE:
                connection.writer.transport.abort()

    async def _close_all(self) -> None:
        for connection in list(self._connections):
            connection.writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # One connection

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer)
        writer.transport.set_write_buffer_limits(0)  # so that drain() waits until all has been sent
        try:
            if not self._has_room():
                await self._refuse_for_lack_of_room(connection)
                return
            self._connections.add(connection)
            try:
                while await self._serve_one(connection):
                    connection.enter(_Phase.IDLE)
            except RefusedError as refusal:
                await self._refuse(connection, refusal.response)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            logger.debug("a connection ended", exc_info=True)
        finally:
            self._connections.discard(connection)
            writer.close()

    def _has_room(self) -> bool:
        """Whether there is a place for one more connection, if need be that of one that waits."""
        if len(self._connections) < self.limits.connections:
            return True
        waiting = [connection for connection in self._connections if connection.can_make_room]
        if not waiting:
            return False
        # Idle ones first; among equals who has waited longest.
        oldest = min(waiting, key=lambda connection: (connection.phase is not _Phase.IDLE, connection.since))
        self._connections.discard(oldest)
        oldest.writer.transport.abort()
        return True

    async def _serve_one(self, connection: _Connection) -> bool:
        """Read a request and answer it; returns whether the connection goes on."""
        head = await self._read_head(connection)
        if head is None:
            return False
        body = await self._read_body(connection, head)
        connection.enter(_Phase.ANSWERING)
        with self._request_under_way():
            deadline = time.monotonic() + self.limits.answer_seconds
            answer = self._loop.run_in_executor(self._pool, self.api.handle, head.method, head.path, body, deadline)
            response = await answer
            logger.debug("%s %s: %d", head.method, shorten(printable(head.path), _SHOWN_CHARACTERS), response.status)
            keep_alive = head.keep_alive and not self._stopping
            await self._send(connection, response, keep_alive=keep_alive, with_body=head.method != "HEAD")
        return keep_alive

    async def _read_head(self, connection: _Connection) -> Head | None:
        """The next request's head; None if the sender has no more to say."""
        limits = self.limits
        if connection.phase is _Phase.IDLE and not connection.received and not await self._receive(connection, limits.idle_seconds):
            return None
        connection.enter(_Phase.READING)
        deadline = time.monotonic() + limits.head_seconds
        while (head := take_head(connection.received)) is None:
            try:
                more = await self._receive(connection, deadline - time.monotonic())
            except TimeoutError:
                if not connection.received:
                    return None
                raise RefusedError(408, f"the headers took longer than {limits.head_seconds:g} s") from None
            if not more:
                if connection.received:
                    raise RefusedError(400, "the request ends within its headers")
                return None
        parsed = parse_head(head, limits.request_bytes)
        if self._known_as is not None and parsed.host not in self._known_as:
            raise RefusedError(421, "this server is not known by that name")
        return parsed

    async def _read_body(self, connection: _Connection, head: Head) -> bytes:
        received = connection.received
        if head.wants_continue and not received:
            connection.writer.write(CONTINUE)
        deadline = time.monotonic() + self.limits.body_seconds
        while len(received) < head.length:
            try:
                more = await self._receive(connection, deadline - time.monotonic())
            except TimeoutError:
                raise RefusedError(408, f"the body took longer than {self.limits.body_seconds:g} s") from None
            if not more:
                raise RefusedError(400, f"the request ends after {len(received)} of the {head.length} bytes of its body")
        body = bytes(received[: head.length])
        del received[: head.length]
        return body

    async def _receive(self, connection: _Connection, seconds: float) -> bool:
        """Wait for more; returns False at the end of what is sent. Raises ``TimeoutError``."""
        data = await asyncio.wait_for(connection.reader.read(_CHUNK), max(seconds, 0.0))
        connection.received += data
        return bool(data)

    async def _send(self, connection: _Connection, response: RestResponse, *, keep_alive: bool, with_body: bool = True) -> None:
        connection.enter(_Phase.SENDING)
        connection.writer.write(response_bytes(response, keep_alive=keep_alive, with_body=with_body))
        try:
            await asyncio.wait_for(connection.writer.drain(), self.limits.send_seconds)
        except TimeoutError:
            connection.writer.transport.abort()
            raise

    async def _refuse(self, connection: _Connection, response: RestResponse) -> None:
        """Answer and end the connection: where the next request would begin is not known, so nothing behind this one is looked at."""
        await self._send(connection, response, keep_alive=False)
        with contextlib.suppress(OSError):
            connection.writer.write_eof()
        drained = 0
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while drained < _MAX_DRAINED_BYTES and (chunk := await connection.reader.read(_CHUNK)):
                    drained += len(chunk)

    async def _refuse_for_lack_of_room(self, connection: _Connection) -> None:
        if self._refusing >= self.limits.connections:  # politeness has its limits, too
            connection.writer.transport.abort()
            return
        self._refusing += 1
        try:
            # Closing with unread data would reset the connection before the answer is read.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connection.reader.read(_CHUNK), _REFUSAL_SECONDS)
            await self._send(connection, error_response(503, "too many connections; try again"), keep_alive=False)
        finally:
            self._refusing -= 1

    @contextlib.contextmanager
    def _request_under_way(self) -> Iterator[None]:
        """Count a request from when it has been read until it has been answered."""
        with self._changed:
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()


def _log_quietly(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """What goes wrong with connections, such as no file being left for one more, is nothing to end or to shout for."""
    logger.debug("connections: %s", context.get("message"))
