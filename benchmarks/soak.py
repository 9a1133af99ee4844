"""Many valid requests over version swaps: every answer is compared, failures are counted, and the server's memory is watched.

    python benchmarks/soak.py --models mind mgipf mvke --requests 100000 --savedmodels savedmodels --process PID --swaps 10
    python benchmarks/soak.py --start savedmodels --models mind --requests 2000 --swaps 2

The server may be the local one or TensorFlow Serving. Every signature of every model is asked, over REST and gRPC by turns, by several
callers at a time, with a fixed set of requests whose answers are known from the beginning. A swap publishes a copy of the newest version
under the next number in the models' folder, so that no answer may change. The copies are removed at the end.

Memory is the resident set of the server's process; its growth is counted from the first third, which holds warm-up and the first swaps, to
the last tenth. The last line is one JSON object; the exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from benchmarks.common import report
from benchmarks.serving_load.requests import Arrays, ModelRequest, difference
from benchmarks.serving_load.target import Target, add_target_arguments, target_of
from benchmarks.serving_load.transports import GrpcTransport, RestTransport, ServerError, output_types
from tfmi.cli.program import quiet_libraries, run_program
from tfmi.core.version_numbers import version_number
from tfmi.export.publishing import published_versions

TARGET_GROWTH = 0.02
_REQUESTS_PER_SIGNATURE = 5
_SAMPLES = 100
_WARM_UP, _END = 1 / 3, 0.9
_KEPT_FAILURES = 20


@dataclass(frozen=True)
class Question:
    """A request, the types of its answer, and the answer of the beginning."""

    request: ModelRequest
    dtypes: dict[str, Any]
    expected: Arrays


@dataclass
class Outcome:
    """What came back.

    Attributes:
        answered: Right answers, by the way they were asked for.
        failures: Statuses other than OK, by status.
        wrong: Answers other than at the beginning.
        examples: The first failures and wrong answers, in words.
        memory: Requests answered so far, and the server's megabytes.
        swaps: Versions published.
    """

    answered: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    examples: list[str] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)
    swaps: int = 0

    def growth(self) -> float | None:
        """Growth of the memory from the end of the warm-up to the end of the run; None if it is not known."""
        total = self.memory[-1][0] if self.memory else 0
        first = [size for count, size in self.memory if _WARM_UP * total <= count <= 2 * _WARM_UP * total]
        last = [size for count, size in self.memory if count >= _END * total]
        return statistics.median(last) / statistics.median(first) - 1 if first and last else None


class Soak:
    """Asks a server again and again.

    Args:
        target: The server.
        models: Names of its models.
        seed: Of the requests.
    """

    def __init__(self, target: Target, models: Sequence[str], seed: int) -> None:
        self._target = target
        self._questions: list[Question] = []
        generator = np.random.default_rng(seed)
        grpc = target.grpc_transport()
        for model in models:
            maker = target.maker(model, generator)
            for signature, definition in maker.signatures.items():
                dtypes = output_types(definition)
                for number in range(_REQUESTS_PER_SIGNATURE):
                    request = maker.make(signature, 1 + number % 3)
                    reply = grpc.ask(request, dtypes)
                    if reply.answer is None:
                        raise ServerError(f"{request}: {reply.status} {reply.message}")
                    self._questions.append(Question(request, dtypes, reply.answer))
        self._lock = threading.Lock()
        self._outcome = Outcome()

    @property
    def questions(self) -> int:
        """How many different requests are asked."""
        return len(self._questions)

    def run(
        self, requests: int, callers: int, swaps: Sequence[Path] = (), *, most_seconds: float = math.inf, progress: bool = True
    ) -> Outcome:
        """Ask so many times, or for so long; each of ``swaps`` is a model's folder in which a version is published on the way."""
        deadline = time.monotonic() + most_seconds
        numbers = itertools.takewhile(lambda _: time.monotonic() < deadline, range(requests))
        threads = [threading.Thread(target=self._ask, args=(numbers, caller), daemon=True) for caller in range(callers)]
        made: list[Path] = []
        try:
            with tqdm(total=requests, unit=" requests", desc="soaking", disable=not progress) as bar:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    done = self._done()
                    bar.update(done - bar.n)
                    self._watch_memory(done, requests)
                    if len(made) < len(swaps) and done >= requests * (len(made) + 1) / (len(swaps) + 1):
                        made.append(_publish_copy(swaps[len(made)]))
                        self._outcome.swaps += 1
                    time.sleep(0.05)
                bar.update(self._done() - bar.n)
            self._watch_memory(self._done(), requests)
        finally:
            for folder in made:
                shutil.rmtree(folder, ignore_errors=True)
        return self._outcome

    def _ask(self, numbers: Iterator[int], caller: int) -> None:
        transport: RestTransport | GrpcTransport = self._target.grpc_transport() if caller % 2 else self._target.rest_transport()
        while True:
            with self._lock:
                number = next(numbers, None)
            if number is None:
                return
            question = self._questions[number % len(self._questions)]
            reply = transport.ask(question.request, question.dtypes)
            wrong = None if reply.answer is None else difference(question.expected, reply.answer)
            with self._lock:
                outcome = self._outcome
                if reply.answer is None:
                    outcome.failures[f"{transport.name} {reply.status}"] += 1
                    self._keep(f"{transport.name} {question.request}: {reply.status} {reply.message[:300]!r}")
                elif wrong is not None:
                    outcome.wrong += 1
                    self._keep(f"{transport.name} {question.request}: {wrong}")
                else:
                    outcome.answered[transport.name] += 1

    def _keep(self, example: str) -> None:
        if len(self._outcome.examples) < _KEPT_FAILURES:
            self._outcome.examples.append(example)

    def _done(self) -> int:
        with self._lock:
            return self._outcome.answered.total() + self._outcome.failures.total() + self._outcome.wrong

    def _watch_memory(self, done: int, requests: int) -> None:
        memory = self._outcome.memory
        size = self._target.resident_megabytes()
        if size is not None and (not memory or done >= memory[-1][0] + requests / _SAMPLES):
            memory.append((done, size))


