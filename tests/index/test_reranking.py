"""Re-ranking one user's candidates: the served graph's answer, and the paper's double sum, built greedily."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.index.test_selection import EIGHTHS, EXAMPLE_CATEGORIES, EXAMPLE_SCORES, NUM_ROWS, candidates_of
from tfmi.index.merging import merge_interests
from tfmi.index.reranking import RerankedItem, rerank
from tfmi.index.selection import select

NAMES = ["a", "b", "c", "d", "e"]
CATEGORY_NAMES = ["X", "X", "X", "Y", "Z"]


def names(ranked: list[RerankedItem]) -> str:
    return "".join(found.item for found in ranked)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.floats(-4, 4, width=32, allow_subnormal=False), min_size=1, max_size=NUM_ROWS - 2),
    categories=st.lists(st.integers(0, 4), min_size=NUM_ROWS, max_size=NUM_ROWS),
    diversity=st.one_of(st.floats(-1, 8, width=32, allow_subnormal=False), st.sampled_from([float("inf"), float("nan"), 0.0])),
    exclude=st.lists(st.integers(0, NUM_ROWS), max_size=4),
    n=st.integers(1, NUM_ROWS),
)
def test_it_is_the_served_selection(scores: list[float], categories: list[int], diversity: float, exclude: list[int], n: int) -> None:
    category_of = np.array(categories, dtype=np.int32)
    given_to_both = candidates_of(scores)
    served = select(
        given_to_both,
        n,
        tf.constant([exclude], tf.int32, shape=[1, len(exclude)]),
        tf.constant([diversity], tf.float32),
        tf.constant(category_of),
    )
    items, values = given_to_both.items.numpy()[0], given_to_both.scores.numpy()[0]
    ranked = rerank(items.tolist(), values, category_of[items], n, diversity, exclude=exclude)
    present = served.items.numpy()[0] > 0
    assert [found.item for found in ranked] == served.items.numpy()[0][present].tolist()
    assert [found.score for found in ranked] == served.scores.numpy()[0][present].tolist()


def test_it_is_the_served_merge_of_several_interests_too() -> None:
    random = np.random.default_rng(5)
    items = np.stack([random.permutation(np.arange(2, 30))[:8] for _ in range(3)]).astype(np.int32)  # [K, k]
    scores = random.normal(size=items.shape).astype(np.float32)
    categories = random.integers(0, 5, 30).astype(np.int32)
    merged = merge_interests(tf.constant(scores[None]), tf.constant(items[None]), tf.constant([[True] * 3]))
    served = select(merged, 9, diversity=tf.constant([0.4]), categories=tf.constant(categories))
    flat = items.ravel()
    assert [found.item for found in rerank(flat.tolist(), scores.ravel(), categories[flat], 9, 0.4)] == served.items.numpy()[0].tolist()


def value_of(chosen: list[int], scores: list[float], g: Callable[[int, int], float], weight: float) -> float:
    """Q(u, S) as printed: the sum over ordered pairs counts each pair twice."""
    return sum(scores[i] for i in chosen) + weight * sum(g(i, j) for i in chosen for j in chosen if i != j)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(EIGHTHS, min_size=1, max_size=8),
    categories=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    diversity=st.sampled_from([0.125, 0.5, 2.0]),
    n=st.integers(1, 8),
)
def test_each_step_adds_the_most_to_the_papers_value(scores: list[float], categories: list[int], diversity: float, n: int) -> None:
    """Cen et al., KDD 2020, value function: λ of the greedy rule is the double sum's with λ / 2."""

    def g(i: int, j: int) -> float:
        return float(categories[i] != categories[j] or categories[i] == 0)

    expected: list[int] = []
    while len(expected) < min(n, len(scores)):
        left = [i for i in range(len(scores)) if i not in expected]
        expected.append(min(left, key=lambda i: (-value_of([*expected, i], scores, g, diversity / 2), -scores[i], i)))
    places = list(range(len(scores)))
    assert [found.item for found in rerank(places, scores, categories[: len(scores)], n, diversity)] == expected
    assert [found.item for found in rerank(places, scores, None, n, diversity, dissimilarity=g)] == expected


