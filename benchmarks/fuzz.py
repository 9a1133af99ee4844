"""Odd and wrong requests to every signature of served models, over REST and gRPC: each has to get an answer or a clear refusal.

    python benchmarks/fuzz.py --models mind mgipf mvke --requests 20000                     a server that is running
    python benchmarks/fuzz.py --start savedmodels --models mind --requests 2000             a local server of its own

The server may be the local one or TensorFlow Serving. Requests are mutated from valid ones, mostly in their values, so that most reach the
graph. It fails if a request gets no answer, an internal error or a refusal for its own length, or if, every now and then, a valid request
gets another answer than at the beginning. The last line is one JSON object; the exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from benchmarks.common import report
from benchmarks.serving_load.mutations import Mutator
from benchmarks.serving_load.requests import ModelRequest, RequestMaker, difference
from benchmarks.serving_load.target import Target, add_target_arguments, target_of
from benchmarks.serving_load.transports import GrpcTransport, Reply, RestTransport, output_types
from tfmi.cli.program import quiet_libraries, run_program

# A request never has to meet these, whatever it says.
FAILURES = frozenset(
    {"NO_ANSWER", "500", "429", "503", "504"}
    | {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "DATA_LOSS"}
)
_CHECK_EVERY = 100
_KEPT_FAILURES = 20


@dataclass
class Outcome:
    """What came back.

    Attributes:
        statuses: How often, by ``rest 200`` or ``grpc INVALID_ARGUMENT``.
        failures: The first failures, in words.
        failed: How many there were.
        slowest: Seconds of the slowest reply.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    slowest: float = 0.0

    def count(self, way: str, what: str, reply: Reply, seconds: float) -> None:
        """Note a reply."""
        self.statuses[f"{way} {reply.status}"] += 1
        self.slowest = max(self.slowest, seconds)
        if reply.status in FAILURES:
            self.fail(f"{way} {what}: {reply.status} {reply.message[:300]!r}")

    def fail(self, what: str) -> None:
        """Note a failure."""
        self.failed += 1
        if len(self.failures) < _KEPT_FAILURES:
            self.failures.append(what)


class Fuzzer:
    """Sends mutated requests in turn to the signatures of some models.

    Args:
        target: The server.
        models: Names of its models.
        seed: Of everything random.
    """

    def __init__(self, target: Target, models: Sequence[str], seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._mutator = Mutator(self._generator)
        self._rest: RestTransport = target.rest_transport()
        self._grpc: GrpcTransport = target.grpc_transport()
        self._makers: list[tuple[RequestMaker, str]] = []
        for model in models:
            maker = target.maker(model, self._generator)
            self._makers += [(maker, signature) for signature in maker.signatures]
        self._valid = [(maker, maker.make(signature, 2)) for maker, signature in self._makers]
        self._expected = [self._grpc.ask(request, self._types(maker, request)) for maker, request in self._valid]

    @property
    def signatures(self) -> int:
        """How many signatures of how many models are asked."""
        return len(self._makers)

    def run(self, requests: int, *, progress: bool = True) -> Outcome:
        """Send so many requests, and check valid ones in between."""
        outcome = Outcome()
        for (_, request), reply in zip(self._valid, self._expected, strict=True):
            if reply.answer is None:
                outcome.fail(f"grpc {request}: a valid request is refused: {reply.status} {reply.message[:300]!r}")
        for number in tqdm(range(requests), unit=" requests", desc="fuzzing", disable=not progress):
            maker, signature = self._makers[number % len(self._makers)]
            self._send(maker, maker.make(signature, int(self._generator.integers(1, 4))), outcome)
            if number % _CHECK_EVERY == 0:
                self._check(number // _CHECK_EVERY % len(self._valid), outcome)
        for place in range(len(self._valid)):
            self._check(place, outcome)
        return outcome

    def _send(self, maker: RequestMaker, request: ModelRequest, outcome: Outcome) -> None:
        choice = self._generator.integers(10)
        started = time.perf_counter()
        if choice == 0:
            body = self._mutator.mutate_json(request)
            way, reply = "rest", self._rest.send("POST", f"/v1/models/{request.model}:predict", body)
        elif choice == 1:
            way, reply = "grpc", self._grpc.send(self._mutator.mutate_message(request))
        else:
            mutated = self._mutator.mutate(request)
            transport: RestTransport | GrpcTransport = self._rest if choice % 2 else self._grpc
            way, reply = transport.name, transport.ask(mutated, self._types(maker, request))
        outcome.count(way, str(request), reply, time.perf_counter() - started)

    def _check(self, place: int, outcome: Outcome) -> None:
        maker, request = self._valid[place]
        for transport in (self._rest, self._grpc):
            reply = transport.ask(request, self._types(maker, request))
            expected = self._expected[place].answer
            if expected is None:
                continue
            found = f"{reply.status} {reply.message[:300]!r}" if reply.answer is None else difference(expected, reply.answer)
            if found is not None:
                outcome.fail(f"{transport.name} {request}: a valid request is answered otherwise than at the beginning: {found}")

    @staticmethod
    def _types(maker: RequestMaker, request: ModelRequest) -> dict[str, Any]:
        return output_types(maker.signatures[request.signature])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_target_arguments(parser)
    parser.add_argument("--requests", type=int, default=20_000, help="how many (default: %(default)s)")
    options = parser.parse_args(arguments)
    return run_program(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    with target_of(options) as target:
        fuzzer = Fuzzer(target, options.models, options.seed)
        started = time.perf_counter()
        outcome = fuzzer.run(options.requests)
        seconds = time.perf_counter() - started
    for status, count in sorted(outcome.statuses.items()):
        print(f"{count:>8,}  {status}")
    for failure in outcome.failures:
        print(f"FAILED {failure}")
    answered = outcome.statuses["rest OK"] + outcome.statuses["grpc OK"] + outcome.statuses["rest 200"]
    report(
        "fuzz",
        {
            "requests": options.requests,
            "models": options.models,
            "signatures": fuzzer.signatures,
            "seed": options.seed,
            "seconds": seconds,
            "statuses": dict(sorted(outcome.statuses.items())),
            "answered_share": answered / max(options.requests, 1),
            "slowest_seconds": outcome.slowest,
            "failed": outcome.failed,
        },
        {"no failures": outcome.failed == 0},
    )
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
