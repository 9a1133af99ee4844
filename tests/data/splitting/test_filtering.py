"""What is left out of a log before it is split, in memory and streaming alike, and what is said of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfmi.config import DataConfig, SplitConfig, validate_config
from tfmi.data.dataset import InteractionDataset
from tfmi.data.loading import load_dataset
from tfmi.data.splitting.filtering import cold_items, has_features, newest_events, say_giant, with_cold_items
from tfmi.data.tables import ItemTable

CATALOGUE = ItemTable(
    item_ids=["a", "b", "c", "d", "e"],
    titles=["A", "B", "C", "D", "E"],
    categories=["x", "", "", "", "x"],
    tags=[[], [], [("t", 1.0)], [], []],
    numbers={"price": np.array([np.nan, np.nan, np.nan, 3.0, np.nan], dtype=np.float32)},
)


def config(path: Path, cache: Path, streaming: bool, **split: Any) -> DataConfig:
    log = {"streaming": streaming, "shards": 3}
    return validate_config({"data": {"dataset": "log", "path": str(path), "cache": str(cache), "log": log, "split": split}}).data


class TestNewest:
    def test_by_time_and_ties_by_place(self) -> None:
        users, times = np.array([0, 1, 0, 0, 1, 0]), np.array([5.0, 1.0, 3.0, 5.0, 2.0, 9.0])
        assert newest_events(users, times, 2).tolist() == [False, True, False, True, True, True]

    def test_by_place_without_times(self) -> None:
        assert newest_events(np.array([1, 0, 1, 1]), None, 2).tolist() == [False, True, True, True]

    def test_no_limit(self) -> None:
        assert newest_events(np.array([0, 0]), None, None).all()


class TestColdItems:
    def test_a_title_is_no_feature(self) -> None:
        assert has_features(CATALOGUE).tolist() == [True, False, True, True, True]

    def test_of_a_log_they_are_candidates_by_their_features(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        cold = cold_items("log", CATALOGUE, ["a"], SplitConfig())
        assert (cold.candidates, cold.report) == (["c", "d", "e"], {"cold_items": 4, "cold_items_as_candidates": 3})
        assert "1 items of the catalogue without enough events are left out (for they have nothing but an id)" in caplog.text

    @pytest.mark.parametrize(
        ("name", "setting", "number"), [("log", "left_out", 0), ("movielens", "auto", 0), ("movielens", "candidates", 3)]
    )
    def test_the_setting_decides(self, name: str, setting: Any, number: int) -> None:
        assert len(cold_items(name, CATALOGUE, ["a"], SplitConfig(cold_items=setting)).candidates) == number

    def test_a_rare_item_keeps_its_code(self) -> None:
        ids, codes = with_cold_items(["a", "d"], np.array([0]), ["c", "d"])
        assert (list(ids), codes.tolist()) == (["a", "d", "c"], [0, 2, 1])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 users with six events each, one with 4,000; a rare item; two items without events, one of which has no feature."""
    folder = tmp_path_factory.mktemp("shop")
    rows = [f"u{user},i{(user + place) % 12},{1_500_000_000 + place}" for user in range(300) for place in range(6)]
    rows += [f"giant,i{place % 12},{1_500_000_000 + place}" for place in range(4000)]
    rows += ["u0,rare,1500000100", "u1,rare,1500000100", "seldom,i1,1500000000"]
    (folder / "log.csv").write_text("user,item,time\n" + "\n".join(rows) + "\n")
    items = [f"i{item},c{item % 3}" for item in range(12)]
    (folder / "catalogue.csv").write_text("item,category\n" + "\n".join([*items, "rare,c1", "new,c2", "bare,"]) + "\n")
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["in memory", "streaming"])
def streaming(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def loaded(shop: Path, cache: Path, streaming: bool, caplog: pytest.LogCaptureFixture, **split: Any) -> InteractionDataset:
    caplog.set_level(logging.INFO)
    return load_dataset(config(shop, cache, streaming, **split))


def test_who_was_left_out_is_said_and_counted(shop: Path, tmp_path: Path, streaming: bool, caplog: pytest.LogCaptureFixture) -> None:
    dataset = loaded(shop, tmp_path, streaming, caplog)
    counted = {key: dataset.report[key] for key in ("events_left_out_as_rare", "users_left_out_as_rare", "items_left_out_as_rare")}
    assert counted == {"events_left_out_as_rare": 3, "users_left_out_as_rare": 1, "items_left_out_as_rare": 1}
    assert "left out as rare: 1 of 13 items (data.split.min_item_events: 5), 1 of 302 users (data.split.min_user_events: 5)" in caplog.text
    assert "has 4,000 of 5,800 events (69 %); data.split.max_user_events keeps" in caplog.text
    assert "times from 2017-07-14 02:40:00 to" in caplog.text
    assert dataset.report["read"]["first_time"] == "2017-07-14 02:40:00"


def test_cold_items_are_candidates_and_teach_nothing(shop: Path, tmp_path: Path, streaming: bool, caplog: pytest.LogCaptureFixture) -> None:
    dataset = loaded(shop, tmp_path, streaming, caplog)
    assert dataset.catalogue.vocabulary.ids[-2:] == ["new", "rare"]
    assert dataset.catalogue.counts[-2:].tolist() == [0, 0]
    assert len(dataset.catalogue.vocabulary) == 14
    for part in (dataset.train.in_memory(), dataset.valid.histories, dataset.test.targets):
        assert part.items.max() < dataset.catalogue.vocabulary.index("new")
    assert (dataset.report["cold_items"], dataset.report["cold_items_as_candidates"]) == (3, 2)


def test_the_newest_events_of_a_user_count(shop: Path, tmp_path: Path, streaming: bool, caplog: pytest.LogCaptureFixture) -> None:
    dataset = loaded(shop, tmp_path, streaming, caplog, max_user_events=5, min_user_events=1)
    assert dataset.report["events_over_max_user_events"] == 3995 + 302  # of the giant, and u0, u1 had seven, the others six
    assert "users with more than 5 are left out: 4,297 of 5,803 (data.split.max_user_events)" in caplog.text
    parts = (dataset.train.in_memory(), *(part for each in (dataset.valid, dataset.test) for part in (each.histories, each.targets)))
    assert max(int(part.lengths().max()) for part in parts) <= 5


def test_a_giant_is_told_from_a_small_log(caplog: pytest.LogCaptureFixture) -> None:
    say_giant("log", "user 'a'", np.array([6, 5, 5]), SplitConfig())
    assert not caplog.messages
    say_giant("log", "user 'a'", np.array([600, 5, 5]), SplitConfig(max_user_events=700))
    assert caplog.messages == ["log: user 'a' has 600 of 610 events (98 %); lower data.split.max_user_events"]
