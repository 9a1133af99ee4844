"""The command line of ``training/launch_local.py``: a cluster of processes on this machine, for one run of ``training/train.py``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from tfmi.cli.program import ProgramParser, start
from tfmi.core.errors import ConfigError, TrainingError

EXAMPLES = """\
examples:
  python training/launch_local.py --workers 2 -- --system mind --set training.batch_size=1024
  python training/launch_local.py --workers 2 --parameter-servers 2 -- --system comirec_sa --output runs/parts
  python training/launch_local.py --workers 2 --restarts 3 -- --system sasrec --output runs/patient

What stands after -- is for training/train.py, which every process runs. Lines of helpers begin with their role.
"""
HOST = "127.0.0.1"
# Seconds that helpers get to end by themselves once the chief has.
GRACE = 10.0
_LOOK = 0.1


@dataclass
class _Process:
    role: str
    index: int
    process: subprocess.Popen[str]

    def __str__(self) -> str:
        return f"{self.role} {self.index}"


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = ProgramParser(
        "training/launch_local.py",
        description="Train with several processes on this machine, as on several machines: to learn it, to test it, or to use all cores.\n"
        "Workers alone train synchronously (multi_worker); with parameter servers each at its own pace (parameter_server).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that take training steps (default: 2)")
    parser.add_argument("--parameter-servers", type=int, default=0, metavar="N", help="processes that hold the tables (default: none)")
    parser.add_argument(
        "--restarts",
        type=int,
        default=0,
        metavar="N",
        help="when a process dies, start all of them again with --resume, at most N times; needs --output after -- (default: 0)",
    )
    parser.add_argument("training", nargs=argparse.REMAINDER, metavar="-- ...", help="arguments of training/train.py")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code of the chief: 0 done, 1 a problem the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    if options.workers < 1 or options.parameter_servers < 0 or options.restarts < 0:
        raise ConfigError("--workers: expected at least 1, and --parameter-servers and --restarts at least 0")
    training = [argument for position, argument in enumerate(options.training) if not (position == 0 and argument == "--")]
    if options.restarts and not any(argument.split("=")[0] == "--output" for argument in training):
        raise ConfigError("--restarts: a run can only go on in a folder that is known; give --output FOLDER after --")
    for attempt in range(options.restarts + 1):
        code, lost = _cluster(options.workers, options.parameter_servers, training, tolerant=options.parameter_servers > 0)
        if lost is None:
            return code
        if attempt < options.restarts:
            print(
                f"launch_local: {lost} has ended; starting again from the last validation ({attempt + 1} of {options.restarts})", flush=True
            )
            training = [*training, *([] if "--resume" in training else ["--resume"])]
    raise TrainingError(f"{lost} has ended before the run was done; start again with --resume, or let --restarts do so")


def _cluster(workers: int, servers: int, training: Sequence[str], *, tolerant: bool) -> tuple[int, str | None]:
    """Run all processes to the chief's end; returns its exit code, and which process was lost if that is why the run ended."""
    roles = {"worker": workers, **({"chief": 1, "ps": servers} if servers else {})}
    ports = iter(_free_ports(sum(roles.values())))
    addresses = {role: [f"{HOST}:{next(ports)}" for _ in range(count)] for role, count in roles.items()}
    processes = [_started(role, index, addresses, training) for role, count in roles.items() for index in range(count)]
    chief = next(process for process in processes if process.index == 0 and process.role == ("chief" if servers else "worker"))
    previous = signal.signal(signal.SIGINT, lambda number, frame: chief.process.send_signal(signal.SIGINT))
    try:
        return _watch(chief, [process for process in processes if process is not chief], tolerant)
    finally:
        signal.signal(signal.SIGINT, previous)
        for process in processes:
            if process.process.poll() is None:
                process.process.kill()
            process.process.wait()


def _watch(chief: _Process, helpers: Sequence[_Process], tolerant: bool) -> tuple[int, str | None]:
    """Wait for the chief. A helper that is killed ends a synchronous run; asynchronous workers may go while one is left."""
    lost: list[_Process] = []
    while chief.process.poll() is None:
        for helper in helpers:
            if helper not in lost and helper.process.poll() not in (None, 0):
                lost.append(helper)
                workers_left = [other for other in helpers if other.role == "worker" and other not in lost]
                if helper.process.returncode > 0 or not tolerant or helper.role == "ps" or not workers_left:
                    # It has said why, or nothing can go on without it.
                    chief.process.kill()
                    chief.process.wait()
                    return (1, None) if helper.process.returncode > 0 else (1, str(helper))
                print(f"launch_local: {helper} is gone; the others go on", flush=True)
        time.sleep(_LOOK)
    code = chief.process.returncode
    if code < 0:
        return 1, str(chief)
    waited = time.monotonic() + GRACE
    while not tolerant and time.monotonic() < waited and any(helper.process.poll() is None for helper in helpers):
        time.sleep(_LOOK)
    return code, None


def _started(role: str, index: int, addresses: Mapping[str, Sequence[str]], training: Sequence[str]) -> _Process:
    described = {"cluster": {name: list(hosts) for name, hosts in addresses.items()}, "task": {"type": role, "index": index}}
    environment = {**os.environ, "TF_CONFIG": json.dumps(described)}
    is_chief = index == 0 and role == ("chief" if "chief" in addresses else "worker")
    process = subprocess.Popen(  # noqa: S603 - this program itself, with the arguments that its user gives
        [sys.executable, "-c", "import sys; from tfmi.cli.train import main; sys.exit(main())", *training],
        env=environment,
        text=True,
        # Ctrl-C is for the chief, which tells the others when to stop.
        start_new_session=True,
        stdout=None if is_chief else subprocess.PIPE,
        stderr=None if is_chief else subprocess.STDOUT,
    )
    if process.stdout is not None:
        threading.Thread(target=_pass_on, args=(f"{role} {index}", process.stdout), daemon=True).start()
    return _Process(role, index, process)


def _pass_on(name: str, lines: IO[str]) -> None:
    for line in lines:
        print(f"[{name}] {line}", end="", flush=True)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
