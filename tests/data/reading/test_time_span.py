"""The first and last time of a log, and times that cannot be."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tfmi.data.reading.time_span import TimeSpan, say_span

JULY_2017 = 1.5e9


def span(*times: float) -> TimeSpan:
    found = TimeSpan()
    for time in times:
        found.add(np.array([time]))
    found.add(np.array([]))
    return found


def test_first_and_last_over_all_chunks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    report = span(JULY_2017, JULY_2017 - 86_400, JULY_2017 + 1).report("seconds")
    assert report == {"first_time": "2017-07-13 02:40:00", "last_time": "2017-07-14 02:40:01"}
    say_span("log.csv", report)
    assert caplog.messages == ["log.csv: times from 2017-07-13 02:40:00 to 2017-07-14 02:40:01"]


def test_without_times_there_is_nothing_to_say() -> None:
    assert span().report("seconds") == {}


@pytest.mark.parametrize(
    ("times", "unit", "said"),
    [
        ([20170714, 20170716], "seconds", "data.log.time_format: '%Y%m%d'"),
        ([JULY_2017 / 1e3], "milliseconds", "as seconds 2017-07-14 02:40:00 would come of it; set data.log.time_unit: seconds"),
        ([JULY_2017 * 1e3 % 1e11 + 6e10], "seconds", "after tomorrow"),
        ([1.0, 2.0, 3.0], "seconds", "check data.log.columns.time"),
        ([JULY_2017, JULY_2017 + 1, JULY_2017 / 1e3], "milliseconds", "two units are mixed"),
    ],
)
def test_what_cannot_be_comes_with_the_setting(times: list[float], unit: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    report = span(*times).report(unit)
    assert said in " ".join(report["implausible_times"])
    say_span("log.csv", report)
    assert any(record.levelno == logging.WARNING and said in record.getMessage() for record in caplog.records)


def test_all_of_a_unit_are_not_called_mixed() -> None:
    (problem,) = span(JULY_2017 / 1e3, JULY_2017 / 1e3 + 1).problems("milliseconds")
    assert problem.startswith("2 of 2 times lie before 1990")
    assert "mixed" not in problem
