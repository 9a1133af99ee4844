"""Rows that hold lists and objects: one row of the table for each event."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from tfmi.config import LogColumns, LogConfig
from tfmi.core.errors import DataError
from tfmi.data.inspecting.guessing import guess_log
from tfmi.data.reading.log import read_log
from tfmi.data.reading.rows import ListText
from tfmi.data.reading.shapes import list_of_text

SESSIONS: list[dict[str, Any]] = [
    {"session": 1, "who": {"id": "u1"}, "events": [{"aid": 7, "ts": 1000, "type": "clicks"}, {"aid": 8.0, "ts": 2000, "type": "carts"}]},
    {"session": 2, "who": {"id": "u2"}, "events": []},
    {"session": 3, "who": {"id": "u3"}, "events": [{"aid": 9, "ts": 3000, "type": "clicks"}]},
]
LISTS: list[dict[str, Any]] = [{"user": "u", "items": ["a", "b"], "times": [1, 2]}, {"user": "v", "items": ["c"], "times": [3]}]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def events(path: Path, rejects: list[tuple[int, str]] | None = None, **config: Any) -> list[tuple[str, str, float | None]]:
    table = read_log(path, LogConfig(max_reject_share=1.0, **config), path.parent / "rejects.jsonl")
    if rejects is not None and (path.parent / "rejects.jsonl").exists():
        records = map(json.loads, (path.parent / "rejects.jsonl").read_text().splitlines())
        rejects += [(record["line"], record["reason"]) for record in records]
    times = [None] * len(table) if table.timestamps is None else table.timestamps.tolist()
    return [(table.user_ids[u], table.item_ids[i], t) for u, i, t in zip(table.user_codes, table.item_codes, times, strict=True)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_nested_events(tmp_path: Path, name: str) -> None:
    columns = LogColumns(user="who.id", item="events[].aid", time="events[].ts", event="events[].type")
    path = written(tmp_path / name, SESSIONS)
    assert events(path, columns=columns, time_unit="milliseconds") == [("u1", "7", 1.0), ("u1", "8", 2.0), ("u3", "9", 3.0)]
    assert len(events(path, columns=columns, event_types=["clicks"], time_unit="milliseconds")) == 2


MESSAGES = ['{"user": {"id": "u1"}, "item": 7.0, "at": 5}', '{"item": 8, "user": {"id": "u2"}, "at": 6}']


def test_messages_that_stand_as_json_in_a_text_cell(tmp_path: Path) -> None:
    columns = LogColumns(user="value.user.id", item="value.item", time="value.at")
    quoted = "".join('{},"{}"\n'.format(place, text.replace('"', '""')) for place, text in enumerate(MESSAGES))
    (tmp_path / "a.csv").write_text("offset,value\n" + quoted + '2,plain\n3,"[1]"\n4,\n')
    lines = written(tmp_path / "a.jsonl", [{"value": text} for text in MESSAGES])
    bytes_of_messages = pa.table({"value": pa.array([text.encode() for text in MESSAGES], pa.binary())})
    pyarrow.parquet.write_table(bytes_of_messages, tmp_path / "a.parquet")
    for path in (lines, tmp_path / "a.parquet"):
        assert events(path, columns=columns) == [("u1", "7", 5.0), ("u2", "8", 6.0)], path.suffix
    rejects: list[tuple[int, str]] = []
    assert events(tmp_path / "a.csv", rejects, columns=columns) == [("u1", "7", 5.0), ("u2", "8", 6.0)]
    assert rejects == [(4, "not_an_object"), (5, "not_an_object"), (6, "empty_user")]
    with pytest.raises(DataError, match=r"no column 'item' \(did you mean 'value.item'\?\)"):
        events(lines, columns=LogColumns(user="value.user.id", item="item", time=None))


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table"])
@pytest.mark.parametrize("read", [read_log, guess_log])
def test_a_table_in_one_object_is_told(tmp_path: Path, orient: Any, read: Callable[..., object]) -> None:
    path = tmp_path / "log.json"
    pd.DataFrame({"user": ["u", "v"], "item": ["a", "b"]}).to_json(path, orient=orient)
    with pytest.raises(DataError, match=r"to_json\(FILE, orient='records', lines=True\)"):
        read(path, LogConfig(columns=LogColumns(time=None)), *([tmp_path / "rejects.jsonl"] if read is read_log else []))


def test_keys_of_a_map_of_parquet(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.string())
    rows = pa.table({"user": ["u", "v"], "properties": pa.array([[("sku", "a"), ("color", "red")], [("sku", "b")]], kind)})
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet")
    columns = LogColumns(user="user", item="properties.sku", time=None)
    assert events(tmp_path / "a.parquet", columns=columns) == [("u", "a", None), ("v", "b", None)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_missing_column_suggests_the_path_to_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no column 'aid' \(did you mean 'events\[\]\.aid'\?\)"):
        events(written(tmp_path / name, SESSIONS), columns=LogColumns(user="session", item="aid", time=None))


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_lists_go_side_by_side(tmp_path: Path, name: str) -> None:
    columns = LogColumns(item="items[]", time="times[]")
    assert events(written(tmp_path / name, LISTS), columns=columns) == [("u", "a", 1.0), ("u", "b", 2.0), ("v", "c", 3.0)]
    assert events(tmp_path / name, columns=LogColumns(item="items[]", time=None)) == [("u", "a", None), ("u", "b", None), ("v", "c", None)]
    with pytest.raises(DataError, match=r"for a row per element of a list give the column as NAME\[\]"):
        read_log(tmp_path / name, LogConfig(columns=LogColumns(item="items", time=None)), tmp_path / "r.jsonl")


def test_lists_of_other_lengths_and_bad_elements_are_rejected(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"user": "u", "items": ["a", "b"], "times": [1]},
        {"user": "u", "items": ["a", {"x": 1}, None, "d"], "times": [1, 2, 3, 4]},
        {"user": "u", "items": "a b", "times": 5},
        {"user": "u", "items": None, "times": []},
    ]
    rejects: list[tuple[int, str]] = []
    columns = LogColumns(item="items[]", time="times[]")
    assert events(written(tmp_path / "a.jsonl", rows), rejects, columns=columns) == [("u", "a", 1.0), ("u", "d", 4.0)]
    assert sorted(rejects) == [(1, "lists_differ"), (2, "empty_item"), (2, "not_a_single_value"), (3, "not_a_list")]


@pytest.mark.parametrize("cell", ["a b  c", '"[""a"", ""b"", ""c""]"', "[a b c]"])
def test_texts_between_blanks_and_lists_in_brackets(tmp_path: Path, cell: str) -> None:
    (tmp_path / "a.csv").write_text(f"user,items\nu,{cell}\nv,d\nw,\n")
    expected = [("u", "a", None), ("u", "b", None), ("u", "c", None), ("v", "d", None)]
    assert events(tmp_path / "a.csv", columns=LogColumns(item="items[]", time=None)) == expected


def test_impressions_with_their_outcome(tmp_path: Path) -> None:
    (tmp_path / "behaviors.tsv").write_text(
        "1\tU1\t11/11/2019 9:05:58 AM\tN5 N6\tN1-1 N-2-0\n2\tU2\t11/12/2019 6:11:30 PM\t\tN3-0\n3\tU2\t11/12/2019 6:11:30 PM\t\tN4\n"
    )
    config: dict[str, Any] = {
        "header": False,
        "column_names": ["impression", "user", "time", "history", "shown"],
        "columns": LogColumns(item="shown[].item", event="shown[].label"),
        "element_fields": ["item", "label"],
        "time_format": "%m/%d/%Y %I:%M:%S %p",
    }
    rejects: list[tuple[int, str]] = []
    assert [(user, item) for user, item, _ in events(tmp_path / "behaviors.tsv", rejects, **config)] == [
        ("U1", "N1"),
        ("U1", "N-2"),
        ("U2", "N3"),
    ]
    assert rejects == [(3, "bad_element")]
    assert events(tmp_path / "behaviors.tsv", event_types=["1"], **config) == [("U1", "N1", 1573463158.0)]


def test_a_column_that_is_called_like_a_path_is_that_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user.id,item[],time\nu,a b,1\n")
    assert events(tmp_path / "a.csv", columns=LogColumns(user="user.id", item="item[]")) == [("u", "a b", 1.0)]


def test_lists_within_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a list within a list"):
        events(written(tmp_path / "a.jsonl", LISTS), columns=LogColumns(item="items[].x[].y", time=None))


def test_list_of_text() -> None:
    assert list_of_text("a;b; ;c", ListText(";")) == ["a", "b", "c"]
    assert list_of_text(" [1, 2] ", ListText()) == [1, 2]
    assert list_of_text("[ 1  2]", ListText()) == ["1", "2"]
    with pytest.raises(ValueError, match="double quotes"):
        list_of_text("['a', 'b']", ListText())
