"""From values to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

# In a logarithmic scale, the least part of the largest value that is told from nothing.
SMALLEST_SHARE = 1e-6


@dataclass(frozen=True)
class Scale:
    """A range of values on a range of pixels.

    Attributes:
        low, high: The values at the two ends; ``low`` is less than ``high``.
        start, end: The pixels of these.
        logarithmic: Equal ratios have equal distances; all values are above 0.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        if self.logarithmic:
            share = (math.log(max(value, self.low)) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values on the scale."""
        return _powers(self.low, self.high, most) if self.logarithmic else round_values(self.low, self.high, most)


def scale_of(values: list[float], start: float, end: float, *, zero: bool = False, logarithmic: bool = False) -> Scale:
    """A scale on which all finite ``values`` have a place.

    Args:
        values: Any; without a finite one the scale goes from 0 to 1.
        start, end: Pixels.
        zero: Begin at 0, where no value is below.
        logarithmic: See ``Scale``.
    """
    finite = [value for value in values if math.isfinite(value)]
    if logarithmic:
        finite = [value for value in finite if value > 0]
        high = max(finite, default=1.0)
        low = max(min(finite, default=high / 10), high * SMALLEST_SHARE)
        return Scale(low, high if high > low else low * 10, start, end, logarithmic=True)
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = (low, low + 1.0) if zero else (low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5))
    if not zero:
        margin = 0.06 * (high - low)
        low, high = low - margin, high + margin
    return Scale(low, high, start, end)


def round_values(low: float, high: float, most: int = 5) -> list[float]:
    """At most so many multiples of 1, 2 or 5 times a power of ten in a range; at least one where the range holds any."""
    if not high > low:
        return [low]
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def _powers(low: float, high: float, most: int) -> list[float]:
    """Powers of ten in a range, or 1, 2 and 5 times these where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors: tuple[int, ...] = (1,) if last - first > 1 else (1, 2, 5)
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    inside = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return inside[:: max(1, math.ceil(len(inside) / most))]
