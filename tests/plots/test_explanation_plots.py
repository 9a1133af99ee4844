"""Pictures of reasons are PNG files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfmi.export.tags.explanations import TaskExplanation
from tfmi.plots.explanation_plots import plot_explanation
from tfmi.serving.client import Evidence

FIELDS = (Evidence("city", None, 0.5, 0.75), Evidence("tags", None, -0.25, 0.25))
VALUES = tuple(Evidence("tags", f"${i}$" * 20, i / 10, 0.1) for i in range(-9, 9))


@pytest.mark.slow
@pytest.mark.parametrize("attends", [True, False])
def test_reasons_are_drawn(tmp_path: Path, attends: bool) -> None:
    fields = FIELDS if attends else tuple(Evidence(each.field, None, each.effect, None) for each in FIELDS)
    why = TaskExplanation("click", "jazz $", 0.5, 0.1, {1: 0.6, 3: -0.2}, {1: 0.3, 3: 0.7}, fields, VALUES)
    nothing = TaskExplanation("buy", "jazz", -1.0, 0.0, {0: -1.0}, {0: 1.0}, (), ())
    path = plot_explanation([why, nothing], tmp_path / "why.png")
    assert path.read_bytes().startswith(b"\x89PNG")
