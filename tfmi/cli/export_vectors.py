"""The command line of ``training/export_vectors.py``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tfmi.cli.program import start
from tfmi.core.errors import ConfigError

EXAMPLES = """\
the output folder gets items.parquet (item_id and vector, a list of 32-bit floats of one length), vectors.npy (float32 [items, width]) and
ids.txt (an id a line, in the order of the rows). A user's interests search them by inner product: training/recommend_users.py --vectors
writes the interests.

examples:
  python training/export_vectors.py savedmodels/mind --output vectors/
  python training/export_vectors.py savedmodels/mind/3 --output vectors/
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="training/export_vectors.py",
        description="Write an exported retriever's item vectors with their ids, for other vector stores.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("savedmodel", type=Path, metavar="SAVEDMODEL", help="savedmodels/<name>/<version>, or savedmodels/<name>")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem that the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from tfmi.bulk.item_vectors import write_item_vectors
    from tfmi.export.exported_model import ExportedModel
    from tfmi.export.publishing import newest_version

    if options.output.exists():
        raise ConfigError(f"--output {options.output}: exists already; remove it, or name another folder")
    folder = newest_version(options.savedmodel)
    items, width = write_item_vectors(ExportedModel(folder), options.output)
    print(json.dumps({"savedmodel": str(folder), "output": str(options.output), "items": items, "width": width}))
    return 0
