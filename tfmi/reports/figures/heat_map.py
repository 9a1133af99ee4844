"""A table of shares as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from tfmi.reports.figures.frame import WIDTH, drawing, text
from tfmi.reports.markup import Child, Markup, tag
from tfmi.reports.numbers import shown

ROW = 24
LABELS = 224
HEAD = 24
# In narrower cells no number has room.
NARROWEST_NUMBER = 30
# Above this share of the largest value numbers are written in the colour for dark cells.
STRONG = 0.72


def heat_map(
    title: str, row_names: Sequence[str], column_names: Sequence[str], values: Sequence[Sequence[float]], *, low: float = 0.0
) -> Markup:
    """Draw values as cells, the larger the darker.

    Args:
        title: Read out.
        row_names, column_names: What is above each other, and what beside each other.
        values: [rows, columns].
        low: The value of an empty cell; the largest value fills one.
    """
    largest = max((value for row in values for value in row), default=low)
    span = (largest - low) or 1.0
    width = (WIDTH - LABELS - 4) / max(len(column_names), 1)
    parts: list[Child] = [
        text(LABELS + (place + 0.5) * width, 16, name, anchor="middle", class_="tick", width=width)
        for place, name in enumerate(column_names)
    ]
    for place, (name, row) in enumerate(zip(row_names, values, strict=True)):
        top = HEAD + place * ROW
        parts.append(text(LABELS - 8, top + ROW / 2 + 4, name, anchor="end", width=LABELS - 10))
        for column, value in enumerate(row):
            share = min(max((value - low) / span, 0.0), 1.0)
            left = LABELS + column * width
            said = tag("title", f"{name}, {column_names[column]}: {shown(float(value))}")
            parts.append(tag("rect", said, x=left + 1, y=top + 1, width=width - 2, height=ROW - 2, rx=2, class_="cell-frame"))
            parts.append(
                tag("rect", x=left + 1, y=top + 1, width=width - 2, height=ROW - 2, rx=2, class_="cell", fill_opacity=f"{share:.3f}")
            )
            if width >= NARROWEST_NUMBER:
                style = "cell-number strong" if share > STRONG else "cell-number"
                parts.append(text(left + width / 2, top + ROW / 2 + 4, f"{value:.2f}", anchor="middle", class_=style))
    return drawing(title, HEAD + ROW * len(row_names) + 4, parts)
