"""Numbers for people."""

from __future__ import annotations

import math
from typing import Any


def shown(value: Any) -> str:
    """A value of a table: thousands separated, measures with four digits, small numbers with as many as they need."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _float(value)
    return str(value)


def _float(value: float) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}" if value != int(value) else f"{value:.0f}"
    if size and size < 1e-3:
        return f"{value:.2g}"
    return f"{value:.4f}"


def short(value: float) -> str:
    """A number beside an axis."""
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}" if size >= 1e-4 or not size else f"{value:.0e}"


def interval(pair: tuple[float, float] | list[float] | None) -> str:
    """An interval, or nothing."""
    return "" if not pair else f"{shown(float(pair[0]))} – {shown(float(pair[1]))}"
