"""Rows of every format: what is read, what is refused, and the line that the rejects file names."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage import room_for
from tfmi.config import FileConfig
from tfmi.core.errors import DataError, StorageError
from tfmi.data.reading.formats import BLOCK_BYTES
from tfmi.data.reading.readers import read_rows
from tfmi.data.reading.rejects import FIELDS, REASONS, Rejects
from tfmi.data.reading.rows import ColumnRequest

ALPHABETS = ["Ångström", "смартфон", "日本語", "مرحبا", "שלום", "🎧 naïve", "ไทย"]


def read(path: Path, columns: list[str], **options: Any) -> tuple[dict[str, list[str]], list[int], list[dict], int]:
    """Columns, line numbers, rejects and the number of rows seen."""
    lists = options.pop("lists", frozenset())
    rejects_path = path.parent / "rejects.jsonl"
    texts: dict[str, list[str]] = {name: [] for name in columns}
    lines: list[int] = []
    seen = 0
    block_bytes = options.pop("block_bytes", BLOCK_BYTES)
    with Rejects(path, rejects_path) as rejects:
        for chunk in read_rows(path, ColumnRequest(columns, lists=lists), rejects, FileConfig(**options), block_bytes=block_bytes):
            seen += chunk.seen
            lines += chunk.lines.tolist()
            for name in columns:
                if len(chunk):
                    texts[name] += chunk.columns[name].to_pylist()
    records = [json.loads(line) for line in rejects_path.read_text(encoding="utf-8").splitlines()] if rejects_path.exists() else []
    return texts, lines, records, seen


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.TSV", "a.tsv.gz"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimited_files_of_any_alphabet(tmp_path: Path, name: str, line_end: str, mark: str) -> None:
    delimiter = "\t" if ".tsv" in name.lower() else ","
    rows = [["item", "user"], *([f"i{n}", text] for n, text in enumerate(ALPHABETS))]
    path = write(tmp_path / name, mark + line_end.join(delimiter.join(row) for row in rows))
    texts, lines, rejects, seen = read(path, ["user", "item"])
    assert texts == {"user": ALPHABETS, "item": [f"i{n}" for n in range(len(ALPHABETS))]}
    assert lines == list(range(2, 2 + len(ALPHABETS)))
    assert (rejects, seen) == ([], len(ALPHABETS))


@pytest.mark.parametrize("block_bytes", [7, 40, 1 << 20])
def test_quoted_cells_hold_delimiters_quotes_and_line_ends(tmp_path: Path, block_bytes: int) -> None:
    path = write(tmp_path / "a.csv", 'user,"the item"\nu1,"a,b"\n"u""2""","two\nlines, and\r\nmore"\nu3,plain\n')
    texts, lines, rejects, _ = read(path, ["user", "the item"], block_bytes=block_bytes)
    assert texts == {"user": ["u1", 'u"2"', "u3"], "the item": ["a,b", "two\nlines, and\r\nmore", "plain"]}
    assert lines == [2, 3, 6]
    assert rejects == []


@pytest.mark.parametrize("block_bytes", [5, 64, 1 << 20])
def test_every_bad_line_is_rejected_by_its_number_and_the_others_are_read(tmp_path: Path, block_bytes: int) -> None:
    content = b'user,item\nu1,a\nu2\nu3,b,c\n\nu4,\xff\xfe\nu5,"ok"\nu6,"x"y\nu7,z\n'
    texts, lines, rejects, seen = read(write(tmp_path / "a.csv", content), ["user", "item"], block_bytes=block_bytes)
    assert texts == {"user": ["u1", "u5", "u7"], "item": ["a", "ok", "z"]}
    assert lines == [2, 7, 9]
    assert [(r["line"], r["reason"], r["value"]) for r in rejects] == [
        (3, "wrong_field_count", "u2"),
        (4, "wrong_field_count", "u3,b,c"),
        (6, "bad_utf8", "u4,\\xff\\xfe"),
        (8, "malformed_row", 'u6,"x"y'),
    ]
    assert rejects[0]["expected"] == "2 fields as in the header, found 1"
    assert all(tuple(r) == FIELDS and r["file"] == str(tmp_path / "a.csv") for r in rejects)
    assert seen == 7  # the blank line is no row


def test_a_quote_that_is_never_closed_costs_one_line(tmp_path: Path) -> None:
    rows = "".join(f"u{n},i{n}\n" for n in range(300))
    path = write(tmp_path / "a.csv", f'user,item\nu,"open\n{rows}')
    texts, _, rejects, seen = read(path, ["user", "item"], block_bytes=256)
    assert texts["user"] == [f"u{n}" for n in range(300)]
    assert [(r["line"], r["reason"]) for r in rejects] == [(2, "malformed_row")]
    assert "not closed" in rejects[0]["expected"]
    assert seen == 301


