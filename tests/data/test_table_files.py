"""Checked tables as files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tfmi.core.errors import DataError
from tfmi.data.table_files import read_item_table, read_user_table, write_item_table, write_user_table
from tfmi.data.tables import ItemTable, UserTable


def test_a_catalogue_comes_back(tmp_path: Path) -> None:
    items = ItemTable(
        item_ids=["a", "b", "ç"],
        titles=["A", "", "Ç"],
        categories=None,
        brands=["x", "y", ""],
        tags=[[("rock", 2.0), ("jazz", 0.1)], [], [("rock", 1.0)]],
        texts={"decade": ["1990s", "", "2000s"]},
        numbers={"price": np.array([1.5, np.nan, 3.0], np.float32)},
        vectors={"picture": np.array([[1, 2], [np.nan, np.nan], [5, 6]], np.float32)},
        report={"rows": 4, "rejected": 1},
    )
    write_item_table(tmp_path / "items.parquet", items)
    found = read_item_table(tmp_path / "items.parquet")
    for field in dataclasses.fields(ItemTable):
        np.testing.assert_equal(getattr(found, field.name), getattr(items, field.name))
    assert found.numbers["price"].dtype == found.vectors["picture"].dtype == np.float32


def test_profiles_come_back(tmp_path: Path) -> None:
    users = UserTable(["u", "v"], {"city": ["Oslo", ""], "age": np.array([np.nan, 31.5], np.float32)}, {"rows": 2})
    write_user_table(tmp_path / "users.parquet", users)
    found = read_user_table(tmp_path / "users.parquet")
    np.testing.assert_equal(dataclasses.asdict(found), dataclasses.asdict(users))


def test_nothing_is_made_of_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"items\.parquet: cannot be read"):
        read_item_table(tmp_path / "items.parquet")
