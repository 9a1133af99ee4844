"""The command line of ``serving/compare_versions.py``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfmi.cli.program import ProgramParser, start
from tfmi.core.errors import ConfigError, ExportError
from tfmi.core.files import write_json

if TYPE_CHECKING:
    from tfmi.rollout.requests import KnownUser
    from tfmi.rollout.sides import Side

EXAMPLES = """\
OLD and NEW are version folders, model folders (their newest version), or addresses of a server that speaks TensorFlow Serving's REST API,
such as http://127.0.0.1:8501/v1/models/mind/versions/3.

By default both are asked about the held-out users that an export keeps (export.sample_users). With --requests, about those of a file as
training/recommend_users.py reads it.

exit codes: 0 within all limits, 1 a limit is passed (or the comparison cannot be made: standard error says which), 130 stopped by Ctrl-C.

examples:
  python serving/compare_versions.py savedmodels/mind/1 savedmodels/mind/2
  python serving/compare_versions.py savedmodels/mind/1 savedmodels/mind/2 --min-overlap 0.5 --report comparison.json
  python serving/compare_versions.py http://127.0.0.1:8501/v1/models/mind/versions/1 savedmodels/mind/2 --requests users.jsonl
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = ProgramParser(
        "serving/compare_versions.py",
        description="Ask two versions of a model about the same users, and fail where too much changes: a gate for a pipeline.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", metavar="OLD", help="the version that serves")
    parser.add_argument("new", metavar="NEW", help="the version that is to take over")
    parser.add_argument("--requests", type=Path, metavar="FILE", help="users to ask about (default: the export's held-out users)")
    parser.add_argument("--users", type=int, default=200, metavar="N", help="how many of them at most (default: %(default)s)")
    parser.add_argument("--cutoffs", default="10,50", metavar="N,N", help="n of overlap@n; limits look at the first (default: %(default)s)")
    parser.add_argument("--latency-requests", type=int, default=200, metavar="N", help="timed requests; 0: none (default: %(default)s)")
    limits = parser.add_argument_group("limits; 'none' lifts one")
    limits.add_argument("--min-overlap", default="0.2", metavar="X", help="least mean overlap (default: %(default)s)")
    limits.add_argument("--max-score-shift", default="none", metavar="X", help="in standard deviations (default: %(default)s)")
    limits.add_argument("--max-category-shift", default="0.2", metavar="X", help="0 the same, 1 nothing in common (default: %(default)s)")
    limits.add_argument("--max-latency-ratio", default="1.5", metavar="X", help="of the medians (default: %(default)s)")
    limits.add_argument("--max-empty-share", default="0", metavar="X", help="of users without an answer (default: %(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the whole report as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code, see ``EXAMPLES``."""
    return start(build_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from tfmi.rollout.compare import ComparisonLimits, compare, describe_comparison, violations
    from tfmi.rollout.sides import open_side

    cutoffs = _cutoffs(options.cutoffs)
    if options.users < 1 or options.latency_requests < 0:
        raise ConfigError("--users has to be at least 1 and --latency-requests at least 0")
    limits = ComparisonLimits(
        **{
            name: _limit(name, getattr(options, name))
            for name in ("min_overlap", "max_score_shift", "max_category_shift", "max_latency_ratio", "max_empty_share")
        }
    )
    old, new = open_side(options.old), open_side(options.new)
    users = _users(options, old, new)
    report = compare(old, new, users, cutoffs=cutoffs, latency_requests=options.latency_requests)
    passed = violations(report, limits)
    report["violations"] = passed
    print(describe_comparison(report))
    if options.report is not None:
        write_json(options.report, report)
        logging.info("Report %s", options.report)
    if passed:
        print("\nNOT within the limits:\n" + "\n".join(f"  {each}" for each in passed))
        return 1
    print("\nWithin all limits.")
    return 0


def _users(options: argparse.Namespace, *sides: Side) -> list[KnownUser]:
    from tfmi.rollout.requests import sample_users, users_in_file
    from tfmi.rollout.sides import FolderSide

    folders = [side for side in sides if isinstance(side, FolderSide)]
    if options.requests is not None:
        kinds = {name: kind for side in folders for name, kind in side.profile_kinds.items()}
        return users_in_file(options.requests, kinds, most=options.users)
    problems = []
    for side in folders:
        try:
            return sample_users(Path(side.name), most=options.users)
        except ExportError as error:
            problems.append(str(error))
    if not folders:
        raise ConfigError("both versions are addresses, which tell no users: give --requests FILE")
    raise ConfigError(f"{problems[0]}; or give --requests FILE")


def _cutoffs(text: str) -> list[int]:
    try:
        cutoffs = [int(each) for each in text.split(",")]
    except ValueError:
        cutoffs = []
    if not cutoffs or min(cutoffs) < 1:
        raise ConfigError(f"--cutoffs {text}: expected numbers of at least 1, such as 10,50")
    return cutoffs


def _limit(name: str, text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"--{name.replace('_', '-')} {text}: expected a number of at least 0, or none")
    return value