def test_without_quoting_a_quote_is_a_character(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'user\titem\nu1\t"Heroes" live\nu2\t5" pipe\n')
    texts, _, rejects, _ = read(path, ["item"], quoting=False)
    assert texts["item"] == ['"Heroes" live', '5" pipe']
    assert rejects == []


def test_a_file_of_one_column(tmp_path: Path) -> None:
    texts, lines, _, seen = read(write(tmp_path / "a.csv", "item\r\na\r\n\r\nb"), ["item"])
    assert (texts["item"], lines, seen) == (["a", "b"], [2, 4], 2)


def test_another_delimiter_and_one_beyond_ascii(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.csv", "user;item\nu,1;a\n"), ["user"], delimiter=";")[0]["user"] == ["u,1"]
    assert read(write(tmp_path / "b.csv", "user·item\nu·a\n"), ["item"], delimiter="·")[0]["item"] == ["a"]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=6)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12), block_bytes=st.integers(1, 80), delimiter=st.sampled_from(",;\t|"))
def test_whatever_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], block_bytes: int, delimiter: str
) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("a", "b"), *rows])
    path = write(tmp_path_factory.mktemp("csv") / "a.csv", stream.getvalue())
    texts, _, rejects, _ = read(path, ["a", "b"], delimiter=delimiter, block_bytes=block_bytes)
    assert list(zip(texts["a"], texts["b"], strict=True)) == rows
    assert rejects == []


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=120), block_bytes=st.integers(1, 60), format_name=st.sampled_from(["a.csv", "a.jsonl", "a.dat", "a.json"])
)
def test_no_bytes_crash_the_reader_and_no_row_is_lost(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, block_bytes: int, format_name: str
) -> None:
    head = {"a.csv": b"a,b\n", "a.dat": b"a::b\n"}.get(format_name, b'{"a": 1, "b": 2}\n')
    path = write(tmp_path_factory.mktemp("any") / format_name, head + content)
    texts, lines, rejects, seen = read(path, ["a", "b"], block_bytes=block_bytes)
    assert len(texts["a"]) == len(texts["b"]) == len(lines)
    assert len(lines) + len(rejects) == seen
    assert sorted({*lines, *(r["line"] for r in rejects)}) == sorted([*lines, *(r["line"] for r in rejects)])


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_json_lines_types_become_text(tmp_path: Path, name: str) -> None:
    rows = [
        {"user": 7, "item": "日本語", "x": 1.5},
        {"user": "u", "item": 12.0, "x": None},
        {"item": "only", "x": True, "user": 12345678901234567890},
        {"user": "u4", "x": float("nan")},
    ]
    path = write(tmp_path / name, "\n".join(json.dumps(row) for row in rows))
    texts, lines, rejects, _ = read(path, ["user", "item", "x"])
    assert texts == {
        "user": ["7", "u", "12345678901234567890", "u4"],
        "item": ["日本語", "12", "only", ""],
        "x": ["1.5", "", "true", "nan"],
    }
    assert (lines, rejects) == ([1, 2, 3, 4], [])


def test_json_lines_rejects_name_line_and_column(tmp_path: Path) -> None:
    content = (
        b'{"user": "u1", "item": "a"}\n'
        b"not json\n"
        b"\n"
        b"[1, 2]\n"
        b'{"user": {"id": 3}, "item": "b"}\n'
        b'{"user": "\xff", "item": "b"}\n'
        b'{"user": "\\ud800", "item": "b"}\n'
        b'{"user": "u2", "item": "c"}, {"user": "u3", "item": "d"}\n'
        b'{"user": "u4", "item": "\\ud83c\\udfa7"}\n'
    )
    texts, lines, rejects, seen = read(write(tmp_path / "a.jsonl", content), ["user", "item"])
    assert texts == {"user": ["u1", "u4"], "item": ["a", "🎧"]}
    assert (lines, seen) == ([1, 9], 8)
    assert sorted((r["line"], r["column"], r["reason"]) for r in rejects) == [
        (2, "", "malformed_json"),
        (4, "", "malformed_json"),
        (5, "user", "not_a_single_value"),
        (6, "", "bad_utf8"),
        (7, "", "bad_utf8"),
        (8, "", "malformed_json"),
    ]


