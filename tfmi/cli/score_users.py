"""The command line of ``training/score_users.py``."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from tfmi.cli.program import quiet_libraries, run_program
from tfmi.core.errors import ConfigError

EXAMPLES = """\
the users' file has one row per user: an id, and columns called as the model's fields, any of them. Several values stand in a cell as
value|value:weight (CSV), or as a list or an object (JSON Lines, Parquet). Missing columns and empty cells are unknown; a user of whom
nothing is known gets the popular tags, and cold_start says so.

  user_id,city,tags
  ann,Oslo,jazz:3|rock
  bob,,

the output has the columns user_id, cold_start, and for each task <task>_tags and <task>_scores, lists of equal length, best first. Scores
are logits: sigmoid(score) is the probability of the action among rows as training had them, its sampled negatives included.

a run that was stopped goes on where it was when it is started again with the same settings.

examples:
  python training/score_users.py savedmodels/utpm --users users.parquet --output tags.parquet
  python training/score_users.py savedmodels/mvke/3 --users users.csv --user-column id --top 10 --output tags/
  python training/score_users.py savedmodels/mvke --from-run --output tags.parquet        the users that it was trained on
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="training/score_users.py",
        description="Write every user's best tags with their scores, by an exported user-tag model, to Parquet.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("savedmodel", type=Path, metavar="SAVEDMODEL", help="savedmodels/<name>/<version>, or savedmodels/<name>")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--users", type=Path, metavar="FILE", help="Parquet, CSV, TSV or JSON Lines, by the suffix; .gz is unpacked")
    source.add_argument("--from-run", action="store_true", help="the users that the model was trained on, as known at the end of its data")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="PATH", help="one file if it ends in .parquet; else a folder of part files"
    )
    parser.add_argument("--user-column", default="user_id", metavar="NAME", help="the column of ids in FILE (default: %(default)s)")
    parser.add_argument("--separator", default="|", help="between the values of a cell (default: %(default)s)")
    parser.add_argument("--delimiter", help="between the cells of CSV and TSV (default: a comma or a tab, by the suffix)")
    parser.add_argument("--top", type=int, metavar="N", help="tags per user and task at most (default: all that the model answers)")
    parser.add_argument("--batch-size", type=int, default=1024, metavar="B", help="users per request (default: %(default)s)")
    parser.add_argument(
        "--part-rows", type=int, default=100_000, metavar="R", help="users per part, which bounds the memory (default: %(default)s)"
    )
    parser.add_argument("--rejects", type=Path, metavar="FILE", help="where unusable rows go (default: beside the output, .rejects.csv)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem the user can mend, 130 stopped by Ctrl-C."""
    quiet_libraries()
    options = build_parser().parse_args(arguments)
    return run_program(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from tfmi.bulk.trained_users import load_trained_users
    from tfmi.bulk.user_scoring import TagScorer, UserFile, UserSource, parts_folder, score_users
    from tfmi.export.exported_model import ExportedModel
    from tfmi.export.publishing import newest_version
    from tfmi.export.tags.user_fields import UserFields, require_user_tags

    for name in ("top", "batch_size", "part_rows"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: expected a number of at least 1, got {value}")
    folder = newest_version(options.savedmodel)
    started = time.perf_counter()
    model = require_user_tags(ExportedModel(folder))
    logging.info("Loaded %s (%s) in %.1f s", folder, model.metadata["system"], time.perf_counter() - started)
    scorer = TagScorer(model, options.batch_size, options.top)
    source: UserSource
    if options.from_run:
        source = load_trained_users(model, folder)
    else:
        rejects = options.rejects or options.output.with_name(f"{options.output.name}.rejects.csv")
        source = UserFile(
            options.users,
            UserFields(model.metadata["profile_inputs"]),
            user_column=options.user_column,
            rejects_path=rejects,
            separator=options.separator,
            delimiter=options.delimiter,
        )
    settings = {"savedmodel": str(folder.resolve()), "created": model.metadata["created"], "top": options.top}
    users = score_users(scorer, source, options.output, settings=settings, part_rows=options.part_rows)
    seconds = time.perf_counter() - started
    logging.info("%s users in %s (%.1f s)", f"{users:,}", options.output, seconds)
    parts = None if options.output.suffix == ".parquet" else str(parts_folder(options.output))
    print(json.dumps({"savedmodel": str(folder), "users": users, "output": str(options.output), "parts": parts, "seconds": seconds}))
    return 0
