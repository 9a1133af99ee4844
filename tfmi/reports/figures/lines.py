"""Lines over an axis of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tfmi.reports.figures.frame import WIDTH, drawing, horizontal_axis, text, vertical_axis
from tfmi.reports.figures.scales import Scale, scale_of
from tfmi.reports.markup import Markup, join, tag
from tfmi.reports.numbers import shown

HEIGHT = 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 38, 44
# Of more points, single ones are not marked.
MOST_DOTS = 40


@dataclass(frozen=True)
class Line:
    """A line through points; gaps where a value is no number.

    Attributes:
        name: In the legend.
        xs, ys: The points.
        style: Which colour.
        dashed: For what is no measurement, such as a diagonal.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A point that is ringed and named."""

    x: float
    y: float
    name: str


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    mark: Mark | None = None,
    x_log: bool = False,
    y_log: bool = False,
    zero: bool = False,
) -> Markup:
    """Draw lines.

    Args:
        title: Read out.
        lines: What to draw.
        x_label, y_label: What the axes are, and in which unit.
        mark: A point to point at.
        x_log, y_log: Whether equal ratios have equal distances.
        zero: The vertical axis begins at 0.
    """
    xs = scale_of([float(x) for line in lines for x in line.xs], LEFT, WIDTH - RIGHT, zero=not x_log, logarithmic=x_log)
    ys = scale_of([float(y) for line in lines for y in line.ys], HEIGHT - BOTTOM, TOP, zero=zero, logarithmic=y_log)
    axes = [vertical_axis(ys, LEFT, WIDTH - RIGHT, y_label), horizontal_axis(xs, TOP, HEIGHT - BOTTOM, x_label, across=False)]
    return drawing(title, HEIGHT, axes, [_line(line, xs, ys) for line in lines], None if mark is None else _mark(mark, xs, ys))


def _line(line: Line, xs: Scale, ys: Scale) -> Markup:
    points = [(float(x), float(y)) for x, y in zip(line.xs, line.ys, strict=True)]
    pieces: list[str] = []
    pen_up = True
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen_up = True
            continue
        pieces.append(f"{'M' if pen_up else 'L'}{xs(x):.1f} {ys(y):.1f}")
        pen_up = False
    dots = []
    if len(points) <= MOST_DOTS and not line.dashed:
        dots = [
            tag("circle", tag("title", f"{line.name}: {shown(x)}, {shown(y)}"), cx=xs(x), cy=ys(y), r=3)
            for x, y in points
            if math.isfinite(x) and math.isfinite(y)
        ]
    return tag("g", tag("path", d="".join(pieces), class_="line dashed" if line.dashed else "line"), dots, class_=f"s{line.style}")


def _mark(mark: Mark, xs: Scale, ys: Scale) -> Markup:
    x, y = xs(mark.x), ys(mark.y)
    right = x < (LEFT + WIDTH - RIGHT) / 2
    name = text(x - 7 if right else x + 7, y - 12, mark.name, anchor="start" if right else "end", class_="mark")
    return join(tag("circle", cx=x, cy=y, r=7, class_="ring"), name)
