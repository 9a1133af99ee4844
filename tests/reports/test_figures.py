"""Charts put values where they belong, and no text becomes a tag."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from tests.reports.conftest import HOSTILE
from tfmi.reports.figures.bars import Bar, bar_chart, column_chart
from tfmi.reports.figures.heat_map import heat_map
from tfmi.reports.figures.lines import Line, Mark, line_chart
from tfmi.reports.figures.scales import Scale, round_values, scale_of
from tfmi.reports.markup import Markup, join, tag
from tfmi.reports.numbers import shown


def parsed(chart: str) -> ET.Element:
    """A chart as XML: it has to be well formed."""
    return ET.fromstring(chart)  # noqa: S314 - our own


def test_texts_are_escaped_and_markup_is_not() -> None:
    assert tag("p", "<b>", Markup("<i>"), [1, None, ["&"]], title='"') == '<p title="&quot;">&lt;b&gt;<i>1&amp;</p>'
    assert tag("meta", charset="utf-8", hidden=True, lang=None) == '<meta charset="utf-8" hidden>'
    assert join("\u202e\x00") == "\\u202e\\x00"


def test_ticks_are_round_and_inside() -> None:
    assert round_values(0.0, 1.0) == pytest.approx([0, 0.5, 1.0])
    assert round_values(0.46, 0.59) == pytest.approx([0.5, 0.55])
    assert round_values(3.0, 3.0) == [3.0]
    assert Scale(1, 1000, 0, 300, logarithmic=True).ticks() == [1, 10, 100, 1000]
    assert Scale(1, 1000, 0, 300, logarithmic=True)(10) == pytest.approx(100)
    assert scale_of([math.nan], 0, 10, zero=True)(1.0) == 10
    assert scale_of([0.0, 0.0], 0, 10, zero=True)(0.0) == 0


def test_bars_are_as_long_as_their_values() -> None:
    root = parsed(bar_chart("bars", [Bar("a", 1.0, 0.5, 1.5), Bar("b", 0.5), Bar("none", math.nan), Bar("c", -0.5)], x_label="x"))
    widths = [float(box.attrib["width"]) for box in root.iter("rect")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.05)
    assert widths[1] == pytest.approx(widths[2], abs=0.05)
    assert len(widths) == 3  # what is no number has no bar
    assert "–" in {text.text for text in root.iter("text")}
    assert [title.text for title in root.iter("title")][:2] == ["bars", "a: 1.0000 (0.5000 – 1.5000)"]


def test_lines_have_gaps_where_values_are_missing() -> None:
    chart = line_chart(
        "line", [Line("a", [1, 2, 3, 4], [1, math.nan, 3, 2])], x_label="x", y_label="y", mark=Mark(3, 3, "best"), x_log=True, y_log=True
    )
    root = parsed(chart)
    (path,) = root.iter("path")
    assert [step[0] for step in re.findall(r"[ML][^ML]+", path.attrib["d"])] == ["M", "M", "L"]
    assert "best" in {text.text for text in root.iter("text")}


def test_columns_and_cells_are_in_place() -> None:
    root = parsed(column_chart("columns", ["1", "2–4"], [2, 4], x_label="x", y_label="y"))
    heights = [float(box.attrib["height"]) for box in root.iter("rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.05)
    root = parsed(heat_map("cells", ["a"], ["0", "1"], [[0.2, 0.8]]))
    assert [box.attrib["fill-opacity"] for box in root.iter("rect") if box.attrib["class"] == "cell"] == ["0.250", "1.000"]


@pytest.mark.parametrize("empty", [[], [Bar("only", 0.0)]])
def test_charts_of_next_to_nothing_are_drawn(empty: list[Bar]) -> None:
    parsed(bar_chart("t", empty, x_label="x"))
    parsed(line_chart("t", [Line("a", [], [])], x_label="x", y_label="y"))
    parsed(column_chart("t", [], [], x_label="x", y_label="y"))
    parsed(heat_map("t", [], [], []))


def test_hostile_names_stay_texts() -> None:
    bars = parsed(bar_chart(HOSTILE, [Bar(HOSTILE, 1.0)], x_label=HOSTILE))
    cells = parsed(heat_map(HOSTILE, [HOSTILE], [HOSTILE], [[1.0]]))
    for root in (bars, cells):
        assert {element.tag for element in root.iter()} <= {"svg", "title", "g", "rect", "line", "text", "path"}
        assert any("<script>" in (text.text or "") for text in root.iter("title"))


def test_numbers_are_for_people() -> None:
    values = {0.123456: "0.1235", 1234567: "1,234,567", 0.00012345: "0.00012", 12.5: "12.5", 2500.4: "2,500", 0.0: "0.0000"}
    assert {value: shown(value) for value in values} == values
    assert [shown(math.nan), shown(None), shown(math.inf), shown(True)] == ["–", "–", "∞", "yes"]
