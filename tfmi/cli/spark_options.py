"""Options that the programs on Spark share."""

from __future__ import annotations

import argparse

from tfmi.core.errors import ConfigError
from tfmi.spark.session import DEFAULT_MASTER, DEFAULT_PATIENCE, MASTER_VARIABLE, SparkCluster, settings_of


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add where the work is done."""
    parser.add_argument(
        "--master",
        metavar="URL",
        help=f"spark://HOST:PORT, local[CORES], yarn or k8s://URL (default: ${MASTER_VARIABLE}, that of spark-submit, or {DEFAULT_MASTER})",
    )
    parser.add_argument(
        "--conf", action="append", default=[], metavar="KEY=VALUE", help="a setting of Spark, such as spark.executor.memory=4g; repeatable"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=DEFAULT_PATIENCE,
        metavar="SECONDS",
        help="give up when no executor has been there for so long (default: %(default)g)",
    )


def cluster_of(options: argparse.Namespace) -> SparkCluster:
    """The cluster that the options name; raises ``ConfigError`` if one is none."""
    if not options.patience > 0:
        raise ConfigError(f"--patience: expected seconds above 0, got {options.patience:g}")
    return SparkCluster(options.master, settings_of(options.conf), options.patience)
