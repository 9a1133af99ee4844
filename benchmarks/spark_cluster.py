"""A real Spark cluster on the loopback interface that loses a worker half way, and then all of them.

A master and two workers, processes of their own, prepare a log. When half of the shards are there, one worker and what it has started are
killed: the prepared log has to be, byte for byte, what streaming makes of the same log. Then a second preparation loses both workers and
has to end with one message, leaving nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

HOST = "127.0.0.1"
_SECONDS_TO_START = 120.0
_SECONDS_BETWEEN_LOOKS = 0.05
# What a small machine can hold twice, beside a driver.
CONF = {
    "spark.driver.memory": "1g",
    "spark.executor.memory": "768m",
    "spark.sql.shuffle.partitions": "4",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


class LoopbackCluster:
    """A standalone master and workers of one core each.

    Args:
        folder: For logs and the workers' files.
        workers: How many.

    Attributes:
        master: The master's URL.
        workers: The workers that run.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        import pyspark

        self._spark_class = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.master = f"spark://{HOST}:{port}"
        self._master = self._start("master", "master.Master", "--host", HOST, "--port", str(port), "--webui-port", str(free_port()))
        self.workers: list[subprocess.Popen[bytes]] = []
        wait_for(lambda: _answers(port), "the master", self._folder / "master.log")
        for number in range(workers):
            self.add_worker(number)

    def add_worker(self, number: int) -> None:
        """Start a worker and wait until the master knows it."""
        name = f"worker-{number}"
        options = ["--host", HOST, "--cores", "1", "--memory", "1g", "--webui-port", str(free_port())]
        folder = self._folder / name
        worker = self._start(name, "worker.Worker", *options, "--work-dir", str(folder), self.master)
        self.workers.append(worker)
        log = self._folder / f"{name}.log"
        wait_for(lambda: "Successfully registered with master" in log.read_text(errors="replace"), name, log)

    def kill_worker(self) -> None:
        """Kill a worker and all that it has started, as a machine that loses power."""
        _kill(self.workers.pop())

    def stop(self) -> None:
        """End everything."""
        for process in [*self.workers, self._master]:
            _kill(process)

    def _start(self, name: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "SPARK_LOCAL_IP": HOST,
            "SPARK_NO_DAEMONIZE": "1",
            "SPARK_DAEMON_MEMORY": "256m",
            "PYSPARK_PYTHON": sys.executable,
        }
        with (self._folder / f"{name}.log").open("wb") as log:
            command = [self._spark_class, f"org.apache.spark.deploy.{program}", *arguments]
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, its session, and those that executors have made sessions of their own for."""
    for child in descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


def descendants(root: int) -> list[int]:
    """The processes that a process has started, theirs included."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found[1:]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((HOST, port), timeout=1).close()
        return True
    return False


def wait_for(ready: Any, what: str, log: Path, seconds: float = _SECONDS_TO_START) -> None:
    """Wait until ``ready()``; raises ``RuntimeError`` with the end of the log otherwise."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} has not started within {seconds:.0f} s:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)


@contextlib.contextmanager
def loopback_cluster(folder: Path, workers: int = 2) -> Iterator[LoopbackCluster]:
    """A cluster that is gone when the block ends."""
    cluster = LoopbackCluster(folder, workers)
    try:
        yield cluster
    finally:
        cluster.stop()


def prepare_command(data: Path, output: Path, master: str, settings: Sequence[str], patience: float = 60) -> list[str]:
    """How the preparation is started."""
    conf = [flag for key, value in CONF.items() for flag in ("--conf", f"{key}={value}")]
    program = str(ROOT / "training" / "spark" / "prepare.py")
    flags = [flag for setting in settings for flag in ("--set", setting)]
    command = [sys.executable, program, "--data", str(data), "--output", str(output), "--master", master]
    return [*command, "--patience", str(patience), *conf, *flags]


def shards_there(output: Path) -> int:
    """Shards that a preparation under way has finished."""
    return sum(1 for folder in output.parent.glob(f".{output.name}.tmp-*") for _ in folder.glob("sequences-*"))


def run_and_kill(command: Sequence[str], cluster: LoopbackCluster, output: Path, *, after: int, kill: int) -> tuple[int, str, int]:
    """Run a preparation; when so many shards are there, kill workers. Returns exit code, messages and shards at that time."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    found = 0
    while process.poll() is None and (found := shards_there(output)) < after:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if process.poll() is None:
        for _ in range(kill):
            cluster.kill_worker()
    said, errors = process.communicate(timeout=1800)
    return process.returncode, said + errors, found


