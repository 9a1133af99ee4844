"""What the contenders share. Standard library only: DeepMatch's environment has nothing of this project's."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any


def contender_arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what ``training_speed.py`` tells every contender."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1, help="threads inside an op, ops at a time, and cores to stay on")
    parser.add_argument("--rounds", type=int, default=2, help="timed rounds, after one to warm up")
    return parser


def stay_on_cores(count: int) -> None:
    """Keep this process on the last ``count`` of its cores (0: all of them). Call it before a library starts its threads."""
    if count and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])


def time_rounds(run_round: Callable[[], object], rounds: int, *, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each call by the clock, and of processor time, which other processes on the same core do not add to.

    Args:
        run_round: What is timed.
        rounds: How often.
        warm_up: Call it once before, untimed.
    """
    if warm_up:
        run_round()
    seconds, processor_seconds = [], []
    for _ in range(rounds):
        start, processor_start = time.perf_counter(), time.process_time()
        run_round()
        seconds.append(time.perf_counter() - start)
        processor_seconds.append(time.process_time() - processor_start)
    return {"seconds": seconds, "processor_seconds": processor_seconds}


def print_result(result: dict[str, Any]) -> None:
    """Print the contender's JSON object as the last line."""
    print(json.dumps(result), flush=True)
