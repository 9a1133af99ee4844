"""A Spark session for one program, and Spark's failures as one message.

The session comes from ``spark-submit`` if that has started the program, else it is made here. A cluster that cannot be reached, or that
has no machines left, ends the program in bounded time: Spark itself would wait for new ones for ever.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tfmi.core.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

DEFAULT_MASTER = "local[*]"
MASTER_VARIABLE = "SPARK_MASTER"
DEFAULT_PATIENCE = 120.0
_OLDEST_JAVA = 17
_LOOPBACK = "127.0.0.1"
_SECONDS_TO_CONNECT = 5.0
_LOCAL_SHUFFLES = "16"
_SECONDS_BETWEEN_LOOKS = 2.0
# Set by spark-submit, whose Java process the program then belongs to.
_SUBMITTED = "PYSPARK_GATEWAY_PORT"
_MORE = "--conf spark.log.level=WARN shows what Spark says of it"


@dataclass(frozen=True)
class SparkCluster:
    """Where work is done.

    Attributes:
        master: A master's URL; None: the environment's, spark-submit's, or all cores of this machine.
        settings: Settings of Spark; they win over our own.
        patience: Seconds to wait while no executor is there.
    """

    master: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    patience: float = DEFAULT_PATIENCE

    @contextlib.contextmanager
    def session(self, name: str) -> Iterator[SparkSession]:
        """A session, stopped when the block ends.

        Args:
            name: What Spark's pages call the program.

        Raises:
            ClusterError: pyspark or Java is missing, the master cannot be reached, or, from within the block, Spark has failed.
        """
        if importlib.util.find_spec("pyspark") is None:
            raise ClusterError("pyspark is not installed; install it with: pip install 'tfmi[spark]'")
        submitted = _SUBMITTED in os.environ
        master = self.master or os.environ.get(MASTER_VARIABLE) or (None if submitted else DEFAULT_MASTER)
        if not submitted:
            _require_java()
        if master is not None:
            _require_master(master)
        session = _started(name, master, self.settings)
        watch = _Watch(session, self.patience)
        try:
            yield session
        except Exception as error:
            watch.stop()
            raise _told(error, watch) from None
        finally:
            watch.stop()
            with contextlib.suppress(Exception):  # a session whose Java process is gone
                session.stop()


def settings_of(given: Sequence[str]) -> dict[str, str]:
    """Settings of Spark from ``KEY=VALUE`` texts; raises ``ConfigError`` for a text that is none."""
    settings = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key.startswith("spark."):
            raise ConfigError(f"--conf {each}: expected KEY=VALUE, such as spark.executor.memory=4g")
        settings[key] = value
    return settings


def is_loopback(master: str) -> bool:
    """Whether everything runs on this machine: a master of its own, or one on the loopback interface."""
    return master.startswith("local") or all(host in (_LOOPBACK, "localhost", "::1") for host, _ in _addresses(master) or [("", 0)])


def _addresses(master: str) -> list[tuple[str, int]]:
    """Host and port of every master that a standalone cluster's URL names; none for others (YARN, Kubernetes)."""
    if not master.startswith("spark://"):
        return []
    pairs = [each.rpartition(":") for each in master.removeprefix("spark://").split(",")]
    if not all(host and port.isdecimal() for host, _, port in pairs):
        raise ClusterError(f"--master {master}: expected spark://HOST:PORT, local[CORES], yarn or k8s://URL")
    return [(host.strip("[]"), int(port)) for host, _, port in pairs]


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    wanted = f"Spark needs Java {_OLDEST_JAVA} or newer (Debian: apt install openjdk-17-jre-headless), on PATH or in JAVA_HOME"
    if java is None:
        raise ClusterError(f"there is no Java here; {wanted}")
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise ClusterError(f"{java} does not run: {error}; {wanted}") from None
    version = re.search(r'version "(\d+)', said.stderr + said.stdout)
    if version is not None and int(version[1]) < _OLDEST_JAVA:
        raise ClusterError(f"{java} is of version {version[1]}; {wanted}")


