"""docs/library.md and examples/quickstart.py run as they stand."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_quickstart_takes_fifteen_lines() -> None:
    lines = (ROOT / "examples" / "quickstart.py").read_text().partition('"""\n\n')[2].splitlines()
    code = [line for line in lines if line.strip() and not line.startswith("#")]
    assert len(code) <= 15
    assert ".recommend(" in code[-1]


@pytest.mark.slow
def test_the_quickstart_recommends(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"))
    header, *answers = capsys.readouterr().out.splitlines()[-7:]
    assert header.split() == ["user", "rank", "item", "score", "interest"]
    assert len(answers) == 6


@pytest.mark.slow
def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), names)  # noqa: S102 - the page's own code
    assert "exported" in capsys.readouterr().out
