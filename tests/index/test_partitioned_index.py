"""Partitioned search: every item in one partition, all of them found where all are searched, in any batch."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.index.test_scann_index import DIMENSION, clustered_vectors
from tfmi.config import validate_config
from tfmi.core.errors import ConfigError
from tfmi.index import build
from tfmi.index.auto import EXACT_UP_TO, scann_build_bytes
from tfmi.index.build import build_index, resolve_kind
from tfmi.index.exact import ExactIndex
from tfmi.index.merging import MISSING_SCORE, merge_interests
from tfmi.index.partitions import LARGEST_SHARE_OF_MEAN, make_partitions
from tfmi.index.recall import measure_recall


@pytest.mark.parametrize("spherical", [True, False])
def test_every_item_is_in_one_partition_and_none_is_huge(spherical: bool) -> None:
    vectors = clustered_vectors(1_000)[2:]
    vectors[:300] = vectors[0]  # equal vectors, which no centre tells apart
    if not spherical:
        vectors *= np.linspace(0.5, 2.0, len(vectors), dtype=np.float32)[:, None]
    first, again = (make_partitions(vectors, 50, 5) for _ in range(2))
    np.testing.assert_array_equal(np.sort(first.order), np.arange(len(vectors)))
    sizes = np.diff(first.starts)
    assert sizes.min() >= 1
    assert sizes.max() <= LARGEST_SHARE_OF_MEAN * len(vectors) / 50
    assert first.starts[-1] == len(vectors)
    np.testing.assert_allclose(np.linalg.norm(first.centres, axis=1), 1.0, rtol=1e-5) if spherical else None
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("num_items", [1, 2, 17, 100])
@pytest.mark.parametrize("by_hand", [{}, {"partitions": 9, "partitions_to_search": 9}])
def test_searching_every_partition_is_exact_search(num_items: int, by_hand: dict[str, int]) -> None:
    item_vectors = clustered_vectors(num_items)
    index, exact = build_index("partitioned", item_vectors, **by_hand), ExactIndex(item_vectors)
    assert not index.is_approximate
    queries = tf.constant(item_vectors[2:8])
    for k in (1, 5, 150):
        scores, items = index.search(queries, k)
        exact_scores, exact_items = exact.search(queries, k)
        assert scores.shape == items.shape == (len(queries), k)
        np.testing.assert_array_equal(items, exact_items)
        np.testing.assert_allclose(scores, exact_scores, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_an_approximate_index_finds_most_and_scores_exactly() -> None:
    item_vectors = clustered_vectors(5_000)
    index, exact = build_index("partitioned", item_vectors), ExactIndex(item_vectors)
    assert index.is_approximate
    noise = np.random.default_rng(1).normal(size=(200, DIMENSION)).astype(np.float32)
    queries = tf.math.l2_normalize(item_vectors[2:202] + 0.1 * noise, axis=1)
    assert measure_recall(index, exact, queries, 20) >= 0.95
    scores, items = index.search(queries, 20)
    np.testing.assert_allclose(scores, np.einsum("md,mkd->mk", queries, item_vectors[items.numpy()]), atol=1e-5)
    index.set_search({"partitions_to_search": 1})
    far = tf.constant(np.random.default_rng(2).normal(size=(100, DIMENSION)), tf.float32)
    narrow = measure_recall(index, exact, far, 1)
    (way,) = index.wider_searches()
    assert way == {"partitions_to_search": 2}
    index.set_search(way)
    assert index.parameters()["partitions_to_search"] == 2
    assert narrow < measure_recall(index, exact, far, 1)
    many = index.search(queries[:2], 2_000)[1].numpy()
    assert (many > 0).all()


@pytest.mark.parametrize("kind", ["exact", "scann", "partitioned"])
def test_interests_searched_together_find_what_merging_finds(kind: str) -> None:
    item_vectors = clustered_vectors(200)
    index = build_index(kind, item_vectors)
    random = np.random.default_rng(2)
    interests = tf.constant(random.normal(size=(5, 3, DIMENSION)), tf.float32)
    active = tf.constant([[True, True, True], [True, False, True], [False, False, False], [False, True, False], [True, True, False]])
    scores, items = (tf.reshape(found, [5, 3, 12]) for found in index.search(tf.reshape(interests, [15, DIMENSION]), 12))
    expected = merge_interests(scores, items, active)
    found = index.search_interests(interests, active, 12)
    np.testing.assert_array_equal(found.items, expected.items[:, :12])
    np.testing.assert_allclose(found.scores, expected.scores[:, :12], rtol=1e-5)
    np.testing.assert_array_equal(found.interests, expected.interests[:, :12])


@pytest.mark.parametrize("kind", ["exact", "scann", "partitioned"])
def test_no_user_more_results_than_items_and_broken_interests(kind: str) -> None:
    index = build_index(kind, clustered_vectors(30))
    search = tf.function(
        index.search_interests,
        input_signature=[tf.TensorSpec([None, 2, DIMENSION]), tf.TensorSpec([None, 2], tf.bool), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )
    for users, k in ((0, 3), (1, 3), (4, 40)):
        interests = np.ones((users, 2, DIMENSION), np.float32)
        interests[:1, 1] = np.nan
        found = search(interests, np.ones((users, 2), bool), k)
        assert all(field.shape == (users, k) for field in found)
        if users:
            assert len(set(found.items[0].numpy()) - {0}) == min(k, 30)
            assert set(found.interests[0].numpy()[: min(k, 30)]) == {0}
            assert (found.scores[0, 30:].numpy() == MISSING_SCORE).all()
    assert search.experimental_get_tracing_count() == 1


def test_the_rule_of_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = EXACT_UP_TO // 32, EXACT_UP_TO // 32 + 1
    assert {resolve_kind("auto", small, 32, server) for server in ("scann", "stock")} == {"exact"}
    assert [resolve_kind("auto", large, 32, server) for server in ("scann", "stock")] == ["scann", "partitioned"]
    assert resolve_kind("partitioned", small, 32, "scann") == "partitioned"
    with pytest.raises(ConfigError, match=r"export\.server: a stock server .*--index partitioned"):
        validate_config({"index": {"kind": "scann"}, "export": {"server": "stock"}})
    monkeypatch.setattr(build, "has_scann", lambda: False)
    assert resolve_kind("auto", large, 32, "scann") == "partitioned"


@pytest.mark.parametrize("kind", ["auto", "scann"])
def test_where_memory_is_too_short_for_scann_the_index_is_partitioned_and_the_log_says_so(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "has_scann", lambda: True)
    needed = scann_build_bytes(10_000_000, 64)
    assert needed > 2 * 10_000_000 * 64 * 4
    monkeypatch.setattr(build, "free_memory", lambda: needed)
    assert resolve_kind(kind, 10_000_000, 64, "scann") == "scann"
    monkeypatch.setattr(build, "free_memory", lambda: None)
    assert resolve_kind(kind, 10_000_000, 64, "scann") == "scann"
    assert not caplog.messages
    monkeypatch.setattr(build, "free_memory", lambda: needed - 1)
    assert resolve_kind(kind, 10_000_000, 64, "scann") == "partitioned"
    (message,) = caplog.messages
    assert "partitioned instead of scann, whose build for 10,000,000 items" in message
    assert f"{needed / 1e9:.1f} GB are free" in message