def _publish_copy(directory: Path) -> Path:
    """Publish a copy of the newest version as the next one, complete at once."""
    newest = max(published_versions(directory))
    temporary, target = directory / f"tmp-soak-{newest + 1}", directory / str(newest + 1)
    shutil.copytree(directory / str(newest), temporary)
    return temporary.rename(target)


def swap_folders(root: Path | None, models: Sequence[str], swaps: int) -> list[Path]:
    """The models' folders by turns; raises ``ServerError`` if a model has no versions there."""
    if not swaps:
        return []
    if root is None:
        raise ServerError("--swaps needs the folder of the models: --savedmodels ROOT")
    for model in models:
        folder = root / model
        if not folder.is_dir() or not any(version_number(entry.name) is not None for entry in folder.iterdir()):
            raise ServerError(f"{folder}: no versions there")
    return [root / model for model in itertools.islice(itertools.cycle(models), swaps)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_target_arguments(parser)
    parser.add_argument("--requests", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument(
        "--most-minutes", type=float, default=math.inf, metavar="M", help="end after so long, whatever is left (default: never)"
    )
    parser.add_argument("--callers", type=int, default=4, help="how many ask at a time (default: %(default)s)")
    parser.add_argument("--swaps", type=int, default=0, help="versions to publish on the way (default: none)")
    parser.add_argument("--savedmodels", type=Path, metavar="ROOT", help="the folder of the models, for --swaps")
    options = parser.parse_args(arguments)
    return run_program(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    folders = swap_folders(options.savedmodels or options.start, options.models, options.swaps)
    with target_of(options) as target:
        soak = Soak(target, options.models, options.seed)
        started = time.perf_counter()
        outcome = soak.run(options.requests, options.callers, folders, most_seconds=60 * options.most_minutes)
        seconds = time.perf_counter() - started
    for example in outcome.examples:
        print(f"FAILED {example}")
    growth = outcome.growth()
    answered = outcome.answered.total() + outcome.failures.total() + outcome.wrong
    failed = outcome.failures.total() + outcome.wrong
    report(
        "soak",
        {
            "requests": answered,
            "models": options.models,
            "questions": soak.questions,
            "callers": options.callers,
            "swaps": outcome.swaps,
            "seed": options.seed,
            "seconds": seconds,
            "requests_per_second": answered / seconds,
            "answered": dict(outcome.answered),
            "failures": dict(outcome.failures),
            "wrong_answers": outcome.wrong,
            "memory_megabytes": outcome.memory,
            "memory_growth": growth,
        },
        {
            "no failures and no wrong answers": failed == 0,
            **({} if growth is None else {f"memory growth at most {TARGET_GROWTH:.0%}": growth <= TARGET_GROWTH}),
        },
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