def _require_master(master: str) -> None:
    """Raise ``ClusterError`` if nobody listens where a standalone master should."""
    if not re.match(r"(local(\[.*\])?|local-cluster\[.*\]|yarn|spark://.+|k8s://.+)$", master):
        raise ClusterError(f"--master {master}: expected spark://HOST:PORT, local[CORES], yarn or k8s://URL")
    reasons = []
    for host, port in _addresses(master):
        try:
            socket.create_connection((host, port), timeout=_SECONDS_TO_CONNECT).close()
        except OSError as error:
            reasons.append(f"{host}:{port}: {error.strerror or error}")
        else:
            return
    if reasons:
        raise ClusterError(f"--master {master}: no master answers ({'; '.join(reasons)}); check host and port, or start one there")


def _started(name: str, master: str | None, settings: Mapping[str, str]) -> SparkSession:
    from pyspark.sql import SparkSession

    ours = {
        "spark.log.level": "OFF",  # failures become messages; stack traces of tasks would stand beside them
        "spark.ui.enabled": "false",  # it would let anybody look who reaches the port
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.executorEnv.TF_CPP_MIN_LOG_LEVEL": "3",
        # Spark runs a process for each core; with threads of their own they would get into each other's way.
        "spark.executorEnv.TF_NUM_INTRAOP_THREADS": "1",
        "spark.executorEnv.TF_NUM_INTEROP_THREADS": "1",
    }
    if master is not None and is_loopback(master):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("SPARK_LOCAL_IP", _LOOPBACK)
        ours |= {
            "spark.driver.host": _LOOPBACK,
            "spark.driver.bindAddress": _LOOPBACK,
            "spark.executorEnv.SPARK_LOCAL_IP": _LOOPBACK,
            "spark.executorEnv.PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *_python_path()]),
        }
        if master.startswith("local"):
            ours["spark.sql.shuffle.partitions"] = _LOCAL_SHUFFLES  # Spark's own 200 are for many machines
    builder = SparkSession.builder.appName(name)
    if master is not None:
        builder = builder.master(master)
    for key, value in {**ours, **settings}.items():
        builder = builder.config(key, value)
    logging.getLogger("py4j").setLevel(logging.ERROR)  # it says when it hangs up
    try:
        return builder.getOrCreate()
    except Exception as error:
        raise ClusterError(f"Spark does not start on {master or 'the master of spark-submit'}: {_reason(error)}; {_MORE}") from None


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


class _Watch:
    """Ends all jobs when no executor has been there for some time."""

    def __init__(self, session: SparkSession, patience: float) -> None:
        self.given_up = False
        self.patience = patience
        self._context = session.sparkContext
        self._stopped = threading.Event()
        # The program itself is the only executor of a local session.
        if not self._context.master.startswith("local"):
            threading.Thread(target=self._look, daemon=True).start()

    def stop(self) -> None:
        """Look no longer."""
        self._stopped.set()

    def _look(self) -> None:
        waited = 0.0
        while not self._stopped.wait(_SECONDS_BETWEEN_LOOKS):
            try:
                there = self._context._jsc.sc().getExecutorMemoryStatus().size() - 1  # without the driver
            except Exception:  # the session has ended, which the program sees by itself
                return
            waited = 0.0 if there else waited + _SECONDS_BETWEEN_LOOKS
            if waited >= self.patience:
                self.given_up = True
                with contextlib.suppress(Exception):
                    self._context.cancelAllJobs()
                return


def _told(error: Exception, watch: _Watch) -> Exception:
    """What a user is told of a failure of Spark's; anything else is left as it is."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    if watch.given_up:
        return ClusterError(
            f"no executor has been there for {watch.patience:.0f} s: all workers are gone, or have too few cores or too little memory for "
            "one; start workers, or lower --conf spark.executor.memory; --patience waits longer"
        )
    if isinstance(error, Py4JError | PySparkException | ConnectionError):
        return ClusterError(f"Spark has given up: {_reason(error)}; {_MORE}")
    return error


def _reason(error: BaseException) -> str:
    """The line of Spark's error that says what was wrong: the last one of a Python task, else of what caused it all."""
    text = str(error)
    causes = [line.strip() for line in text.splitlines() if re.match(r"\s*(\w+\.)*\w*(Error|Exception|Interrupt)\b.*", line)]
    python = [line for line in causes if not line.startswith(("py4j.", "org.", "java.", "scala.", "pyspark."))]
    chosen = python[-1] if python else causes[-1] if causes else next((line for line in text.splitlines() if line.strip()), "")
    return (chosen.strip() or type(error).__name__)[:500]
