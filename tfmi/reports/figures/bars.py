"""Horizontal bars with intervals, and columns of a histogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tfmi.reports.figures.frame import WIDTH, drawing, horizontal_axis, text, vertical_axis
from tfmi.reports.figures.scales import scale_of
from tfmi.reports.markup import Child, Markup, tag
from tfmi.reports.numbers import interval, shown

ROW, BAR = 26, 14
LABELS, VALUES = 150, 62
AXIS = 44
COLUMNS_HEIGHT, COLUMNS_LEFT = 220, 52


@dataclass(frozen=True)
class Bar:
    """A named value.

    Attributes:
        name: Beside the bar.
        value: Its length; one that is no number is left out, and said.
        low, high: The ends of its interval, if it has one.
        style: Which colour.
        said: The value as it is written; None: with four digits.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    style: int = 0
    said: str | None = None


def bar_chart(title: str, bars: Sequence[Bar], *, x_label: str) -> Markup:
    """Draw a bar a row, from 0 on, with whiskers where there are intervals and the value at the right."""
    ends = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None]
    bottom = 8 + ROW * len(bars)
    scale = scale_of(ends, LABELS + 8, WIDTH - VALUES - 6, zero=True)
    rows: list[Child] = []
    for place, bar in enumerate(bars):
        middle = 8 + ROW * (place + 0.5)
        rows.append(text(LABELS, middle + 4, bar.name, anchor="end", width=LABELS - 4))
        rows.append(text(WIDTH - 2, middle + 4, bar.said or shown(float(bar.value)), anchor="end", class_="value"))
        if math.isfinite(bar.value):
            rows.append(_bar(bar, middle, scale(0.0), scale(bar.value)))
        if bar.low is not None and bar.high is not None:
            rows.append(_whisker(scale(bar.low), scale(bar.high), middle))
    zero = tag("line", x1=scale(0.0), x2=scale(0.0), y1=6, y2=bottom, class_="zero")
    return drawing(title, bottom + AXIS - 4, horizontal_axis(scale, 6, bottom, x_label), rows, zero)


def _bar(bar: Bar, middle: float, zero: float, end: float) -> Markup:
    said = f"{bar.name}: {shown(float(bar.value))}"
    if bar.low is not None and bar.high is not None:
        said += f" ({interval([bar.low, bar.high])})"
    left, right = min(zero, end), max(zero, end)
    box = tag("rect", tag("title", said), x=left, y=middle - BAR / 2, width=max(right - left, 0.5), height=BAR, rx=2, class_="area")
    return tag("g", box, class_=f"s{bar.style}")


def _whisker(low: float, high: float, middle: float) -> Markup:
    return tag("path", d=f"M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 4:.1f}v8M{high:.1f} {middle - 4:.1f}v8", class_="whisker")


def column_chart(title: str, names: Sequence[str], values: Sequence[float], *, x_label: str, y_label: str, style: int = 0) -> Markup:
    """Draw a column for each name, as of a histogram."""
    bottom = COLUMNS_HEIGHT - AXIS
    scale = scale_of([float(value) for value in values], bottom, 24, zero=True)
    width = (WIDTH - COLUMNS_LEFT - 14) / max(len(names), 1)
    every = max(1, math.ceil(max((len(name) for name in names), default=1) * 7.5 / max(width, 1)))
    columns: list[Child] = []
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        left, top = COLUMNS_LEFT + place * width, scale(float(value))
        said = tag("title", f"{name}: {shown(value)}")
        columns.append(
            tag("rect", said, x=left + width * 0.08, y=top, width=width * 0.84, height=max(bottom - top, 0.0), rx=1.5, class_="area")
        )
        if place % every == 0:
            columns.append(text(left + width / 2, bottom + 16, name, anchor="middle", class_="tick"))
    axis = vertical_axis(scale, COLUMNS_LEFT, WIDTH - 14, y_label)
    label = text(WIDTH - 14, bottom + 34, x_label, anchor="end", class_="axis")
    return drawing(title, COLUMNS_HEIGHT, axis, tag("g", columns, class_=f"s{style}"), label)
