"""A user's own files: the outcome of everything that docs/data.md lists."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfmi.config import CatalogueColumns, LogColumns, LogConfig, validate_config
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.reading.encoding import EventTableBuilder
from tfmi.data.reading.events import EventReader
from tfmi.data.reading.log import find_log_files, read_catalogue, read_log, read_log_files, read_users
from tfmi.data.reading.rejects import Rejects
from tfmi.data.tables import EventTable


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def events_of(table: EventTable) -> list[tuple[str, str, float | None]]:
    times = [None] * len(table) if table.timestamps is None else table.timestamps.tolist()
    return [(table.user_ids[u], table.item_ids[i], t) for u, i, t in zip(table.user_codes, table.item_codes, times, strict=True)]


def rejected(folder: Path) -> list[tuple[int, str, str]]:
    lines = (folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    return [(record["line"], record["column"], record["reason"]) for record in map(json.loads, lines)]


def log(tmp_path: Path, *lines: str, catalogue: Any = None, with_profiles: bool = False, **config: Any) -> EventTable:
    config.setdefault("max_reject_share", 1.0)
    path = write(tmp_path / "log.csv", *lines)
    return read_log(path, LogConfig(**config), tmp_path / "rejects.jsonl", catalogue=catalogue, with_profiles=with_profiles)


class TestReadLog:
    def test_events_in_file_order_with_times(self, tmp_path: Path) -> None:
        table = log(tmp_path, "time,user,item", "10,u1,a", "1970-01-01T00:00:05Z,u2,b", "7,u1,b")
        assert events_of(table) == [("u1", "a", 10.0), ("u2", "b", 5.0), ("u1", "b", 7.0)]
        assert table.weights is None
        assert table.report["out_of_order"] == 1
        assert table.report["users_with_one_event"] == 1
        assert table.report["rejected"] == 0
        assert not (tmp_path / "rejects.jsonl").exists()

    def test_each_bad_row_goes_to_the_rejects_file(self, tmp_path: Path) -> None:
        columns = LogColumns(weight="weight")
        table = log(
            tmp_path,
            "user,item,time,weight",
            "u,a,1,1",
            ",a,1,1",
            "u, ,1,1",
            "u,a,,1",
            "u,a,soon,1",
            "u,a,inf,1",
            "u,a,1700000000000,1",
            "u,a,1,",
            "u,a,1,heavy",
            "u,a,1,nan",
            "u,a,1,-2",
            "u,a,1",
            "u,b,2,0.5",
            columns=columns,
        )
        assert rejected(tmp_path) == [
            (13, "", "wrong_field_count"),
            (3, "user", "empty_user"),
            (4, "item", "empty_item"),
            (5, "time", "empty_time"),
            (7, "time", "not_finite"),
            (6, "time", "not_a_time"),
            (8, "time", "time_out_of_range"),
            (9, "weight", "empty_number"),
            (10, "weight", "not_a_number"),
            (11, "weight", "not_finite"),
            (12, "weight", "not_positive"),
        ]
        assert events_of(table) == [("u", "a", 1.0), ("u", "b", 2.0)]
        assert table.weights is not None
        assert table.weights.dtype == np.float32
        assert table.weights.tolist() == [1.0, 0.5]
        assert table.report["rows"] == 13
        assert table.report["rejected"] == 11
        assert table.report["rejected_by_reason"]["not_finite"] == 2

    def test_milliseconds_are_refused_with_the_setting_to_change(self, tmp_path: Path) -> None:
        lines = ["user,item,time", *(f"u,i{n},{1_700_000_000_000 + n}" for n in range(5))]
        with pytest.raises(DataError, match=r"set data\.log\.time_unit"):
            log(tmp_path, *lines, max_reject_share=0.5)
        table = log(tmp_path, *lines, time_unit="milliseconds")
        assert table.timestamps is not None
        assert table.timestamps[1] == 1_700_000_000.001

    def test_exact_duplicates_are_dropped_and_counted_not_rejected(self, tmp_path: Path) -> None:
        lines = ["user,item,time", "u,a,1", "u,a,1", "v,a,1", "u,a,2", "u,a,1.0"]
        table = log(tmp_path, *lines)
        assert events_of(table) == [("u", "a", 1.0), ("v", "a", 1.0), ("u", "a", 2.0)]
        assert (table.report["duplicates_dropped"], table.report["rejected"]) == (2, 0)
        table = log(tmp_path, *lines, duplicates="keep")
        assert (len(table), table.report["duplicates_dropped"]) == (5, 0)

    def test_events_of_two_types_are_no_duplicates(self, tmp_path: Path) -> None:
        lines = ["user,item,time,kind", "u,a,1,view", "u,a,1,buy", "u,a,1,buy"]
        assert log(tmp_path, *lines, columns=LogColumns(event="kind")).report["duplicates_dropped"] == 1
        assert log(tmp_path, *lines).report["duplicates_dropped"] == 2

    def test_without_times_the_files_order_counts_and_nothing_is_a_duplicate(self, tmp_path: Path) -> None:
        table = log(tmp_path, "user,item", "u,b", "u,a", "u,b", columns=LogColumns(time=None))
        assert events_of(table) == [("u", "b", None), ("u", "a", None), ("u", "b", None)]
        assert table.report["duplicates_dropped"] == 0

    def test_other_event_types_are_left_out_before_they_are_checked(self, tmp_path: Path) -> None:
        lines = ["user,item,time,kind", "u,a,1,buy", ",,,view", "u,b,2,buy", "u,c,3,"]
        table = log(tmp_path, *lines, columns=LogColumns(event="kind"), event_types=["buy"])
        assert events_of(table) == [("u", "a", 1.0), ("u", "b", 2.0)]
        assert (table.report["other_event_types"], table.report["rejected"]) == (2, 0)

    def test_events_of_unknown_items_are_kept_and_counted_or_rejected(self, tmp_path: Path) -> None:
        catalogue = read_catalogue(write(tmp_path / "items.csv", "item", "a"), LogConfig(), tmp_path / "r.jsonl")
        lines = ["user,item,time", "u,a,1", "u,x,2"]
        table = log(tmp_path, *lines, catalogue=catalogue)
        assert (len(table), table.report["events_of_unknown_items"]) == (2, 1)
        table = log(tmp_path, *lines, catalogue=catalogue, unknown_items="reject")
        assert events_of(table) == [("u", "a", 1.0)]
        assert rejected(tmp_path) == [(3, "item", "unknown_item")]

    def test_a_newer_catalogue_may_lack_columns_but_not_the_ids(self, tmp_path: Path) -> None:
        config = LogConfig(catalogue_columns=CatalogueColumns(category="group", numbers=["price", "size"], vectors=["picture"]))
        path = write(tmp_path / "items.csv", "item,brand,size", "a,x,1", "b,y,2")
        with pytest.raises(DataError, match="no column 'group'"):
            read_catalogue(path, config, tmp_path / "r.jsonl")
        table = read_catalogue(path, config, tmp_path / "r.jsonl", may_lack_columns=True)
        assert (table.item_ids, table.brands, table.categories) == (["a", "b"], ["x", "y"], None)
        assert {name: list(values) for name, values in table.numbers.items()} == {"size": [1.0, 2.0]}
        assert not table.vectors
        with pytest.raises(DataError, match="no column 'item'"):
            read_catalogue(write(tmp_path / "none.csv", "sku", "a"), config, tmp_path / "r.jsonl", may_lack_columns=True)

    def test_ids_are_taken_as_they_are_written(self, tmp_path: Path) -> None:
        table = log(tmp_path, "user,item,time", " u,007,1", "u,7,1", "U,７,1")
        assert table.user_ids == [" u", "u", "U"]
        assert table.item_ids == ["007", "7", "７"]

    def test_too_many_rejects_stop_the_run_and_leave_the_file(self, tmp_path: Path) -> None:
        lines = ["user,item,time", *["u,a,1"] * 15, ",a,1", "u,,1"]
        with pytest.raises(DataError, match=r"2 of 17 rows \(11\.8%\)"):
            log(tmp_path, *lines, max_reject_share=0.1)
        assert rejected(tmp_path) == [(17, "user", "empty_user"), (18, "item", "empty_item")]
        assert len(log(tmp_path, *lines, max_reject_share=0.12, duplicates="keep")) == 15

    def test_nothing_left_is_an_error_with_the_reason(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no rows"):
            log(tmp_path, "user,item,time")
        with pytest.raises(DataError, match=r"no event is left: 0 of 1 rows were rejected and 1 are of other types"):
            log(tmp_path, "user,item,time,kind", "u,a,1,view", columns=LogColumns(event="kind"), event_types=["buy"])

    def test_a_missing_column_names_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no column 'user' \(did you mean 'users'\?\); the file has: users, item, time"):
            log(tmp_path, "users,item,time", "u,a,1")

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"columns": LogColumns(user="u")}, r"no column 'u'.*data\.log\.columns\.user$"),
            ({"columns": LogColumns(weight="w")}, r"no column 'w'.*data\.log\.columns\.weight$"),
            ({"columns": LogColumns(time="t")}, r"no column 't'.*data\.log\.columns\.time, or set data\.log\.columns\.time: null if"),
            (
                {"profile_columns": ["region"]},
                r"no column 'region'.*data\.log\.profile_columns must name the log's columns, or name a users",
            ),
            ({"profile_numbers": ["age"]}, r"no column 'age'.*data\.log\.profile_numbers must name the log's columns"),
        ],
    )
    def test_a_missing_column_names_its_setting(self, tmp_path: Path, config: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            log(tmp_path, "user,item,time", "u,a,1", with_profiles=True, **config)

    def test_profile_columns_of_a_log_without_times_take_the_first_value_given(self, tmp_path: Path) -> None:
        table = log(
            tmp_path,
            "user,item,region,age",
            "u,a,,",
            "v,a, north ,30",
            "u,b,south,41",
            "u,c,west,42",
            "w,c,,",
            columns=LogColumns(time=None),
            profile_columns=["region"],
            profile_numbers=["age"],
            with_profiles=True,
        )
        assert table.profiles is not None
        assert table.profiles.user_ids == ["u", "v", "w"]
        assert table.profiles.columns["region"] == ["south", "north", ""]
        np.testing.assert_array_equal(table.profiles.columns["age"], np.array([41, 30, np.nan], np.float32))

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_profile_columns_of_the_log_take_the_earliest_value_given(self, tmp_path: Path, newest_first: bool) -> None:
        rows = ["u,a,1,,", "v,a,2,north,30", "u,b,3,south,41", "u,c,4,west,42", "v,c,2,tie,31", "w,c,5,,"]
        rows = [rows[5], rows[3], rows[2], rows[1], rows[4], rows[0]] if newest_first else rows
        path = write(tmp_path / "log.csv", "user,item,time,region,age", *rows)
        config = LogConfig(profile_columns=["region"], profile_numbers=["age"])
        for block_bytes in (30, 1 << 20):
            reader, builder = EventReader(path, config, with_profile=True, block_bytes=block_bytes), EventTableBuilder(config)
            with Rejects(path, tmp_path / "rejects.jsonl") as rejects:
                for chunk in reader.chunks(rejects):
                    builder.add(chunk)
            profiles = builder.build({}).profiles
            assert profiles is not None
            found = dict(zip(profiles.user_ids, zip(profiles.columns["region"], profiles.columns["age"], strict=True), strict=True))
            assert (found["u"], found["v"], found["w"][0]) == (("south", 41.0), ("north", 30.0), "")
            assert np.isnan(found["w"][1])

    def test_counts_are_logged(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="tfmi"):
            log(tmp_path, "user,item,time", "u,a,2", "u,b,1", "u,b,1", ",b,1")
        messages = "\n".join(caplog.messages)
        assert "4 rows read, 1 rejected (empty_user 1)" in messages
        assert "2 events of 1 users and 2 items; 1 exact duplicates dropped, 1 times out of order, 0 users with one event" in messages

    def test_blocks_do_not_change_the_result(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(3)
        lines = ["user,item,time", *(f"u{u},i{i},{t}" for u, i, t in rng.integers(0, 30, (500, 3)))]
        whole = log(tmp_path, *lines)
        reader, builder = EventReader(tmp_path / "log.csv", LogConfig(), block_bytes=64), EventTableBuilder(LogConfig())
        chunks = 0
        with Rejects(tmp_path / "log.csv", tmp_path / "rejects.jsonl") as rejects:
            for chunk in reader.chunks(rejects):
                builder.add(chunk)
                chunks += 1
        blocks = builder.build({})
        assert chunks > 50
        assert events_of(whole) == events_of(blocks)
        assert whole.user_ids == blocks.user_ids
        assert blocks.report.items() <= whole.report.items()


class TestReadCatalogue:
    def test_all_columns(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "items.tsv",
            "item\ttitle\tcategory\tbrand\ttags\tprice",
            "a\tБотинки\tshoes\tNordlys\twarm|boots:2\t9.5",
            "b\t\t\t\t\t",
        )
        table = read_catalogue(path, LogConfig(catalogue_columns=CatalogueColumns(numbers=["price"])), tmp_path / "rejects.jsonl")
        assert table.item_ids == ["a", "b"]
        assert table.titles == ["Ботинки", ""]
        assert table.categories == ["shoes", ""]
        assert table.brands == ["Nordlys", ""]
        assert table.tags == [[("warm", 1.0), ("boots", 2.0)], []]
        np.testing.assert_array_equal(table.numbers["price"], np.array([9.5, np.nan], np.float32))

    def test_absent_default_columns_are_none_and_named_ones_are_required(self, tmp_path: Path) -> None:
        path = write(tmp_path / "items.csv", "item", "a")
        table = read_catalogue(path, LogConfig(), tmp_path / "rejects.jsonl")
        assert (table.titles, table.categories, table.brands, table.tags, dict(table.numbers)) == (None, None, None, None, {})
        for columns, name, setting in (
            (CatalogueColumns(item="sku"), "sku", "item$"),
            (CatalogueColumns(brand="maker"), "maker", "brand$"),
            (CatalogueColumns(numbers=["price"]), "price", "numbers must name"),
        ):
            with pytest.raises(DataError, match=rf"no column '{name}'.*data\.log\.catalogue_columns\.{setting}"):
                read_catalogue(path, LogConfig(catalogue_columns=columns), tmp_path / "rejects.jsonl")

    def test_a_column_set_to_none_is_not_read(self, tmp_path: Path) -> None:
        path = write(tmp_path / "items.csv", "item,tags", "a,bad:weight")
        table = read_catalogue(path, LogConfig(catalogue_columns=CatalogueColumns(tags=None)), tmp_path / "rejects.jsonl")
        assert table.tags is None

    def test_bad_rows_are_rejected_and_the_first_row_of_an_item_wins(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "items.csv",
            "item,title,tags,price",
            "a,first,x,1",
            ",empty,x,1",
            "b,bad tag,x:heavy,1",
            "c,bad number,x,cheap",
            "a,second,y,2",
            "b,good at last,x,1",
        )
        config = LogConfig(catalogue_columns=CatalogueColumns(numbers=["price"]), max_reject_share=1.0)
        table = read_catalogue(path, config, tmp_path / "rejects.jsonl")
        assert table.titles == ["first", "good at last"]
        assert sorted(rejected(tmp_path)) == [
            (3, "item", "empty_item"),
            (4, "tags", "bad_tag_weight"),
            (5, "price", "not_a_number"),
            (6, "item", "repeated_item"),
        ]
        assert table.report["rejected"] == 4

    def test_a_catalogue_without_a_good_row_is_refused(self, tmp_path: Path) -> None:
        config = LogConfig(max_reject_share=1.0)
        with pytest.raises(DataError, match="holds no rows"):
            read_catalogue(write(tmp_path / "items.csv", "item,title"), config, tmp_path / "rejects.jsonl")
        with pytest.raises(DataError, match="no row is left: all 1 were rejected"):
            read_catalogue(write(tmp_path / "items.csv", "item,title", ",t"), config, tmp_path / "rejects.jsonl")
        with pytest.raises(DataError, match="1 of 1 rows"):
            read_catalogue(write(tmp_path / "items.csv", "item,title", ",t"), LogConfig(), tmp_path / "rejects.jsonl")


def test_read_users(tmp_path: Path) -> None:
    path = write(tmp_path / "users.csv", "id,region,age", "u,north,30", "v,,", "u,south,31", "w,x,old")
    config = LogConfig(user_column="id", profile_columns=["region"], profile_numbers=["age"], max_reject_share=0.6)
    table = read_users(path, config, tmp_path / "rejects.jsonl")
    assert table.user_ids == ["u", "v"]
    assert table.columns["region"] == ["north", ""]
    np.testing.assert_array_equal(table.columns["age"], np.array([30, np.nan], np.float32))
    assert sorted(rejected(tmp_path)) == [(4, "id", "repeated_user"), (5, "age", "not_a_number")]
    for changed, message in (
        ({"user_column": "user"}, r"no column 'user'.*data\.log\.user_column$"),
        ({"profile_columns": ["city"]}, r"no column 'city'.*data\.log\.profile_columns must name columns of the users file$"),
    ):
        with pytest.raises(DataError, match=message):
            read_users(path, config.model_copy(update=changed), tmp_path / "rejects.jsonl")


class TestFindLogFiles:
    def test_beside_each_other_in_a_folder(self, tmp_path: Path) -> None:
        for name in ("Events.jsonl.gz", "items.parquet", "users.tsv", "notes.txt", "log.rejects.jsonl", "items.bak"):
            (tmp_path / name).touch()
        expected = (tmp_path / "Events.jsonl.gz", tmp_path / "items.parquet", tmp_path / "users.tsv")
        config = LogConfig(profile_columns=["region"])
        assert find_log_files(tmp_path, config) == expected
        assert find_log_files(tmp_path / "Events.jsonl.gz", config) == expected

    def test_named_paths_win_and_the_others_may_be_absent(self, tmp_path: Path) -> None:
        for name in ("clicks.csv", "catalogue.csv"):
            (tmp_path / name).touch()
        assert find_log_files(tmp_path / "clicks.csv", LogConfig()) == (tmp_path / "clicks.csv", tmp_path / "catalogue.csv", None)
        config = LogConfig(catalogue_path="elsewhere.csv", users_path="people.csv", profile_numbers=["age"])
        assert find_log_files(tmp_path / "clicks.csv", config)[1:] == (Path("elsewhere.csv"), Path("people.csv"))

    @pytest.mark.parametrize("users_path", [None, "people.csv"])
    def test_a_users_file_is_ignored_until_its_columns_are_named(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, users_path: str | None
    ) -> None:
        for name in ("log.csv", "users.csv"):
            (tmp_path / name).touch()
        with caplog.at_level(logging.INFO, logger="tfmi"):
            assert find_log_files(tmp_path, LogConfig(users_path=users_path))[2] is None
        (message,) = caplog.messages
        assert (users_path or "users.csv") in message
        assert "ignored; name its columns in data.log.profile_columns" in message

    def test_none_or_several_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="the folder holds no log; expected one of log"):
            find_log_files(tmp_path, LogConfig())
        with pytest.raises(DataError, match="no such file or folder"):
            find_log_files(tmp_path / "absent", LogConfig())
        for name in ("log.csv", "events.csv"):
            (tmp_path / name).touch()
        with pytest.raises(DataError, match=r"one file of events\.csv, log\.csv.*--data"):
            find_log_files(tmp_path, LogConfig())


def test_read_log_files_takes_profiles_from_the_users_file_or_else_the_log(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", "user,item,time,region", "u,a,1,from the log", "v,b,2,")
    write(tmp_path / "items.csv", "item,title,brand", "a,A,X", ",B,Y")
    config = LogConfig(profile_columns=["region"], max_reject_share=0.5)
    tables = read_log_files(tmp_path, config, tmp_path / "rejects")
    assert tables.items is not None
    assert tables.items.brands == ["X"]
    assert tables.users is not None
    assert tables.users.columns == {"region": ["from the log", ""]}
    assert tables.events.report["events_of_unknown_items"] == 1
    assert [file.name for file in (tmp_path / "rejects").iterdir()] == ["catalogue.jsonl"]
    write(tmp_path / "users.csv", "user,region", "v,from the file")
    tables = read_log_files(tmp_path, config, tmp_path / "rejects")
    assert tables.users is not None
    assert (tables.users.user_ids, tables.users.columns) == (["v"], {"region": ["from the file"]})
    assert tables.events.profiles is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"event_types": ["buy"]}, "event_types needs columns.event"),
        ({"delimiter": '"'}, "delimiter cannot be"),
        ({"profile_columns": ["age"], "profile_numbers": ["age"]}, "name each column once"),
        ({"time_unit": "hours"}, "data.log.time_unit"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate_config({"data": {"log": settings}})
