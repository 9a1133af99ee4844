"""Cells: numbers, times, tags; and that a row is rejected once, for the first reason."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmi.data.reading.checks import ChunkChecks, is_storable, parse_numbers, parse_tags
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import RowChunk, text_array
from tfmi.data.reading.times import parse_iso_times, parse_times

NAN = float("nan")


def checks_of(tmp_path: Path, **columns: list[str]) -> ChunkChecks:
    rows = len(next(iter(columns.values())))
    chunk = RowChunk(np.arange(2, 2 + rows), {name: text_array(values) for name, values in columns.items()}, rows)
    return ChunkChecks(chunk, Rejects("log.csv", tmp_path / "rejects.jsonl"))


@pytest.mark.parametrize("companion", ["1", "no number"])
def test_numbers(companion: str) -> None:
    # One cell that is no number switches to the path that looks at each cell; both must agree.
    texts = ["1", "-2.5", "+3", ".5", "4.", "1e3", " 7 ", "nan", "-inf", "Infinity", "1e999", companion]
    values, is_number = parse_numbers(text_array(texts))
    np.testing.assert_array_equal(values[:7], [1, -2.5, 3, 0.5, 4, 1000, 7])
    assert not np.isfinite(values[7:11]).any()
    assert is_number[:11].all()
    assert is_number[11] == (companion == "1")


@pytest.mark.parametrize("text", ["", " ", "x", "1,5", "0x10", "1_000", "1e", "--1", "1 2", "١", "true"])
def test_texts_that_are_no_numbers(text: str) -> None:
    values, is_number = parse_numbers(text_array(["1", text]))
    assert is_number.tolist() == [True, False]
    assert math.isnan(values[1])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20), st.booleans())
def test_every_float_that_python_writes_is_read_exactly(numbers: list[float], with_other: bool) -> None:
    texts = [repr(number) for number in numbers] + ["?"] * with_other
    np.testing.assert_array_equal(parse_numbers(text_array(texts))[0][: len(numbers)], numbers)


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(timezones=st.sampled_from([datetime.UTC, *(datetime.timezone(datetime.timedelta(minutes=m)) for m in (330, -570, 60))])),
    st.sampled_from(["T", " "]),
)
def test_every_iso_time_with_a_zone_is_read_to_the_microsecond(moment: datetime.datetime, separator: str) -> None:
    try:
        expected = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(seconds=1)
    except OverflowError:
        return
    assert parse_iso_times(text_array([moment.isoformat(separator)]))[0] == pytest.approx(
        expected, abs=4e-5
    )  # float64 has steps of 3e-5 s in the year 9999


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02", 86400),
        ("1970-01-01T01:00", 3600),
        ("1970-01-01 01:00:00", 3600),
        ("1970-01-01T01:00:00Z", 3600),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00:00 +0100", 0),
        ("1970-01-01T01:00:00-02", 10800),
        ("19700101T010000Z", 3600),
        ("1970-01-01T00:00:00.123456789", 0.123456),
        ("2300-01-01T00:00:00.123456789Z", 10413792000.123456),
        (" 1970-01-02 ", 86400),
    ],
)
def test_iso_times_without_a_zone_are_utc(text: str, expected: float) -> None:
    assert parse_iso_times(text_array([text]))[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "today", "now", "NaT", "2020-02-30", "2020-13-01", "01/02/2020", "2020/01/02", "12:30", "2020-01-01T25:00", "2020-W01-1"]
)
def test_texts_that_are_no_iso_times(text: str) -> None:
    assert np.isnan(parse_iso_times(text_array([text, "2020-01-01"]))).tolist() == [True, False]


def test_times_mix_numbers_and_iso_and_name_each_fault(tmp_path: Path) -> None:
    checks = checks_of(tmp_path, time=["60", "1970-01-01T00:02:00Z", "", "noon", "nan", "1e300", "1700000000000", "-60"])
    seconds = checks.times("time", "seconds")
    np.testing.assert_array_equal(seconds[checks.kept], [60, 120, -60])
    assert checks.rejects.counts == {"empty_time": 1, "not_a_time": 1, "not_finite": 1, "time_out_of_range": 2}


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("seconds", "1700000000.5"),
        ("milliseconds", "1700000000500"),
        ("microseconds", "1700000000500000"),
        ("nanoseconds", "1.7000000005e18"),
    ],
)
def test_the_unit_is_told_and_never_guessed(tmp_path: Path, unit: str, text: str) -> None:
    checks = checks_of(tmp_path, time=[text, "2023-11-14T22:13:20.5Z"])
    np.testing.assert_allclose(checks.times("time", unit), 1700000000.5, rtol=0, atol=1e-6)
    assert checks.kept.all()


def test_numbers_required_positive_or_missing(tmp_path: Path) -> None:
    checks = checks_of(tmp_path, price=["1.5", "", "x", "inf", "0"])
    np.testing.assert_array_equal(checks.numbers("price"), [1.5, NAN, NAN, np.inf, 0])
    assert checks.kept.tolist() == [True, True, False, False, True]
    checks = checks_of(tmp_path, weight=["1.5", "", "x", "inf", "0", "-1"])
    checks.numbers("weight", required=True, positive=True)
    assert checks.kept.tolist() == [True, False, False, False, False, False]
    assert checks.rejects.counts == {"empty_number": 1, "not_a_number": 1, "not_finite": 1, "not_positive": 2}


def test_a_row_is_rejected_once_for_its_first_fault(tmp_path: Path) -> None:
    checks = checks_of(tmp_path, user=["u", "", "  ", "\u3000"], item=["", "", "i", "i"])
    checks.require_text("user", "empty_user")
    checks.require_text("item", "empty_item")
    assert checks.rejects.counts == {"empty_user": 3, "empty_item": 1}
    assert not checks.kept.any()


def test_dropped_rows_are_not_rejects(tmp_path: Path) -> None:
    checks = checks_of(tmp_path, user=["u", "", "u"])
    checks.require_text("user", "empty_user")
    assert checks.drop(np.array([True, True, False])) == 1
    assert (checks.rejects.total, checks.kept.tolist()) == (1, [False, False, True])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a", [("a", 1.0)]),
        ("a|b:0.5", [("a", 1.0), ("b", 0.5)]),
        (" a | b : 2 |", [("a", 1.0), ("b", 2.0)]),
        ("a:b:2", [("a:b", 2.0)]),
        ("a|a:0.5", [("a", 1.5)]),
        ("日本|голос:3e-1", [("日本", 1.0), ("голос", 0.3)]),
    ],
)
def test_tags(text: str, expected: list[tuple[str, float]]) -> None:
    assert parse_tags(text, "|") == expected


@pytest.mark.parametrize("text", ["a:", "a:x", "a:0", "a:-1", "a:nan", "a:inf", ":1", "ok|b:none"])
def test_tags_with_bad_weights_or_no_name(text: str) -> None:
    assert parse_tags(text, "|") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["ratio 16:9", "red|green", 7, null, " x "]', [("ratio 16:9", 1.0), ("red|green", 1.0), ("7", 1.0), ("x", 1.0)]),
        ('[["ratio 16:9", 0.5], ["b", 2]]', [("ratio 16:9", 0.5), ("b", 2.0)]),
        ('{"ratio 16:9": 0.5, "b": 2}', [("ratio 16:9", 0.5), ("b", 2.0)]),
        ("[]", []),
        ("[live]", [("[live]", 1.0)]),
        ("{curly}|b", [("{curly}", 1.0), ("b", 1.0)]),
    ],
)
def test_lists_and_objects_of_tags_are_taken_as_they_are(text: str, expected: list[tuple[str, float]]) -> None:
    assert parse_tags(text, "|") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("['a', 'b']", "bad_tag_list"),
        ('["a", "b"', "ok"),
        ('["a",]', "bad_tag_list"),
        ('[["a", 1, 2]]', "bad_tag_list"),
        ('[{"a": 1}]', "bad_tag_list"),
        ('{"a": [1]}', "bad_tag_weight"),
        ('{"a": NaN}', "bad_tag_weight"),
        ('[["a", true]]', "bad_tag_weight"),
        ('{"": 1}', "bad_tag_weight"),
        ("a:1e39", "bad_tag_weight"),
        ("a:1e-60", "bad_tag_weight"),
        ('{"a": 1e300}', "bad_tag_weight"),
        ("a:3e38|a:3e38", "bad_tag_weight"),
    ],
)
def test_what_is_no_list_of_tags_is_rejected_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    checks = checks_of(tmp_path, tags=["a", text])
    assert checks.tags("tags", "|")[0] == [("a", 1.0)]
    assert checks.rejects.counts == ({} if reason == "ok" else {reason: 1})


def test_numbers_that_32_bits_cannot_hold_are_rejected(tmp_path: Path) -> None:
    texts = ["3.4e38", "3.5e38", "-1e39", "1.2e-38", "1e-39", "-1e-60", "0", ""]
    checks = checks_of(tmp_path, price=texts)
    checks.numbers("price")
    assert checks.kept.tolist() == [True, False, False, True, False, False, True, True]
    assert checks.rejects.counts == {"not_storable": 4}
    assert is_storable(np.array([np.nan, 0.0, 1.0])).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,5", 1.5),
        ("-1.234.567,8", -1234567.8),
        ("1.234", 1234.0),
        ("7", 7.0),
        ("1e3", 1000.0),
        ("1.5", NAN),
        ("1,234,5", NAN),
        ("1.23,4", NAN),
    ],
)
def test_decimal_commas(text: str, expected: float) -> None:
    for texts in ([text], [text, "?"]):
        values, is_number = parse_numbers(text_array(texts), ",")
        assert values[0] == expected or (math.isnan(expected) and not is_number[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2017-07-14 07:59:49 UTC", 1500019189),
        ("2017-07-14T07:59:49 GMT", 1500019189),
        ("2017-07-14 07:59:49.123456789 UTC", 1500019189.123456),
        ("2017-07-14T09", 1500022800),
        ("Fri, 14 Jul 2017 07:59:49 +0000", 1500019189),
        ("14 Jul 2017 09:59 +0200", 1500019140),
        ("Fri, 14 Jul 2017 07:59:49 GMT", 1500019189),
    ],
)
@pytest.mark.parametrize("companion", ["2017-07-14", "2017-07-14 07:59:49 UTC", "soon", ""])
def test_zones_by_name_and_rfc_2822(text: str, expected: float, companion: str) -> None:
    for texts in ([text], [text, companion], [companion, text]):
        assert parse_iso_times(text_array(texts))[texts.index(text)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("text", ["2017-07-14 UTC", "2017-07-14 UTC07:00", "Fri, 32 Jul 2017 07:59:49 GMT", "Fri Jul", "UTC"])
def test_texts_that_only_look_like_times(text: str) -> None:
    for texts in ([text], [text, "2017-07-14 07:59:49 UTC"], [text, "2017-07-14"]):
        assert np.isnan(parse_iso_times(text_array(texts))[0])


@pytest.mark.parametrize("first", ["9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.9999999 UTC"])
def test_the_last_moment_of_the_year_9999_is_in_range(tmp_path: Path, first: str) -> None:
    checks = checks_of(tmp_path, time=[first, "9999-12-31T23:59:59-05:00", "0001-01-01", "1"])
    seconds = checks.times("time", "seconds")
    assert checks.kept.tolist() == [True, False, True, True]
    assert seconds[0] < 253402300800
    assert checks.rejects.counts == {"time_out_of_range": 1}


@pytest.mark.parametrize(
    ("text", "time_format", "expected"),
    [
        ("20170714", "%Y%m%d", 1499990400),
        ("14/07/2017", "%d/%m/%Y", 1499990400),
        ("07/14/2017 07:59", "%m/%d/%Y %H:%M", 1500019140),
        ("Fri Jul 14 07:59:49 +0000 2017", "%a %b %d %H:%M:%S %z %Y", 1500019189),
        ("14.07.2017 09:59:49 +0200", "%d.%m.%Y %H:%M:%S %z", 1500019189),
    ],
)
def test_times_in_a_format_that_is_said(tmp_path: Path, text: str, time_format: str, expected: float) -> None:
    checks = checks_of(tmp_path, time=[text, "1500019189", "", text])
    seconds = checks.times("time", "seconds", time_format)
    np.testing.assert_array_equal(seconds[[0, 3]], [expected, expected])
    assert checks.kept.tolist() == [True, False, False, True]
    assert checks.rejects.counts == {"empty_time": 1, "not_a_time": 1}


EARLIEST = datetime.datetime(1000, 1, 1)
FORMATS = ["%Y%m%d", "%d/%m/%Y", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%H:%M %d-%m-%Y", "%y%m%d", "%d %b %Y"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.datetimes(EARLIEST), min_size=1, max_size=8), st.sampled_from(FORMATS), st.booleans(), st.booleans())
def test_formats_agree_with_strptime(moments: list[datetime.datetime], time_format: str, short: bool, broken: bool) -> None:
    texts = [moment.strftime(time_format) for moment in moments]
    if short and "/" in time_format:
        texts += [text.lstrip("0").replace("/0", "/") for text in texts]
    if broken:
        first = texts[0]
        texts += [first.replace("1", "9"), first[:-1], first.replace("0", "O"), first.replace("/", "-"), "é" * 4, ""]
        texts += [first + "0"] * (not time_format.endswith("%f"))  # a seventh digit is cut off, which strptime does not do
    found = parse_times(text_array(["x", *texts, "y"])[1:-1], time_format)
    for text, seconds in zip(texts, found.tolist(), strict=True):
        try:
            moment = datetime.datetime.strptime(text, time_format).replace(tzinfo=datetime.UTC)
        except ValueError:
            assert math.isnan(seconds), text
        else:
            assert seconds == pytest.approx(moment.timestamp(), abs=1e-4), text


def test_digits_after_the_microsecond_are_cut_off_in_every_year() -> None:
    texts = ["9999-01-01 00:00:00.1234567", "2000-01-01 00:00:00.1234567", "2000-01-01 00:00:00.5"]
    expected = [253370764800.123456, 946684800.123456, 946684800.5]
    np.testing.assert_allclose(parse_times(text_array(texts), "%Y-%m-%d %H:%M:%S.%f"), expected, rtol=0, atol=4e-5)
    assert len(parse_times(text_array([]), "%Y%m%d")) == 0


def test_a_log_of_dates_with_some_numbers_among_them(tmp_path: Path) -> None:
    texts = ["2017-07-14", "1499990400", "nan", "x", "", "2017-07-14T00:00:00Z", "1e300"]
    checks = checks_of(tmp_path, time=texts)
    seconds = checks.times("time", "seconds")
    np.testing.assert_array_equal(seconds[checks.kept], [1499990400] * 3)
    assert checks.rejects.counts == {"empty_time": 1, "not_a_time": 1, "not_finite": 1, "time_out_of_range": 1}


def test_blank_takes_every_alphabets_spaces(tmp_path: Path) -> None:
    checks = checks_of(tmp_path, user=["\u00a0", "\t", "a\u00a0"])
    checks.require_text("user", "empty_user")
    assert checks.kept.tolist() == [False, False, True]
    assert pa.types.is_large_string(checks.chunk.columns["user"].type)
