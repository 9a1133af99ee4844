"""The command line of ``training/spark/prepare.py``."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfmi.cli.program import ProgramParser, start
from tfmi.cli.spark_options import add_cluster_options, cluster_of
from tfmi.core.errors import ConfigError

PROGRAM = "training/spark/prepare.py"
EXAMPLES = """\
the log, its catalogue and its users file are found, read and checked as by training/train.py --dataset log, with the same settings
data.log.* and data.split.*; every file of the log is read by a task of its own. Driver and executors see the files and the output under
the same names.

examples:
  python training/spark/prepare.py --data logs/ --output prepared/
  python training/spark/prepare.py --master spark://HOST:7077 --data 'logs/2026-*.parquet' --output prepared/ --set data.log.shards=256
  python training/spark/prepare.py --config mine.yaml --data logs/ --output prepared/ --set data.split.max_user_events=10000
  python training/train.py --dataset prepared --data prepared/
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = ProgramParser(
        PROGRAM,
        description="Read, check, filter, split and number a log with Apache Spark, and write TFRecord shards for training.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, metavar="PATH", help="the log: a file, a folder, a pattern, or the folder that holds it")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="appears complete or not at all")
    parser.add_argument("--dataset", metavar="NAME", help="a public set, or a YAML file that describes one (default: log, your own)")
    parser.add_argument("--config", metavar="FILE", help="YAML configuration; its section data counts")
    parser.add_argument("--set", metavar="a.b=value", action="append", default=[], help="set one configuration value; may be repeated")
    parser.add_argument("--rejects", type=Path, metavar="FOLDER", help="where rejected rows go (default: beside the output, .rejects)")
    add_cluster_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from tfmi.cli.train import with_guessed_columns
    from tfmi.models.systems import load_config
    from tfmi.spark.prepare import prepare

    cluster = cluster_of(options)
    given: dict[str, Any] = {"dataset": options.dataset or "log", "path": options.data, "log": {"streaming": True}}
    config = with_guessed_columns(load_config(options.config, None, options.set, {"data": given})).data
    if config.dataset != "log":
        raise ConfigError(f"data.dataset: {config.dataset!r} is no log; give files with one row per event")
    rejects = options.rejects or options.output.with_name(f"{options.output.name}.rejects")
    started = time.perf_counter()
    report = prepare(options.data, config, options.output, rejects, cluster)
    seconds = time.perf_counter() - started
    logging.info(
        "%s: %s events of %s users, %s of %s items left, in %s shards (%.1f s)",
        options.output,
        *(f"{report[name]:,}" for name in ("events", "users", "items_left", "items", "shards")),
        seconds,
    )
    print(json.dumps({**report, "seconds": seconds}))
    return 0
