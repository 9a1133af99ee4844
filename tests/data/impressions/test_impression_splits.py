"""Impressions are cut by time, and a row sees only what came strictly before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.data.impressions.impression_logs import NUM_ITEMS, UNFILTERED, catalogue, random_log, split
from tfmi.config import DataConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.impressions.impression_dataset import ImpressionRows, RankingDataset
from tfmi.data.impressions.impression_split import LabelledEvents, split_impressions
from tfmi.data.impressions.training_coarse_labels import coarse_feature_names, training_coarse_labels
from tfmi.data.tables import UserTable


def parts(dataset: RankingDataset) -> list[ImpressionRows]:
    return [dataset.train, dataset.valid, dataset.test]


class TestByTime:
    def test_every_row_is_in_one_part_and_parts_follow_each_other(self) -> None:
        log = random_log()
        dataset = split(log)
        ids = np.concatenate([rows.row_ids for rows in parts(dataset)])
        assert sorted(ids) == list(range(400))
        for earlier, later in zip(parts(dataset)[:-1], parts(dataset)[1:], strict=True):
            assert earlier.timestamps.max() < later.timestamps.min()
        assert len(dataset.train) == pytest.approx(320, abs=8)

    def test_rows_are_those_of_the_log(self) -> None:
        log = random_log()
        dataset = split(log)
        for rows in parts(dataset):
            np.testing.assert_array_equal(rows.labels, log.clicked[rows.row_ids])
            ids = [dataset.catalogue.vocabulary.identifier(item) for item in rows.items]
            assert ids == [log.table.item_ids[code] for code in log.table.item_codes[rows.row_ids]]
            np.testing.assert_array_equal(rows.users, log.table.user_codes[rows.row_ids])

    def test_a_history_is_the_clicks_strictly_before_the_row(self) -> None:
        log = random_log()
        dataset = split(log)
        users, times = log.table.user_codes, log.table.timestamps
        assert times is not None
        for rows in parts(dataset):
            for user, time, end in zip(rows.users, rows.timestamps, rows.history_ends, strict=True):
                before = np.flatnonzero((users == user) & (times < time) & log.clicked)
                before = before[np.argsort(times[before], kind="stable")]
                expected = [log.table.item_ids[code] for code in log.table.item_codes[before]]
                history = dataset.clicks.items[dataset.clicks.offsets[user] : end]
                assert [dataset.catalogue.vocabulary.identifier(item) for item in history] == expected

    def test_retrieval_trains_on_the_clicks_before_the_first_moment(self) -> None:
        dataset = split(random_log())
        assert dataset.retrieval.train.num_events == dataset.train.labels.sum()
        targets = dataset.retrieval.test.targets
        assert targets.timestamps is not None
        assert targets.timestamps.min() >= dataset.test.timestamps.min()
        assert dataset.retrieval.catalogue.vocabulary is dataset.catalogue.vocabulary

    def test_counts_are_of_rows_for_ranking_and_of_clicks_for_retrieval(self) -> None:
        dataset = split(random_log())
        assert dataset.catalogue.counts.sum() == len(dataset.train)
        assert dataset.retrieval.catalogue.counts.sum() == dataset.train.labels.sum()

    def test_users_have_their_profiles(self) -> None:
        log = random_log()
        users = UserTable(log.table.user_ids, {"name": [f"p{number}" for number in range(12)]})
        config = DataConfig.model_validate({"split": UNFILTERED})
        dataset = split_impressions("toy", log, config, users=users)
        assert dataset.profiles is not None
        profile = dataset.profiles.user_ids
        for rows in parts(dataset):
            assert [profile[row] for row in dataset.clicks.users[rows.users]] == [f"u{code}" for code in log.table.user_codes[rows.row_ids]]
        train = dataset.retrieval.train.in_memory()
        assert {profile[row] for row in train.users} <= set(log.table.user_ids)
        np.testing.assert_array_equal(train.row(0), dataset.clicks.row(int(train.users[0]) - 1)[: len(train.row(0))])

    def test_rare_items_are_left_out_by_their_impressions(self) -> None:
        log = random_log()
        counts = np.bincount(log.table.item_codes)
        threshold = int(np.sort(counts)[3])
        config = DataConfig.model_validate({"split": {"min_user_events": 1, "min_item_events": threshold}})
        dataset = split_impressions("toy", log, config)
        assert len(dataset.catalogue.vocabulary) == (counts >= threshold).sum()
        assert dataset.report["left_out_as_rare"] == counts[counts < threshold].sum()

    def test_other_splits_logs_without_times_and_logs_of_one_outcome_are_refused(self) -> None:
        log = random_log()
        with pytest.raises(ConfigError, match="impressions are split by_time"):
            split_impressions("toy", log, DataConfig.model_validate({"split": {"method": "by_user"}}))
        with pytest.raises(DataError, match=r"data\.log\.columns\.time"):
            split_impressions("toy", LabelledEvents(replace(log.table, timestamps=None), log.clicked), DataConfig())
        for outcome, message in ((False, "no click"), (True, "clicks alone")):
            with pytest.raises(DataError, match=message):
                split(LabelledEvents(log.table, np.full(400, outcome)))


class TestCoarseLabels:
    def test_what_is_validated_and_tested_on_changes_no_training_label(self) -> None:
        log = random_log()
        dataset = split(log)
        expected = training_coarse_labels(dataset, ["category"])
        held_out = np.concatenate([dataset.valid.row_ids, dataset.test.row_ids])
        for clicked in (True, False):
            changed = log.clicked.copy()
            changed[held_out] = clicked
            # Other items, too: any category may be clicked by anybody after the first moment.
            items = log.table.item_codes.copy()
            items[held_out] = np.roll(items[held_out], 5)
            other = split(LabelledEvents(replace(log.table, item_codes=items), changed))
            np.testing.assert_array_equal(other.train.row_ids, dataset.train.row_ids)
            np.testing.assert_array_equal(training_coarse_labels(other, ["category"]), expected)

    def test_they_belong_to_rows_whatever_their_order(self) -> None:
        log = random_log()
        dataset = split(log)
        expected = dict(zip(dataset.train.row_ids, training_coarse_labels(dataset, ["category"])[:, 0], strict=True))
        order = np.random.default_rng(3).permutation(400)
        table = log.table
        assert table.timestamps is not None
        shuffled = replace(
            table, user_codes=table.user_codes[order], item_codes=table.item_codes[order], timestamps=table.timestamps[order]
        )
        other = split(LabelledEvents(shuffled, log.clicked[order]))
        found = dict(zip(order[other.train.row_ids], training_coarse_labels(other, ["category"])[:, 0], strict=True))
        assert found == expected

    def test_they_are_at_least_the_labels_and_shuffling_keeps_their_number_per_user(self) -> None:
        dataset = split(random_log())
        labels = training_coarse_labels(dataset, ["category"])
        assert labels.shape == (len(dataset.train), 1)
        assert (labels[:, 0] >= dataset.train.labels).all()
        assert labels.mean() > dataset.train.labels.mean()
        shuffled = training_coarse_labels(dataset, ["category"], shuffle_seed=1)
        assert (shuffled != labels).any()
        for user in np.unique(dataset.train.users):
            rows = dataset.train.users == user
            assert shuffled[rows].sum() == labels[rows].sum()

    def test_coarse_features_have_one_value_per_item(self) -> None:
        dataset = split(random_log())
        assert coarse_feature_names(dataset, "auto", "x") == ("category",)
        with pytest.raises(ConfigError, match=r"x: .* no feature 'categry' .*category"):
            coarse_feature_names(dataset, ["categry"], "x")
        bare = split_impressions("toy", random_log(), DataConfig.model_validate({"split": UNFILTERED}))
        with pytest.raises(ConfigError, match=r"x: .* no feature with one value per item"):
            coarse_feature_names(bare, "auto", "x")


class TestDrawnRows:
    def test_items_not_clicked_up_to_then_are_drawn_for_every_click(self) -> None:
        log = random_log()
        log_times = log.table.timestamps
        assert log_times is not None
        only_clicks = LabelledEvents(
            replace(
                log.table,
                user_codes=log.table.user_codes[log.clicked],
                item_codes=log.table.item_codes[log.clicked],
                timestamps=log_times[log.clicked],
            ),
            np.ones(log.clicked.sum(), dtype=bool),
        )
        dataset = split(only_clicks, sampled_negatives=3)
        rows = [np.concatenate([getattr(part, name) for part in parts(dataset)]) for name in ("users", "items", "labels", "timestamps")]
        users, items, labels, times = rows
        assert (labels == 0).sum() == pytest.approx(3 * (labels == 1).sum(), rel=0.05)
        for user, item, time in zip(users[labels == 0], items[labels == 0], times[labels == 0], strict=True):
            assert not ((users == user) & (items == item) & (labels == 1) & (times <= time)).any()
        clicked_later = [
            ((users == user) & (items == item) & (labels == 1)).any()
            for user, item in zip(users[labels == 0], items[labels == 0], strict=True)
        ]
        assert any(clicked_later)  # not to draw them would tell the future
        assert len({*items[labels == 0]}) == NUM_ITEMS
        again = split(only_clicks, sampled_negatives=3)
        np.testing.assert_array_equal(again.train.items, dataset.train.items)
        assert (split(only_clicks, sampled_negatives=3, seed=9).train.items != dataset.train.items).any()

    def test_a_user_who_has_clicked_everything_gets_none(self) -> None:
        log = random_log(60)
        table = replace(
            log.table,
            user_codes=np.arange(60) % 3,
            item_codes=np.repeat(np.arange(5), 12),
            timestamps=np.concatenate([np.zeros(30), np.arange(30) + 1.0]),
        )
        dataset = split_impressions(
            "toy",
            LabelledEvents(table, np.ones(60, dtype=bool)),
            DataConfig.model_validate({"split": UNFILTERED, "impressions": {"sampled_negatives": 2}}),
            items=catalogue(),
        )
        last = np.concatenate([part.labels[part.timestamps >= 27] for part in parts(dataset)])
        assert last.all()
