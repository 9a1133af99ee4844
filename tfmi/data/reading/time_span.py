"""From when to when a log goes, and whether that can be: a wrong unit or format of times is seen at once."""

from __future__ import annotations

import datetime
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmi.data.reading.times import UNITS_PER_SECOND

log = logging.getLogger(__name__)

# Hardly any log of clicks is older, and a time in a wrong unit or format mostly comes to January 1970.
PLAUSIBLE_FROM = datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC).timestamp()
DAY = 86_400.0


@dataclass
class TimeSpan:
    """The first and last of all times seen, and how many cannot be.

    Attributes:
        first, last: Seconds since 1970; infinite before the first time.
        early, late: Times before 1990, and after tomorrow.
        last_early: The last of the early ones.
        total: All times.
    """

    first: float = math.inf
    last: float = -math.inf
    early: int = 0
    late: int = 0
    last_early: float = -math.inf
    total: int = 0

    def add(self, times: np.ndarray, now: float | None = None) -> None:
        """Count ``times`` [n], seconds since 1970."""
        if not len(times):
            return
        early = times < PLAUSIBLE_FROM
        self.first, self.last = min(self.first, float(times.min())), max(self.last, float(times.max()))
        self.early += int(early.sum())
        self.late += int((times > (time.time() if now is None else now) + DAY).sum())
        if early.any():
            self.last_early = max(self.last_early, float(times[early].max()))
        self.total += len(times)

    def join(self, other: TimeSpan) -> None:
        """Count the times of another part of the same log, too."""
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.last_early = max(self.last_early, other.last_early)
        self.early, self.late, self.total = self.early + other.early, self.late + other.late, self.total + other.total

    def report(self, time_unit: str) -> dict[str, Any]:
        """First and last time, and what cannot be about the times, for ``metrics.json``; nothing without times."""
        if not self.total:
            return {}
        problems = self.problems(time_unit)
        return {
            "first_time": written(self.first),
            "last_time": written(self.last),
            **({"implausible_times": problems} if problems else {}),
        }

    def problems(self, time_unit: str) -> list[str]:
        """What cannot be about the times, each with the setting that would fix it.

        Args:
            time_unit: ``data.log.time_unit``, by which numbers were read.
        """
        problems = []
        if self.early:
            mixed = "" if self.early == self.total else self._mixed()
            problems.append(
                f"{self.early:,} of {self.total:,} times lie before 1990, from {written(self.first)} to {written(self.last_early)}: "
                f"{mixed or self._early_cause(time_unit)}"
            )
        if self.late:
            problems.append(
                f"{self.late:,} of {self.total:,} times lie after tomorrow, up to {written(self.last)}: {_other_unit(self.last, time_unit)}"
            )
        return problems

    def _mixed(self) -> str:
        """What times on both sides of 1990 mean, if they are one unit apart."""
        factor = self.last / self.last_early if self.last_early > 0 else 0.0
        for name, size in (("a thousand", 1e3), ("a million", 1e6), ("a thousand million", 1e9)):
            if size / 3 < factor < size * 3:
                return (
                    f"the others are {name} times as large, so two units are mixed, such as seconds and milliseconds; write all of them in "
                    "one unit and name it in data.log.time_unit"
                )
        return ""

    def _early_cause(self, time_unit: str) -> str:
        digits = [self.first * UNITS_PER_SECOND[time_unit], self.last_early * UNITS_PER_SECOND[time_unit]]
        if all(_is_date_of_digits(number) for number in digits):
            return "the numbers look like dates, year, month and day; set data.log.time_format: '%Y%m%d'"
        return _other_unit(self.last_early, time_unit)


def say_span(path: object, report: Mapping[str, Any]) -> None:
    """Log the first and last time that a report holds, and warn of what cannot be."""
    if "first_time" in report:
        log.info("%s: times from %s to %s", path, report["first_time"], report["last_time"])
    for problem in report.get("implausible_times", ()):
        log.warning("%s: %s", path, problem)


def written(seconds: float) -> str:
    """A time as people read it, in UTC."""
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _is_date_of_digits(number: float) -> bool:
    year, month, day = int(number) // 10_000, int(number) // 100 % 100, int(number) % 100
    return 1990 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= 31


def _other_unit(seconds: float, time_unit: str) -> str:
    """The unit by which a number would lie between 1990 and tomorrow."""
    number = seconds * UNITS_PER_SECOND[time_unit]
    for unit, per_second in UNITS_PER_SECOND.items():
        if PLAUSIBLE_FROM <= number / per_second <= time.time() + DAY:
            return f"as {unit} {written(number / per_second)} would come of it; set data.log.time_unit: {unit}"
    return "check data.log.columns.time, data.log.time_unit and data.log.time_format; if it is so, nothing has to be done"
