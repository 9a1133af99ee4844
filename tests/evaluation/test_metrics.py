"""Metrics against hand-worked values and against one-user-at-a-time loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmi.core.errors import DataError
from tfmi.data.dataset import Sequences
from tfmi.evaluation.metrics import (
    NdcgIdeal,
    catalogue_coverage,
    category_diversity,
    is_in_row,
    per_user_metrics,
    ranking_metrics,
    session_metrics,
)

NUM_ROWS = 12


def ragged(rows: list[list[int]]) -> Sequences:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    items = np.array(list(itertools.chain.from_iterable(rows)), dtype=np.int32)
    return Sequences(offsets, items, None, None, np.arange(len(rows), dtype=np.int32))


@pytest.mark.parametrize(("ideal", "expected"), [("targets", 0.498189), ("hits", 0.650921)])
def test_worked_example(ideal: NdcgIdeal, expected: float) -> None:
    """Recommended [9, 3, 7, 1, 5], truth [1, 2, 3], in numbers from 1 that are indices from 2 here."""
    values = per_user_metrics(np.array([[10, 4, 8, 2, 6]]), ragged([[2, 3, 4]]), [5], ideal)
    assert values["recall@5"][0] == pytest.approx(0.6667, abs=1e-4)
    assert values["ndcg@5"][0] == pytest.approx(expected, abs=1e-6)
    assert values["mrr@5"][0] == 1 / 2
    assert values["precision@5"][0] == 2 / 5
    assert values["hr@5"][0] == 1


def test_metrics_of_a_small_example_by_hand() -> None:
    recommended = np.array([[2, 3, 4, 5], [6, 7, 0, 0], [2, 8, 9, 10]])
    targets = ragged([[4, 11], [5], [2, 2, 9]])
    categories = np.array([0, 0, 2, 2, 3, 3, 0, 0, 4, 4, 4, 5])
    metrics = ranking_metrics(recommended, targets, cutoffs=[2, 4], num_rows=NUM_ROWS, categories=categories)
    assert metrics == pytest.approx(
        {
            "recall@2": (0 + 0 + 1 / 3) / 3,
            "hr@2": 1 / 3,
            "ndcg@2": (1 / (1 + 1 / math.log2(3))) / 3,
            "mrr@2": 1 / 3,
            "precision@2": 0.5 / 3,
            "coverage@2": 5 / 10,
            "diversity@2": (0 + 1 + 1) / 3,
            "recall@4": (1 / 2 + 0 + 2 / 3) / 3,
            "hr@4": 2 / 3,
            "ndcg@4": (0.5 / (1 + 1 / math.log2(3)) + 1.5 / (1.5 + 1 / math.log2(3))) / 3,
            "mrr@4": (1 / 3 + 0 + 1) / 3,
            "precision@4": (1 / 4 + 0 + 2 / 4) / 3,
            "coverage@4": 9 / 10,
            "diversity@4": (4 / 6 + 1 + 3 / 6) / 3,
        }
    )


def metrics_of_one_user(recommended: list[int], targets: list[int], n: int) -> dict[str, float]:
    hits = [rank for rank, item in enumerate(recommended[:n], start=1) if item >= 2 and item in targets]
    gain = sum(1 / math.log2(1 + rank) for rank in hits)
    return {
        f"recall@{n}": len(hits) / len(targets),
        f"hr@{n}": float(bool(hits)),
        f"ndcg@{n}": gain / sum(1 / math.log2(1 + rank) for rank in range(1, min(n, len(targets)) + 1)),
        f"mrr@{n}": 1 / hits[0] if hits else 0.0,
        f"precision@{n}": len(hits) / n,
    }


# Distinct real items, padded to six columns with 0.
LISTS = st.lists(st.integers(2, NUM_ROWS - 1), max_size=6, unique=True).map(lambda row: row + [0] * (6 - len(row)))
USERS = st.lists(st.tuples(LISTS, st.lists(st.integers(1, NUM_ROWS - 1), min_size=1, max_size=5)), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(USERS, st.integers(1, 6))
def test_all_users_at_once_equal_one_at_a_time(users: list[tuple[list[int], list[int]]], n: int) -> None:
    recommended = np.array([row for row, _ in users])
    values = per_user_metrics(recommended, ragged([targets for _, targets in users]), [n])
    for row, (items, targets) in enumerate(users):
        assert {name: column[row] for name, column in values.items()} == pytest.approx(metrics_of_one_user(items, targets, n))


@settings(max_examples=100, deadline=None)
@given(st.lists(LISTS, min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=NUM_ROWS, max_size=NUM_ROWS))
def test_diversity_is_the_share_of_pairs_that_differ(lists: list[list[int]], categories: list[int]) -> None:
    values = category_diversity(np.array(lists), np.array(categories))
    for row, value in zip(lists, values, strict=True):
        pairs = list(itertools.combinations([categories[item] for item in row if item], 2))
        if not pairs:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(sum(a != b or a == 0 for a, b in pairs) / len(pairs))


def test_repeated_targets_count_in_the_denominator_and_hit_once() -> None:
    values = per_user_metrics(np.array([[3, 2]]), ragged([[3, 3, 3, 2]]), [2])
    assert values["recall@2"][0] == 2 / 4
    assert values["precision@2"][0] == 1
    assert values["ndcg@2"][0] == 1


def test_padding_and_unknown_items_are_never_hits() -> None:
    values = per_user_metrics(np.array([[0, 1, 5]]), ragged([[1, 0]]), [3])
    assert not any(column[0] for column in values.values())


def test_users_without_targets_are_left_out_of_the_averages() -> None:
    recommended = np.array([[2, 3], [4, 5]])
    metrics = ranking_metrics(recommended, ragged([[2], []]), cutoffs=[2], num_rows=NUM_ROWS)
    assert metrics["hr@2"] == 1
    assert metrics["coverage@2"] == 2 / 10
    assert "diversity@2" not in metrics
    with pytest.raises(DataError, match="at least one user with a target"):
        ranking_metrics(recommended, ragged([[], []]), cutoffs=[2], num_rows=NUM_ROWS)


def test_lists_without_a_pair_have_no_diversity() -> None:
    metrics = ranking_metrics(np.array([[2], [0]]), ragged([[2], [3]]), cutoffs=[1], num_rows=NUM_ROWS, categories=np.zeros(NUM_ROWS, int))
    assert metrics["diversity@1"] == 0.0


def test_coverage_counts_each_real_item_once() -> None:
    assert catalogue_coverage(np.array([[2, 3, 0], [3, 11, 0]]), NUM_ROWS) == 3 / 10


def test_membership_is_per_row() -> None:
    rows = ragged([[3, 5], [], [4]])
    assert is_in_row(np.array([[3, 4], [3, 4], [3, 4]]), rows).tolist() == [[True, False], [False, False], [False, True]]


def test_lists_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="@5 need lists of 5 items, got 2"):
        per_user_metrics(np.array([[2, 3]]), ragged([[2]]), [1, 5])
    with pytest.raises(ValueError, match="each of the 2 rows of targets, got 1"):
        per_user_metrics(np.array([[2, 3]]), ragged([[2], [3]]), [1])


def test_sessions_are_reported_by_hit_rate_under_its_name_there_and_reciprocal_rank() -> None:
    metrics = ranking_metrics(np.array([[4, 5, 2], [6, 7, 8]]), ragged([[2], [9]]), cutoffs=[1, 3], num_rows=NUM_ROWS)
    assert session_metrics(metrics) == {"p@1": 0.0, "mrr@1": 0.0, "p@3": 0.5, "mrr@3": pytest.approx(1 / 6)}
