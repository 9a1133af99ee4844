"""Spark for tests: skipped where it cannot be, and quiet."""

from __future__ import annotations

import os
import shutil

import pytest

from tfmi.spark.session import SparkCluster

# Much of what Spark takes for little data is compiling.
SMALL = {
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.codegen.wholeStage": "false",
}


@pytest.fixture(scope="session", autouse=True)
def needs_spark() -> None:
    """Skip where pyspark or Java is missing."""
    pytest.importorskip("pyspark", reason="needs the extra spark: pip install 'tfmi[spark]'")
    if "JAVA_HOME" not in os.environ and shutil.which("java") is None:
        pytest.skip("needs Java 17 on PATH or in JAVA_HOME")


@pytest.fixture(scope="session")
def cluster() -> SparkCluster:
    """One core of this machine."""
    return SparkCluster("local[1]", SMALL)
