"""Exact search against NumPy and against TFRS's brute force; blocks change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfmi.core.errors import IndexBuildError
from tfmi.index.base import InterestIndex
from tfmi.index.blocked import SMALLEST_BLOCK, block_length
from tfmi.index.build import build_index
from tfmi.index.exact import ExactIndex


def ranking(item_vectors: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All real items by falling inner product, then rising index: scores and item indices [M, N]."""
    scores = queries @ item_vectors[2:].T
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), order + 2


@pytest.mark.parametrize("num_rows", [3, 12, 500, 2 * SMALLEST_BLOCK + 77])
def test_blocks_find_what_one_product_finds(num_rows: int) -> None:
    random = np.random.default_rng(5)
    # Small integers: sums are exact, so ties are real and must go to the lower index across blocks, too.
    item_vectors = random.integers(-2, 3, (num_rows, 6)).astype(np.float32)
    queries = random.integers(-2, 3, (5, 6)).astype(np.float32)
    expected_scores, expected_items = ranking(item_vectors, queries)
    for scores_per_block in (1, 2**24):
        index = ExactIndex(item_vectors, scores_per_block)
        for k in (1, 7, 40):
            scores, items = index.search(tf.constant(queries), k)
            found = min(k, num_rows - 2)
            np.testing.assert_array_equal(items[:, :found], expected_items[:, :found])
            np.testing.assert_array_equal(scores[:, :found], expected_scores[:, :found])
            assert not items[:, found:].numpy().any()
            assert np.isneginf(scores[:, found:]).all()


def test_agrees_with_the_brute_force_of_tfrs() -> None:
    random = np.random.default_rng(5)
    item_vectors = random.normal(size=(302, 8)).astype(np.float32)
    queries = tf.constant(random.normal(size=(9, 8)), tf.float32)
    peer = tfrs.layers.factorized_top_k.BruteForce(k=20).index(item_vectors[2:], tf.range(2, 302))
    peer_scores, peer_items = peer(queries)
    scores, items = build_index("exact", item_vectors).search(queries, 20)
    np.testing.assert_array_equal(items, peer_items)
    np.testing.assert_allclose(scores, peer_scores, rtol=1e-5)


def test_rows_of_padding_and_unknown_are_never_found() -> None:
    item_vectors = np.full((4, 2), -1.0, np.float32)
    item_vectors[:2] = np.inf  # whatever stands there is ignored
    scores, items = ExactIndex(item_vectors).search(tf.constant([[1.0, 1.0]]), 4)
    assert items.numpy().tolist() == [[2, 3, 0, 0]]
    assert scores.numpy().tolist() == [[-2.0, -2.0, -np.inf, -np.inf]]


@pytest.mark.slow
def test_compiled_with_any_number_of_queries_and_results() -> None:
    random = np.random.default_rng(5)
    index = ExactIndex(random.normal(size=(30, 4)))
    compiled = tf.function(index.search, input_signature=[tf.TensorSpec([None, 4]), tf.TensorSpec([], tf.int32)], autograph=False)
    queries = tf.constant(random.normal(size=(6, 4)), tf.float32)
    for rows, k in ((6, 5), (1, 28), (0, 3), (2, 50)):
        scores, items = compiled(queries[:rows], k)
        assert scores.shape == items.shape == (rows, k)
        np.testing.assert_array_equal(items, index.search(queries, k)[1][:rows])
    assert compiled.experimental_get_tracing_count() == 1


def test_blocks_shrink_with_the_number_of_queries_but_not_below_a_bound() -> None:
    assert block_length(tf.constant(1), 10 * SMALLEST_BLOCK).numpy() == 10 * SMALLEST_BLOCK
    assert block_length(tf.constant(5), 10 * SMALLEST_BLOCK).numpy() == 2 * SMALLEST_BLOCK
    assert block_length(tf.constant(1000), 10 * SMALLEST_BLOCK).numpy() == SMALLEST_BLOCK
    assert block_length(tf.constant(0), 10 * SMALLEST_BLOCK).numpy() == 10 * SMALLEST_BLOCK


@pytest.mark.parametrize("kind", ["exact", "scann", "partitioned"])
def test_vectors_of_items(kind: str) -> None:
    random = np.random.default_rng(5)
    item_vectors = random.normal(size=(12, 4)).astype(np.float32)
    index: InterestIndex = build_index(kind, item_vectors)
    found = index.vectors(tf.constant([0, 1, 2, 11])).numpy()
    assert not found[:2].any()
    np.testing.assert_array_equal(found[2:], item_vectors[[2, 11]])


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown index 'scan' \(did you mean 'scann'\?\)"):
        build_index("scan", np.ones((5, 2)))


@pytest.mark.parametrize("kind", ["exact", "scann", "partitioned"])
@pytest.mark.parametrize(
    ("item_vectors", "message"),
    [
        (np.zeros((2, 4)), "holds no item"),
        (np.zeros(8), r"expected a table \[num_rows, dimension\], got the shape \(8,\)"),
        (np.where(np.arange(10)[:, None] == 7, np.nan, np.ones((10, 3))), "1 of 8 items.*item index 7"),
    ],
)
def test_unusable_vectors_are_refused(kind: str, item_vectors: np.ndarray, message: str) -> None:
    with pytest.raises(IndexBuildError, match=message):
        build_index(kind, item_vectors)
