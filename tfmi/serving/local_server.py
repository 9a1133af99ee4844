"""A local server for development and tests: the protocols of TensorFlow Serving, on loopback, from the same model folder.

    python serving/local_server.py --model-base-path savedmodels/mind --model-name mind
    python serving/local_server.py --models-root savedmodels

Serves the newest version over gRPC (``PredictionService``, ``ModelService``) and REST (``/v1/models/...``), and changes to a newer one
without dropping a request. In production use TensorFlow Serving itself: ``serving/tf_serving/``. See docs/serving.md.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# TensorFlow reads it when it is first imported, which the modules below do.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfmi.core.errors import TfmiError
from tfmi.core.text import PrintableFormatter, printable
from tfmi.core.version_numbers import version_number
from tfmi.serving.bounds import RequestLimits
from tfmi.serving.errors import ServerConfigError
from tfmi.serving.grpc_service import start_grpc_server
from tfmi.serving.http_server import HttpLimits, RestServer
from tfmi.serving.models import Models
from tfmi.serving.rest import RestApi

logger = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MAX_PORT = 65535
_SHORTEST_GRACE = 0.1
_SIGNAL_SECONDS = 0.2
_LINES = "\n"
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Limits:
    """What keeps one caller from taking the whole server.

    Attributes:
        max_request_bytes: A larger request is refused (REST 413, gRPC RESOURCE_EXHAUSTED).
        max_rows: Users, items or tags in a request; more are INVALID_ARGUMENT (REST 400), as is what follows.
        max_elements: Values that the model may hold for a request at a time; see ``tfmi.serving.bounds``.
        max_connections: REST connections open at a time; where none of them waits, further ones get 503.
        rest_threads: REST requests answered at a time; the others wait.
        grpc_threads: gRPC requests handled at a time; eight times as many may be open, further ones get RESOURCE_EXHAUSTED.
        request_timeout_seconds: The longest that a request may take once it is read; then DEADLINE_EXCEEDED (REST 504).
        head_seconds, body_seconds: How long the headers and the body of a REST request may take to arrive; then 408.
        grace_seconds: How long stopping waits for requests under way, and for a version that is being loaded.
    """

    max_request_bytes: int = 16 << 20
    max_rows: int = RequestLimits.rows
    max_elements: int = RequestLimits.elements
    max_connections: int = 64
    rest_threads: int = 8
    grpc_threads: int = 8
    request_timeout_seconds: float = 30.0
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    grace_seconds: float = 5.0

    def of_requests(self) -> RequestLimits:
        """What one request may ask a model for."""
        return RequestLimits(rows=self.max_rows, elements=self.max_elements, text_bytes=self.max_request_bytes)

    def of_http(self) -> HttpLimits:
        """What holds for REST connections."""
        return HttpLimits(
            connections=self.max_connections,
            threads=self.rest_threads,
            request_bytes=self.max_request_bytes,
            head_seconds=self.head_seconds,
            body_seconds=self.body_seconds,
            answer_seconds=self.request_timeout_seconds,
        )


class LocalServer:
    """Serves models over REST and gRPC until stopped; a context manager.

    Args:
        models: Model folders by name, each with version folders below it, or a function that returns them at every poll.
        host: The address to listen on; anything but loopback is reachable by others, and there is no authentication.
        rest_port: The REST port, 0 for a free one.
        grpc_port: The gRPC port, 0 for a free one.
        poll_seconds: How often to look for new versions.
        num_versions: How many of the newest versions of each model to keep loaded.
        labels: Version labels by model name, e.g. ``{"mind": {"stable": 3}}``.
        limits: Sizes, counts and times.

    Example:
        with LocalServer({"mind": Path("savedmodels/mind")}, rest_port=0, grpc_port=0) as server:
            client = Client(server.rest_address, "mind")
    """

    def __init__(
        self,
        models: Mapping[str, Path] | Callable[[], Mapping[str, Path]],
        *,
        host: str = "127.0.0.1",
        rest_port: int = 8501,
        grpc_port: int = 8500,
        poll_seconds: float = 1.0,
        num_versions: int = 1,
        labels: Mapping[str, Mapping[str, int]] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.host = host
        self.rest_port = rest_port
        self.grpc_port = grpc_port
        self._limits = limits or Limits()
        discover = models if callable(models) else lambda: models
        self.models = Models(
            discover, poll_seconds, self._limits.request_timeout_seconds, num_versions, labels, limits=self._limits.of_requests()
        )

    @property
    def rest_address(self) -> str:
        """Where REST clients connect to; exact once the server has started."""
        return f"http://{_in_address(self.host)}:{self.rest_port}"

    @property
    def grpc_address(self) -> str:
        """Where gRPC clients connect to; exact once the server has started."""
        return f"{_in_address(self.host)}:{self.grpc_port}"

    def start(self) -> None:
        """Load the models, then start to listen. Raises ``ServerConfigError`` if a port cannot be listened on."""
        limits = self._limits
        with contextlib.ExitStack() as undo:
            # Bound first, so that a taken port is found before anything is loaded; it refuses connections until the end.
            self._rest = RestServer(RestApi(self.models, limits.max_elements), self.host, self.rest_port, limits.of_http())
            undo.callback(self._rest.stop, 0.0)
            undo.callback(self.models.stop, 0.0)
            self.models.start()
            self._grpc, self.grpc_port = start_grpc_server(
                self.models, self.host, self.grpc_port, limits.grpc_threads, limits.max_request_bytes
            )
            undo.callback(self._grpc.stop, 0.0)
            self._rest.start()
            self.rest_port = self._rest.port
            undo.pop_all()

    def stop(self) -> bool:
        """Stop listening, let requests under way finish, unload the models; all of it within ``grace_seconds``.

        Returns:
            Whether everything had finished. If not, threads are left that wait for TensorFlow and would keep the process from ending.
        """
        deadline = time.monotonic() + self._limits.grace_seconds
        grpc_stopped = self._grpc.stop(self._limits.grace_seconds)
        answered = self._rest.stop(self._limits.grace_seconds)
        grpc_stopped.wait()
        return self.models.stop(max(deadline - time.monotonic(), _SHORTEST_GRACE)) and answered

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def describe(server: LocalServer) -> str:
    """What is served where, to be printed at the start."""
    lines = ["tfmi local server, for development and tests (in production: TensorFlow Serving, see serving/tf_serving/)"]
    for name in server.models.names:
        model = server.models.versions(name)
        versions = ", ".join(str(version) for version in model.available) or "none yet, waiting for one"
        lines.append(f"  model {name}: version {versions}, from {model.base_path}")
        lines.append(f"    REST  POST {server.rest_address}/v1/models/{name}:predict")
    lines.append(f"  gRPC  {server.grpc_address}")
    lines.append("  New versions are picked up by themselves. Ctrl-C stops.")
    if server.host not in _LOOPBACK:
        lines.append(f"  WARNING: {server.host} can be reached from other machines, and this server knows no authentication.")
    return "\n".join(printable(line) for line in lines)


def discover_models(root: Path, unreadable: set[Path] | None = None) -> dict[str, Path]:
    """Every folder of ``root`` that holds at least one version folder, by its name.

    Args:
        root: The folder of models.
        unreadable: Folders that have been logged as unreadable; changed here, so that each of them is logged once.

    Raises:
        OSError: ``root`` itself cannot be read.
    """
    unreadable = set() if unreadable is None else unreadable
    models: dict[str, Path] = {}
    for folder in sorted(root.iterdir()):
        try:
            if folder.is_dir() and any(version_number(entry.name) is not None and entry.is_dir() for entry in folder.iterdir()):
                models[folder.name] = folder
            unreadable.discard(folder)
        except OSError as error:
            if folder not in unreadable:
                logger.error("%s is left out: it cannot be read: %s", folder, error.strerror or error)
            unreadable.add(folder)
    return models


def parse_labels(texts: Sequence[str]) -> dict[str, dict[str, int]]:
    """Turn ``["mind:stable=3"]`` into ``{"mind": {"stable": 3}}``; raises ``ServerConfigError`` on anything else."""
    labels: dict[str, dict[str, int]] = {}
    for text in texts:
        target, _, version = text.partition("=")
        model, _, label = target.partition(":")
        number = version_number(version)
        if not model or not label or number is None:
            raise ServerConfigError(f"--label {text!r}: expected MODEL:LABEL=VERSION, e.g. mind:stable=3")
        labels.setdefault(model, {})[label] = number
    return labels


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _models_from(arguments: argparse.Namespace) -> Mapping[str, Path] | Callable[[], Mapping[str, Path]]:
    if arguments.models_root is not None:
        root: Path = arguments.models_root
        if not root.is_dir():
            raise ServerConfigError(f"--models-root {root}: no such folder; expected one with <model>/<version>/ below it")
        unreadable: set[Path] = set()
        return lambda: discover_models(root, unreadable)
    base: Path = arguments.model_base_path
    if not base.is_dir():
        raise ServerConfigError(f"--model-base-path {base}: no such folder; train and export a model first: python training/train.py")
    return {arguments.model_name or base.resolve().name: base}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Serve exported models over the protocols of TensorFlow Serving, for development and tests.",
        epilog="Ask it with: python serving/client.py recommend --model mind --history ID,ID,...",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model-base-path", type=Path, help="folder of one model, with version folders (1, 2, ...) in it")
    source.add_argument("--models-root", type=Path, help="folder of several models: every <model>/<version> below it is served")
    parser.add_argument("--model-name", help="name in requests of the model at --model-base-path (default: the folder's name)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    parser.add_argument("--rest-port", type=int, default=8501, help="REST port; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8500, help="gRPC port; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--poll-seconds", type=float, default=1.0, help="how often to look for new versions (default: %(default)s)")
    parser.add_argument("--num-versions", type=int, default=1, help="newest versions of each model to keep loaded (default: %(default)s)")
    parser.add_argument("--label", action="append", default=[], metavar="MODEL:LABEL=VERSION", help="name a version; repeatable")
    parser.add_argument("--max-request-bytes", type=int, default=Limits.max_request_bytes, help="refuse more (default: %(default)s)")
    parser.add_argument(
        "--timeout-seconds",
        type=float,
        default=Limits.request_timeout_seconds,
        help="cancel a request after this long (default: %(default)s)",
    )
    parser.add_argument("--max-rows", type=int, default=Limits.max_rows, help="rows of a request at most (default: %(default)s)")
    parser.add_argument(
        "--max-elements",
        type=int,
        default=Limits.max_elements,
        help="values that a model may hold for a request at a time, estimated from its shapes (default: %(default)s)",
    )
    parser.add_argument(
        "--grace-seconds",
        type=float,
        default=Limits.grace_seconds,
        help="how long stopping waits for requests under way and for a version that is being loaded (default: %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true", help="log every request")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    for name in ("poll_seconds", "num_versions", "max_request_bytes", "max_rows", "max_elements", "timeout_seconds", "grace_seconds"):
        value = getattr(arguments, name)
        if not 0 < value < math.inf:
            raise ServerConfigError(f"--{name.replace('_', '-')}: expected a number above 0, got {value}")
    for name in ("rest_port", "port"):
        if not 0 <= getattr(arguments, name) <= _MAX_PORT:
            raise ServerConfigError(f"--{name.replace('_', '-')}: expected 0 to {_MAX_PORT}, got {getattr(arguments, name)}")
    if arguments.models_root is not None and arguments.model_name is not None:
        raise ServerConfigError("--model-name names the model at --model-base-path; with --models-root every folder's name is its model's")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM. Returns the exit status: 0, or 2 if the server cannot start as asked."""
    arguments = build_parser().parse_args(argv)
    _log_to_terminal(verbose=arguments.verbose)
    try:
        _check(arguments)
        server = LocalServer(
            _models_from(arguments),
            host=arguments.host,
            rest_port=arguments.rest_port,
            grpc_port=arguments.port,
            poll_seconds=arguments.poll_seconds,
            num_versions=arguments.num_versions,
            labels=parse_labels(arguments.label),
            limits=Limits(
                max_request_bytes=arguments.max_request_bytes,
                max_rows=arguments.max_rows,
                max_elements=arguments.max_elements,
                request_timeout_seconds=arguments.timeout_seconds,
                grace_seconds=arguments.grace_seconds,
            ),
        )
        return _serve(server)
    except TfmiError as error:
        print(f"error: {printable(str(error), keep=_LINES)}", file=sys.stderr)
        return 2


def _serve(server: LocalServer) -> int:
    """Start, wait for a signal, stop. Models are loaded in a thread, since Python sees no signal while TensorFlow loads."""
    stopping = threading.Event()
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: stopping.set())
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.start)
        starting.add_done_callback(lambda _: stopping.set() if starting.exception() else None)
        while not starting.done() and not stopping.wait(_SIGNAL_SECONDS):
            pass
        if not starting.done():
            print("stopped while starting", flush=True)
            _leave(0)
    starting.result()
    print(describe(server), flush=True)
    while not stopping.wait(_SIGNAL_SECONDS):
        pass
    print("stopping: requests under way are finished first", flush=True)
    if not server.stop():
        _leave(0)
    return 0


def _leave(status: int) -> None:
    """End the process although threads wait for TensorFlow, which Python would wait for."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _log_to_terminal(*, verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    # The event loop's notices are for authors of programs.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # The session loader's deprecation notice is for authors of models; it is what TensorFlow Serving uses.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
