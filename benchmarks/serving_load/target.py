"""The server under test: one that is running already, or a local server in a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.serving_load.requests import RequestMaker, empty_request, known_ids
from benchmarks.serving_load.transports import GrpcTransport, RestTransport, ServerError, output_types

ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Target:
    """Where a server is.

    Attributes:
        rest: ``http://host:port``.
        grpc: ``host:port``.
        process: Its process if that is known, to look at its memory.
    """

    rest: str
    grpc: str
    process: int | None = None

    def grpc_transport(self) -> GrpcTransport:
        """A new channel."""
        return GrpcTransport(self.grpc, _TIMEOUT_SECONDS)

    def rest_transport(self) -> RestTransport:
        """A new connection."""
        return RestTransport(self.rest, _TIMEOUT_SECONDS)

    def maker(self, model: str, generator: np.random.Generator) -> RequestMaker:
        """Requests for one of its models; raises ``ServerError`` if it does not answer."""
        transport = self.grpc_transport()
        signatures = transport.signatures(model)
        question = empty_request(model, signatures)
        reply = transport.ask(question, output_types(signatures[question.signature]))
        if reply.answer is None:
            raise ServerError(f"{self.grpc}: model {model!r} does not answer {question.signature}: {reply.status} {reply.message}")
        return RequestMaker(model, signatures, known_ids(reply.answer), generator)

    def resident_megabytes(self) -> float | None:
        """Its resident memory, if its process is known and this system says so."""
        if self.process is None:
            return None
        try:
            status = Path(f"/proc/{self.process}/status").read_text(encoding="ascii")
        except OSError:
            return None
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else None


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the server is, and which models of it are asked."""
    parser.add_argument("--rest", default="http://127.0.0.1:8501", metavar="URL", help="REST address")
    parser.add_argument("--grpc", default="127.0.0.1:8500", metavar="HOST:PORT", help="gRPC address")
    parser.add_argument("--start", type=Path, metavar="ROOT", help="start a local server of the models below this folder, and ask that one")
    parser.add_argument("--models", nargs="+", metavar="NAME", required=True, help="the models to ask")
    parser.add_argument("--process", type=int, metavar="PID", help="the server's process, to look at its memory")
    parser.add_argument("--seed", type=int, default=0, help="seed of the requests")


@contextlib.contextmanager
def target_of(options: argparse.Namespace) -> Iterator[Target]:
    """The server that the arguments name, or one that is started and, at the end, stopped.

    Raises:
        ServerError: The local server cannot start.
    """
    if options.start is None:
        yield Target(options.rest, options.grpc, options.process)
        return
    command = [sys.executable, str(ROOT / "serving" / "local_server.py"), "--models-root", str(options.start)]
    command += ["--rest-port", "0", "--port", "0", "--poll-seconds", "0.5"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            lines: list[str] = []
            for line in process.stdout or ():
                lines.append(line)
                if "Ctrl-C stops" in line:
                    break
            else:
                errors.seek(0)
                raise ServerError(f"the local server did not start: {errors.read()}")
            rest = next(line.split()[2] for line in lines if " POST " in line).split("/v1/")[0]
            grpc = next(line.split()[1] for line in lines if line.split()[:1] == ["gRPC"])
            yield Target(rest, grpc, process.pid)
        finally:
            process.terminate()
            process.wait()
