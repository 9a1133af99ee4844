"""What a log looks like, and the configuration that would train on it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.data.public.set_files import MADE
from tfmi.cli.inspect_log import main
from tfmi.config import LogConfig, validate_config
from tfmi.core.errors import DataError
from tfmi.data.inspecting.guessing import complete, guess_log
from tfmi.data.inspecting.roles import LOG_NAMES, guess_roles
from tfmi.data.inspecting.times import guess_times
from tfmi.data.loading import load_dataset
from tfmi.data.reading.rows import text_array
from tfmi.models.systems import load_config

SECONDS = 1_500_000_000


def write(path: Path, header: str, row: str, *, number: int = 90) -> Path:
    """A log of nine users and five items; ``row`` is formatted with u, i, t (seconds) and n."""
    rows = [row.format(u=n % 9, i=n % 5, t=SECONDS + 3600 * n, n=n, d=1 + n % 28) for n in range(number)]
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


class TestRoles:
    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            (["userId", "movieId", "rating", "timestamp"], {"user": "userId", "item": "movieId", "time": "timestamp", "weight": "rating"}),
            (
                ["#customer_id", "SKU", "Event_Time", "event_type"],
                {"user": "#customer_id", "item": "SKU", "time": "Event_Time", "event": "event_type"},
            ),
            (["a", "b"], {}),
        ],
    )
    def test_by_their_names(self, columns: list[str], expected: dict[str, str]) -> None:
        guesses = guess_roles(columns, LOG_NAMES)
        assert {role: guess.column for role, guess in guesses.items()} == expected
        assert all(guess.certain for guess in guesses.values())

    def test_two_that_fit_are_not_certain(self) -> None:
        guess = guess_roles(["user_id", "product_id", "article_id"], LOG_NAMES)["item"]
        assert (guess.column, guess.certain, guess.others) == ("product_id", False, ("article_id",))

    def test_users_win_over_their_sessions(self) -> None:
        guess = guess_roles(["session_id", "user_id"], LOG_NAMES)["user"]
        assert (guess.column, guess.certain) == ("user_id", True)


class TestTimes:
    @pytest.mark.parametrize(
        ("texts", "settings", "certain"),
        [
            (["1500000000", "1500000001"], {}, True),
            (["1500000000123"], {"time_unit": "milliseconds"}, True),
            (["1500000000123456"], {"time_unit": "microseconds"}, True),
            (["2017-07-14T02:40:00Z", "2017-07-15"], {}, True),
            (["20170714"], {"time_format": "%Y%m%d"}, True),
            (["14/07/2017", "01/02/2017"], {"time_format": "%d/%m/%Y"}, True),
            (["03/07/2017", "01/02/2017"], {"time_format": "%d/%m/%Y"}, False),  # days or months first?
            (["11/13/2019 8:36:57 AM"], {"time_format": "%m/%d/%Y %I:%M:%S %p"}, True),
        ],
    )
    def test_units_and_formats(self, texts: list[str], settings: dict[str, str], certain: bool) -> None:
        guess = guess_times(text_array(texts))
        assert guess is not None
        assert (guess.settings, guess.certain) == (settings, certain)

    @pytest.mark.parametrize("texts", [["17", "23"], ["shoes"], ["", ""], ["3.5"]])
    def test_other_columns_are_no_times(self, texts: list[str]) -> None:
        assert guess_times(text_array(texts)) is None


@pytest.mark.parametrize(
    ("name", "header", "row", "expected"),
    [
        ("log.csv", "user,item,time", "u{u},i{i},{t}", {}),
        ("log.csv", "customer_id;sku;clicked_at", "u{u};i{i};{t}000", {"delimiter": ";", "time_unit": "milliseconds"}),
        ("clicks.tsv", "uid\tproduct_id\tdate", "u{u}\ti{i}\t{d:02}.07.2017", {"time_format": "%d.%m.%Y"}),
        ("log.csv", "user,item", "u{u},i{i}", {"columns": {"time": None}}),
    ],
)
def test_what_is_certain_completes_a_configuration(name: str, header: str, row: str, expected: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / name, header, row)
    completed = complete(path, LogConfig())
    if not expected:
        assert completed is None  # the default names are there
        return
    assert completed is not None
    settings = completed[0]
    assert {key: value for key, value in settings.items() if key != "columns"} == {k: v for k, v in expected.items() if k != "columns"}
    limits = {"min_user_events": 1, "min_item_events": 1}
    described = {"dataset": "log", "path": str(path), "cache": str(tmp_path / "cache"), "log": settings, "split": limits}
    dataset = load_dataset(validate_config({"data": described}).data)
    assert (dataset.report["users"], dataset.report["items"]) == (9, 5)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("user,product,article,time", "u{u},i{i},a{i},{t}", "item: 'product' or 'article'"),
        ("who,what,when", "u{u},i{i},{t}", "no column looks like a user; no column looks like an item"),
        ("", "{u},{i},{t}", "the first line looks like data"),
        ("user_id,item_id,date", "u{u},i{i},0{i}/0{i}/2017".replace("0{i}/0{i}", "01/02"), "the format '%d/%m/%Y', or '%m/%d/%Y'"),
    ],
)
def test_what_is_not_certain_is_refused_with_what_it_could_be(header: str, row: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", header, row)
    with pytest.raises(DataError, match="not certain") as error:
        complete(path, LogConfig())
    assert message in str(error.value)
    assert "tfmi-inspect" in str(error.value)


def test_what_is_said_is_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "a,b,c", "u{u},i{i},{t}")
    assert complete(path, LogConfig.model_validate({"columns": {"user": "a", "item": "b", "time": "c"}})) is None


def test_a_headerless_file_is_guessed_by_its_values(tmp_path: Path) -> None:
    path = write(tmp_path / "plays.csv", "", "{u},x,{i},{t}")
    guess = guess_log(path)
    assert {role: each.column for role, each in guess.roles.items()} == {"user": "1", "item": "3", "time": "4"}
    assert guess.settings["header"] is False


def test_events_in_lists_are_seen(tmp_path: Path) -> None:
    rows = [{"session": s, "events": [{"aid": s + p, "ts": (SECONDS + p) * 1000, "type": "clicks"} for p in range(4)]} for s in range(9)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    guess = guess_log(tmp_path / "train.jsonl")
    assert {role: each.column for role, each in guess.roles.items()} == {
        "user": "session",
        "item": "events[].aid",
        "time": "events[].ts",
        "event": "events[].type",
    }
    assert guess.settings["time_unit"] == "milliseconds"
    assert not guess.doubts


def test_messages_in_a_text_cell_are_seen(tmp_path: Path) -> None:
    messages = ['{""user"": ""u1"", ""item"": ""a"", ""ts"": 1700000000}', '{""user"": ""u2"", ""item"": ""b"", ""ts"": 1700000100}']
    (tmp_path / "log.csv").write_text("offset,value\n" + "".join(f'{place},"{text}"\n' for place, text in enumerate(messages)))
    guess = guess_log(tmp_path / "log.csv")
    assert {role: each.column for role, each in guess.roles.items()} == {"user": "value.user", "item": "value.item", "time": "value.ts"}


def inspected(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, dict[str, Any]]:
    assert main([*arguments, "--json"]) == 0
    printed = capsys.readouterr().out
    return printed, json.loads(printed.splitlines()[-1])


def test_the_program_says_what_a_log_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "events.csv", "visitor_id,product_id,created_at,event_type", "u{u},i{i},{t},view")
    (tmp_path / "items.csv").write_text("product_id,name,category\n" + "".join(f"i{i},Item {i},c\n" for i in range(4)))
    target = tmp_path / "log.yaml"
    printed, figures = inspected(capsys, str(tmp_path), "--write-config", str(target))
    assert (figures["users"], figures["items"], figures["events"], figures["certain"]) == (9, 5, 90, True)
    assert figures["joins"] == {"items_in_catalogue": 4, "catalogue": 4}
    assert figures["types"] == {"view": 90}
    assert figures["repeats"] == pytest.approx((90 - 45) / (90 - 9))
    assert figures["popularity"]["50%"] == pytest.approx(0.4)
    assert "times      2017-07-14 02:40:00 to" in printed
    config = load_config(target, "popularity", ["data.split.min_user_events=1"], {"data": {"cache": str(tmp_path / "cache")}})
    assert config.data.log.columns.user == "visitor_id"
    assert config.data.log.catalogue_columns.title == "name"
    assert load_dataset(config.data).report["events"] == 90


def test_a_public_sets_files_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n % 9}\t2010-10-19T23:{n % 60:02}:27Z\t30.2\t-97.7\t{n % 5}\n" for n in range(90))
    (tmp_path / "loc-gowalla_totalCheckins.txt.gz").write_bytes(gzip.compress(rows.encode()))
    printed, figures = inspected(capsys, str(tmp_path))
    assert "These look like the files of gowalla: read as --dataset gowalla." in printed
    assert (figures["users"], figures["items"]) == (9, 5)
    described = yaml.safe_load(printed[printed.index("system:") : printed.rindex('{"roles')])
    assert described["data"]["dataset"] == "gowalla"


@pytest.mark.parametrize("name", sorted(set(MADE) - {"amazon-2014-ratings", "amazon-2014", "amazon-2018", "amazon-2023"}))
def test_what_is_written_for_a_public_set_trains_on_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, with limits that leave something of a small part of it."""
    MADE[name].write(tmp_path)
    written = tmp_path / "written.yaml"
    assert main([str(tmp_path), "--write-config", str(written)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert re.search(rf"the files of .*\b{name}\b", first) or name == "otto"
    data = load_config(written, settings=[f"data.cache={tmp_path / 'cache'}"]).data
    assert data.name == name or name in ("ml-20m", "ml-25m", "ml-32m", "otto")
    assert load_dataset(data).report["users"] >= 3


def test_a_configuration_leaves_something_of_a_small_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "log.csv", "user,item,time", "u{n},i{i},{t}", number=30)
    printed, figures = inspected(capsys, str(tmp_path / "log.csv"))
    assert figures["left_by_default_core"]["users"] == 0
    assert "min_item_events: 1" in printed


def test_what_cannot_be_read_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent.csv")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert main([str(tmp_path), "--set", "model.dimension=3"]) == 1
    assert "an inspection reads data.log.* only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'user': 'a', 'item': 'x'}", "this is a Python dict (single quotes): convert the lines with ast.literal_eval"),
        ('{\n "data": [{"user": "a"}]\n}', "this is an object over several lines: take out the array in it"),
        ("[1, 2]", "rows of events, each a JSON object; its first line is '[1, 2]'"),
    ],
)
def test_a_file_without_a_row_is_told_why(line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.json"
    path.write_text(f"{line}\n" * 3)
    assert main([str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"user,item,time\n", "the file holds no rows"),
        ("log.csv", "user,item,time\na,ä,5\n".encode("cp1252"), "bad_utf8: 1 .*set data.log.encoding"),
        ("log.csv", "usér,item\na,b\n".encode("cp1252"), "cannot read the header .*set data.log.encoding"),
        ("log.csv", gzip.compress(b"user,item\na,b\n", mtime=0), r"cannot read the header .*one that ends in \.csv\.gz: rename it"),
    ],
)
def test_a_file_that_holds_no_readable_row_is_told(
    name: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main([str(tmp_path / name)]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_columns_of_one_name_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text("user,item,time,item\n" + "a,x,5,y\n" * 3)
    assert main([str(tmp_path / "log.csv")]) == 0
    assert "not certain: column 'item' stands several times in the header: rename all but one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        (
            ["_id.$oid", "user.$oid", "item.$numberInt", "ts.$date"],
            {"user": "user.$oid", "item": "item.$numberInt", "time": "ts.$date"},
        ),
        (
            ["event_timestamp", "user_pseudo_id", "items[].item_id", "items[].item_name"],
            {"user": "user_pseudo_id", "item": "items[].item_id", "time": "event_timestamp"},
        ),
        (
            ["offset", "value.user", "value.item", "value.ts"],
            {"user": "value.user", "item": "value.item", "time": "value.ts"},
        ),
        (["_source.user.id", "_source.user.created", "_source.product.id"], {"user": "_source.user.id", "item": "_source.product.id"}),
    ],
)
def test_names_within_objects_are_known(columns: list[str], roles: dict[str, str]) -> None:
    guessed = guess_roles(columns, LOG_NAMES)
    assert {role: guess.column for role, guess in guessed.items()} == roles
    assert all(guess.certain for guess in guessed.values())
