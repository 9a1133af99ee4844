"""ScaNN search: from one item upwards, missing results marked, one searcher for all signatures of a SavedModel."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfmi.core.errors import IndexBuildError
from tfmi.index.auto import BRUTE_FORCE_BELOW, choose_parameters
from tfmi.index.build import build_index
from tfmi.index.exact import ExactIndex
from tfmi.index.recall import measure_recall
from tfmi.index.scann import ScannIndex, load_scann_ops, scann_op_library

DIMENSION, CLUSTERS = 16, 40


def clustered_vectors(num_items: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around random centres, as trained item vectors lie; two rows for padding and unknown on top."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(CLUSTERS, DIMENSION))
    vectors = centres[random.integers(0, CLUSTERS, num_items)] + 0.6 * random.normal(size=(num_items, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.concatenate([np.zeros((2, DIMENSION)), vectors]).astype(np.float32)


@pytest.mark.parametrize("num_items", [1, 2, 10, 15, 16, 100])
@pytest.mark.parametrize("by_hand", [{}, {"leaves": 5, "leaves_to_search": 2, "reordering_candidates": 50, "dimensions_per_block": 4}])
def test_small_catalogues_are_searched_like_the_exact_index(num_items: int, by_hand: dict[str, int]) -> None:
    item_vectors = clustered_vectors(num_items)
    index, exact = build_index("scann", item_vectors, **by_hand), ExactIndex(item_vectors)
    queries = tf.constant(item_vectors[2:8])
    for k in (1, 5, 150):
        scores, items = index.search(queries, k)
        exact_scores, exact_items = exact.search(queries, k)
        assert scores.shape == items.shape == (len(queries), k)
        if index.scann_parameters.brute_force or k == 150:  # asking for everything searches everything
            np.testing.assert_array_equal(items, exact_items)
        np.testing.assert_allclose(scores[:, 0], exact_scores[:, 0], rtol=1e-5)
        assert (np.isneginf(scores) == (items.numpy() == 0)).all()
        assert not np.isin(items, [1]).any()


def test_an_approximate_index_finds_most_and_scores_exactly() -> None:
    item_vectors = clustered_vectors(BRUTE_FORCE_BELOW)
    index, exact = build_index("scann", item_vectors), ExactIndex(item_vectors)
    assert index.parameters()["scoring"] == "asymmetric_hashing"
    noise = np.random.default_rng(1).normal(size=(200, DIMENSION)).astype(np.float32)
    queries = tf.math.l2_normalize(item_vectors[2:202] + 0.1 * noise, axis=1)
    assert measure_recall(index, exact, queries, 20) >= 0.95
    scores, items = index.search(queries, 20)
    true_scores = np.einsum("md,mkd->mk", queries, item_vectors[items.numpy()])
    np.testing.assert_allclose(scores, true_scores, atol=1e-5)
    assert all(len(set(row)) == 20 for row in items.numpy().tolist())


def test_building_again_gives_the_same_answers() -> None:
    item_vectors = clustered_vectors(2_000)
    first, second = (build_index("scann", item_vectors, leaves=60, leaves_to_search=2, reordering_candidates=10) for _ in range(2))
    queries = tf.constant(item_vectors[2:102])
    for one, other in zip(first.search(queries, 10), second.search(queries, 10), strict=True):
        np.testing.assert_array_equal(one, other)


def test_agrees_with_the_scann_layer_of_tfrs_where_that_searches_everything() -> None:
    item_vectors = clustered_vectors(200)
    peer = tfrs.layers.factorized_top_k.ScaNN(k=10, num_leaves=4, num_leaves_to_search=4, num_reordering_candidates=200)
    peer.index(tf.constant(item_vectors[2:]), tf.range(2, 202))
    queries = tf.constant(item_vectors[2:12])
    index = build_index("scann", item_vectors, leaves=4, leaves_to_search=4, reordering_candidates=200)
    np.testing.assert_array_equal(index.search(queries, 10)[1], peer(queries)[1])


def test_more_results_than_reordering_candidates_are_all_found() -> None:
    item_vectors = clustered_vectors(400)
    index = build_index("scann", item_vectors, leaves=20, leaves_to_search=1, reordering_candidates=10)
    _, items = index.search(tf.constant(item_vectors[2:5]), 300)
    assert (items.numpy() > 0).all()


def test_compiled_with_any_number_of_queries_and_results() -> None:
    index = build_index("scann", clustered_vectors(100), leaves=6)
    compiled = tf.function(index.search, input_signature=[tf.TensorSpec([None, DIMENSION]), tf.TensorSpec([], tf.int32)], autograph=False)
    for rows, k in ((3, 5), (1, 90), (0, 3), (2, 120)):
        scores, items = compiled(tf.ones([rows, DIMENSION]), k)
        assert scores.shape == items.shape == (rows, k)
        assert (items.numpy()[:, : min(k, 5)] > 0).all()
    assert compiled.experimental_get_tracing_count() == 1


class TwoSignatures(tf.Module):
    """A module that searches one index from two signatures, as a servable does."""

    def __init__(self, index: ScannIndex) -> None:
        super().__init__()
        self.index = index

    def save(self, folder: Path) -> None:
        def signature() -> tf.types.experimental.GenericFunction:
            @tf.function(input_signature=[tf.TensorSpec([None, DIMENSION], name="queries")], autograph=False)
            def search(queries: tf.Tensor) -> dict[str, tf.Tensor]:
                scores, items = self.index.search(queries, 5)
                return {"scores": scores, "items": items}

            return search

        options = tf.saved_model.SaveOptions(namespace_whitelist=list(self.index.op_namespaces))
        tf.saved_model.save(self, str(folder), {"first": signature(), "second": signature()}, options)


@pytest.mark.slow
def test_signatures_of_a_saved_model_share_one_searcher_and_versions_do_not(tmp_path: Path) -> None:
    answers = []
    queries = tf.constant(clustered_vectors(3)[2:])
    for version in ("1", "2"):
        index = build_index("scann", clustered_vectors(60, seed=int(version)), leaves=3)
        TwoSignatures(index).save(tmp_path / version)
        answers.append(index.search(queries, 5)[1].numpy())
    assert not np.array_equal(*answers)
    loaded = [tf.saved_model.load(str(tmp_path / version)) for version in ("1", "2")]
    for model, expected in zip(loaded, answers, strict=True):
        for name in ("first", "second"):
            np.testing.assert_array_equal(model.signatures[name](queries=queries)["items"], expected)
    names = [_searcher_names(tmp_path / version) for version in ("1", "2")]
    assert [len(found) for found in names] == [1, 1]
    assert names[0] != names[1]


def _searcher_names(folder: Path) -> set[str]:
    """The shared names of the searchers in a SavedModel's signatures; without one, each node would build its own."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    return {
        node.attr["shared_name"].s.decode()
        for name, function in functions.items()
        if "signature_wrapper" not in name and "recreate_handle" not in name  # the latter is ScaNN's own, which no signature calls
        for node in function.node_def
        if node.op == "Scann>TensorsToScann"
    }