def streamed_bytes(data: Path, folder: Path, settings: Sequence[str]) -> list[bytes]:
    """The shards that streaming writes of a log."""
    from tfmi.config import LogConfig
    from tfmi.data.reading.log import find_log_files, read_catalogue, read_users
    from tfmi.data.streaming.shard_writing import write_sharded_log
    from tfmi.models.systems import load_config

    overrides = {"data": {"dataset": "log", "path": str(data), "log": {"streaming": True}}}
    config = load_config(None, None, list(settings), overrides).data
    log_config: LogConfig = config.log
    log, catalogue, users = find_log_files(data, log_config)
    sharded = write_sharded_log(
        log,
        log_config,
        folder / "shards",
        folder / "log.jsonl",
        catalogue=None if catalogue is None else read_catalogue(catalogue, log_config, folder / "catalogue.jsonl"),
        users=None if users is None else read_users(users, log_config, folder / "users.jsonl"),
        max_user_events=config.split.max_user_events,
    )
    return [path.read_bytes() for path in sharded.shards]


def killed_workers(data: Path, folder: Path, settings: Sequence[str], shards: int) -> dict[str, Any]:
    """Prepare a log twice, with one worker killed half way, and with all of them killed.

    Args:
        data: The log.
        folder: For everything that is written.
        settings: Of the configuration, ``a.b=value``.
        shards: How many shards.
    """
    settings = [*settings, f"data.log.shards={shards}"]
    results: dict[str, Any] = {}
    output = folder / "prepared"
    folder.mkdir(parents=True, exist_ok=True)
    with loopback_cluster(folder / "cluster") as cluster:
        started = time.perf_counter()
        command = prepare_command(data, output, cluster.master, settings)
        code, said, found = run_and_kill(command, cluster, output, after=shards // 2, kill=1)
        if code:
            raise RuntimeError(f"preparing with one worker killed ended with {code}:\n{said[-3000:]}")
        ours = [path.read_bytes() for path in sorted(output.glob("sequences-*"))]
        results |= {
            "shards": shards,
            "shards_when_killed": found,
            "workers_killed": 2 - len(cluster.workers),
            "seconds": time.perf_counter() - started,
            "same_as_streaming": ours == streamed_bytes(data, folder, settings),
        }
        if len(cluster.workers) < 2:
            cluster.add_worker(2)
        lost = folder / "lost"
        command = prepare_command(data, lost, cluster.master, settings, patience=10)
        code, said, found = run_and_kill(command, cluster, lost, after=1, kill=2)
        left = [path.name for path in folder.iterdir() if "lost" in path.name and not path.name.endswith(".rejects")]
        message = [line for line in said.splitlines() if line.startswith("error: ")]
        results["without_workers"] = {"exit_code": code, "message": " ".join(message), "shards_when_killed": found, "left": left}
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    from benchmarks.synthetic_log import write_synthetic_log

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--folder", type=Path, required=True, help="for the log and all that is written")
    options = parser.parse_args(arguments)
    data = write_synthetic_log(options.folder / "log", options.events, events_per_file=max(1, options.events // 10))
    results = killed_workers(data, options.folder, ["data.split.max_user_events=10000"], options.shards)
    print(json.dumps({"benchmark": "spark_cluster", "events": options.events, **results}))
    return 0 if results["same_as_streaming"] and results["without_workers"]["exit_code"] == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
