"""Programs run as their files are from a shell, in this process: a new one would import TensorFlow again, which takes seconds."""

from __future__ import annotations

import contextlib
import io
import logging
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pyarrow as pa


@dataclass(frozen=True)
class Finished:
    """What a program has left: its exit code, and what it has printed."""

    code: int
    out: str
    err: str


def run_program(path: Path, *arguments: str) -> Finished:
    """Run the file ``path`` as the main program with these arguments. A stack trace, which a process would print, is raised."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.ExitStack() as changed:
        changed.callback(logging.disable, logging.root.manager.disable)  # a benchmark hides messages
        changed.callback(pa.set_cpu_count, pa.cpu_count())  # and bounds threads
        changed.enter_context(mock.patch.object(sys, "argv", [str(path), *arguments]))
        changed.enter_context(mock.patch.object(sys, "path", list(sys.path)))
        changed.enter_context(contextlib.redirect_stdout(out))
        changed.enter_context(contextlib.redirect_stderr(err))
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Finished(code, out.getvalue(), err.getvalue())
