"""What charts have in common: the drawing with its name, axes, a legend, and the values as a table."""

from __future__ import annotations

from collections.abc import Sequence

from tfmi.core.text import shorten
from tfmi.reports.figures.scales import Scale
from tfmi.reports.markup import Child, Markup, join, tag
from tfmi.reports.numbers import short, shown

WIDTH = 460
# The mean width of a letter at the size of labels, for cutting them.
LETTER = 7.0
# Colours of the style sheet, one for each series.
COLOURS = 8


def drawing(title: str, height: float, *parts: Child, width: float = WIDTH) -> Markup:
    """An SVG drawing that is read out as ``title``."""
    return tag("svg", tag("title", title), *parts, role="img", aria_label=title, viewBox=f"0 0 {width:g} {height:g}", class_="chart")


def figure(
    title: str,
    chart: Markup,
    *,
    header: Sequence[str],
    rows: Sequence[Sequence[Child]],
    legend: Sequence[tuple[str, int]] = (),
    note: Child = None,
    wide: bool = False,
) -> Markup:
    """A chart with its title, legend and note, and its values as a table behind it."""
    return tag(
        "figure",
        tag("figcaption", title),
        tag("ul", [tag("li", tag("span", class_=f"key s{style}"), name) for name, style in legend], class_="legend") if legend else None,
        chart,
        tag("p", note, class_="note") if note else None,
        tag("details", tag("summary", f"Values: {title}"), table(header, rows)) if rows else None,
        class_="wide" if wide else None,
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Child]], *, caption: str | None = None) -> Markup:
    """A table whose first column names its rows; wide ones scroll by themselves."""
    head = tag("thead", tag("tr", [tag("th", name, scope="col") for name in header]))
    body = tag("tbody", [tag("tr", [_cell(place, value) for place, value in enumerate(row)]) for row in rows])
    inner = tag("table", tag("caption", caption) if caption else None, head, body)
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption or ", ".join(header))


def _cell(place: int, value: Child) -> Markup:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    content: Child = shown(value) if number or value is None else value
    return tag("th", content, scope="row") if place == 0 else tag("td", content, class_="number" if number or value is None else None)


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str = "label", width: float | None = None) -> Markup:
    """A text; one that is wider than ``width`` is cut, and read in full where somebody points at it."""
    cut = content if width is None else shorten(content, max(3, int(width / LETTER)))
    return tag("text", tag("title", content) if cut != content else None, cut, x=x, y=y, text_anchor=anchor, class_=class_)


def vertical_axis(scale: Scale, left: float, right: float, label: str, ticks: Sequence[float] | None = None) -> Markup:
    """Values at the left, lines across, and what they are above."""
    parts = []
    for value in scale.ticks() if ticks is None else ticks:
        y = scale(value)
        parts.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(text(left - 6, y + 4, short(value), anchor="end", class_="tick"))
    return join(parts, text(2, 12, label, class_="axis"))


def horizontal_axis(scale: Scale, top: float, bottom: float, label: str, *, across: bool = True) -> Markup:
    """Values below, and what they are at the right end."""
    parts = []
    for value in scale.ticks():
        x = scale(value)
        parts.append(tag("line", x1=x, x2=x, y1=top if across else bottom, y2=bottom + (0 if across else 4), class_="grid"))
        parts.append(text(x, bottom + 16, short(value), anchor="middle", class_="tick"))
    return join(parts, text(scale.end, bottom + 34, label, anchor="end", class_="axis"))