def test_two_objects_on_one_line_are_no_row_even_where_a_broken_line_evens_the_count(tmp_path: Path) -> None:
    content = '{"a": "x}\n{", "b": "1"}\n{"a": "2", "b": "3"},{"a": "4", "b": "5"}\n{"a": "6", "b": "7"}\n'
    texts, _, rejects, _ = read(write(tmp_path / "a.jsonl", content), ["a", "b"])
    assert texts == {"a": ["6"], "b": ["7"]}
    assert [r["line"] for r in rejects] == [1, 2, 3]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_list_cells_are_joined_where_lists_are_allowed(tmp_path: Path, name: str) -> None:
    rows = [{"item": "a", "tags": ["x", "y:2"]}, {"item": "b", "tags": []}]
    path = tmp_path / name
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        write(path, "\n".join(json.dumps(row) for row in rows) + '\n{"item": "c", "tags": {"z": 0.5}}')
    texts, _, rejects, _ = read(path, ["item", "tags"], lists=frozenset({"tags"}))
    assert texts["tags"][:2] == ['["x", "y:2"]', ""]
    assert texts["tags"][2:] in ([], ['{"z": 0.5}'])
    assert rejects == []
    _, _, rejects, _ = read(path, ["item", "tags"])
    assert {r["reason"] for r in rejects} == {"not_a_single_value"}


def test_parquet_types_become_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user": pa.array([1, None, 3], pa.int64()),
            "item": pa.array(["a", "б", None]).dictionary_encode(),
            "price": pa.array([1.5, 12.0, None]),
            "naive": pa.array([0, 1_500_000, None], pa.timestamp("us")),
            "zoned": pa.array([0, 1_500_000, None], pa.timestamp("us", "Europe/Paris")),
            "day": pa.array([0, 1, None], pa.date32()),
            "bytes": pa.array([b"ok", b"\xff", b""]),
        }
    )
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path)
    texts, lines, rejects, seen = read(path, ["user", "item", "price", "naive", "zoned", "day"])
    assert texts["user"] == ["1", "", "3"]
    assert texts["item"] == ["a", "б", ""]
    assert texts["price"] == ["1.5", "12", ""]
    assert texts["naive"] == ["1970-01-01 00:00:00.000000", "1970-01-01 00:00:01.500000", ""]
    assert texts["zoned"] == ["1970-01-01 01:00:00.000000+0100", "1970-01-01 01:00:01.500000+0100", ""]
    assert [text[:10] for text in texts["day"]] == ["1970-01-01", "1970-01-02", ""]
    assert (lines, rejects, seen) == ([1, 2, 3], [], 3)
    texts, lines, rejects, _ = read(path, ["bytes"])
    assert (texts["bytes"], lines) == (["ok", ""], [1, 3])
    assert [(r["line"], r["column"], r["reason"]) for r in rejects] == [(2, "bytes", "bad_utf8")]


