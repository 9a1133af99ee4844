"""Files as people have them: several as one table, packed, encoded and called in many ways."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tfmi.config import CatalogueColumns, FileConfig, LogColumns, LogConfig
from tfmi.core.errors import DataError
from tfmi.data.reading.log import find_log_files, read_log, read_log_files
from tfmi.data.reading.sources import table_source
from tfmi.data.tables import EventTable

ROWS = [("u1", "a", "10"), ("u2", "b", "20"), ("u1", "c", "30"), ("u3", "ä", "40")]
CSV = "user,item,time\n" + "".join(f"{','.join(row)}\n" for row in ROWS)
JSONL = "".join(json.dumps({"user": user, "item": item, "time": int(time)}) + "\n" for user, item, time in ROWS)


def events(path: Path | str, **config: Any) -> list[tuple[str, str, float]]:
    table = read_log(path, LogConfig(**config), Path(str(path).split("*", maxsplit=1)[0]).parent / "out" / "rejects.jsonl")
    return of(table)


def of(table: EventTable) -> list[tuple[str, str, float]]:
    times = np.zeros(len(table)) if table.timestamps is None else table.timestamps
    return [(table.user_ids[u], table.item_ids[i], float(t)) for u, i, t in zip(table.user_codes, table.item_codes, times, strict=True)]


EXPECTED = [(user, item, float(time)) for user, item, time in ROWS]


def write_parquet(path: Path, rows: list[tuple[str, str, str]], **extra: Any) -> Path:
    columns = {"user": [row[0] for row in rows], "item": [row[1] for row in rows], "time": [int(row[2]) for row in rows], **extra}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


class TestSeveralFiles:
    @pytest.mark.parametrize("form", ["folder", "pattern", "log.parquet inside", "log.parquet itself"])
    def test_sparks_folder_is_one_log(self, tmp_path: Path, form: str) -> None:
        folder = tmp_path / "log.parquet" if form.startswith("log") else tmp_path / "table"
        write_parquet(folder / "part-00002-x.snappy.parquet", ROWS[:1])
        write_parquet(folder / "part-00010-x.snappy.parquet", ROWS[1:])
        for marker in ("_SUCCESS", "._SUCCESS.crc", "_metadata", "notes.txt"):
            (folder / marker).write_text("x")
        path = {"pattern": folder / "part-*.parquet", "log.parquet inside": tmp_path}.get(form, folder)
        assert of(read_log_files(path, LogConfig(), tmp_path / "out").events) == EXPECTED

    def test_folders_of_partitions_are_columns(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "t" / "day=1970-01-02" / "kind=view%20it" / "p.parquet", ROWS[:2])
        write_parquet(tmp_path / "t" / "day=1970-01-03" / "kind=__HIVE_DEFAULT_PARTITION__" / "p.parquet", ROWS[2:])
        config = {"columns": LogColumns(time="day", event="kind")}
        assert [(item, time) for _, item, time in events(tmp_path / "t", **config)] == [
            ("a", 86400.0),
            ("b", 86400.0),
            ("c", 172800.0),
            ("ä", 172800.0),
        ]
        assert len(events(tmp_path / "t" / "day=*" / "*" / "*.parquet", **config)) == 4
        assert len(events(tmp_path / "t", event_types=["view it"], **config)) == 2

    def test_files_of_months_beside_a_catalogue(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for month, rows in (("2024-2", ROWS[:2]), ("2024-11", ROWS[2:])):
            (tmp_path / f"{month}.csv").write_text("user,item,time\n" + "".join(f"{','.join(row)}\n" for row in rows))
        (tmp_path / "catalogue.csv").write_text("item,brand\na,X\nb,Y\nc,Z\n")
        with caplog.at_level(logging.INFO, logger="tfmi"):
            tables = read_log_files(tmp_path, LogConfig(), tmp_path / "out")
        assert of(tables.events) == EXPECTED
        assert tables.items is not None
        assert tables.items.item_ids == ["a", "b", "c"]
        assert "2 data files are read as one log" in caplog.text

    def test_rejects_name_the_file_and_its_own_line(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("user,item,time\nu,a,1\n")
        (tmp_path / "b.csv").write_text("item,user,time\na,u,2\na,,3\n")
        table = read_log(tmp_path / "?.csv", LogConfig(max_reject_share=1.0), tmp_path / "out" / "r.jsonl")
        assert of(table) == [("u", "a", 1.0), ("u", "a", 2.0)]
        record = json.loads((tmp_path / "out" / "r.jsonl").read_text())
        assert (record["file"], record["line"]) == (str(tmp_path / "b.csv"), 3)

    @pytest.mark.parametrize(
        ("second", "message"),
        [
            ("user,item\nu,b\n", r"b\.csv: its columns differ from those of .*a\.csv: it lacks time"),
            ("user,item,time,extra\nu,b,1,2\n", r"b\.csv: its columns differ .* has extra besides"),
        ],
    )
    def test_other_columns_are_refused_by_the_first_file_that_differs(self, tmp_path: Path, second: str, message: str) -> None:
        (tmp_path / "a.csv").write_text("user,item,time\nu,a,1\n")
        (tmp_path / "b.csv").write_text(second)
        (tmp_path / "c.csv").write_text("user\n")
        with pytest.raises(DataError, match=message):
            events(tmp_path / "*.csv")

    def test_other_types_and_formats_are_refused(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "a.parquet", ROWS)
        write_parquet(tmp_path / "b.parquet", ROWS, time=pa.array([1, 2, 3, 4], pa.timestamp("ms")))
        with pytest.raises(DataError, match=r"b\.parquet: column 'time' is of another type"):
            events(tmp_path / "*.parquet")
        (tmp_path / "c.csv").write_text(CSV)
        with pytest.raises(DataError, match=r"c\.csv: is of another format than .*a\.parquet"):
            events(tmp_path / "[ac].*")

    def test_numbers_with_gaps_in_one_file_join_those_without(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "a.parquet", ROWS[:2], item=[7, 8])
        write_parquet(tmp_path / "b.parquet", ROWS[:2], item=[7.0, None])
        table = read_log(tmp_path / "*.parquet", LogConfig(max_reject_share=1.0), tmp_path / "r.jsonl")
        assert table.item_ids == ["7", "8"]
        assert table.report["rejected_by_reason"] == {"empty_item": 1}

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no file matches this pattern"):
            events(tmp_path / "x*.csv")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="holds no log"):
            find_log_files(tmp_path / "empty", LogConfig())
        with pytest.raises(DataError, match="no such file or folder"):
            find_log_files(tmp_path / ("x" * 300), LogConfig())

    def test_a_suffix_that_says_little_does_not_rival_a_clear_one(self, tmp_path: Path) -> None:
        for name in ("log.csv", "log.txt", "items.json", "items.csv"):
            (tmp_path / name).touch()
        assert find_log_files(tmp_path, LogConfig())[:2] == (tmp_path / "log.csv", tmp_path / "items.csv")


class TestFormats:
    @pytest.mark.parametrize("name", ["log.csv", "log.dat", "log.txt", "log.jsonl", "log.json"])
    @pytest.mark.parametrize("packed", ["", ".gz", ".bz2", ".zst", ".zip"])
    def test_packed_in_every_way(self, tmp_path: Path, name: str, packed: str) -> None:
        content = (JSONL if "json" in name else CSV).encode()
        path = tmp_path / f"{name}{packed}"
        if packed == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("folder/", "")
                archive.writestr("folder/inner.csv", content)
                archive.writestr("__MACOSX/._inner.csv", "x")
        elif packed == ".zst":
            with pa.CompressedOutputStream(str(path), "zstd") as stream:
                stream.write(content)
        else:
            path.write_bytes({".gz": gzip.compress(content), ".bz2": bz2.compress(content)}.get(packed, content))
        assert events(path) == EXPECTED

    def test_a_zip_file_says_its_format_by_its_member(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "download.zip", "w") as archive:
            archive.writestr("a.jsonl", JSONL)
        assert events(tmp_path / "download.zip") == EXPECTED
        with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
            archive.writestr("a.csv", CSV)
            archive.writestr("b.csv", CSV)
        with pytest.raises(DataError, match=r"one file in it, found 2 \(a\.csv, b\.csv\)"):
            events(tmp_path / "two.zip")

    @pytest.mark.parametrize("packed", [".bz2", ".zst", ".zip"])
    def test_damaged_archives_are_refused(self, tmp_path: Path, packed: str) -> None:
        path = tmp_path / f"log.csv{packed}"
        if packed == ".zst":
            with pa.CompressedOutputStream(str(path), "zstd") as stream:
                stream.write(CSV.encode() * 100)
        else:
            path.write_bytes(bz2.compress(CSV.encode()))
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(DataError, match="damaged or cut short"):
            events(path)

    def test_the_format_may_be_said(self, tmp_path: Path) -> None:
        (tmp_path / "u.data").write_text(CSV.replace(",", "\t"))
        with pytest.raises(DataError, match=r"set data\.log\.format"):
            events(tmp_path / "u.data")
        assert events(tmp_path / "u.data", format="tsv") == EXPECTED
        (tmp_path / "export").write_text(JSONL)
        assert events(tmp_path / "export", format="jsonl") == EXPECTED

    @pytest.mark.parametrize(("name", "delimiter"), [("a.dat", "::"), ("a.txt", "\t"), ("a.txt", "|"), ("a.dat", ";")])
    def test_the_delimiter_of_a_vague_suffix_is_that_of_the_first_line(self, tmp_path: Path, name: str, delimiter: str) -> None:
        (tmp_path / name).write_text(CSV.replace(",", delimiter))
        assert events(tmp_path / name) == EXPECTED

    @pytest.mark.parametrize("block_bytes", [9, 1 << 20])
    def test_delimiters_of_several_characters_and_quotes(self, tmp_path: Path, block_bytes: int) -> None:
        from tests.data.reading.test_reading import read

        (tmp_path / "a.dat").write_text('1::"x::y"::z\n2::a:b::\x1fc\n3::only two\n4::"two\nlines::"::q\n')
        texts, lines, rejects, _ = read(tmp_path / "a.dat", ["2", "3"], delimiter="::", header=False, block_bytes=block_bytes)
        assert texts == {"2": ["x::y", "a:b", "two\nlines::"], "3": ["z", "\x1fc", "q"]}
        assert lines == [1, 2, 4]
        assert [(r["line"], r["reason"], r["value"]) for r in rejects] == [(3, "wrong_field_count", "3::only two")]

    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "utf-32"])
    def test_encodings(self, tmp_path: Path, encoding: str) -> None:
        (tmp_path / "log.csv").write_bytes(CSV.encode(encoding))
        assert events(tmp_path / "log.csv", encoding=encoding) == EXPECTED

    def test_bytes_that_an_encoding_lacks_are_rejected(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_bytes(CSV.encode() + b"u9,\x81,3\n")
        table = read_log(tmp_path / "log.csv", LogConfig(encoding="cp1252", max_reject_share=1.0), tmp_path / "r.jsonl")
        assert table.report["rejected_by_reason"] == {"bad_utf8": 1}
        (tmp_path / "log.csv").write_bytes(CSV.encode() + b"\xff")
        with pytest.raises(DataError, match=r"not text in utf-16.*data\.log\.encoding"):
            events(tmp_path / "log.csv", encoding="utf-16")

    def test_line_ends_of_carriage_returns_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text(CSV.replace("\n", "\r"), newline="")
        with pytest.raises(DataError, match=r"a carriage return alone \(CR\).*tr "):
            events(tmp_path / "log.csv")

    def test_carriage_returns_after_a_header_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("user,item,time\n" + "u,a,1\r" * 9, newline="")
        with pytest.raises(DataError, match=r"found 19; it holds carriage returns \(CR\)"):
            events(tmp_path / "log.csv")

    @pytest.mark.parametrize("indent", [None, 1])
    @pytest.mark.parametrize("block_bytes", [1, 20, 1 << 20])
    def test_an_array_of_objects(self, tmp_path: Path, indent: int | None, block_bytes: int) -> None:
        from tests.data.reading.test_reading import read

        rows = [{"a": "},{", "b": 1}, {"a": "]", "b": [2]}, {"b": 3.0, "a": "é"}, 4, {"a": "z", "b": None}]
        (tmp_path / "a.json").write_text(json.dumps(rows, indent=indent))
        texts, lines, rejects, seen = read(tmp_path / "a.json", ["a", "b"], block_bytes=block_bytes)
        assert texts == {"a": ["},{", "é", "z"], "b": ["1", "3", ""]}
        assert (lines, seen) == ([1, 3, 5], 5)
        assert sorted((r["line"], r["reason"]) for r in rejects) == [(2, "not_a_single_value"), (4, "malformed_json")]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('[{"user": 1}', "element 1 of the array: the array does not end"),
            ('[{"user": 1} {"user": 2}]', "expected ',' or ']' after it, got '{'"),
            ('[{"user": 1}] x', "text after the end of the array"),
            ('[{"user": 1}, {"user": }]', "element 2 of the array: Expecting value"),
        ],
    )
    def test_broken_arrays_are_refused(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "log.json").write_text(content)
        with pytest.raises(DataError, match=message):
            events(tmp_path / "log.json", columns=LogColumns(item="user", time=None))

    def test_lines_of_a_python_dict_name_the_cause(self, tmp_path: Path) -> None:
        (tmp_path / "reviews.json").write_text("{'user': 'u', 'item': 'a', 'time': 1}\n" + JSONL)
        with pytest.raises(DataError, match="this is a Python dict"):
            events(tmp_path / "reviews.json")


class TestHeaderless:
    CONTENT = "71,15,1500019189\n71,13,1500021520\n29,11,1500021521\n"

    def test_a_first_line_of_data_is_named_as_such(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text(self.CONTENT)
        with pytest.raises(DataError, match=r"looks like data: '71' is a value.*set data\.log\.header: false") as caught:
            events(tmp_path / "log.csv")
        assert "Name the log's column" not in str(caught.value)

    @pytest.mark.parametrize(
        "config",
        [
            {"columns": LogColumns(user="1", item="2", time="3")},
            {"column_names": ["user", "item", "time"]},
            {"column_names": ["user", "item"], "columns": LogColumns(time="3")},
        ],
    )
    def test_columns_by_number_or_name(self, tmp_path: Path, config: dict[str, Any]) -> None:
        (tmp_path / "log.csv").write_text(self.CONTENT)
        assert [item for _, item, _ in events(tmp_path / "log.csv", header=False, **config)] == ["15", "13", "11"]

    def test_what_is_missing_is_told_with_the_first_row(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text(self.CONTENT)
        with pytest.raises(DataError, match="no column 0; the file has no header and 3 columns, numbered from 1; the first row is: 71, 15"):
            events(tmp_path / "log.csv", header=False, columns=LogColumns(user="0", item="1", time="2"))
        with pytest.raises(DataError, match=r"no column 'user'.*Give the column by its number, from 1"):
            events(tmp_path / "log.csv", header=False)
        with pytest.raises(DataError, match=r"line 1 has 3 cells, .* 4 names"):
            events(tmp_path / "log.csv", header=False, column_names=["a", "b", "c", "d"])

    def test_naming_the_values_of_the_first_row_is_warned_of(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "log.csv").write_text(self.CONTENT)
        events(tmp_path / "log.csv", columns=LogColumns(user="71", item="15", time="1500019189"))
        assert "its first row is lost" in caplog.text

    @pytest.mark.parametrize("header", ["0,1,2", "user,item,time", "1,2,time"])
    def test_names_that_count_the_columns_are_names(self, tmp_path: Path, header: str, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "log.csv").write_text(f"{header}\n{self.CONTENT}")
        user, item, time = header.split(",")
        assert len(events(tmp_path / "log.csv", columns=LogColumns(user=user, item=item, time=time))) == 3
        assert ("looks like data" in caplog.text) == (header == "1,2,time")


def test_tables_beside_a_log_are_written_in_their_own_way(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes("user;item;time\nu;1;1\nu;2;2\n".encode("latin-1"))
    (tmp_path / "items.csv").write_bytes("item;title;price\n1;Käse;1.234,5\n2;Brot;7\n".encode("latin-1"))
    columns = CatalogueColumns(numbers=["price"])
    config = LogConfig(delimiter=";", encoding="latin-1", decimal=",", catalogue_columns=columns)
    items = read_log_files(tmp_path, config, tmp_path / "out").items
    assert items is not None
    assert items.titles == ["Käse", "Brot"]
    np.testing.assert_array_equal(items.numbers["price"], np.array([1234.5, 7], np.float32))
    (tmp_path / "items.csv").write_text("1|Käse|1234.5\n")
    own = FileConfig(delimiter="|", header=False, column_names=["item", "title", "price"])
    items = read_log_files(tmp_path, config.model_copy(update={"catalogue_file": own}), tmp_path / "out").items
    assert items is not None
    assert (items.titles, items.numbers["price"].tolist()) == (["Käse"], [1234.5])


def test_escapes_of_a_terminal_in_a_header_and_many_columns_are_shown_harmlessly(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("\x1b[31muser,item,time," + ",".join(f"c{n}" for n in range(500)) + "\n")
    with pytest.raises(DataError, match=r"\\x1b\[31muser") as caught:
        events(tmp_path / "log.csv")
    assert "\x1b" not in str(caught.value)
    assert "and 473 more" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("l" * 251 + ".csv")
    path.write_text(CSV)
    assert events(path) == EXPECTED


def test_options_that_a_format_does_not_have_are_said(tmp_path: Path) -> None:
    csv, parquet, lines = tmp_path / "log.csv", tmp_path / "log.parquet", tmp_path / "log.jsonl"
    csv.write_text("user,item\na,b\n", encoding="utf-8")
    lines.write_text('{"user": "a", "item": "b"}\n', encoding="utf-8")
    pyarrow.parquet.write_table(pa.table({"user": ["a"], "item": ["b"]}), parquet)
    options = FileConfig(header=False, delimiter=";", encoding="latin-1")
    assert table_source(csv, options).unused(options) == []
    assert table_source(lines, options).unused(options) == ["header", "delimiter"]
    assert table_source(parquet, options).unused(options) == ["header", "delimiter", "encoding"]
    assert table_source(parquet).unused(FileConfig()) == []


class TestOtherProgramsTables:
    def test_a_packed_part_without_a_byte_is_no_part(self, tmp_path: Path) -> None:
        folder = tmp_path / "log.csv"
        folder.mkdir()
        (folder / "part-00000.csv.gz").write_bytes(gzip.compress(b""))
        (folder / "part-00001.csv.gz").write_bytes(gzip.compress(CSV.encode()))
        assert events(folder) == EXPECTED

    @pytest.mark.parametrize(
        ("marker", "data", "kind"),
        [
            ("_delta_log/00000000000000000000.json", "", "Delta Lake"),
            (".hoodie/hoodie.properties", "", "Hudi"),
            ("metadata/v1.metadata.json", "", "Iceberg"),
            ("metadata/v1.metadata.json", "data", "Iceberg"),
        ],
    )
    def test_a_folder_with_versions_is_refused_and_its_files_are_read_by_a_pattern(
        self, tmp_path: Path, marker: str, data: str, kind: str
    ) -> None:
        table = tmp_path / "table"
        write_parquet(table / data / "part-00000.parquet", ROWS)
        (table / marker).parent.mkdir()
        (table / marker).write_text("{}")
        with pytest.raises(DataError, match=f"a table of {kind}, .* with a pattern"):
            find_log_files(table / data, LogConfig())
        assert events(table / data / "*.parquet") == EXPECTED

    def test_what_databases_write_for_null_is_no_id(self, tmp_path: Path) -> None:
        path = tmp_path / "log.tsv"
        path.write_text(CSV.replace(",", "\t") + "\\N\ta\t50\nu9\t\\N\t60\nu9\tNULL\t70\nu9\t\\Nx\t80\n")
        assert events(path, max_reject_share=0.5) == [*EXPECTED, ("u9", "NULL", 70.0), ("u9", "\\Nx", 80.0)]

    @pytest.mark.parametrize("ends", ["\n", "\r\n"])
    def test_a_spreadsheets_first_line_says_the_delimiter(self, tmp_path: Path, ends: str) -> None:
        path = tmp_path / "log.csv"
        path.write_bytes(("sep=;\n" + CSV.replace(",", ";") + "u;v\n").replace("\n", ends).encode())
        assert events(path, max_reject_share=0.5) == EXPECTED
        assert json.loads((tmp_path / "out" / "rejects.jsonl").read_text())["line"] == 7
