"""Ids: one rule for whole numbers in every format, and nothing that is no id becomes one."""

from __future__ import annotations

import decimal
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tfmi.config import CatalogueColumns, LogColumns, LogConfig
from tfmi.core.errors import DataError
from tfmi.data.reading.codes import plain_code, plain_codes
from tfmi.data.reading.joins import likely_reason
from tfmi.data.reading.log import read_catalogue, read_log, read_log_files
from tfmi.data.reading.rows import text_array

WHOLE = {
    "12.0": "12",
    "12.": "12",
    "7.000000000000000000": "7",
    "-3.0": "-3",
    "0.0": "0",
    "-0.0": "0",
    "0E-18": "0",
    "1.2e1": "12",
    "1.2E7": "12000000",
    "1E+11": "100000000000",
    "1.5e+02": "150",
}
AS_WRITTEN = ["12", "007", "007.0", "+7.0", "12.50", "1e3", "12e5", "1.25e1", " 12.0", "12.0 "]
AS_WRITTEN += ["1,0", "a.0", "1.2.0", "", "nan", "1e-3", "12.0\n", "١.0"]


@pytest.mark.parametrize(("text", "expected"), WHOLE.items())
def test_whole_numbers_lose_what_programs_add(text: str, expected: str) -> None:
    assert plain_code(text) == expected


def test_everything_else_is_taken_as_it_is_written() -> None:
    assert [plain_code(text) for text in AS_WRITTEN] == AS_WRITTEN
    texts = [*WHOLE, *AS_WRITTEN]
    for part in (texts, AS_WRITTEN, ["a", "b"], []):
        assert plain_codes(text_array(part)).to_pylist() == [plain_code(text) for text in part]
    assert plain_codes(text_array(texts)[3:7]).to_pylist() == [plain_code(text) for text in texts[3:7]]


