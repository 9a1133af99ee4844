"""The command line of ``training/report.py``."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from tfmi.cli.program import ProgramParser, start
from tfmi.core.errors import ConfigError

EXAMPLES = """\
examples:
  python training/report.py runs/mind-embedded-20261201-082502          write its report.html again, from its files
  python training/report.py runs/mind-1 runs/mind-2 runs/sasrec-1       side by side, in runs/comparison.html
  python training/report.py runs/mind-* runs/sasrec-* --output a.html
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = ProgramParser(
        "training/report.py",
        description="Write the page of a finished run, or of several side by side: runs that differ in their seed alone are one system,\n"
        "with bars over seeds and differences user by user. One HTML file, which needs nothing else.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="of several runs (default: comparison.html in the folder that holds all of them)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(), lambda options: _run(options.runs, options.output), arguments)


def _run(runs: Sequence[Path], output: Path | None) -> int:
    from tfmi.reports import write_comparison, write_report
    from tfmi.training.run_folder import RunFolder

    folders = [RunFolder(path) for path in dict.fromkeys(runs)]
    if len(folders) > 1:
        common = Path(os.path.commonpath([folder.path.absolute().parent for folder in folders]))
        print(f"Comparison {write_comparison(folders, output or _shown(common / 'comparison.html'))}")
        return 0
    if output is not None:
        raise ConfigError("--output: the page of one run is report.html in its folder; leave it out, or name several runs")
    (folder,) = folders
    if not folder.gathered.exists() and folder.metrics.exists():
        _gather(folder.path)
    print(f"Report     {write_report(folder)}")
    return 0


def _gather(path: Path) -> None:
    """Measure a finished run once more, for what its page shows beside its metrics."""
    from tfmi.kinds.base import kind_of, load_finished
    from tfmi.training.run_folder import RunFolder

    logging.info("%s was not written with a report: loading its data and its model to gather what the report shows", path)
    loaded, folder = load_finished(path), RunFolder(path)
    folder.claim()
    try:
        evaluation = loaded.config.evaluation.model_copy(update={"report": True})
        config = loaded.config.model_copy(update={"evaluation": evaluation})
        kind_of(config).evaluate(loaded.model, loaded.dataset, config, plots=folder.plots)
    finally:
        folder.release()


def _shown(path: Path) -> Path:
    """A path below the working directory as people write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
