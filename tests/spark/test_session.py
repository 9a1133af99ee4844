"""What is wrong with a cluster is one message, in bounded time."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from tfmi.cli import spark_prepare
from tfmi.core.errors import ClusterError, ConfigError
from tfmi.spark.session import SparkCluster, is_loopback, settings_of


def _prepare(tmp_path: Path, *arguments: str) -> int:
    (tmp_path / "log.csv").write_text("user,item,time\nu,i,1\n", encoding="utf-8")
    return spark_prepare.main(["--data", str(tmp_path / "log.csv"), "--output", str(tmp_path / "out"), *arguments])


def test_a_master_that_nobody_is_at(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        started = time.monotonic()
        assert _prepare(tmp_path, "--master", f"spark://127.0.0.1:{port}") == 1
    assert time.monotonic() - started < 30
    assert f"--master spark://127.0.0.1:{port}: no master answers (127.0.0.1:{port}: Connection refused)" in capfd.readouterr().err
    assert not [path for path in tmp_path.iterdir() if path.name not in ("log.csv", "out.rejects")]


def test_masters_that_are_none(tmp_path: Path) -> None:
    for master in ("http://host:1", "spark://host", "localhost:7077"):
        with pytest.raises(ClusterError, match="expected spark://HOST:PORT"), SparkCluster(master).session("test"):
            pass


def test_without_java(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _prepare(tmp_path) == 1
    assert "error: there is no Java here; Spark needs Java 17" in capfd.readouterr().err


def test_an_old_java(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "home" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert _prepare(tmp_path) == 1
    assert "is of version 11; Spark needs Java 17 or newer" in capfd.readouterr().err


def test_without_pyspark(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert _prepare(tmp_path) == 1
    assert "error: pyspark is not installed; install it with: pip install 'tfmi[spark]'" in capfd.readouterr().err


def test_settings_and_patience_are_checked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert settings_of(["spark.a=b=c"]) == {"spark.a": "b=c"}
    with pytest.raises(ConfigError, match="--conf a=b: expected KEY=VALUE"):
        settings_of(["a=b"])
    assert _prepare(tmp_path, "--patience", "0") == 1
    assert "--patience: expected seconds above 0" in capfd.readouterr().err


def test_what_runs_on_this_machine_alone() -> None:
    assert is_loopback("local[*]")
    assert is_loopback("spark://127.0.0.1:7077")
    assert not is_loopback("spark://127.0.0.1:7077,other:7077")
    assert not is_loopback("yarn")


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="needs processes of a POSIX system")
def test_a_cluster_that_has_lost_a_worker_ends_with_the_same_output_and_without_any_says_so(tmp_path: Path) -> None:
    from benchmarks.spark_cluster import killed_workers
    from benchmarks.synthetic_log import write_synthetic_log

    data = write_synthetic_log(tmp_path / "log", 60_000, items=500, events_per_file=10_000)
    result = killed_workers(data, tmp_path / "work", [], shards=8)
    assert 4 <= result["shards_when_killed"] < 8
    assert result["same_as_streaming"]
    assert result["workers_killed"] == 1
    assert result["without_workers"]["exit_code"] == 1
    assert "no executor has been there for" in result["without_workers"]["message"]
    assert result["without_workers"]["left"] == []
