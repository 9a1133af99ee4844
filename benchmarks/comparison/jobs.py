"""Runs as jobs: each is a run folder of ``training/train.py``; finished ones are kept, broken ones resumed, failures do not stop others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tfmi.cli.program import STOPPED_BY_USER
from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError
from tfmi.core.files import write_atomically
from tfmi.models.kind_settings import settings_yaml
from tfmi.training.monitors import AUTO
from tfmi.training.run_folder import RunFolder, differing_keys

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
ATTEMPT = "\n$ "  # stands before the command that wrote what follows in a log


@dataclass(frozen=True)
class Job:
    """One run: a configuration on a dataset under a seed.

    Attributes:
        label: Its entry's.
        dataset: A name of ``Comparison.data``.
        config: The resolved configuration.
        folder: Where the run is.
        monitor: The validation metric that it is judged by in a search.
    """

    label: str
    dataset: str
    config: RunConfig
    folder: RunFolder
    monitor: str

    @property
    def watched(self) -> str:
        """The monitor, by its name where the data chose it (``training.monitor: auto``) and the run is finished."""
        chosen = self.metrics()["train"].get("monitor", self.monitor) if self.monitor == AUTO and self.finished else self.monitor
        return str(chosen)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.label} on {self.dataset}, seed {self.config.seed}"

    @property
    def finished(self) -> bool:
        """Whether the run has been measured."""
        return self.folder.metrics.exists()

    def metrics(self) -> dict[str, Any]:
        """The content of a finished run's ``metrics.json``."""
        measured: dict[str, Any] = json.loads(self.folder.metrics.read_text(encoding="utf-8"))
        return measured

    def beside(self, ending: str) -> Path:
        """A file beside the run folder with its name and ``ending``."""
        return self.folder.path.with_name(self.folder.path.name + ending)

    def check_stored(self) -> None:
        """Raise ``ConfigError`` if the folder holds a run with another configuration."""
        if not self.folder.holds_run:
            return
        different = differing_keys(self.folder.stored_config().model_dump(), self.config.model_dump())
        if different:
            raise ConfigError(
                f"{self.folder.path}: an earlier run is here with other values of: {', '.join(different)}. Remove the folder, or choose "
                "another one with --output"
            )


@dataclass(frozen=True)
class Task:
    """A command whose output goes to a log file.

    Attributes:
        name: What messages call it.
        command: The command line.
        log: Where its output is appended.
    """

    name: str
    command: tuple[str, ...]
    log: Path


@dataclass(frozen=True)
class Failure:
    """A task that ended with another exit code than 0: the last line that it wrote, and where the others are."""

    name: str
    reason: str
    log: Path

    def __str__(self) -> str:
        return f"{self.name}: {self.reason} (log: {self.log})"


def run_jobs(jobs: Sequence[Job], parallel: int, description: str) -> list[Failure]:
    """Train and measure the jobs that are not finished yet, ``parallel`` at a time; returns those that failed.

    One seed after the other, so that a comparison that is stopped early has every row.
    """
    distinct = list({job.folder.path: job for job in jobs}.values())
    waiting = sorted((job for job in distinct if not job.finished), key=lambda job: job.config.seed)
    return run_tasks([_training(job) for job in waiting], parallel, description, done=len(distinct) - len(waiting))


def run_tasks(tasks: Sequence[Task], parallel: int, description: str, done: int = 0) -> list[Failure]:
    """Run commands, ``parallel`` at a time, each on one core if there are several.

    Args:
        tasks: What to run.
        parallel: How many at a time.
        description: Stands before the progress bar.
        done: What the bar counts as done before.

    Returns:
        The failures, in the order of ``tasks``.

    Raises:
        KeyboardInterrupt: Ctrl-C: tasks that had begun have ended, the others are not begun.
    """
    stop = threading.Event()
    environment = {**os.environ, **(ONE_THREAD if parallel > 1 else {})}

    def work(task: Task) -> Failure | None:
        if stop.is_set():
            return None
        code = run_logged(task, environment)
        if code == STOPPED_BY_USER:
            stop.set()
        return Failure(task.name, _last_message(task.log), task.log) if code else None

    pool = ThreadPoolExecutor(parallel)
    try:
        futures = [pool.submit(work, task) for task in tasks]
        with tqdm(total=done + len(tasks), initial=done, desc=description, unit="run", disable=None) as bar:
            for future in as_completed(futures):
                failure = future.result()
                if stop.is_set():
                    raise KeyboardInterrupt
                if failure is not None:
                    tqdm.write(f"FAILED {failure}", file=sys.stderr)
                bar.update()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return [failure for failure in (future.result() for future in futures) if failure is not None]


def run_logged(task: Task, environment: Mapping[str, str]) -> int:
    """Run one task to its end; returns its exit code."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("ab") as log:
        log.write(f"{ATTEMPT}{' '.join(task.command)}\n".encode())
        log.flush()
        return subprocess.run(task.command, env=dict(environment), stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def _training(job: Job) -> Task:
    command = [sys.executable, str(ROOT / "training" / "train.py"), "--no-export", "--output", str(job.folder.path)]
    if job.folder.holds_run:
        command.append("--resume")
    else:
        resolved = write_atomically(job.beside(".yaml"), settings_yaml(job.config))
        command += ["--config", str(resolved)]
    return Task(job.name, tuple(command), job.beside(".log"))


def _last_message(log: Path) -> str:
    """What the last attempt ended with: its error message, or else its last line."""
    attempt = log.read_text(encoding="utf-8", errors="replace").rpartition(ATTEMPT)[2]
    lines = [line.strip() for line in attempt.splitlines()[1:] if line.strip()]
    messages = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (messages or lines or ["it wrote nothing"])[-1]
