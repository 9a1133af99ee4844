"""The security page says of every threat which test holds it: these tests have to exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", PAGE)))


@cache
def names_in(file: str) -> set[str]:
    """``test_x`` and ``TestY::test_x`` of a file."""
    names: set[str] = set()
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[test for _, test in NAMED])
def test_what_the_page_names_exists(file: str, test: str) -> None:
    assert test in names_in(file)


def test_every_line_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "threat |" not in line]
    threats = rows[rows.index(next(row for row in rows if "ends the server" in row)) :]
    assert len(threats) > 15
    assert [row for row in threats if "::test_" not in row] == []