def test_parameters_follow_the_size_within_bounds() -> None:
    for num_items in (16, 100, 1_000, 10_000, 100_000, 1_000_000, 50_000_000):
        chosen = choose_parameters(num_items, 64)
        assert 1 <= chosen.leaves_to_search <= chosen.leaves <= num_items // 16
        assert chosen.reordering_candidates <= num_items
        assert chosen.brute_force == (num_items < BRUTE_FORCE_BELOW)
    shares = [chosen.leaves_to_search / chosen.leaves for chosen in (choose_parameters(n, 64) for n in (10_000, 100_000, 1_000_000))]
    assert shares == sorted(shares, reverse=True)
    assert choose_parameters(1_000_000, 64).leaves == 2000


def test_parameters_by_hand_are_kept_where_the_catalogue_allows() -> None:
    given = {"leaves": 300, "leaves_to_search": 17, "reordering_candidates": 90, "dimensions_per_block": 4, "training_iterations": 3}
    chosen = choose_parameters(100_000, 64, **given)
    assert {name: getattr(chosen, name) for name in given} == given
    assert not choose_parameters(100, 64, leaves=2).brute_force
    tiny = choose_parameters(10, 3, **given)
    assert tiny.brute_force
    assert (tiny.leaves, tiny.leaves_to_search, tiny.reordering_candidates, tiny.dimensions_per_block) == (1, 1, 10, 3)


def test_reports_its_parameters() -> None:
    assert build_index("scann", clustered_vectors(10)).parameters() == {"kind": "scann", "scoring": "brute_force"}
    parameters = build_index("scann", clustered_vectors(64), leaves=4, leaves_to_search=3, training_iterations=5).parameters()
    assert (parameters["leaves"], parameters["leaves_to_search"], parameters["training_iterations"]) == (4, 3, 5)
    assert build_index("exact", clustered_vectors(10), leaves=4).parameters() == {"kind": "exact"}


def test_without_scann_the_error_names_the_exact_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(IndexBuildError, match="use the index 'exact'"):
        build_index("scann", clustered_vectors(10))
    build_index("exact", clustered_vectors(10))


def test_the_op_library_is_the_one_that_scann_loads() -> None:
    assert scann_op_library().is_file()
    assert Path(str(load_scann_ops().__file__)).is_relative_to(scann_op_library().parents[2])
