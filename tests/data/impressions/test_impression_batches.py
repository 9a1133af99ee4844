"""Batches hold what a row's user had clicked, and every row once."""

from __future__ import annotations

import numpy as np

from tests.data.impressions.impression_logs import UNFILTERED, catalogue, random_log, split
from tfmi.config import DataConfig
from tfmi.data.features import feature_arrays
from tfmi.data.impressions.impression_batches import impression_batches
from tfmi.data.impressions.impression_split import split_impressions
from tfmi.data.impressions.training_coarse_labels import training_coarse_labels
from tfmi.data.tables import UserTable

LENGTH = 4


def test_histories_are_the_newest_clicks_padded_on_the_right() -> None:
    dataset = split(random_log())
    batches = impression_batches(dataset.test, dataset.clicks, history_length=LENGTH, batch_size=7, seed=1)
    seen = 0
    for batch in batches.in_order():
        for history, item, label in zip(batch["history"].numpy(), batch["item"].numpy(), batch["label"].numpy(), strict=True):
            user, end = dataset.test.users[seen], dataset.test.history_ends[seen]
            expected = dataset.clicks.items[dataset.clicks.offsets[user] : end][-LENGTH:]
            np.testing.assert_array_equal(history, np.pad(expected, (0, LENGTH - len(expected))))
            assert item == dataset.test.items[seen]
            assert label == dataset.test.labels[seen]
            seen += 1
        assert "coarse" not in batch
        assert "profile" not in batch
    assert seen == len(dataset.test)


def test_shuffled_batches_keep_rows_together() -> None:
    log = random_log()
    users = UserTable(log.table.user_ids, {"age": np.arange(12, dtype=np.float32)})
    dataset = split_impressions("toy", log, DataConfig.model_validate({"split": UNFILTERED}), items=catalogue(), users=users)
    assert dataset.profiles is not None
    coarse = training_coarse_labels(dataset, ["category"])
    # The item's place in a made-up table of rows tells which row an example is.
    batches = impression_batches(
        dataset.train,
        dataset.clicks,
        history_length=LENGTH,
        batch_size=len(dataset.train),
        seed=1,
        profiles=dataset.profiles,
        coarse=coarse,
    )
    batch = next(iter(batches.from_step(0).take(1)))
    ages = feature_arrays(dataset.profiles.features)["age"][dataset.clicks.users[dataset.train.users]]
    columns = (batch["item"], batch["label"], batch["coarse"][:, 0], batch["profile"]["age"])
    found = sorted(zip(*(column.numpy().tolist() for column in columns), strict=True))
    expected = sorted(zip(dataset.train.items.tolist(), dataset.train.labels.tolist(), coarse[:, 0].tolist(), ages.tolist(), strict=True))
    assert found == expected
    assert batch["item"].numpy().tolist() != dataset.train.items.tolist()


def test_nobody_has_a_history_where_nothing_was_clicked_before() -> None:
    log = random_log()
    dataset = split(log)
    first = dataset.train.take(dataset.train.timestamps == dataset.train.timestamps.min())
    batch = next(iter(impression_batches(first, dataset.clicks, history_length=LENGTH, batch_size=4, seed=1).in_order()))
    assert not batch["history"].numpy().any()
