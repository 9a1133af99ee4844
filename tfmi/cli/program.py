"""What the command lines share: quiet libraries, log lines on the standard output, and mistakes as one message."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfmi.core.errors import TfmiError
from tfmi.core.text import PrintableFormatter, printable

# They greet, warn of things that their users cannot change, and say where a SavedModel's temporary folder is.
CHATTY_LOGGERS = ("absl", "tensorflow")

STOPPED_BY_USER = 130
# What a message may hold besides characters that show: whatever else a file's header or cell brings is written as an escape.
_LAYOUT = "\n\t"
INSTALLED_PREFIX = "tfmi-"  # of the commands that setup.py installs


class ProgramParser(argparse.ArgumentParser):
    """The parser of a program that is a file in a checkout and, installed, a command: its help speaks of the one that was started.

    Args:
        script: The file, from the checkout's folder: "training/train.py". Installed it is called ``tfmi-train``.
        epilog: Examples, which call ``python <script>``.
        **options: As of ``argparse.ArgumentParser``.
    """

    def __init__(self, script: str, *, epilog: str, **options: Any) -> None:
        started = Path(sys.argv[0]).stem
        if started.startswith(INSTALLED_PREFIX):
            super().__init__(prog=started, epilog=epilog.replace(f"python {script}", started), **options)
        else:
            super().__init__(prog=script, epilog=epilog, **options)


def quiet_libraries() -> None:
    """Keep TensorFlow's notices from the terminal, unless the environment asks for them. Call it before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GLOG_minloglevel", "3")
    importlib.import_module("absl.logging")  # makes its logger, which is of a class of its own
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def start(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], arguments: Sequence[str] | None) -> int:
    """Parse a program's command line, None for the process' own, and ``run`` it; see ``run_program``."""
    quiet_libraries()
    options = parser.parse_args(arguments)
    return run_program(lambda: run(options))


class _OutputHandler(logging.StreamHandler):
    """Log lines on an output whose reader may leave: then the program ends, as after a ``print``, instead of one trace per line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError):
            raise error
        super().handleError(record)


def run_program(work: Callable[[], int]) -> int:
    """Run a program's work and turn what its user can fix into one message on the standard error.

    Args:
        work: Returns the exit code.

    Returns:
        The exit code: that of ``work``; 1 after a message; 130 stopped by Ctrl-C.
    """
    handler = _OutputHandler(sys.stdout)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    try:
        code = work()
        sys.stdout.flush()
    except TfmiError as error:
        print(f"error: {printable(str(error), keep=_LAYOUT)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # no space left, no permission, a file where a folder should be
        print(f"error: {printable(str(error), keep=_LAYOUT)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return STOPPED_BY_USER
    return code
