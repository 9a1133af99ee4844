"""Logs with tags of every format: the real ones, small ones, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.tags.tag_logs import field_of, names
from tfmi.config import DataConfig, EmbeddedConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.synthetic.shop import generate
from tfmi.data.synthetic.shop_tags import PURCHASE, embedded_shop, interest_weights
from tfmi.data.tags.tag_batches import StateGatherer, tag_batches
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.data.tags.tag_loading import load_tag_dataset

SharedData = Callable[[str], Path]
SMALL = {"min_tag_count": 1, "min_value_count": 1, "negatives": 1, "value_weights": "count"}


def load(name: str, path: Path | None, cache: Path, tagging: dict[str, Any] | None = None, **settings: Any) -> TagDataset:
    values = {"dataset": name, "path": None if path is None else str(path), "cache": str(cache), "tagging": tagging or {}, **settings}
    return load_tag_dataset(DataConfig.model_validate(values))


EMBEDDED = {"embedded": {"users": 120, "items": 80}}


class TestEmbedded:
    def test_has_two_tasks_and_profiles(self, tmp_path: Path) -> None:
        dataset = load("embedded", None, tmp_path, **EMBEDDED)
        assert dataset.task_names == ("clicked", "bought")
        assert {"tags", "bought_tags", "items", "categories", "brands", "age_band", "region"} == set(dataset.states.fields)
        assert len(dataset.users) == 120
        clicked, bought = dataset.train.labels.mean(axis=0)
        assert 0.15 < clicked < 0.25  # one of five
        assert 0.2 * clicked < bought < 0.5 * clicked

    def test_purchases_say_what_a_user_likes_and_leave_the_log_as_it_is(self) -> None:
        config = EmbeddedConfig(users=200, items=80)
        log, tables = generate(config), embedded_shop(config)
        np.testing.assert_array_equal(log.events.item_codes, tables.events.item_codes)
        weight, bought = interest_weights(log), np.asarray(tables.events.weights) == PURCHASE
        assert bought[weight > 0.8].mean() > 0.45
        assert bought[weight < 0.2].mean() < 0.2

    def test_is_the_same_every_time(self, tmp_path: Path) -> None:
        first, again = (load("embedded", None, tmp_path, **EMBEDDED) for _ in range(2))
        np.testing.assert_array_equal(first.train.tags, again.train.tags)
        np.testing.assert_array_equal(first.train.states, again.train.states)

    def test_categories_and_brands_can_be_tags(self, tmp_path: Path) -> None:
        dataset = load("embedded", None, tmp_path, {"tag_columns": ["category", "brand"]}, **EMBEDDED)
        assert dataset.train.tags.shape[1] == 2

    def test_batches_are_rows_with_their_states(self, tmp_path: Path) -> None:
        dataset = load("embedded", None, tmp_path, **EMBEDDED)
        batches = tag_batches(dataset.valid, StateGatherer(dataset.states), batch_size=50)
        batch = next(iter(batches.in_order()))
        np.testing.assert_array_equal(batch["tags"], dataset.valid.tags[:50])
        np.testing.assert_array_equal(batch["labels"], dataset.valid.labels[:50])
        np.testing.assert_array_equal(batch["fields"]["tags"], dataset.states.fields["tags"].values[dataset.valid.states[:50]])
        assert set(batch["fields"]) >= {"tags", "tags_weights", "age_band"}
        assert sum(len(part["tags"]) for part in batches.in_order()) == len(dataset.valid)

    def test_batches_of_states_are_in_order(self, tmp_path: Path) -> None:
        dataset = load("embedded", None, tmp_path, **EMBEDDED)
        parts = list(StateGatherer(dataset.states).batches(dataset.users.states, 50))
        assert [len(part["tags"]) for part in parts] == [50, 50, 20]
        np.testing.assert_array_equal(parts[1]["region"], dataset.states.fields["region"].values[dataset.users.states[50:100]])


class TestLastfm:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        tags = {1: "rock", 2: "pop", 3: "jazz"}
        rows = [(1, 10, 1, 1), (1, 10, 2, 1), (2, 10, 1, 2), (2, 11, 3, 3), (1, 11, 3, 4), (3, 10, 2, 5), (3, 11, 1, 6), (1, 12, 2, 7)]
        rows += [(2, 12, 2, 8), (3, 12, 3, 9)]
        (tmp_path / "artists.dat").write_text("id\tname\turl\tpictureURL\n10\tA\t\t\n11\tB\t\t\n12\tC\t\t\n", encoding="utf-8")
        (tmp_path / "tags.dat").write_text(
            "tagID\ttagValue\n" + "".join(f"{number}\t{name}\n" for number, name in tags.items()), encoding="utf-8"
        )
        lines = [f"{user}\t{artist}\t{tag}\t{day}\t1\t2010\n" for user, artist, tag, day in rows]
        (tmp_path / "user_taggedartists.dat").write_text("userID\tartistID\ttagID\tday\tmonth\tyear\n" + "".join(lines), encoding="utf-8")
        return tmp_path

    def test_events_carry_the_tags_that_the_user_gave(self, folder: Path) -> None:
        dataset = load("lastfm", folder, folder, SMALL)
        positive = dataset.train.labels[:, 0] == 1
        assert [sorted(names(dataset, tags)) for tags in dataset.train.tags[positive]][:3] == [["pop", "rock"], ["rock"], ["jazz"]]
        # On day 2 user 2 comes to an artist whom user 1 has called rock and pop; on day 3 this is known of user 2.
        state = dataset.train.states[positive][2]
        assert field_of(dataset, "tags", state) == {"rock": 1.0}
        assert field_of(dataset, "crowd_tags", state) == {"rock": 0.5, "pop": 0.5}
        assert field_of(dataset, "artists", state) == {"10": 1.0}

    @pytest.mark.slow
    def test_real_files(self, shared_data: SharedData, tmp_path: Path) -> None:
        dataset = load("lastfm", shared_data("lastfm_2k"), tmp_path)
        assert (dataset.report["events"], len(dataset.users), len(dataset.tags)) == (85_011, 1_892, 1_938)
        assert dataset.tags.ids[:3] == ["rock", "alternative", "pop"]
        assert (len(dataset.valid_tags), int(dataset.valid_tags.has_history().sum())) == (600, 423)
        assert (len(dataset.test_tags), int(dataset.test_tags.has_history().sum())) == (706, 553)
        assert dataset.states.fields["tags"].values.shape[1] == 30


class TestMovieLens:
    def test_without_the_file_of_tags_genres_are_the_tags(self, folder: Path) -> None:
        (folder / "tags.csv").unlink()
        dataset = load("movielens", folder, folder, {**SMALL, "negatives": 0}, split={"valid_share": 0.15, "test_share": 0.15})
        assert set(dataset.tags.ids) == {"Comedy", "Drama"}

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "movies.csv").write_text(
            "movieId,title,genres\n1,A (1995),Drama|Comedy\n2,B (1984),Drama\n3,C (2001),(no genres listed)\n", encoding="utf-8"
        )
        ratings = [(1, 1, 5, 10), (2, 3, 3, 15), (2, 1, 2, 20), (1, 2, 3, 30), (2, 2, 4, 40), (3, 1, 4, 50), (1, 1, 1, 60), (3, 2, 5, 70)]
        ratings.append((4, 1, 4, 80))
        lines = [f"{user},{movie},{rating},{time}\n" for user, movie, rating, time in ratings]
        (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(lines), encoding="utf-8")
        (tmp_path / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,1,Funny,45\n", encoding="utf-8")
        return tmp_path

    def test_watched_and_liked(self, folder: Path) -> None:
        dataset = load("movielens", folder, folder, {**SMALL, "negatives": 0}, split={"valid_share": 0.15, "test_share": 0.15})
        assert dataset.task_names == ("watched", "liked")
        # Rows come by time; movie 3 has no genre, and so no row. What is said at 45 is known at 50, and not before.
        assert [sorted(names(dataset, tags)) for tags in dataset.train.tags] == [
            ["Comedy", "Drama"],
            ["Comedy", "Drama"],
            ["Drama"],
            ["Drama"],
            ["Comedy", "Drama", "funny"],
        ]
        assert dataset.train.labels.tolist() == [[1, 1], [1, 0], [1, 0], [1, 1], [1, 1]]
        state = dataset.train.states[3]
        assert field_of(dataset, "disliked_tags", state) == {"Drama": 1.0, "Comedy": 1.0}
        assert field_of(dataset, "liked_tags", state) == field_of(dataset, "liked_movies", state) == {}
        assert field_of(dataset, "decades", dataset.train.states[2]) == {"1990s": 1.0}

    @pytest.mark.slow
    def test_real_files(self, shared_data: SharedData, tmp_path: Path) -> None:
        dataset = load("movielens", shared_data("movielens_latest_small"), tmp_path)
        assert (dataset.report["events"], len(dataset.users)) == (100_004, 671)
        assert dataset.tags.ids[:3] == ["Drama", "Comedy", "Action"]
        assert dataset.report["train"] == {"rows": len(dataset.train), "positive_watched": 80_003, "positive_liked": 41_576}


class TestSequences:
    def test_without_times_everybody_is_cut_at_the_same_share(self, tmp_path: Path) -> None:
        rows = [f"{user} " + " ".join(str(1 + (user + place) % 7) for place in range(10)) for user in range(1, 6)]
        (tmp_path / "sequences.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
        (tmp_path / "item_attributes.json").write_text(
            "{" + ", ".join(f'"{i}": [{i % 3}, {10 + i % 2}]' for i in range(1, 8)) + "}", encoding="utf-8"
        )
        dataset = load("sequences", tmp_path, tmp_path, {**SMALL, "negatives": 0})
        assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [40, 5, 5]
        assert np.bincount(dataset.train.users).tolist() == [8] * 5

    @pytest.mark.slow
    def test_real_files(self, shared_data: SharedData, tmp_path: Path) -> None:
        dataset = load("sequences", shared_data("beauty"), tmp_path, {"negatives": 1})
        assert (dataset.report["events"], len(dataset.tags)) == (198_502, 637)


class TestOwnLog:
    def test_tasks_by_weight(self, tmp_path: Path) -> None:
        rows = [f"u{n % 4},i{n % 3},{n},{1 + n % 2}" for n in range(30)]
        (tmp_path / "log.csv").write_text("user,item,time,value\n" + "\n".join(rows) + "\n", encoding="utf-8")
        (tmp_path / "catalogue.csv").write_text("item,tags\ni0,a|b\ni1,b\ni2,c:2\n", encoding="utf-8")
        dataset = load(
            "log",
            tmp_path,
            tmp_path / "cache",
            {**SMALL, "tasks": {"buy": 2.0, "click": 1.0}},
            log={"columns": {"weight": "value"}},
        )
        assert dataset.task_names == ("click", "buy")
        positive = dataset.train.labels[:, 0] == 1
        assert dataset.train.labels[positive, 1].mean() == 0.5
        assert "buy_tags" in dataset.states.fields

    def test_without_a_catalogue(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("user,item,time\na,b,1\na,c,2\nb,c,3\n", encoding="utf-8")
        with pytest.raises(DataError, match="needs a catalogue with tags"):
            load("log", tmp_path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "embedded", "split": {"method": "by_user"}}, "split by time"),
        ({"dataset": "comirec", "path": "somewhere"}, "comirec"),
        ({"dataset": "lastfm"}, "needs its files"),
        ({"dataset": "embedded", "path": "somewhere"}, "generated"),
        ({"dataset": "log", "path": "somewhere", "log": {"streaming": True}}, "streaming"),
        ({"dataset": "embedded", "tagging": {"tasks": {"a": 1.0, "b": 1.0}}}, "same task"),
    ],
)
def test_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_tag_dataset(DataConfig.model_validate(settings))