@pytest.mark.parametrize(("diversity", "expected"), [(0.0, "abc"), (0.1, "abc"), (0.3, "abd"), (10.0, "ade"), (float("inf"), "ade")])
def test_the_specifications_example(diversity: float, expected: str) -> None:
    assert names(rerank(NAMES, EXAMPLE_SCORES, CATEGORY_NAMES, 3, diversity)) == expected
    by_index = rerank(range(2, 7), EXAMPLE_SCORES, EXAMPLE_CATEGORIES[2:], 3, diversity)
    assert [NAMES[found.item - 2] for found in by_index] == list(expected)


def test_scores_stay_the_items_own() -> None:
    assert rerank(NAMES, EXAMPLE_SCORES, CATEGORY_NAMES, 3, 0.3)[2] == ("d", 0.5)


@pytest.mark.parametrize("unknown", [None, "", 0, float("nan"), np.float32("nan")])
def test_an_item_of_unknown_category_shares_it_with_nothing(unknown: object) -> None:
    assert names(rerank("abc", [1.0, 0.9, 0.8], [unknown, unknown, "X"], 3, 10.0)) == "abc"
    assert names(rerank("abc", [1.0, 0.9, 0.8], ["X", "X", unknown], 3, 10.0)) == "acb"


def test_padding_of_an_answer_is_never_chosen_and_fewer_come_back() -> None:
    ranked = rerank(["a", "", "b", ""], [0.5, float("-inf"), 0.7, float("nan")], ["X", "", "X", ""], 9, 0.1)
    assert names(ranked) == "ba"
    assert rerank([], [], [], 5, 1.0) == rerank(["a"], [1.0], ["X"], 0, 1.0) == []


def test_a_repeated_item_counts_once_with_its_best_score() -> None:
    assert rerank("abab", [0.1, 0.5, 0.9, 0.2], ["X"] * 4, 4, 0.0) == [("a", 0.9), ("b", 0.5)]


def test_excluded_items_are_left_out_before_diversity_counts_them() -> None:
    assert names(rerank(NAMES, EXAMPLE_SCORES, CATEGORY_NAMES, 3, 0.3, exclude={"a", "nothing"})) == "bcd"


def test_any_dissimilarity_may_take_the_place_of_categories() -> None:
    vectors = {"a": [1.0, 0.0], "b": [1.0, 0.1], "c": [0.0, 1.0]}

    def distance(candidate: str, chosen: str) -> float:
        return float(np.linalg.norm(np.subtract(vectors[candidate], vectors[chosen])))

    assert names(rerank("abc", [1.0, 0.9, 0.1], None, 2, 0.1, dissimilarity=distance)) == "ab"
    assert names(rerank("abc", [1.0, 0.9, 0.1], None, 2, 1.0, dissimilarity=distance)) == "ac"


def test_a_dissimilarity_that_is_not_symmetric_is_asked_about_the_candidate_first() -> None:
    asked: list[tuple[str, str]] = []

    def remember(candidate: str, chosen: str) -> float:
        asked.append((candidate, chosen))
        return 0.0

    rerank("ab", [1.0, 0.9], None, 2, 1.0, dissimilarity=remember)
    assert asked == [("b", "a")]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="each of the 2 items, got 1 scores"):
        rerank("ab", [1.0], None, 1, 0.0)
    with pytest.raises(ValueError, match="each of the 2 items, got 2 scores and 1 categories"):
        rerank("ab", [1.0, 2.0], ["X"], 1, 0.0)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        rerank("a", [1.0], None, -1, 0.0)
    with pytest.raises(ValueError, match="got both"):
        rerank("a", [1.0], ["X"], 1, 0.0, dissimilarity=lambda i, j: 0.0)


def test_clients_need_no_tensorflow_for_it() -> None:
    code = "import sys, tfmi; tfmi.rerank; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
