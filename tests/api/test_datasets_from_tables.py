"""Tables in memory are read, checked and refused as files are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import tfmi
from tests.api.tables import EVERYTHING, shop
from tfmi.api.tables import arrow_table
from tfmi.training.fingerprint import data_fingerprint

SPLIT = {"method": "leave_one_out", **EVERYTHING}


@pytest.fixture
def events() -> pd.DataFrame:
    return shop()[0].copy()


def fingerprint(dataset: tfmi.Dataset) -> str:
    return data_fingerprint(dataset.loaded())


def test_pandas_arrow_and_files_are_one_dataset(tmp_path: Path) -> None:
    events, items, users = shop()
    settings: dict[str, Any] = {"data.split.min_user_events": 2}
    from_pandas = tfmi.Dataset.from_events(events, items, users, split="leave_one_out", **settings)
    from_arrow = tfmi.Dataset.from_events(*map(pa.table, (events, items, users)), split="leave_one_out", **settings)
    for name, table in (("events", events), ("items", items), ("users", users)):
        table.to_parquet(tmp_path / f"{name}.parquet")
    log = {"profile_columns": ["city"], "profile_numbers": ["age"]}
    split = {"method": "leave_one_out", "min_user_events": 2}
    of_files: dict[str, Any] = {"data.log": log, "data.split": split, "data.cache": str(tmp_path / "cache")}
    from_files = tfmi.Dataset.load("log", tmp_path, **of_files)
    assert fingerprint(from_pandas) == fingerprint(from_arrow) == fingerprint(from_files)
    assert from_pandas.loaded().profiles.features.keys() == {"city", "age"}
    assert len(from_pandas.train) == len(from_pandas.test) == 40
    assert set(from_pandas.items) == set(items["item"])


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.astype({"user": "category", "item": "string"}),
        lambda frame: frame.assign(time=pd.to_datetime(frame["time"], unit="s")),
        lambda frame: frame.assign(time=pd.to_datetime(frame["time"], unit="s", utc=True).dt.tz_convert("Europe/Oslo")),
        lambda frame: frame.set_index("user"),
        lambda frame: frame.set_index(["user", "item"]),
        lambda frame: frame.assign(other=[{"anything": object()}] * len(frame)),
        lambda frame: frame.convert_dtypes(),
        lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
        lambda frame: frame.assign(user=frame["user"].astype("string").astype("category")),
        lambda frame: pa.table({name: pa.array(frame[name]).dictionary_encode() for name in ("user", "item")} | {"time": frame["time"]}),
        lambda frame: pa.table({name: pa.array(frame[name], pa.large_string()) for name in ("user", "item")} | {"time": frame["time"]}),
        lambda frame: OtherTable(frame, "to_pandas"),
        lambda frame: OtherTable(pa.Table.from_pandas(frame), "to_arrow"),
        lambda frame: ArrowStream(pa.Table.from_pandas(frame)),
    ],
    ids=[
        *("types", "times", "zones", "index", "indexes", "unread", "nullable", "arrow dtypes", "categories of text", "dictionaries"),
        *("large text", "to_pandas", "to_arrow", "c stream"),
    ],
)
def test_columns_of_many_types_say_the_same(events: pd.DataFrame, change: Any) -> None:
    expected = tfmi.Dataset.from_events(events, split=SPLIT)
    assert fingerprint(tfmi.Dataset.from_events(change(events), split=SPLIT)) == fingerprint(expected)


class OtherTable:
    """A table of another library, which makes one of pandas or Arrow of itself."""

    def __init__(self, table: Any, method: str) -> None:
        setattr(self, method, lambda: table)


class ArrowStream:
    """A table that has Arrow's C interface, and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


def test_missing_ids_of_every_kind_are_rejected(events: pd.DataFrame) -> None:
    """None, NaN, NaT and NA are no ids, whatever the column's type; the text "nan" is one."""
    frame = events.assign(item=events["item"].where(events["item"] != "a0", "nan"))
    for missing, dtype in ((None, object), (np.nan, object), (pd.NA, "string"), (pd.NaT, object), (None, "category")):
        column = frame["item"].astype(object)
        column.iloc[[3, 4]] = missing
        dataset = tfmi.Dataset.from_events(frame.assign(item=column.astype(dtype)), split=SPLIT)
        assert dataset.report["read"]["rejected_by_reason"] == {"empty_item": 2}, (missing, dtype)
        assert "nan" in dataset.items
        assert not {"None", "NaT", "<NA>", ""} & set(dataset.items)
    codes = frame.assign(item=frame["item"].astype("category").cat.codes.astype("Int64"))
    codes.loc[[3, 4], "item"] = pd.NA
    assert tfmi.Dataset.from_events(codes, split=SPLIT).report["read"]["rejected_by_reason"] == {"empty_item": 2}


def test_further_columns_of_a_log_are_named_by_settings(events: pd.DataFrame) -> None:
    last = events.groupby("user").cumcount(ascending=False)
    parts = events.assign(fold=np.where(last == 0, "test", np.where(last == 1, "valid", "train")))
    settings: dict[str, Any] = {"data.log.columns.part": "fold"}
    dataset = tfmi.Dataset.from_events(parts, **settings)
    assert dataset.report["split"] == "given"
    assert dataset.loaded().test.targets.lengths().tolist() == [1] * 40


