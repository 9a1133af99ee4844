"""What every benchmark shares: arguments, timing that noise disturbs little, the machine, and one JSON object as the last line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def benchmark_arguments(description: str, *, repeats: int) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have; add the sizes of the benchmark to it.

    Args:
        description: The benchmark's docstring.
        repeats: Default of ``--repeats``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats, help="timed runs of each contender, of which the median counts")
    parser.add_argument("--threads", type=int, default=1, help="threads inside an op, and ops at a time; 0: as many as there are cores")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic data")
    return parser


def limit_threads(threads: int) -> None:
    """Bound TensorFlow's threads; call it before the first op."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def turn_seconds(
    contenders: Mapping[str, Callable[[int], object]],
    repeats: int,
    warm_up: int = 1,
    *,
    in_a_row: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of a call of each contender, on the mean of every turn.

    The contenders take turns, so that whatever else the machine is doing meets all of them alike.

    Args:
        contenders: Functions by name, called with the number of the call. A call must not return before its work is done.
        repeats: Timed turns of each.
        warm_up: Turns of each before, not timed: compilation, caches.
        in_a_row: Calls in a turn. With one, each call finds in the processor's caches what another contender has left there, as
            a program's occasional call does; with more, most find what the same one left, as a busy server's requests do.
        clock: Seconds, by the clock unless another one is given.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-warm_up, repeats):
        for name, function in contenders.items():
            start = clock()
            for call in range(in_a_row):
                function(max(turn, 0) * in_a_row + call)
            if turn >= 0:
                seconds[name].append((clock() - start) / in_a_row)
    return seconds


def median_seconds(
    contenders: Mapping[str, Callable[[int], object]], repeats: int, warm_up: int = 1, *, in_a_row: int = 1
) -> dict[str, float]:
    """Median wall-clock seconds of each contender's call; see ``turn_seconds``."""
    turns = turn_seconds(contenders, repeats, warm_up, in_a_row=in_a_row)
    return {name: statistics.median(times) for name, times in turns.items()}


def median_processor_seconds(
    contenders: Mapping[str, Callable[[int], object]], repeats: int, warm_up: int = 1, *, in_a_row: int = 1
) -> dict[str, float]:
    """Median seconds of processor time of each contender's call: what other processes on the machine take is not in it.

    Of all threads together, so that it is a latency only where there is one. See ``turn_seconds``.
    """
    turns = turn_seconds(contenders, repeats, warm_up, in_a_row=in_a_row, clock=time.process_time)
    return {name: statistics.median(times) for name, times in turns.items()}


def resident_memory() -> float:
    """Resident size of this process, in gigabytes. Linux only, as the two below."""
    return _of_status("VmRSS")


def most_memory() -> float:
    """Highest resident size of this process since the last ``forget_memory``, in gigabytes."""
    return _of_status("VmHWM")


def forget_memory() -> None:
    """The highest resident size is that of now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def report(benchmark: str, results: Mapping[str, Any], targets: Mapping[str, bool]) -> None:
    """Print the benchmark's JSON object on one line.

    Args:
        benchmark: Its name.
        results: Figures and settings.
        targets: What it should reach, in words, and whether it did.
    """
    print(json.dumps({"benchmark": benchmark, **results, "targets": dict(targets), "machine": _machine()}))


def _of_status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e9


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return {"processor": models[0] if models else platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
