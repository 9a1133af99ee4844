"""The command line of ``training/recommend_users.py`` and ``training/score_users.py``: one program for every kind of model."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmi.cli.program import ProgramParser, start
from tfmi.core.errors import ConfigError

EXAMPLES = """\
the users' file has one row per user: an id, and columns called as what the model reads, any of them. Missing columns and empty cells are
unknown; a user of whom nothing is known gets what is popular, and cold_start says so.

  a retriever, alone or with a ranker behind it: history (ids, oldest first), timestamps (beside the history, for models that read them),
  exclude (ids), diversity (a number), and the columns of the profile; of a model with export.filterable also what the answer is restricted
  to: allow_<column>, deny_<column> and allow_items (lists), min_<column>, max_<column>, and num_results (numbers). An empty cell, and an
  empty list, restrict nothing

    user_id,history,exclude
    ann,item1|item7|item3,item9
    bob,,

  a model of tags: the columns that it was trained with; several values stand in a cell as value|value:weight

    user_id,city,tags
    ann,Oslo,jazz:3|rock

  In JSON Lines and Parquet several values are a list, or an object of value: weight.

the output has the columns user_id and cold_start, and lists of equal length, best first: item_ids, scores and interests (the interest that
found each item); or, for each task of a model of tags, <task>_tags and <task>_scores. Scores of tags are logits: sigmoid(score) is the
probability of the action among rows as training had them, its sampled negatives included.

a run that was stopped goes on where it was when it is started again with the same settings.

examples:
  python training/recommend_users.py savedmodels/mind --users users.parquet --output recommendations.parquet --top 20
  python training/recommend_users.py savedmodels/mind/3 --users users.jsonl --vectors --output recommendations/
  python training/recommend_users.py savedmodels/mvke --users users.csv --user-column id --top 10 --output tags/
  python training/recommend_users.py savedmodels/mind --from-run --top 20 --output all.parquet    the users of the data it was trained on
"""


def build_parser(program: str = "training/recommend_users.py") -> argparse.ArgumentParser:
    """The parser."""
    parser = ProgramParser(
        program,
        description="Write every user's recommendations, or best tags, with their scores, by an exported model, to Parquet.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("savedmodel", type=Path, metavar="SAVEDMODEL", help="savedmodels/<name>/<version>, or savedmodels/<name>")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--users", type=Path, metavar="FILE", help="Parquet, CSV, TSV or JSON Lines, by the suffix; .gz is unpacked")
    source.add_argument("--from-run", action="store_true", help="the users of the model's own data, with all they did in it")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="PATH", help="one file if it ends in .parquet; else a folder of part files"
    )
    add_user_columns(parser)
    parser.add_argument("--vectors", action="store_true", help="write each user's interest vectors, too (retrievers)")
    parser.add_argument("--batch-size", type=int, default=1024, metavar="B", help="users per request (default: %(default)s)")
    parser.add_argument(
        "--part-rows", type=int, default=100_000, metavar="R", help="users per part, which bounds the memory (default: %(default)s)"
    )
    parser.add_argument("--rejects", type=Path, metavar="FILE", help="where unusable rows go (default: beside the output, .rejects.csv)")
    return parser


def main(arguments: Sequence[str] | None = None, program: str = "training/recommend_users.py") -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(program), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from tfmi.bulk.asking import answers_of, fields_of
    from tfmi.bulk.parts import parts_folder, write_answers
    from tfmi.bulk.trained_users import trained_users
    from tfmi.bulk.user_file import UserFile
    from tfmi.bulk.users import UserSource
    from tfmi.export.exported_model import ExportedModel
    from tfmi.export.publishing import newest_version

    for name in ("top", "batch_size", "part_rows"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: expected a number of at least 1, got {value}")
    folder = newest_version(options.savedmodel)
    started = time.perf_counter()
    model = ExportedModel(folder)
    logging.info("Loaded %s (%s) in %.1f s", folder, model.metadata["system"], time.perf_counter() - started)
    answers = answers_of(model, options.batch_size, options.top, vectors=options.vectors)
    source: UserSource
    if options.from_run:
        if options.column:
            raise ConfigError("--column names columns of the file of --users; with --from-run there is none")
        source = trained_users(model, folder)
    else:
        fields = fields_of(model)
        source = UserFile(
            options.users,
            fields,
            user_column=options.user_column,
            rejects_path=options.rejects or options.output.with_name(f"{options.output.name}.rejects.csv"),
            columns=columns_of_fields(options.column, fields.kinds),
            separator=options.separator,
            delimiter=options.delimiter,
        )
    settings = {
        "savedmodel": str(folder.resolve()),
        "created": model.metadata["created"],
        "top": options.top,
        "vectors": options.vectors,
    }
    asking = time.perf_counter()
    users = write_answers(answers, source, options.output, settings=settings, part_rows=options.part_rows)
    seconds = time.perf_counter() - asking
    logging.info("%s users in %s (%.1f s, %s users/s)", f"{users:,}", options.output, seconds, f"{users / max(seconds, 1e-9):,.0f}")
    parts = None if options.output.suffix == ".parquet" else str(parts_folder(options.output))
    print(json.dumps({"savedmodel": str(folder), "users": users, "output": str(options.output), "parts": parts, "seconds": seconds}))
    return 0


def add_user_columns(parser: argparse.ArgumentParser) -> None:
    """How users' files are read, and how much of an answer is wanted, whatever runs the program."""
    parser.add_argument("--user-column", default="user_id", metavar="NAME", help="the column of ids (default: %(default)s)")
    parser.add_argument(
        "--column", action="append", default=[], metavar="FIELD=NAME", help="the column of a field, such as history=items; repeatable"
    )
    parser.add_argument("--separator", default="|", help="between the values of a cell (default: %(default)s)")
    parser.add_argument("--delimiter", help="between the cells of CSV and TSV (default: a comma or a tab, by the suffix)")
    parser.add_argument("--top", type=int, metavar="N", help="items, or tags of each task, per user at most (default: all of the answer)")


def columns_of_fields(given: Sequence[str], kinds: Mapping[str, str]) -> dict[str, str]:
    """The columns of fields, from ``FIELD=NAME`` texts; raises ``ConfigError`` if one is none, or the model has no such field."""
    columns: dict[str, str] = {}
    for each in given:
        field, equals, name = each.partition("=")
        if not equals or not name:
            raise ConfigError(f"--column {each}: expected FIELD=NAME, such as history=items")
        if field not in kinds:
            raise ConfigError(f"--column {each}: the model has no field {field!r}; it has: {', '.join(sorted(kinds))}")
        columns[field] = name
    return columns
