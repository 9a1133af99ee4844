"""Time and memory of streaming a log, and of preparing it with Spark on this machine, by the number of events.

Each is a process of its own. Memory is the most that the process and all that it has started held at a time (proportional set size, looked
at five times a second), and of it Spark's Java process. The number of shards grows with the events, so that a shard stays as large. Rows go
to ``results.jsonl`` of the folder; those that are there are not measured again, so that a run may be stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

_SECONDS_BETWEEN_LOOKS = 0.2
EVENTS_PER_SHARD = 250_000
MAX_USER_EVENTS = 10_000
EVENTS_OF_A_USER = 20
WAYS = ("streaming", "prepare", "load")


def measured(command: Sequence[str]) -> dict[str, Any]:
    """Run a command; returns seconds by the clock and of processors, and peaks in MB, of all its processes together and of Java's alone.

    Raises:
        RuntimeError: It failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    started, processor = time.perf_counter(), _processor_seconds()
    peaks = {"all": 0.0, "java": 0.0}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    while process.poll() is None:
        held = _held(process.pid)
        peaks = {name: max(peaks[name], held[name]) for name in peaks}
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    seconds = time.perf_counter() - started
    said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said[-3000:]}")
    processor = _processor_seconds() - processor
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "peak_mb": round(peaks["all"]),
        "peak_java_mb": round(peaks["java"]),
    }


def _processor_seconds() -> float:
    """Of all processes that this one has started, and they, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _held(root: int) -> dict[str, float]:
    from benchmarks.spark_cluster import descendants

    held = {"all": 0.0, "java": 0.0}
    for process in [root, *descendants(root)]:
        with contextlib.suppress(OSError, StopIteration):
            folder = Path("/proc") / str(process)
            lines = (folder / "smaps_rollup").read_text().splitlines()
            size = int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1000
            held["all"] += size
            if (folder / "comm").read_text().strip() == "java":
                held["java"] += size
    return held


def stream(data: Path, folder: Path, shards: int) -> None:
    """What training does before its first step on a streamed log."""
    from tfmi.config import DataConfig
    from tfmi.data.loading import load_dataset

    settings = {"streaming": True, "shards": shards}
    split = {"max_user_events": MAX_USER_EVENTS}
    values = {"dataset": "log", "path": str(data), "cache": str(folder / "cache"), "log": settings, "split": split}
    report = load_dataset(DataConfig.model_validate(values)).report
    print(json.dumps(report["read"]))


def load(prepared: Path) -> None:
    """What training does before its first step on a prepared log."""
    from tfmi.config import DataConfig
    from tfmi.data.loading import load_dataset

    print(json.dumps(load_dataset(DataConfig(dataset="prepared", path=str(prepared))).report["read"]))


def structures(number: int = 1_000_000) -> dict[str, float]:
    """MB that each structure of a streamed log takes for a million items or users, by the process's resident set."""
    import numpy as np

    from tfmi.data.dataset import Sequences, Vocabulary
    from tfmi.data.streaming.shard_reading import index_table

    held: dict[str, float] = {}
    kept: list[Any] = []

    def measure(name: str, make: Any) -> Any:
        gc.collect()
        before = _resident()
        made = make()
        gc.collect()
        held[name] = round((_resident() - before) / 1e6, 1)
        kept.append(made)
        return made

    index_table(["warm"], np.array([2]), 1)
    ids = measure("items: ids", lambda: [f"item-{n:07}" for n in range(number)])
    vocabulary = measure("items: index by id", lambda: Vocabulary(ids))
    measure("items: table in the graph", lambda: index_table(ids, vocabulary.indices(ids), 1))
    measure("items: counts by id, while shards are written", lambda: dict.fromkeys([f"item-{n:07}" for n in range(number)], 1))
    measure("users who train: number of events", lambda: np.ones(number, np.int64))
    measure("users who train: ids, with a users file", lambda: [f"user-{n:07}" for n in range(number)])
    events = number * EVENTS_OF_A_USER
    zeros = np.ones(events, np.int32)
    measure(
        f"users who are tested: sequences of {EVENTS_OF_A_USER} events, whole and cut",
        lambda: [
            Sequences(np.arange(number + 1) * EVENTS_OF_A_USER, zeros.copy(), np.ones(events), None, np.ones(number, np.int32))
            for _ in range(2)
        ],
    )
    return held


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or, with ``--way``, one of its processes."""
    from benchmarks.synthetic_log import write_synthetic_log

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--folder", type=Path, help="for the logs and all that is written, which are removed again, and for the results")
    parser.add_argument("--cores", type=int, default=1, help="of Spark")
    parser.add_argument("--way", choices=("streaming", "load"), help=argparse.SUPPRESS)
    parser.add_argument("--structures", action="store_true", help="only what streaming holds for a million items and users")
    options = parser.parse_args(arguments)
    if options.structures:
        print(json.dumps({"benchmark": "log_structures", "mb_per_million": structures()}))
        return 0
    if options.folder is None:
        parser.error("--folder is needed")
    if options.way == "streaming":
        stream(options.folder / "log", options.folder, max(1, options.events[0] // EVENTS_PER_SHARD))
        return 0
    if options.way == "load":
        load(options.folder / "prepared")
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = options.folder / "results.jsonl"
    rows = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []
    done = {(row["events"], row["way"]) for row in rows}
    for events in options.events:
        if all((events, way) in done for way in options.ways):
            continue
        folder = options.folder / str(events)
        data = write_synthetic_log(folder / "log", events)
        shards = max(1, events // EVENTS_PER_SHARD)
        again = [sys.executable, str(Path(__file__).resolve()), "--folder", str(folder), "--events", str(events), "--way"]
        prepare = [sys.executable, str(ROOT / "training" / "spark" / "prepare.py"), "--data", str(data)]
        prepare += ["--output", str(folder / "prepared"), "--master", f"local[{options.cores}]", "--conf", "spark.driver.memory=1g"]
        prepare += ["--set", f"data.log.shards={shards}", "--set", f"data.split.max_user_events={MAX_USER_EVENTS}"]
        commands = {"streaming": [*again, "streaming"], "prepare": prepare, "load": [*again, "load"]}
        for way in options.ways:
            if (events, way) in done:
                continue
            rows.append({"events": events, "way": way, "shards": shards, **measured(commands[way])})
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
        shutil.rmtree(folder)
    print(json.dumps({"benchmark": "log_sizes", "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
