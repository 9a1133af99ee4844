"""Attributes by another numbering than the items' match id by id and mean other items: the data tells."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tfmi.config import SplitConfig
from tfmi.core.errors import DataError
from tfmi.data.public.comirec import load_comirec
from tfmi.data.public.item_attributes import attributes_fit
from tfmi.data.public.sequence_files import load_sequences
from tfmi.data.tables import ItemTable

USERS, EVENTS, ITEMS = 120, 8, 60
GENERATOR = np.random.default_rng(3)
# A user mostly stays with one of six groups of items.
GROUPS = GENERATOR.integers(0, 6, USERS)
SEQUENCES = np.array([[1 + group * 10 + item for item in GENERATOR.choice(10, EVENTS, replace=False)] for group in GROUPS])
ATTRIBUTES = {item: [f"group {(item - 1) // 10}", f"one {item % 3}"] for item in range(1, ITEMS + 1)}
SHUFFLED = dict(zip(range(1, ITEMS + 1), GENERATOR.permutation(np.arange(1, ITEMS + 1)).tolist(), strict=True))


def table(attributes: dict[int, list[str]]) -> ItemTable:
    tags = [[(name, 1.0) for name in names] for names in attributes.values()]
    return ItemTable(item_ids=[str(item) for item in attributes], tags=tags)


def fit(attributes: dict[int, list[str]], users: int = USERS) -> bool | None:
    items = SEQUENCES[:users].ravel() - 1
    return attributes_fit(table(attributes), [str(item) for item in range(1, ITEMS + 1)], items, np.repeat(np.arange(users), EVENTS))


def test_neighbours_share_what_is_theirs() -> None:
    assert fit(ATTRIBUTES) is True
    assert fit({item: ATTRIBUTES[SHUFFLED[item]] for item in ATTRIBUTES}) is False


def test_too_little_data_tells_nothing() -> None:
    assert fit(ATTRIBUTES, users=60) is None
    assert fit({item: [] for item in ATTRIBUTES}) is None


def write_comirec(folder: Path, attributes: dict[int, list[str]]) -> None:
    """Split files whose items are numbered as in SEQUENCES."""
    for name, rows in (("train", SEQUENCES[:100]), ("valid", SEQUENCES[100:110]), ("test", SEQUENCES[110:])):
        lines = [f"{user},{item},{place}" for user, row in enumerate(rows) for place, item in enumerate(row)]
        (folder / f"comirec_{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "item_attributes.json").write_text(json.dumps({str(item): names for item, names in attributes.items()}))


def test_split_numbers_with_original_attributes_are_refused(tmp_path: Path) -> None:
    """Without the map every number is an original id, too: that of another item."""
    write_comirec(tmp_path, {SHUFFLED[item]: names for item, names in ATTRIBUTES.items()})
    with pytest.raises(DataError, match=r"two numberings are mixed; put comirec_item_map\.txt"):
        load_comirec(tmp_path, SplitConfig())
    lines = [f"{SHUFFLED[item]},{item}" for item in ATTRIBUTES]
    (tmp_path / "comirec_item_map.txt").write_text("\n".join(lines) + "\n")
    assert "tags" in load_comirec(tmp_path, SplitConfig()).catalogue.features


def test_attributes_by_split_number_are_told_apart_and_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_comirec(tmp_path, ATTRIBUTES)
    assert "tags" in load_comirec(tmp_path, SplitConfig()).catalogue.features
    assert "60 of 60 items (100.0%) have attributes" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_ids_that_no_attribute_has_stop(tmp_path: Path) -> None:
    write_comirec(tmp_path, {item + 1000: names for item, names in ATTRIBUTES.items()})
    with pytest.raises(DataError, match=r"none of the 60 items is in it \('1001' there, '1' here\)"):
        load_comirec(tmp_path, SplitConfig())


def test_a_share_that_is_chance_stops(tmp_path: Path) -> None:
    write_comirec(tmp_path, {item if item == 1 else item + 1000: names for item, names in ATTRIBUTES.items()})
    with pytest.raises(
        DataError, match=r"only 1 of 60 items \(1\.7%\) are in it, less than 5%.*e\.g\. '2' is not there.*put comirec_item_map"
    ):
        load_comirec(tmp_path, SplitConfig())


def test_sequences_with_strange_attributes_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sequences.txt").write_text("\n".join(f"u{user} {' '.join(map(str, row))}" for user, row in enumerate(SEQUENCES)) + "\n")
    (tmp_path / "item_attributes.json").write_text(json.dumps({SHUFFLED[item]: names for item, names in ATTRIBUTES.items()}))
    load_sequences(tmp_path, SplitConfig())
    assert "two numberings are mixed, or say nothing of what users do" in caplog.text
