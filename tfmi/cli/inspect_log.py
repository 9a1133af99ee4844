"""The command line of ``tfmi-inspect``: what a log looks like, and the configuration that would train on it. It trains nothing."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from tfmi.cli.program import ProgramParser, start
from tfmi.config import merge, parse_settings
from tfmi.core.errors import ConfigError
from tfmi.core.files import write_atomically

EXAMPLES = """\
examples:
  python training/inspect_log.py clicks.csv                  columns, their likely roles, how much there is, a configuration
  python training/inspect_log.py FOLDER --write-config log.yaml         then: python training/train.py --config log.yaml
  python training/inspect_log.py clicks.txt --set data.log.format=tsv --set data.log.header=false
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = ProgramParser(
        "training/inspect_log.py",
        description="Read a log and say what it holds: columns and their likely roles, formats, time span, users, items, events, repeats,\n"
        "popularity and joins; and write the configuration that would train on it. Trains nothing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="PATH", help="a log, a folder that holds it, or a pattern of files, as for --data")
    parser.add_argument("--write-config", type=Path, metavar="FILE", help="where the configuration goes (default: printed)")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, too, as the last line")
    parser.add_argument(
        "--set", metavar="a.b=value", action="append", default=[], help="what is known of the log already (data.log.*); may be repeated"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem that the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    return inspect(options.path, options.set, write_config=options.write_config, as_json=options.json)


def inspect(path: str, settings: Sequence[str] = (), *, write_config: Path | None = None, as_json: bool = False) -> int:
    """Say what a log holds; see ``build_parser``.

    Raises:
        TfmiError: The log cannot be read.
    """
    import tempfile

    from tfmi.data.inspecting.guessing import guess_log
    from tfmi.data.inspecting.report import configuration, describe_columns, describe_tables, known_sets, log_config
    from tfmi.data.public.public_sets import public_sets
    from tfmi.data.reading.log import read_log_files

    given = parse_settings(settings)
    odd = sorted(set(given) - {"data"}) or sorted(set(given.get("data", {})) - {"log"})
    if odd:
        raise ConfigError(f"--set {odd[0]}: an inspection reads data.log.* only")
    said = given.get("data", {}).get("log", {})
    known = known_sets(path)
    config = log_config(merge(public_sets()[known[0]].data["log"] if known else {}, said))
    if known:
        print(f"These look like the files of {' or '.join(known)}: read as --dataset {known[0]}.\n")
    guess = guess_log(path, config)
    print("\n".join(describe_columns(guess)))
    figures: dict[str, object] = {
        "roles": {role: each.column for role, each in guess.roles.items()},
        "certain": bool(known) or not guess.doubts,
    }
    log_settings = said if known else merge(guess.settings, said)
    if guess.doubts and not known:
        print("not certain: " + "; ".join(guess.doubts))
    events = None
    columns = log_settings.get("columns", {})
    if known or all(role in guess.roles or role in columns for role in ("user", "item")):
        print()
        reading = merge(config.model_dump() if known else log_settings, {"max_reject_share": 1.0, "min_join_share": 0.0})
        with tempfile.TemporaryDirectory() as folder:
            tables = read_log_files(path, log_config(reading), folder)
        events = tables.events
        lines, counted = describe_tables(tables)
        print("\n" + "\n".join(lines))
        figures |= counted
    text = configuration(path, log_settings, events, known[0] if known else None)
    if write_config is not None:
        write_atomically(write_config, text)
        logging.info("\nThe configuration is in %s: python training/train.py --config %s", write_config, write_config)
    else:
        print(f"\n# A configuration that trains on it: python training/train.py --config FILE\n{text}", end="")
    if as_json:
        print(json.dumps(figures, ensure_ascii=False))
    return 0
