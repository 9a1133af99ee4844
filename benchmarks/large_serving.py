"""A published version of millions of items in the server: loading, answers, and a newer version that takes over, with time and memory.

The server's own classes load it, as ``serving/server.py`` does, without its ports. The newer version is the same one under the next number,
by hard links. Requests go on while it loads. Memory is resident size in gigabytes.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import tfmi  # noqa: F401 - selects Keras 2 before TensorFlow is imported
from benchmarks.common import benchmark_arguments, forget_memory, limit_threads, most_memory, report, resident_memory
from tfmi.core.version_numbers import version_number
from tfmi.serving.models import Models

NAME = "large"
SECONDS_FOR_AN_ANSWER = 60.0
SECONDS_BETWEEN_ANSWERS = 0.05


class Asking:
    """Requests of one user each, with random histories.

    Args:
        models: The server's models.
        items: Items of the catalogue, ``item-0`` and so on.
        random: Draws the histories.
    """

    def __init__(self, models: Models, items: int, random: np.random.Generator) -> None:
        self._models, self._items, self._random = models, items, random

    def once(self) -> float:
        """Seconds of one answer."""
        numbers = self._random.integers(0, self._items, [1, 20])
        history = np.array([[f"item-{number}".encode() for number in row] for row in numbers], object)
        start = time.perf_counter()
        with self._models.acquire(NAME) as (_, servable):
            found = servable.predict("serving_default", {"history": history})
        seconds = time.perf_counter() - start
        if not found["item_ids"][0, 0]:
            raise RuntimeError("nothing was found")
        return seconds

    def until(self, stop: threading.Event, taken: list[float]) -> None:
        """Ask until told to stop; every answer's seconds are added to ``taken``."""
        while not stop.wait(SECONDS_BETWEEN_ANSWERS):
            taken.append(self.once())


def swapped(models: Models, asking: Asking, folder: Path, newest: int) -> dict[str, float]:
    """Publish the newest version once more, and say how long it took to take over, and what answers took meanwhile."""
    forget_memory()
    stop, taken = threading.Event(), list[float]()
    thread = threading.Thread(target=asking.until, args=(stop, taken))
    thread.start()
    shutil.copytree(folder / str(newest), folder / "tmp-next", copy_function=os.link)
    (folder / "tmp-next").rename(folder / str(newest + 1))
    start = time.perf_counter()
    try:
        while models.versions(NAME).available != [newest + 1]:
            models.poll()
        seconds = time.perf_counter() - start
    finally:
        stop.set()
        thread.join()
        shutil.rmtree(folder / str(newest + 1))
    models.poll()  # closes the former one, which the last request may have held
    return {
        "swap_seconds": round(seconds, 1),
        "swap_memory": round(most_memory(), 2),
        "swap_answers": len(taken),
        "swap_median_milliseconds": round(1e3 * statistics.median(taken), 2),
        "swap_slowest_milliseconds": round(1e3 * max(taken), 1),
        "after_swap_memory": round(resident_memory(), 2),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = benchmark_arguments(__doc__ or "", repeats=30)
    parser.add_argument("folder", type=Path, help="a model's folder, as large_catalogue.py --keep leaves it")
    parser.add_argument("--no-swap", action="store_true", help="only load and answer")
    options = parser.parse_args(arguments)

    limit_threads(options.threads)
    newest = max(number for number in map(version_number, os.listdir(options.folder)) if number is not None)
    described = json.loads((options.folder / str(newest) / "assets.extra" / "tfmi_metadata.json").read_text(encoding="utf-8"))
    models = Models(lambda: {NAME: options.folder}, poll_seconds=1.0, request_timeout_seconds=SECONDS_FOR_AN_ANSWER)
    forget_memory()
    results: dict[str, object] = {"items": described["items"], "index": described["index"]["kind"], "before": round(resident_memory(), 2)}
    start = time.perf_counter()
    models.poll()
    models.poll()  # a version is loaded once its files have stopped changing, which takes two looks
    results |= {
        "load_seconds": round(time.perf_counter() - start, 1),
        "load_memory": round(most_memory(), 2),
        "loaded_memory": round(resident_memory(), 2),
    }
    print(json.dumps(results), flush=True)
    asking = Asking(models, described["items"], np.random.default_rng(options.seed))
    first = asking.once()
    began = time.process_time()
    taken = [asking.once() for _ in range(options.repeats)]
    results |= {
        "first_milliseconds": round(1e3 * first, 2),
        "median_milliseconds": round(1e3 * statistics.median(taken), 2),
        "processor_milliseconds": round(1e3 * (time.process_time() - began) / options.repeats, 2),
    }
    print(json.dumps(results), flush=True)
    if not options.no_swap:
        results |= swapped(models, asking, options.folder, newest)
    report("large_serving", results, {})


if __name__ == "__main__":
    main()
