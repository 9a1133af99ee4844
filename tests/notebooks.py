"""Run the notebooks of ``examples/`` cell by cell, in this process: a kernel for each would take longer than what the cells do.

    python -m tests.notebooks [NAME ...]      runs them and stores what they print and show (make notebooks)

A cell prints, or ends with an expression that is shown, as HTML if it can be. Magics and widgets are not for these notebooks.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmi.core.files import write_atomically

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def notebooks() -> list[Path]:
    """All of them."""
    return sorted(EXAMPLES.glob("*.ipynb"))


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook's JSON."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def run_notebook(path: Path) -> list[list[dict[str, Any]]]:
    """The outputs of every code cell, in a folder that is gone afterwards. Whatever a cell raises is raised."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with _elsewhere():
        cells = [cell for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
        return [_run(path, "".join(cell["source"]), names, count) for count, cell in enumerate(cells, start=1)]


def store_outputs(path: Path) -> None:
    """Run a notebook and write its outputs into it."""
    outputs = run_notebook(path)
    notebook = read_notebook(path)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, (cell, shown) in enumerate(zip(code, outputs, strict=True), start=1):
        cell["execution_count"], cell["outputs"] = count, shown
    write_atomically(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _run(path: Path, source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, name = io.StringIO(), f"{path.name}, cell {count}"
    value = None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), names)  # noqa: S102 - the notebook's own code
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), names)  # noqa: S307
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)})
    if value is not None:
        shown = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            shown = {"text/html": value._repr_html_().splitlines(keepends=True), **shown}
        outputs.append({"data": shown, "execution_count": count, "metadata": {}, "output_type": "execute_result"})
    return outputs


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """In an empty folder, from which modules are imported, as a notebook's own folder is."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="tfmi-notebook-") as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
            os.chdir(before)


if __name__ == "__main__":
    wanted = set(sys.argv[1:])
    for each in [path for path in notebooks() if not wanted or path.stem in wanted]:
        store_outputs(each)
        print(f"{each.name}: run, outputs stored")