def test_ids_may_be_numbers_or_mixed(events: pd.DataFrame) -> None:
    codes = {item: place for place, item in enumerate(sorted(set(events["item"])))}
    whole = events.assign(item=events["item"].map(codes))
    dataset = tfmi.Dataset.from_events(whole, split=SPLIT)
    assert set(dataset.items) == {str(code) for code in codes.values()}
    mixed = whole.assign(item=[value if value % 2 else str(value) for value in whole["item"]]).astype({"item": object})
    with_gaps = whole.assign(item=whole["item"].astype(float))
    for same in (mixed, with_gaps):
        assert fingerprint(tfmi.Dataset.from_events(same, split=SPLIT)) == fingerprint(dataset)


def test_columns_have_the_names_that_they_have(events: pd.DataFrame) -> None:
    renamed = events.rename(columns={"user": "customer_id", "item": "sku", "time": "bought_at"})
    items = shop()[1].rename(columns={"item": "code", "category": "genre"})
    dataset = tfmi.Dataset.from_events(
        renamed, items, user="customer_id", item="sku", time="bought_at", split=SPLIT, item_columns={"item": "code", "category": "genre"}
    )
    plain = tfmi.Dataset.from_events(events, shop()[1], split=SPLIT)
    assert fingerprint(dataset) == fingerprint(plain)
    assert dataset.loaded().catalogue.category_indices() is not None


def test_unusable_rows_are_listed(events: pd.DataFrame) -> None:
    events.loc[3, "item"] = None
    events["time"] = events["time"].astype(object)
    events.loc[5, "time"] = "yesterday"
    rejects = tfmi.Dataset.from_events(events, split=SPLIT).rejects
    assert rejects[["row", "column", "reason"]].to_numpy().tolist() == [[4, "item", "empty_item"], [6, "time", "not_a_time"]]
    assert tfmi.Dataset.from_events(shop()[0], split=SPLIT).rejects.empty


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"events": "clicks.csv"}, "events: expected a pandas DataFrame or a pyarrow Table, got str; files are read by"),
        ({"events": [1, 2]}, "events: expected a pandas DataFrame or a pyarrow Table, got list"),
        ({"events": pd.DataFrame()}, "events: the table has no columns"),
        ({"user": "usr"}, r"events: no column 'usr' \(did you mean 'user'\?\); the table has: user, item, .*the argument user"),
        ({"time": "when"}, "no column 'when'.*time=None"),
        ({"events": shop()[0].head(0)}, "events: the file holds no rows|events: .*no rows"),
        ({"items": pd.DataFrame({"sku": ["a"]})}, "items: no column 'item'"),
        ({"users": pd.DataFrame({"id": ["a"], "age": [3]})}, "users: no column 'user'"),
        ({"users": shop()[2], "profile": ["town"]}, "users: no column 'town'"),
        ({"split": "by_magic"}, "data.split.method: .*by_magic"),
        ({"events": shop()[0].assign(user=np.nan)}, "events: .*rejected"),
        ({"split": {"method": "leave_one_out", "min_user_events": 99}}, "min_user_events"),
        ({"data.split.sed": 1}, r"data\.split\.sed: unknown key \(did you mean 'seed'\?\)"),
        ({"model.dimension": 1}, r"model\.dimension: expected an argument of this method, or a key of the section data"),
    ],
)
def test_mistakes_are_one_message_about_the_table(arguments: dict[str, Any], message: str) -> None:
    given = {"events": shop()[0], "split": SPLIT, **arguments}
    with pytest.raises(tfmi.TfmiError, match=message) as error:
        tfmi.Dataset.from_events(given.pop("events"), **given)
    assert ".parquet" not in str(error.value)


def test_clicks_are_ones_or_trues(events: pd.DataFrame) -> None:
    expected = tfmi.Dataset.from_impressions(events).loaded()
    for same in (events.astype({"clicked": bool}), events.astype({"clicked": float}), events.astype({"clicked": str})):
        assert np.array_equal(tfmi.Dataset.from_impressions(same).loaded().train.labels, expected.train.labels)
    assert 0 < expected.train.labels.mean() < 1
    for value, message in (("yes", "holds 'yes'; expected 1 or 0"), (0, "holds no 1 or True")):
        with pytest.raises(tfmi.DataError, match=message):
            tfmi.Dataset.from_impressions(events.assign(clicked=value))
    with pytest.raises(tfmi.DataError, match="no column 'seen'"):
        tfmi.Dataset.from_impressions(events, clicked="seen")


def test_histories_are_what_users_did_in_time_order(events: pd.DataFrame) -> None:
    shuffled = events.sample(frac=1.0, random_state=1)
    dataset = tfmi.Dataset.from_events(shuffled, users=shop()[2], split=SPLIT)
    known = dataset.histories(["user-3"], dataset.config())
    own = events[events["user"] == "user-3"].sort_values("time")
    assert known["history"] == [own["item"].tolist()]
    assert known["timestamps"][0].tolist() == own["time"].tolist()
    assert (known["city"], known["age"]) == (["Rome"], [3.0])
    clicks = tfmi.Dataset.from_impressions(shuffled)
    assert clicks.histories(["user-3"], clicks.config())["history"] == [own[own["clicked"] == 1]["item"].tolist()]
    with pytest.raises(tfmi.DataError, match=r"users: 'user-77' is not in the data.*give histories="):
        dataset.histories(["user-77"], dataset.config())


def test_names_of_unread_columns_are_kept_for_messages() -> None:
    table = arrow_table(pd.DataFrame({"user": ["a"], "user.id": [1], "rest": [object()]}), "events", ["user"])
    assert table.column_names == ["user", "user.id", "rest"]
    assert table.schema.field("rest").type == pa.null()
    with pytest.raises(tfmi.DataError, match="column 'a' stands twice"):
        arrow_table(pd.DataFrame([[1, 2]], columns=["a", "a"]), "events")
