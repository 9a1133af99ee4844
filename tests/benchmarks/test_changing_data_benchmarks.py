"""What the benchmarks of changing catalogues and logs hold out, and how they count."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from benchmarks.daily_training import DAY, Days
from benchmarks.new_items import Cut
from benchmarks.shops import Shop, embedded_shop, popular, recalls


@pytest.fixture(scope="module")
def shop() -> Shop:
    return embedded_shop(60, 40, 7)


def test_recall_is_the_share_of_distinct_targets_that_was_found() -> None:
    shares = recalls([["a", "b"], ["a"], []], [["a", "c", "a"], ["a"], []])
    assert shares[:2].tolist() == [0.5, 1.0]
    assert np.isnan(shares[2])


def test_popularity_leaves_out_a_users_own_items_only_if_it_should() -> None:
    counts = pd.Series({"a": 1, "b": 3, "c": 2})
    assert popular(counts, [["b"], []], 2, leaves_out_history=True) == [["c", "a"], ["b", "c"]]
    assert popular(counts, [["b"]], 2, leaves_out_history=False) == [["b", "c"]]


def test_new_items_are_in_nothing_that_training_sees_but_popularity_has_counted_them(shop: Shop) -> None:
    cut = Cut(shop, 0.1, np.random.default_rng(0))
    assert len(cut.new) == 4
    assert not cut.new & (set(cut.events["item"]) | set(cut.items["item"]))
    assert cut.new <= set(cut.counts.index)
    assert all(not cut.new & set(targets) for targets in cut.known_targets)
    assert all(set(targets) <= cut.new for targets in cut.new_targets)
    tested = len(cut.histories)
    assert tested == len(cut.known_targets) == len(cut.new_targets) == int(0.1 * sum(len(each) >= 5 for each in shop.histories().values()))


def test_days_grow_the_log_and_targets_come_after_histories(shop: Shop) -> None:
    days = Days(shop, 2, 0.1, np.random.default_rng(0))
    logs = [days.until(day) for day in range(4)]
    assert days.entering == 4
    for before, after in itertools.pairwise(logs):
        assert len(before) <= len(after)
        assert after["time"].max() - before["time"].max() <= 2 * DAY
    entering = set(shop.events["item"]) - set(logs[0]["item"])
    assert len(entering) >= 4
    histories, targets = days.asked_after(1)
    assert len(histories) == len(targets)
    users = logs[2][logs[2]["time"] > logs[1]["time"].max()]
    assert sorted(item for each in targets for item in each) == sorted(users[users["user"].isin(set(logs[1]["user"]))]["item"])
