"""Impressions by the dataset's name: what is a click in each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfmi.config import DataConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.dataset import CategoricalFeature
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.data.impressions.impression_loading import load_ranking_dataset
from tfmi.data.loading import load_dataset
from tfmi.evaluation.binary_metrics import auc

SharedData = Callable[[str], Path]
UNFILTERED = {"min_user_events": 1, "min_item_events": 1}


def load(name: str, path: Path | None = None, **settings: object) -> RankingDataset:
    values = {"dataset": name, "path": None if path is None else str(path), "split": UNFILTERED, **settings}
    return load_ranking_dataset(DataConfig.model_validate(values))


class TestEmbedded:
    @pytest.fixture(scope="class")
    def dataset(self) -> RankingDataset:
        return load("embedded", embedded={"users": 500, "items": 300})

    def test_it_repeats_itself(self, dataset: RankingDataset) -> None:
        again = load("embedded", embedded={"users": 500, "items": 300})
        np.testing.assert_array_equal(again.train.items, dataset.train.items)
        np.testing.assert_array_equal(again.test.labels, dataset.test.labels)
        np.testing.assert_array_equal(again.truth["preference"], dataset.truth["preference"])

    def test_clicks_are_a_noisy_picture_of_likes(self, dataset: RankingDataset) -> None:
        rows = dataset.train
        liked = dataset.truth["liked"][rows.row_ids]
        assert rows.labels[liked].mean() == pytest.approx(0.5, abs=0.05)  # places and likes hang together
        assert rows.labels[~liked].mean() == pytest.approx(0.02, abs=0.01)

    def test_nobody_is_shown_an_item_twice(self, dataset: RankingDataset) -> None:
        pairs = [pair for rows in (dataset.train, dataset.test) for pair in zip(rows.users, rows.items, strict=True)]
        assert len(set(pairs)) == len(pairs)

    def test_preferences_are_calibrated_probabilities_of_likes(self, dataset: RankingDataset) -> None:
        preference, liked = dataset.truth["preference"], dataset.truth["liked"]
        for low in (0.0, 0.2, 0.4, 0.6, 0.8):
            inside = (preference >= low) & (preference < low + 0.2)
            assert liked[inside].mean() == pytest.approx(preference[inside].mean(), abs=0.03)
        rows = dataset.test
        assert auc(liked[rows.row_ids], preference[rows.row_ids]) > auc(rows.labels, preference[rows.row_ids]) + 0.05

    def test_unpopular_items_are_missed_more_and_rare_items_exist(self, dataset: RankingDataset) -> None:
        rows = dataset.train
        liked = dataset.truth["liked"][rows.row_ids]
        rare = dataset.catalogue.counts[rows.items] < np.median(dataset.catalogue.counts[rows.items])
        assert rows.labels[liked & rare].mean() < rows.labels[liked & ~rare].mean() - 0.02
        assert (dataset.catalogue.counts[2:] < 10).mean() > 0.05

    def test_nothing_is_missed_where_nothing_is_to_be(self) -> None:
        impressions = {"missed": 0.0, "false_clicks": 0.0, "page_size": 4}
        dataset = load("embedded", embedded={"users": 50, "items": 40, "impressions": impressions})
        np.testing.assert_array_equal(dataset.train.labels > 0, dataset.truth["liked"][dataset.train.row_ids])

    def test_its_catalogue_is_that_of_the_log(self, dataset: RankingDataset) -> None:
        log = load_dataset(DataConfig.model_validate({"embedded": {"users": 500, "items": 300}}))
        titles = dict(zip(log.catalogue.vocabulary.ids, (log.catalogue.titles or [])[2:], strict=True))
        assert dataset.catalogue.titles is not None
        for identifier, title in zip(dataset.catalogue.vocabulary.ids, dataset.catalogue.titles[2:], strict=True):
            assert titles.get(identifier, title) == title

    def test_a_path_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="generated and reads no file"):
            load("embedded", Path("somewhere"))


class TestMovieLens:
    def test_ratings_of_four_and_more_are_clicks(self, shared_data: SharedData) -> None:
        dataset = load("movielens", shared_data("movielens_latest_small"))
        assert [len(rows) for rows in (dataset.train, dataset.valid, dataset.test)] == [80_003, 10_000, 10_001]
        assert dataset.clicks.num_events == 51_568
        assert dataset.report["items"] == 9_066
        decade, genres = dataset.catalogue.features["decade"], dataset.catalogue.features["genre_set"]
        assert isinstance(decade, CategoricalFeature)
        assert isinstance(genres, CategoricalFeature)
        assert "1990s" in decade.vocabulary.ids
        assert "Comedy|Romance" in genres.vocabulary.ids

    def test_the_threshold_can_be_another(self, shared_data: SharedData) -> None:
        dataset = load("movielens", shared_data("movielens_latest_small"), impressions={"positive_weight": 5.0})
        assert dataset.clicks.num_events == 15_095


class TestLog:
    @pytest.fixture
    def log(self, tmp_path: Path) -> Path:
        random = np.random.default_rng(0)
        rows = [
            f"u{random.integers(9)},i{random.integers(12)},{second},{random.choice(['view', 'buy', 'like'])},{random.integers(1, 6)}"
            for second in range(300)
        ]
        (tmp_path / "log.csv").write_text("user,item,time,event,weight\n" + "\n".join(rows) + "\n")
        return tmp_path

    def test_event_types_tell_clicks(self, log: Path) -> None:
        columns = {"event": "event"}
        dataset = load("log", log, log={"columns": columns}, impressions={"positive_events": ["buy", "like"]}, cache=str(log / "cache"))
        lines = [line.split(",") for line in (log / "log.csv").read_text().splitlines()[1:]]
        for rows in (dataset.train, dataset.valid, dataset.test):
            assert [lines[row][3] != "view" for row in rows.row_ids] == (rows.labels > 0).tolist()

    def test_a_weight_tells_clicks(self, log: Path) -> None:
        dataset = load("log", log, log={"columns": {"weight": "weight"}}, impressions={"positive_weight": 4.0}, cache=str(log / "cache"))
        assert 0.3 < dataset.train.labels.mean() < 0.5

    def test_without_either_items_are_drawn(self, log: Path) -> None:
        dataset = load("log", log, impressions={"sampled_negatives": 2}, cache=str(log / "cache"))
        assert dataset.clicks.num_events == 300
        assert dataset.train.labels.mean() < 0.5

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "sampled_negatives"),
            ({"impressions": {"positive_events": ["buy"]}}, r"needs data\.log\.columns\.event"),
            ({"impressions": {"positive_weight": 2.0}}, r"needs data\.log\.columns\.weight"),
            ({"impressions": {"positive_events": ["bought"]}, "log": {"columns": {"event": "event"}}}, "it has: .*buy"),
            ({"impressions": {"sampled_negatives": 1}, "log": {"streaming": True}}, r"data\.log\.streaming"),
        ],
    )
    def test_what_cannot_be_is_refused(self, log: Path, settings: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            load("log", log, cache=str(log / "cache"), **settings)

    def test_two_ways_to_tell_clicks_are_refused(self) -> None:
        with pytest.raises(ValueError, match="give one of them"):
            DataConfig.model_validate({"impressions": {"positive_events": ["buy"], "positive_weight": 1.0}})


class TestSequences:
    @pytest.fixture
    def sequences(self, tmp_path: Path) -> Path:
        random = np.random.default_rng(0)
        lines = [f"{user} " + " ".join(map(str, random.integers(1, 30, size=8))) for user in range(1, 40)]
        (tmp_path / "sequences.txt").write_text("\n".join(lines) + "\n")
        return tmp_path

    def test_every_target_is_a_click_after_what_precedes_it(self, sequences: Path) -> None:
        dataset = load("sequences", sequences, impressions={"sampled_negatives": 2})
        retrieval = dataset.retrieval
        positive = dataset.test.take(dataset.test.labels > 0)
        np.testing.assert_array_equal(positive.items, retrieval.test.targets.items)
        lengths = positive.history_ends - dataset.clicks.offsets[positive.users]
        first_of_user = np.unique(positive.users, return_index=True)[1]
        np.testing.assert_array_equal(lengths[first_of_user], retrieval.test.histories.lengths())
        assert (dataset.train.labels == 0).sum() == pytest.approx(2 * dataset.train.labels.sum(), rel=0.02)
        assert (dataset.train.labels > 0).sum() == retrieval.train.num_events - len(retrieval.train)

    def test_what_was_clicked_before_is_not_drawn(self, sequences: Path) -> None:
        dataset = load("sequences", sequences, impressions={"sampled_negatives": 5})
        rows = dataset.test.take(dataset.test.labels == 0)
        for user, item, end in zip(rows.users, rows.items, rows.history_ends, strict=True):
            assert item not in dataset.clicks.items[dataset.clicks.offsets[user] : end]

    def test_nothing_to_draw_is_refused(self, sequences: Path) -> None:
        with pytest.raises(ConfigError, match=r"data\.impressions\.sampled_negatives: sequences holds clicks alone"):
            load("sequences", sequences)

    def test_a_catalogue_of_one_item_is_not_told_to_draw_what_it_draws_already(self, tmp_path: Path) -> None:
        lines = [f"u{user} " + " ".join(["only"] * 10) for user in range(30)]
        (tmp_path / "sequences.txt").write_text("\n".join(lines))
        with pytest.raises(DataError, match=r"sampled_negatives=3 could draw nothing: .* \(1 item\)") as error:
            load("sequences", tmp_path, impressions={"sampled_negatives": 3})
        assert "positive_events" not in str(error.value)
