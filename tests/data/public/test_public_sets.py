"""Public sets are read as they are downloaded, each from a description of a dozen lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.public.set_files import EVENTS, EXPECTED_EVENTS, ITEMS, MADE, USERS
from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.dataset import InteractionDataset
from tfmi.data.loading import load_dataset
from tfmi.data.public.public_sets import find_set, public_sets
from tfmi.models.systems import load_config

EVERYTHING = {"data": {"split": {"min_user_events": 1, "min_item_events": 1, "valid_share": 0.2, "test_share": 0.2}}}


def configured(name: str, path: Path, *settings: str) -> RunConfig:
    """The configuration of a run on a set, nothing left out as rare."""
    overrides = {"data": {"dataset": name, "path": str(path), "cache": str(path / "cache")}}
    return load_config(system="popularity", overrides=overrides, settings=settings, where_read=EVERYTHING)


def loaded(name: str, path: Path, *settings: str) -> InteractionDataset:
    return load_dataset(configured(name, path, *settings).data)


def test_every_set_has_a_file_of_its_form() -> None:
    assert sorted(public_sets()) == sorted(MADE)
    assert all(each.summary and each.home.startswith("http") for each in public_sets().values())


@pytest.mark.parametrize("name", MADE)
def test_a_set_is_read_as_it_is_downloaded(name: str, tmp_path: Path) -> None:
    made = MADE[name]
    made.write(tmp_path)
    dataset = loaded(name, tmp_path)
    read = dataset.report["read"]
    assert (read["rejected"], read["other_event_types"]) == (0, made.left_out)
    assert (dataset.report["events"], dataset.report["users"]) == (EXPECTED_EVENTS + made.earlier, USERS)
    assert len(dataset.catalogue.vocabulary) == ITEMS
    assert dataset.name == name
    assert read["first_time"][:4] == str(made.year)
    assert set(dataset.catalogue.features) == made.features
    assert set({} if dataset.profiles is None else dataset.profiles.features) == made.profiles
    assert read.get("negative_events", 0) == made.negatives
    longest = int(dataset.test.histories.lengths().max())
    assert 1 <= longest < EVENTS + 1 + made.earlier // USERS


def test_each_user_goes_through_the_items_in_order(tmp_path: Path) -> None:
    """The time is what orders: Diginetica's rows stand the wrong way round, and their day is one and the same."""
    MADE["diginetica"].write(tmp_path)
    ids = loaded("diginetica", tmp_path).catalogue.vocabulary.ids
    train = loaded("diginetica", tmp_path).train.in_memory()
    for row in range(len(train)):
        taken = np.array([int(ids[index - 2]) for index in train.row(row)])
        assert ((taken[1:] - taken[:-1]) % ITEMS == 1).all()


@pytest.mark.parametrize(("name", "weights"), [("retailrocket", {1.0, 3.0, 5.0}), ("otto", {1.0, 3.0, 6.0})])
def test_types_have_weights(name: str, weights: set[float], tmp_path: Path) -> None:
    MADE[name].write(tmp_path)
    found = loaded(name, tmp_path).train.in_memory().weights
    assert found is not None
    assert set(found.tolist()) == weights


def test_settings_are_stronger_than_the_description(tmp_path: Path) -> None:
    MADE["taobao"].write(tmp_path)
    config = configured("taobao", tmp_path, "data.log.event_types=[pv, buy]", "data.split.method=leave_one_out")
    assert (config.data.log.event_types, config.data.split.method, config.data.dataset, config.data.name) == (
        ["pv", "buy"],
        "leave_one_out",
        "log",
        "taobao",
    )


def test_a_set_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    (tmp_path / "plays.txt").write_text("".join(f"u{n % 9} s{n % 5} {1_500_000_000 + n}\n" for n in range(90)))
    (tmp_path / "plays.yaml").write_text(
        "summary: mine\n"
        "log: {file: plays.txt, delimiter: ' ', header: false, column_names: [user, item, time]}\n"
        "split: {method: leave_one_out}\n"
    )
    dataset = loaded(str(tmp_path / "plays.yaml"), tmp_path)
    assert (dataset.name, dataset.report["events"], dataset.report["split"]) == ("plays", 90, "leave_one_out")


@pytest.mark.parametrize(
    ("text", "message"),
    [("log: {file: x}\nsplits: {}\n", r"unknown key 'splits' \(did you mean 'split'\?\)"), ("summary: x\n", r"with a section 'log'")],
)
def test_a_wrong_description_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        find_set(str(tmp_path / "mine.yaml"))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"got 'ml1m' \(did you mean 'ml-1m'\?\)"):
        load_config(overrides={"data": {"dataset": "ml1m"}})


def test_missing_files_are_named_with_their_home(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file ratings\.dat.*https://grouplens\.org/datasets/movielens/1m/"):
        loaded("ml-1m", tmp_path)
    config: Any = load_config(overrides={"data": {"dataset": "ml-1m"}}).data
    with pytest.raises(ConfigError, match=r"dataset 'ml-1m' needs its files.*https://grouplens\.org"):
        load_dataset(config)


def test_lines_of_python_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "reviews_Beauty.json").write_text("{'reviewerID': 'A1', 'asin': 'B1', 'unixReviewTime': 1}\n" * 5)
    with pytest.raises(DataError, match="single quotes"):
        loaded("amazon-2014", tmp_path)
