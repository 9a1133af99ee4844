"""The command line of ``training/reindex.py``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tfmi.cli.program import start
from tfmi.core.errors import ConfigError

EXAMPLES = """\
the newer catalogue is a file like the one of training (data.log.catalogue_columns), or one with the columns item, title, category, brand
and tags. Items that are gone from it leave the answers; histories still understand them. New items enter with vectors from their features,
which is what a model can do that was trained with model.item_tower.id_dropout. Changed features move an item's vector. The cold-start list,
categories and filters follow.

nothing is trained: metrics in the metadata stay those of the version that this one is made from.

examples:
  python training/reindex.py savedmodels/mind --catalogue catalogue-2024-06.csv
  python training/reindex.py savedmodels/mind/3 --index exact
  python training/reindex.py savedmodels/mind --catalogue new.parquet --index scann --savedmodels elsewhere/mind
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="training/reindex.py",
        description="Publish the next version of an exported retriever with another catalogue or another index, without training.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("savedmodel", type=Path, metavar="MODEL", help="savedmodels/<name>, or savedmodels/<name>/<version>")
    parser.add_argument("--catalogue", type=Path, metavar="FILE", help="the newer catalogue, whole")
    parser.add_argument("--index", metavar="KIND", help="kind of the index (default: as it is)")
    parser.add_argument("--set", metavar="index.key=value", action="append", default=[], help="a setting of the index; may be repeated")
    parser.add_argument("--savedmodels", type=Path, metavar="DIR", help="where to publish (default: beside the version)")
    parser.add_argument(
        "--min-known-share",
        type=float,
        default=0.5,
        metavar="X",
        help="refuse a catalogue with a smaller share of the known items (default: %(default)s)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem that the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from tfmi.config import IndexConfig, parse_settings, validate_config
    from tfmi.refresh.reindex import describe_reindexing, reindex

    if not 0 <= options.min_known_share <= 1:
        raise ConfigError(f"--min-known-share {options.min_known_share}: expected a share from 0 to 1")
    if options.catalogue is not None and not options.catalogue.is_file():
        raise ConfigError(f"--catalogue {options.catalogue}: no such file")
    index: IndexConfig | None = None
    if options.index is not None or options.set:
        given = parse_settings(options.set)
        if set(given) - {"index"}:
            raise ConfigError(f"--set takes settings of the index here, such as index.leaves=500; got {', '.join(options.set)}")
        section = dict(given.get("index", {}))
        if options.index is not None:
            section["kind"] = options.index
        index = validate_config({"index": section}).index
    done = reindex(
        options.savedmodel,
        catalogue=options.catalogue,
        index=index,
        directory=options.savedmodels,
        min_known_share=options.min_known_share,
    )
    print(describe_reindexing(done.report))
    print(json.dumps({"savedmodel": str(done.folder), **done.report}, ensure_ascii=False))
    return 0
