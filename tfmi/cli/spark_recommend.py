"""The command line of ``training/spark/recommend.py``."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from tfmi.cli.program import ProgramParser, start
from tfmi.cli.recommend_users import add_user_columns, columns_of_fields
from tfmi.cli.spark_options import add_cluster_options, cluster_of
from tfmi.core.errors import ConfigError

PROGRAM = "training/spark/recommend.py"
EXAMPLES = """\
users, their columns and the answers are those of training/recommend_users.py, for models of every kind; every file of users is read by a
task of its own. Driver and executors see the model, the files and the output under the same names.

a user's part is the CRC-32 of the id modulo --parts. A run that was stopped asks about the missing parts alone when it is started again
with the same settings; _SUCCESS appears when all are there. With --vectors every item's vector is written to OUTPUT.items, too.

examples:
  python training/spark/recommend.py savedmodels/mind --users users/ --output recommendations/ --top 20
  python training/spark/recommend.py savedmodels/mind/3 --master spark://HOST:7077 --users 'users/*.parquet' --output out/ --vectors
  python training/spark/recommend.py savedmodels/mind --table parquet:s3a://BUCKET/users --user-column id --output out/
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = ProgramParser(
        PROGRAM,
        description="Write every user's recommendations, or best tags, with their scores, by an exported model, with Apache Spark.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("savedmodel", type=Path, metavar="SAVEDMODEL", help="savedmodels/<name>/<version>, or savedmodels/<name>")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--users", type=Path, metavar="PATH", help="a file, a folder of part files or a pattern, read and checked by tfmi")
    source.add_argument("--table", metavar="NAME", help="a table of Spark's catalogue, or FORMAT:ADDRESS of what Spark can load")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a folder of Parquet files")
    add_user_columns(parser)
    parser.add_argument("--vectors", action="store_true", help="write users' interest vectors and every item's vector, too (retrievers)")
    parser.add_argument("--batch-size", type=int, default=1024, metavar="B", help="users per request (default: %(default)s)")
    parser.add_argument("--parts", type=int, default=64, metavar="P", help="files that users are divided over (default: %(default)s)")
    parser.add_argument("--rejects", type=Path, metavar="FILE", help="where unusable rows go (default: beside the output, .rejects.csv)")
    add_cluster_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from tfmi.bulk.asking import fields_of
    from tfmi.export.exported_model import ExportedModel
    from tfmi.export.publishing import newest_version
    from tfmi.spark.recommend import Asking, Recommending, UserLocation

    for name in ("top", "batch_size", "parts"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: expected a number of at least 1, got {value}")
    cluster = cluster_of(options)
    folder = newest_version(options.savedmodel)
    model = ExportedModel(folder)
    asked = UserLocation(
        path=options.users,
        table=options.table,
        user_column=options.user_column,
        columns=columns_of_fields(options.column, fields_of(model).kinds),
        separator=options.separator,
        delimiter=options.delimiter,
    )
    asking = Asking(options.top, options.vectors, options.batch_size, options.parts)
    rejects = options.rejects or options.output.with_name(f"{options.output.name}.rejects.csv")
    started = time.perf_counter()
    counts = Recommending(model, folder, asked, asking, options.output, rejects).run(cluster)
    seconds = time.perf_counter() - started
    logging.info("%s users in %s, %s of them now (%.1f s)", f"{counts['users']:,}", options.output, f"{counts['asked']:,}", seconds)
    print(json.dumps({"savedmodel": str(folder), "output": str(options.output), **counts, "seconds": seconds}))
    return 0
