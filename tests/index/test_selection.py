"""Selecting from candidates: exclusions and ComiRec's greedy rule, against the loop that the paper writes."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmi.evaluation.metrics import category_diversity
from tfmi.index.merging import Candidates, merge_interests
from tfmi.index.selection import most_distinct_items, select

NUM_ROWS = 14
# A worked example of ComiRec's greedy rule: a, b, c of category X, d of Y, e of Z are the items 2 to 6.
EXAMPLE_SCORES = [1.0, 0.95, 0.9, 0.5, 0.45]
EXAMPLE_CATEGORIES = np.array([0, 0, 2, 2, 2, 3, 4], dtype=np.int32)


def candidates_of(scores: list[float] | np.ndarray) -> Candidates:
    """One user's candidates: items 2, 3, ... with these scores."""
    row = np.asarray(scores, dtype=np.float32)[None, None, :]
    items = np.arange(2, 2 + row.shape[2], dtype=np.int32)[None, None, :]
    return merge_interests(tf.constant(row), tf.constant(items), tf.constant([[True]]))


def greedy_by_gain(scores: dict[int, float], categories: np.ndarray, diversity: float, n: int) -> list[int]:
    """The paper's rule: add the item with the largest f + λ * (selected items of another category)."""

    def differs(a: int, b: int) -> bool:
        return categories[a] != categories[b] or categories[a] == 0

    selected: list[int] = []
    while len(selected) < n and len(selected) < len(scores):
        left = [item for item in scores if item not in selected]
        gains = {item: scores[item] + diversity * sum(differs(item, other) for other in selected) for item in left}
        selected.append(min(left, key=lambda item: (-gains[item], -scores[item], item)))
    return selected


def greedy_by_count(scores: dict[int, float], categories: np.ndarray, diversity: float, n: int) -> list[int]:
    """The form of the authors' code: f - λ * (selected items of the same category)."""
    selected: list[int] = []
    while len(selected) < n and len(selected) < len(scores):
        left = [item for item in scores if item not in selected]
        alike = {item: sum(categories[item] == categories[other] != 0 for other in selected) for item in left}
        selected.append(min(left, key=lambda item: (-(scores[item] - diversity * alike[item]), -scores[item], item)))
    return selected


def selected_items(candidates: Candidates, n: int, diversity: float, categories: np.ndarray) -> list[int]:
    chosen = select(candidates, n, diversity=tf.constant([diversity], tf.float32), categories=tf.constant(categories))
    items = chosen.items.numpy()[0]
    return items[items > 0].tolist()


# Multiples of 1/8 keep every sum exact in float32, so that ties are ties in both computations.
EIGHTHS = st.integers(-40, 40).map(lambda i: i / 8)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    scores=st.lists(EIGHTHS, min_size=1, max_size=NUM_ROWS - 2),
    categories=st.lists(st.integers(0, 4), min_size=NUM_ROWS, max_size=NUM_ROWS),
    diversity=st.sampled_from([0.0, 0.125, 0.5, 1.0, 8.0, 64.0]),
    n=st.integers(1, NUM_ROWS),
)
def test_one_sort_selects_what_the_greedy_loop_selects(scores: list[float], categories: list[int], diversity: float, n: int) -> None:
    """Cen et al., KDD 2020, aggregation module: both forms of the rule, and this package's, give the same list."""
    category_of = np.array(categories, dtype=np.int32)
    by_item = dict(enumerate(scores, start=2))
    expected = greedy_by_gain(by_item, category_of, diversity, n)
    assert greedy_by_count(by_item, category_of, diversity, n) == expected
    assert selected_items(candidates_of(scores), n, diversity, category_of) == expected


@pytest.mark.parametrize(
    ("diversity", "expected", "share"), [(0.0, [2, 3, 4], 0), (0.1, [2, 3, 4], 0), (0.3, [2, 3, 5], 2 / 3), (10.0, [2, 5, 6], 1)]
)
def test_the_specifications_example(diversity: float, expected: list[int], share: float) -> None:
    """Cen et al., KDD 2020, aggregation module: the lists, and diversity that does not fall as λ grows."""
    chosen = selected_items(candidates_of(EXAMPLE_SCORES), 3, diversity, EXAMPLE_CATEGORIES)
    assert chosen == expected
    assert category_diversity(np.array([chosen]), EXAMPLE_CATEGORIES)[0] == pytest.approx(share)


@pytest.mark.parametrize("diversity", [float("nan"), -1.0, float("-inf"), 0.0])
def test_no_diversity_is_the_top_n(diversity: float) -> None:
    assert selected_items(candidates_of(EXAMPLE_SCORES), 4, diversity, EXAMPLE_CATEGORIES) == [2, 3, 4, 5]


