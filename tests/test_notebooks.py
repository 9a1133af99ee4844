"""The notebooks of ``examples/`` run as they stand, and show what they show in the repository."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebooks import notebooks, read_notebook, run_notebook
from tfmi.layers.base import EXTRACTORS

EXPECTED = ["a_paper_of_your_own", "compare_systems", "from_a_dataframe"]


@pytest.fixture
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a notebook registers and imports is gone afterwards."""
    EXTRACTORS.names()
    monkeypatch.setattr(EXTRACTORS, "_components", dict(EXTRACTORS._components))
    yield
    sys.modules.pop("my_paper", None)


def sort_of(outputs: list[dict[str, Any]]) -> list[tuple[str, list[str], int]]:
    """What an output is and how many lines it has: figures differ from machine to machine in their last digits."""
    return [
        (each["output_type"], sorted(each.get("data", {})), len(each.get("text", each.get("data", {}).get("text/plain", []))))
        for each in outputs
    ]


def test_they_are_notebooks_with_their_outputs() -> None:
    assert [path.stem for path in notebooks()] == EXPECTED
    for path in notebooks():
        notebook = read_notebook(path)
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
        cells = notebook["cells"]
        assert len({cell["id"] for cell in cells}) == len(cells)
        assert cells[0]["cell_type"] == "markdown"
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        assert sum(bool(cell["outputs"]) for cell in code) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_showed(path: Path, nothing_stays: None) -> None:
    stored = [cell["outputs"] for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
    assert [sort_of(outputs) for outputs in run_notebook(path)] == [sort_of(outputs) for outputs in stored]
