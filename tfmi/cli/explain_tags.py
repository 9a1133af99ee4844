"""The command line of ``training/explain_tags.py``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmi.cli.program import ProgramParser, start
from tfmi.core.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from tfmi.export.exported_model import ExportedModel
    from tfmi.export.saving import Request

EXAMPLES = """\
how to read it: "without the field" is what the score would lose if the user had no value there, "without the value" the same for one of
the values; negative numbers speak against the tag. Such losses need not add up, because a model looks at fields together. What the
experts add does add up, with the bias, to the score. Attention is the share of what the model looked at; it has no sign.

examples:
  python training/explain_tags.py savedmodels/mvke --user '{"city": "Oslo", "tags": {"jazz": 3, "rock": 1}}' --tag blues
  python training/explain_tags.py savedmodels/mvke --user-id 42 --top 2 --plot reasons.png     a user of its own data, the best tags
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = ProgramParser(
        "training/explain_tags.py",
        description="Say which fields, values and experts of an exported user-tag model speak for a tag of a user, and draw it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("savedmodel", type=Path, metavar="SAVEDMODEL", help="savedmodels/<name>/<version>, or savedmodels/<name>")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="JSON", help="the user's fields: strings, numbers, lists of strings or objects of string: weight")
    who.add_argument("--user-id", metavar="ID", help="a user of the data that the model was trained on")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="which tag; repeatable (default: the user's best)")
    parser.add_argument("--task", metavar="TASK", help="only this task (default: all)")
    parser.add_argument("--top", type=int, default=1, metavar="N", help="without --tag, the N best (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=10, metavar="R", help="fields and values to show at most (default: %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the same into a PNG file")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem that the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from tfmi.export.exported_model import ExportedModel
    from tfmi.export.publishing import newest_version
    from tfmi.export.tags.explanations import explain_tag
    from tfmi.export.tags.user_fields import require_user_tags
    from tfmi.plots.explanation_plots import plot_explanation

    folder = newest_version(options.savedmodel)
    model = require_user_tags(ExportedModel(folder))
    tasks = [task["task"] for task in model.metadata["tasks"]]
    if options.task not in (None, *tasks):
        raise ConfigError(f"--task: no task {options.task!r}{nearest(options.task, tasks)}; the model has: {', '.join(tasks)}")
    request = _request(model, folder, options)
    tags = options.tag or _best_tags(model, request, options.task or tasks[0], options.top)
    found = [each for tag in tags for each in explain_tag(model, request, tag) if options.task in (None, each.task)]
    unknown = [each.tag for each in found if each.score == float("-inf")]
    if unknown:
        raise DataError(f"--tag: the model does not know {unknown[0]!r}")
    for explanation in found:
        print("\n".join(explanation.rows(options.rows)))
    if options.plot is not None:
        print(f"drawn: {plot_explanation(found, options.plot, most=options.rows)}")
    return 0


def _request(model: ExportedModel, folder: Path, options: argparse.Namespace) -> Request:
    from tfmi.bulk.trained_users import load_trained_users
    from tfmi.export.tags.user_fields import UserFields

    if options.user is not None:
        return UserFields(model.metadata["profile_inputs"]).request_of(_parse_user(options.user))
    users = load_trained_users(model, folder).users
    if options.user_id not in users.ids:
        raise DataError(f"--user-id: no user {options.user_id!r} in the model's data, which has {len(users):,} such as {users.ids[0]!r}")
    row = users.ids.index(options.user_id)
    return users.rows(row, row + 1).request


def _parse_user(text: str) -> dict[str, Any]:
    try:
        user = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--user: not a JSON object: {error}") from None
    if not isinstance(user, dict):
        raise ConfigError("--user: expected a JSON object from field to value")
    return user


def _best_tags(model: ExportedModel, request: Request, task: str, most: int) -> list[str]:
    key = next(each["output"] for each in model.metadata["tasks"] if each["task"] == task)
    return [tag.decode("utf-8") for tag in model.predict("user_tags", request)[f"{key}_tags"][0][:most] if tag]
