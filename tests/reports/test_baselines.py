"""Baselines are measured as models are, once for the same data, and say why one is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfmi.config import EvaluationConfig
from tfmi.data.dataset import Catalogue, EvaluationSet, InteractionDataset, Sequences, Vocabulary
from tfmi.reports.gathering import baselines
from tfmi.reports.gathering.baselines import baselines_key, measure_baselines
from tfmi.reports.gathering.users import extremes

CONFIG = EvaluationConfig(cutoffs=[1, 2], exclude_history=False)


def sequences(rows: list[list[int]], *, times: bool) -> Sequences:
    offsets = np.cumsum([0, *map(len, rows)])
    items = np.array([item for row in rows for item in row], np.int32)
    return Sequences(offsets, items, np.arange(len(items), dtype=np.float64) if times else None, None, np.arange(len(rows), dtype=np.int32))


class _OnDisk:
    """Training sequences that nobody may take into memory."""

    num_events = 8

    def __len__(self) -> int:
        return 2

    def in_memory(self) -> Sequences:
        raise AssertionError("the log may be larger than memory")


def dataset(*, times: bool = True, streamed: bool = False) -> InteractionDataset:
    """Four items; whoever has 4 goes on with 5, which alone comes after as many items as popularity wants to see before a target."""
    rows = [[2, 3, 2, 4, 5], [4, 5], [4, 5, 2]]
    counts = np.bincount(np.concatenate(rows), minlength=6)
    test = EvaluationSet(sequences([[4], [3]], times=times), sequences([[5], [2]], times=times))
    train: Any = _OnDisk() if streamed else sequences(rows, times=times)
    return InteractionDataset("tiny", Catalogue(Vocabulary("abcd"), {}, None, counts), train, test, test)


def test_they_are_measured_on_the_same_users() -> None:
    data = dataset()
    measured = measure_baselines(data, data.test, CONFIG, 4, "key")
    assert measured.missing == {}
    assert measured.metrics["popularity"]["recall@1"] == 0.5  # item 5 for everybody
    assert measured.metrics["item_knn"]["recall@1"] == 1.0  # 5 after 4, 2 beside 3
    assert measured.each["item_knn"]["recall@1"].tolist() == [1.0, 1.0]
    described = measured.described()
    assert described["intervals"]["item_knn"]["recall@1"] == [1.0, 1.0]
    assert described["key"] == "key"


def test_what_cannot_be_counted_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(times=False)
    monkeypatch.setattr(baselines, "MOST_PAIRS", 5)
    measured = measure_baselines(data, data.test, CONFIG, 4)
    assert set(measured.metrics) == {"popularity"}
    assert "needs the time of each event" in measured.missing["recent_popularity"]
    assert "pairs of items in histories are too many" in measured.missing["item_knn"]


def test_a_log_on_disk_stays_there() -> None:
    data = dataset(streamed=True)
    measured = measure_baselines(data, data.test, CONFIG, 4)
    assert measured.metrics["popularity"]["recall@1"] == 0.5
    assert set(measured.missing) == {"item_knn", "recent_popularity"}
    assert "stream from disk" in measured.missing["item_knn"]


def test_the_key_says_what_they_depend_on() -> None:
    key = baselines_key("data", CONFIG, 4)
    others = [baselines_key("other", CONFIG, 4), baselines_key("data", EvaluationConfig(cutoffs=[1]), 4), baselines_key("data", CONFIG, 5)]
    assert key == baselines_key("data", CONFIG.model_copy(update={"batch_size": 3}), 4)
    assert key not in others


def test_worst_and_best_are_those_with_most_evidence_and_nobody_is_both() -> None:
    values, lengths = np.array([0.0, 0.5, 0.0, 1.0, 1.0]), np.array([1, 2, 9, 3, 8])
    assert extremes(values, lengths, 2) == ([2, 0], [4, 3])
    assert extremes(np.zeros(2), np.array([1, 2]), 2) == ([1, 0], [])