def write_log(path: Path, items: list[Any]) -> Path:
    rows = [{"user": "u", "item": item, "time": place} for place, item in enumerate(items)]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table({"user": ["u"] * len(items), "item": items, "time": list(range(len(items)))}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("user,item,time\n" + "".join(f"u,{item},{place}\n" for place, item in enumerate(items)))
    return path


def read(path: Path, **config: Any) -> tuple[list[str], dict[str, int]]:
    table = read_log(path, LogConfig(max_reject_share=1.0, **config), path.parent / "rejects.jsonl")
    return list(table.item_ids), dict(table.report["rejected_by_reason"])


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.json", "log.parquet"])
@pytest.mark.parametrize(
    "items",
    [[12.0, 7.0], ["12.0", "7.000000000000000000"], ["12", "7"], ["1.2E1", "7."]],
    ids=["fractions", "texts", "plain", "exponents"],
)
def test_one_rule_in_all_formats(tmp_path: Path, name: str, items: list[Any]) -> None:
    assert read(write_log(tmp_path / name, items)) == (["12", "7"], {})


def test_decimals_of_parquet(tmp_path: Path) -> None:
    items = pa.array([decimal.Decimal("7.000"), decimal.Decimal("0.000"), decimal.Decimal("1.500")], pa.decimal128(38, 18))
    pyarrow.parquet.write_table(pa.table({"user": ["u"] * 3, "item": items, "time": [1, 2, 3]}), tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet")[0] == ["7", "0", "1.500000000000000000"]


def test_identifiers_of_128_bits_in_parquet(tmp_path: Path) -> None:
    """A column of the type UUID holds them as they are written; bytes that only a program can read are no ids."""
    ids = [uuid.UUID(int=number) for number in (7, 2**127)]
    stored = pa.array([each.bytes for each in ids], pa.binary(16))
    table = pa.table({"user": ["u"] * 2, "item": pa.ExtensionArray.from_storage(pa.uuid(), stored), "time": [1, 2]})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet") == ([str(each) for each in ids], {})
    pyarrow.parquet.write_table(table.set_column(1, "item", stored), tmp_path / "bytes.parquet")
    assert read(tmp_path / "bytes.parquet")[1] == {"bad_utf8": 1}
    assert "write ids that are bytes as text" in (tmp_path / "rejects.jsonl").read_text()


@pytest.mark.parametrize("name", ["log.jsonl", "log.json", "log.parquet"])
def test_nothing_that_a_format_has_for_nothing_is_an_id(tmp_path: Path, name: str) -> None:
    values = [1.5, float("nan"), float("inf"), float("-inf"), None]
    assert read(write_log(tmp_path / name, values)) == (["1.5"], {"empty_item": 4})


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.json", "log.parquet"])
def test_texts_that_look_like_nothing_are_ids(tmp_path: Path, name: str) -> None:
    texts = ["nan", "NaN", "NA", "None", "null", "NaT", "<NA>", "inf"]
    assert read(write_log(tmp_path / name, texts)) == (texts, {})


def test_nan_as_time_or_weight_is_not_finite_rather_than_empty(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"user": 1, "item": 2, "time": NaN, "w": 1}\n{"user": 1, "item": 2, "time": 1, "w": NaN}\n')
    with pytest.raises(DataError, match="no event is left"):
        read(tmp_path / "log.jsonl", columns=LogColumns(weight="w"))
    records = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [record["reason"] for record in records] == ["not_finite", "not_finite"]


def test_nan_is_no_category_brand_title_or_profile(tmp_path: Path) -> None:
    columns = {"item": [1.0, 2.0], "category": [3.0, float("nan")], "title": [float("nan"), 1.5], "brand": [float("inf"), 4.0]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "items.parquet")
    items = read_catalogue(tmp_path / "items.parquet", LogConfig(), tmp_path / "r.jsonl")
    assert (items.item_ids, items.categories, items.titles, items.brands) == (["1", "2"], ["3", ""], ["", "1.5"], ["", "4"])


def test_event_types_follow_the_rule(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(
        pa.table({"user": ["u"] * 3, "item": ["a", "b", "c"], "time": [1, 2, 3], "kind": [0.0, 2.0, None]}), tmp_path / "log.parquet"
    )
    for wanted in (["0", "2"], ["0.0", "2.0"]):
        assert read(tmp_path / "log.parquet", columns=LogColumns(event="kind"), event_types=wanted)[0] == ["a", "b"]


class TestJoins:
    @pytest.mark.parametrize(
        ("here", "there", "reason"),
        [
            ("i7", "i7 ", "spaces at the ends"),
            ("ABC", "abc", "upper and lower case"),
            ("0012", "12", "leading zeros"),
            ("12,0", "12", "decimals"),
            ("item_12", "12", "a prefix"),
            ("１２", "12", "characters that look alike"),
            (" A012", "a12", "e.g."),
        ],
    )
    def test_the_likely_reason_with_a_pair(self, here: str, there: str, reason: str) -> None:
        message = likely_reason([here], [there])
        assert reason in message
        assert repr(here) in message
        assert repr(there) in message

    def test_a_catalogue_that_does_not_join_stops_with_the_reason(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("user,item,time\n" + "".join(f"u,A{n},{n}\n" for n in range(30)))
        (tmp_path / "items.csv").write_text("item\n" + "".join(f"a{n}\n" for n in range(30)))
        with pytest.raises(
            DataError, match=r"0 of 30 events \(0\.0%\) are of items in the catalogue; e\.g\. 'A0' here and 'a0' there"
        ) as caught:
            read_log_files(tmp_path, LogConfig(), tmp_path / "out")
        assert "upper and lower case" in str(caught.value)
        assert "data.log.min_join_share" in str(caught.value)
        tables = read_log_files(tmp_path, LogConfig(min_join_share=0), tmp_path / "out")
        assert tables.events.report["events_of_unknown_items"] == 30

    def test_a_users_file_that_does_not_join_stops_too(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("user,item,time\n007,a,1\n")
        (tmp_path / "users.csv").write_text("user,age\n7,30\n")
        with pytest.raises(DataError, match=r"0 of 1 events .* of users in the users file.*leading zeros"):
            read_log_files(tmp_path, LogConfig(profile_numbers=["age"]), tmp_path / "out")

    def test_the_share_is_always_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "log.csv").write_text("user,item,time\nu,a,1\nu,b,2\nu, c,3\n")
        (tmp_path / "items.csv").write_text("item\na\nb\nc\n")
        with caplog.at_level("INFO", logger="tfmi"):
            read_log_files(tmp_path, LogConfig(), tmp_path / "out")
        assert (
            "2 of 3 events (66.7%) are of items in the catalogue; e.g. ' c' here and 'c' there differ in spaces at the ends" in caplog.text
        )


class TestLongCatalogue:
    COLUMNS = CatalogueColumns(
        item="itemid", property="property", value="value", time="timestamp", category="categoryid", numbers=["price"]
    )
    ROWS = (
        "timestamp,itemid,property,value\n"
        "3,1,categoryid,20\n1,1,categoryid,10.0\n1,1,price,9.5\n2,2,price,cheap\n1,2,other,x\n2,3,tags,a|b:2\n,3,price,1\n1,,price,1\n"
    )

    def read(self, path: Path, **changes: Any) -> Any:
        columns = self.COLUMNS.model_copy(update=changes)
        return read_catalogue(path, LogConfig(catalogue_columns=columns, max_reject_share=1.0), path.parent / "r.jsonl")

    def test_the_last_value_of_each_property(self, tmp_path: Path) -> None:
        (tmp_path / "properties.csv").write_text(self.ROWS)
        items = self.read(tmp_path / "properties.csv")
        assert items.item_ids == ["1", "2", "3"]
        assert items.categories == ["20", "", ""]
        assert items.tags == [[], [], [("a", 1.0), ("b", 2.0)]]
        assert (items.titles, items.brands) == (None, None)
        np.testing.assert_array_equal(items.numbers["price"], np.array([9.5, np.nan, np.nan], np.float32))
        assert items.report["rejected_by_reason"] == {"empty_item": 1, "empty_time": 1, "not_a_number": 1}

    def test_without_times_the_files_order_counts_over_several_files(self, tmp_path: Path) -> None:
        for number, category in ((1, "10"), (2, "30")):
            (tmp_path / f"part{number}.csv").write_text(f"timestamp,itemid,property,value\n9,1,categoryid,{category}\n")
        assert self.read(tmp_path / "part*.csv", time=None, numbers=[]).categories == ["30"]

    def test_a_property_that_never_occurs_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "properties.csv").write_text(self.ROWS)
        with pytest.raises(
            DataError, match=r"no property 'prize' \(did you mean 'price'\?\), which data\.log\.catalogue_columns\.numbers names"
        ):
            self.read(tmp_path / "properties.csv", numbers=["prize"])