def test_parquet_strings_that_are_not_utf8_are_rejected(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(2, pa.array([0, 1, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff\xfe"))
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"user": bad}), path)
    texts, _, rejects, _ = read(path, ["user"])
    assert texts["user"] == ["a"]
    assert [(r["line"], r["reason"]) for r in rejects] == [(2, "bad_utf8")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "the file is empty; expected a header and rows"),
        ("a.jsonl", "", "the file is empty; expected rows"),
        ("a.csv.gz", "", "the file is empty"),
        ("a.csv", "\n\n", "blank lines only"),
        ("a.csv", "usr,item\nu,a\n", r"no column 'user' \(did you mean 'usr'\?\); the file has: usr, item"),
        ("a.csv", "user;item\nu;a\n", "look separated by ';': set data.log.delimiter"),
        ("a.jsonl", '{"usr": 1, "item": 2}\n', r"no column 'user' \(did you mean 'usr'\?\)"),
        ("a.csv", "user,user,item\n", "column 'user' stands twice"),
        ("a.csv", "user,item".encode("utf-16"), "UTF-16"),
        ("a.csv.gz", b"", "empty"),
        ("a.parquet", b"PAR1 and then nothing", "not a readable Parquet file"),
        ("a.xlsx", b"", r"cannot tell the format from the name; expected one of \.csv"),
        ("a.csv", b"user\xff,item\nu,a\n", "line 1: cannot read the header"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as caught:
        read(path, ["user", "item"])
    assert str(path) in str(caught.value)


def test_damaged_gzip_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"user,item\n" + b"u,a\n" * 10_000)[:-20])
    with pytest.raises(DataError, match="damaged or cut short"):
        read(path, ["user", "item"])
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="damaged or cut short"):
        read(path, ["user", "item"])
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "absent.csv", ["user"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder holds no data files"):
        read(tmp_path / "empty", ["user"])


def test_a_file_without_line_ends_is_refused_before_it_fills_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfmi.data.reading.formats.LONGEST_LINE_BYTES", 100)
    path = write(tmp_path / "a.csv", "user,item\n" + "x" * 1000)
    with pytest.raises(DataError, match="without a line end"):
        read(path, ["user", "item"], block_bytes=50)


class TestRejects:
    def test_the_file_appears_at_the_end_also_when_the_block_raises(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "rejects.jsonl"
        rejects = Rejects("log.csv", path)
        with contextlib.suppress(RuntimeError), rejects:
            rejects.add(3, "user", "empty_user", "")
            assert not path.exists()
            raise RuntimeError
        assert json.loads(path.read_text(encoding="utf-8")) == {
            "file": "log.csv",
            "line": 3,
            "column": "user",
            "reason": "empty_user",
            "expected": REASONS["empty_user"],
            "value": "",
        }
        assert [file.name for file in path.parent.iterdir()] == ["rejects.jsonl"]

    def test_csv_by_suffix_with_long_values_cut(self, tmp_path: Path) -> None:
        path = tmp_path / "rejects.csv"
        with Rejects("log.csv", path) as rejects:
            rejects.add(2, "item", "empty_item", 'a "quoted"\nvalue')
            rejects.add(3, "", "bad_utf8", "x" * 500)
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows[0] == {
            "file": "log.csv",
            "line": "2",
            "column": "item",
            "reason": "empty_item",
            "expected": "an item id",
            "value": 'a "quoted"\nvalue',
        }
        assert rows[1]["value"] == "x" * 200
        assert rejects.counts == {"empty_item": 1, "bad_utf8": 1}

    @pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
    def test_no_cell_of_csv_is_a_formula_for_a_spreadsheet(self, tmp_path: Path, value: str) -> None:
        path = tmp_path / "rejects.csv"
        with Rejects("=log.csv", path) as rejects:
            rejects.add(2, value, "empty_item", value)
        with path.open(encoding="utf-8", newline="") as stream:
            (row,) = csv.DictReader(stream)
        assert (row["file"], row["column"], row["value"]) == ("'=log.csv", f"'{value}", f"'{value}")
        with Rejects("log.csv", tmp_path / "rejects.jsonl") as rejects:
            rejects.add(2, "", "empty_item", value)
        assert json.loads((tmp_path / "rejects.jsonl").read_text())["value"] == value

    def test_the_umask_decides_who_may_read_it(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            with Rejects("log.csv", tmp_path / "rejects.jsonl") as rejects:
                rejects.add(2, "", "empty_item", "")
        finally:
            os.umask(before)
        assert (tmp_path / "rejects.jsonl").stat().st_mode & 0o777 == 0o640

    @pytest.mark.parametrize("rows", [1_000, 100_000])
    def test_without_space_one_line_names_the_file_and_nothing_half_written_stays(self, tmp_path: Path, rows: int) -> None:
        path = tmp_path / "rejects.jsonl"
        path.write_text("of an earlier run")

        def reject_all() -> None:
            with Rejects("l.csv", path) as rejects:
                for line in range(rows):
                    rejects.add(line, "user", "empty_user", "")

        with room_for(20_000), pytest.raises(StorageError, match=r"rejects\.jsonl: .*no space left: at least .* wanted") as caught:
            reject_all()
        assert "\n" not in str(caught.value)
        assert [file.name for file in tmp_path.iterdir()] == ["rejects.jsonl"]
        assert path.read_text() == "of an earlier run"

    def test_a_clean_run_removes_the_file_of_an_earlier_one(self, tmp_path: Path) -> None:
        path = tmp_path / "rejects.jsonl"
        path.write_text("old")
        with Rejects("log.csv", path):
            pass
        assert not path.exists()

    def test_too_many_rejects_stop_with_counts_and_examples(self, tmp_path: Path) -> None:
        with Rejects("log.csv", tmp_path / "r.jsonl") as rejects:
            for line in range(2, 8):
                rejects.add(line, "time", "not_a_time", f"noon {line}")
            rejects.stop_if_too_many(rows=100, max_share=0.06)
            with pytest.raises(DataError) as caught:
                rejects.stop_if_too_many(rows=100, max_share=0.05)
        message = str(caught.value)
        assert "6 of 100 rows (6.0%)" in message
        assert "not_a_time: 6 (first: line 2, column 'time': 'noon 2'" in message
        assert str(tmp_path / "r.jsonl") in message