def test_infinite_diversity_takes_categories_in_turn() -> None:
    categories = np.array([0, 0, 2, 2, 2, 3, 3, 4], dtype=np.int32)
    candidates = candidates_of([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    assert selected_items(candidates, 6, float("inf"), categories) == [2, 5, 7, 3, 6, 4]


def test_users_of_one_batch_have_their_own_diversity_and_scores_stay_their_own() -> None:
    one = candidates_of(EXAMPLE_SCORES)
    batch = Candidates(*(tf.tile(field, [3, 1]) for field in one))
    chosen = select(batch, 3, diversity=tf.constant([0.0, 0.3, float("nan")]), categories=tf.constant(EXAMPLE_CATEGORIES))
    assert chosen.items.numpy().tolist() == [[2, 3, 4], [2, 3, 5], [2, 3, 4]]
    np.testing.assert_allclose(chosen.scores[1], [1.0, 0.95, 0.5])
    assert chosen.interests.numpy().tolist() == [[0, 0, 0]] * 3


def test_excluded_items_are_left_out_before_diversity_counts_them() -> None:
    exclude = tf.constant([[2, 0, 13, 0]])
    chosen = select(candidates_of(EXAMPLE_SCORES), 3, exclude, tf.constant([0.3]), tf.constant(EXAMPLE_CATEGORIES))
    # With 2 gone, 3 is the first of category X, and 4 pays for it.
    assert chosen.items.numpy().tolist() == [[3, 4, 5]]


def test_exclusions_in_any_order_with_repeats_leave_out_what_comparing_all_pairs_does() -> None:
    random = np.random.default_rng(0)
    items = np.stack([random.permutation(np.arange(2, 60))[:40] for _ in range(7)]).astype(np.int32)
    scores = -np.sort(-random.normal(size=items.shape).astype(np.float32), axis=1)
    candidates = Candidates(tf.constant(items), tf.constant(scores), tf.zeros_like(items))
    for width in (0, 1, 30):
        exclude = random.integers(0, 60, (7, width)).astype(np.int32)
        chosen = select(candidates, 40, tf.constant(exclude)).items.numpy()
        for row in range(7):
            expected = [item for item in items[row] if item not in exclude[row]]
            assert chosen[row].tolist() == expected + [0] * (40 - len(expected))


def test_ten_thousand_exclusions_take_no_table_of_all_pairs() -> None:
    """Comparing all pairs would hold 2 * 2,000 * 200,000 flags: 800 MB."""
    width, columns = 2000, 200_000
    scores = tf.broadcast_to(tf.linspace(1.0, 0.0, width), [2, width])
    items = tf.broadcast_to(tf.range(2, width + 2), [2, width])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chosen = select(Candidates(items, scores, tf.zeros_like(items)), 3, tf.broadcast_to(tf.range(columns, 3, -1), [2, columns - 3]))
    assert chosen.items.numpy().tolist() == [[2, 3, 0]] * 2
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 200


def test_distinct_items_are_counted_per_row() -> None:
    items = tf.constant([[5, 5, 0, 1, 5], [7, 2, 7, 0, 0], [0, 1, 1, 0, 0]])
    assert [int(most_distinct_items(items[row : row + 1])) for row in range(3)] == [1, 2, 0]
    assert int(most_distinct_items(items)) == 2
    assert int(most_distinct_items(items[:0])) == int(most_distinct_items(items[:, :0])) == 0


def test_shorter_answers_are_padded() -> None:
    exclude = tf.constant([[2, 3, 4, 5]])
    for diversity in (None, tf.constant([0.5])):
        chosen = select(candidates_of(EXAMPLE_SCORES), 8, exclude, diversity, tf.constant(EXAMPLE_CATEGORIES))
        assert chosen.items.numpy().tolist() == [[6, 0, 0, 0, 0, 0, 0, 0]]
        assert np.isneginf(chosen.scores[0, 1:]).all()
        assert chosen.interests.numpy().tolist() == [[0] + [-1] * 7]


def test_without_categories_diversity_changes_nothing() -> None:
    chosen = select(candidates_of(EXAMPLE_SCORES), 3, diversity=tf.constant([10.0]))
    assert chosen.items.numpy().tolist() == [[2, 3, 4]]
    unknown = tf.zeros([7], tf.int32)
    chosen = select(candidates_of(EXAMPLE_SCORES), 3, diversity=tf.constant([10.0]), categories=unknown)
    assert chosen.items.numpy().tolist() == [[2, 3, 4]]


def test_compiled_for_any_batch_and_number_of_results() -> None:
    categories = tf.constant(EXAMPLE_CATEGORIES)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None]),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([None]),
        ],
        autograph=False,
    )
    def compiled(items: tf.Tensor, scores: tf.Tensor, interests: tf.Tensor, n: tf.Tensor, diversity: tf.Tensor) -> Candidates:
        return select(Candidates(items, scores, interests), n, None, diversity, categories)

    one = candidates_of(EXAMPLE_SCORES)
    assert compiled(*one, 4, [0.3]).items.numpy().tolist() == [[2, 3, 5, 6]]
    assert compiled(*(field[:0] for field in one), 4, tf.zeros([0])).items.shape == (0, 4)
