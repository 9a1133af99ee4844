"""Retrieve-then-rank in one SavedModel: against brute force, and that callers notice nothing but other scores and one more signature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import (
    AGE,
    EXCLUSION_WIDTH,
    GENRES,
    HISTORY_LENGTH,
    NUM_RESULTS,
    REGION,
    Exported,
    NextInLine,
    TableRanker,
    TableRecommender,
    make_catalogue,
    make_profiles,
)
from tests.export.retrieval.test_signatures import HISTORIES, USERS, categories_of, greedy, identifiers, padded, request_of, true_scores
from tests.export.test_c_api import ask
from tfmi.config import ExportConfig, IndexConfig
from tfmi.core.errors import ExportError
from tfmi.data.dataset import FIRST_INDEX, Catalogue, Vocabulary
from tfmi.export import ExportedModel, export_savedmodel
from tfmi.export.warmup import read_warmup, serialized_examples
from tfmi.layers.backbones.backbone import BACKBONES
from tfmi.models.ranking.item_fields import ItemFields
from tfmi.models.ranking.ranker import InterestRanker

pytestmark = pytest.mark.slow

POOL = 2 * NUM_RESULTS
WIDTHS = ExportConfig(num_results=NUM_RESULTS, exclusion_width=EXCLUSION_WIDTH, ranking_pool=2, warmup_batch_sizes=[1, 3])
EXACT = IndexConfig(kind="exact")


@pytest.fixture(scope="module")
def ranker() -> TableRanker:
    """It reads a feature that the recommender of ``two_stage`` does not read."""
    return TableRanker(make_catalogue(), (AGE,))


@pytest.fixture(scope="module")
def two_stage(tmp_path_factory: pytest.TempPathFactory, ranker: TableRanker) -> Exported:
    catalogue, profiles = make_catalogue(), make_profiles()
    recommender = TableRecommender(catalogue, (REGION, GENRES))
    directory = tmp_path_factory.mktemp("two_stage") / "fake"
    folder = export_savedmodel(recommender, catalogue, directory, export=WIDTHS, index=EXACT, profiles=profiles, ranker=ranker)
    return Exported(recommender, catalogue, folder, ExportedModel(folder), profiles)


def ages(exported: Exported, users: np.ndarray) -> dict[str, tf.Tensor]:
    assert exported.profiles is not None
    feature: Any = exported.profiles.features[AGE]
    return {AGE: tf.constant(np.nan_to_num((feature.values[users] - feature.mean) / feature.deviation).astype(np.float32))}


def ranked_scores(
    exported: Exported, ranker: TableRanker, users: np.ndarray, excluded: Any = None, histories: Any = HISTORIES
) -> np.ndarray:
    """The ranker's scores [B, num_rows] of what is in each user's pool, -inf elsewhere."""
    retrieved, _ = true_scores(exported, HISTORIES, users)
    history = tf.constant(np.stack([exported.catalogue.vocabulary.indices(row) for row in padded(HISTORIES)]))
    everything = tf.constant(np.tile(np.arange(exported.catalogue.num_rows), [len(HISTORIES), 1]), tf.int32)
    scores = ranker.score(history, ages(exported, users), everything).numpy()
    for row in range(len(HISTORIES)):
        if excluded is not None:
            retrieved[row, excluded[row]] = -np.inf
        outside = np.argsort(-retrieved[row], kind="stable")[POOL:]
        scores[row, outside] = -np.inf
    return scores


def test_an_answer_is_the_best_of_the_pool_by_the_ranker(two_stage: Exported, ranker: TableRanker) -> None:
    answer = two_stage.model.predict("recommend", request_of(two_stage, HISTORIES, USERS))
    scores = ranked_scores(two_stage, ranker, USERS)
    retrieved, interests = true_scores(two_stage, HISTORIES, USERS)
    for row in range(len(HISTORIES)):
        best = np.argsort(-scores[row], kind="stable")[:NUM_RESULTS]
        assert answer["item_ids"][row].tolist() == identifiers(two_stage, best)
        assert answer["item_ids"][row].tolist() != identifiers(two_stage, np.argsort(-retrieved[row])[:NUM_RESULTS])
        np.testing.assert_allclose(answer["scores"][row], scores[row, best], rtol=1e-4)
        assert answer["interests"][row].tolist() == interests[row, best].tolist()


@pytest.mark.parametrize("strength", [0.0, 0.7, 1e9])
def test_exclusions_and_diversity_are_applied_to_ranked_scores(two_stage: Exported, ranker: TableRanker, strength: float) -> None:
    retrieved, _ = true_scores(two_stage, HISTORIES, USERS)
    excluded = [np.argsort(-row, kind="stable")[[0, 2, 3]] for row in retrieved]
    exclude = padded([[*(item.decode() for item in identifiers(two_stage, row)), "who?"] for row in excluded], 4)
    diversity = np.array([strength, 0.0, strength], np.float32)
    request = request_of(two_stage, HISTORIES, USERS, exclude=exclude, diversity=diversity)
    answer = two_stage.model.predict("recommend", request)
    scores, categories = ranked_scores(two_stage, ranker, USERS, excluded), categories_of(two_stage)
    for row in range(len(HISTORIES)):
        expected = greedy(scores[row], categories, float(diversity[row]), NUM_RESULTS, pool=4 * NUM_RESULTS)
        assert answer["item_ids"][row].tolist() == identifiers(two_stage, expected)
    examples = two_stage.model.predict("recommend_examples", {"examples": serialized_examples(request)})
    np.testing.assert_array_equal(examples["item_ids"], answer["item_ids"])


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(two_stage: Exported) -> None:
    exclude = padded([[], ["item-3", "item-4", "item-5", "item-6"], ["item-1"]], 4)
    whole = request_of(two_stage, HISTORIES, USERS, exclude=exclude, diversity=np.array([0.4, 0.0, 1.0], np.float32))
    together = two_stage.model.predict("recommend", whole)
    for row in range(3):
        alone = two_stage.model.predict("recommend", {name: values[row : row + 1] for name, values in whole.items()})
        np.testing.assert_array_equal(alone["item_ids"][0], together["item_ids"][row])


def test_nobody_has_no_profile_in_either_stage(two_stage: Exported) -> None:
    plain = two_stage.model.predict("serving_default", {"history": padded(HISTORIES)})
    nobody = two_stage.model.predict("recommend", request_of(two_stage, HISTORIES, np.zeros(3, int)))
    np.testing.assert_array_equal(plain["item_ids"], nobody["item_ids"])
    np.testing.assert_allclose(plain["scores"], nobody["scores"], rtol=1e-5)


def test_cold_start_is_that_of_retrieval_alone(two_stage: Exported) -> None:
    exclude = padded([["item-0", "item-2"], []], 4)
    request = request_of(two_stage, [[], []], np.zeros(2, int), exclude=exclude, diversity=np.array([0.0, np.inf], np.float32))
    answer = two_stage.model.predict("recommend", request)
    assert answer["item_ids"][0].tolist() == [b"item-1", b"item-3", b"item-4", b"item-5", b"item-6", b"item-7"]
    assert answer["item_ids"][1].tolist() == [f"item-{i}".encode() for i in range(6)]  # categories 0 1 2 3 0 1
    np.testing.assert_allclose(answer["scores"][0, 0], 39 / two_stage.catalogue.counts.sum(), rtol=1e-6)
    assert (answer["interests"] == -1).all()


def test_rank_scores_given_candidates(two_stage: Exported, ranker: TableRanker) -> None:
    candidates = [["item-7", "item-0", "who?"], ["", "item-39", "item-39"], ["item-1", "", "item-2"]]
    histories = [*HISTORIES[:2], []]  # to a ranker, even a user without a history is somebody
    request = {k: v for k, v in request_of(two_stage, histories, USERS).items() if k not in ("exclude", "diversity")}
    scores = two_stage.model.predict("rank", {**request, "candidates": np.array(candidates, dtype=object)})["scores"]
    indices = two_stage.catalogue.vocabulary
    history = tf.constant(np.stack([indices.indices(row) for row in padded(histories)]))
    expected = ranker.score(history, ages(two_stage, USERS), tf.constant([indices.indices(row) for row in candidates]))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    assert scores.dtype == np.float32
    assert np.isneginf(scores).tolist() == [[False, False, True], [True, False, False], [False, True, False]]


def test_rank_gives_the_scores_of_recommend(two_stage: Exported) -> None:
    request = request_of(two_stage, HISTORIES, USERS)
    answer = two_stage.model.predict("recommend", request)
    inputs = {k: v for k, v in request.items() if k not in ("exclude", "diversity")}
    scores = two_stage.model.predict("rank", {**inputs, "candidates": answer["item_ids"]})["scores"]
    np.testing.assert_allclose(scores, answer["scores"], rtol=1e-4)


@pytest.mark.parametrize(
    ("candidates", "complaint"),
    [
        (np.array([["item-1"]], dtype=object), "candidates must have as many rows"),
        (np.array(["item-1"] * 3, dtype=object), "two dimensions"),
    ],
)
def test_candidates_of_another_shape_are_refused_in_the_graph(two_stage: Exported, candidates: np.ndarray, complaint: str) -> None:
    request = {k: v for k, v in request_of(two_stage, HISTORIES, USERS).items() if k not in ("exclude", "diversity")}
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=complaint):
        two_stage.model.predict("rank", {**request, "candidates": candidates})


def test_the_metadata_tells_the_stages(two_stage: Exported, exact_export: Exported) -> None:
    metadata = two_stage.model.metadata
    assert metadata["stages"] == ["retrieval", "ranking"]
    assert metadata["ranking"]["pool"] == POOL
    assert metadata["ranking"]["backbone"] == "table"
    assert "logits" in metadata["ranking"]["scores"]
    assert metadata["index"]["recall"]["at"] == POOL
    assert metadata["integration"] == {"kind": "competitive"}
    assert [entry["feature"] for entry in metadata["profile_inputs"]] == sorted([AGE, GENRES, REGION])
    assert metadata["signatures"]["rank"]["outputs"] == {"scores": {"dtype": "float32", "shape": [None, None]}}
    assert exact_export.model.metadata["stages"] == ["retrieval"]
    assert "ranking" not in exact_export.model.metadata


def test_callers_of_one_stage_find_every_signature_as_it_was(two_stage: Exported, exact_export: Exported) -> None:
    before, after = exact_export.model.metadata["signatures"], two_stage.model.metadata["signatures"]
    assert set(after) == {*before, "rank"}
    assert {name: after[name] for name in before} == before


def test_rank_is_warmed_up_with_real_candidates(two_stage: Exported) -> None:
    requests = [request for request in read_warmup(two_stage.folder) if request.signature == "rank"]
    assert [len(request.inputs["candidates"]) for request in requests] == [1, 3]
    known = {identifier.encode() for identifier in two_stage.catalogue.vocabulary.ids}
    assert all((np.isin(request.inputs["candidates"], list(known)).any(axis=1)).all() for request in requests)


def test_a_model_that_ranks_by_itself_can_be_the_first_stage(tmp_path: Path) -> None:
    catalogue = make_catalogue()
    ranker = TableRanker(catalogue)
    folder = export_savedmodel(NextInLine(catalogue), catalogue, tmp_path / "direct", export=WIDTHS, ranker=ranker)
    answer = ExportedModel(folder).predict("serving_default", {"history": padded([["item-3"]])})
    pool = np.arange(POOL) + 4 + FIRST_INDEX
    scores = ranker.score(tf.constant([[5, 0, 0, 0, 0]]), {}, tf.constant(pool[None]))[0].numpy()
    assert [item.decode() for item in answer["item_ids"][0]] == [f"item-{pool[i] - 2}" for i in np.argsort(-scores)[:NUM_RESULTS]]


# What does not fit


def other_catalogue(change: Any) -> Catalogue:
    catalogue = make_catalogue()
    return Catalogue(Vocabulary(change(catalogue.vocabulary.ids)), {}, None, catalogue.counts)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda ids: [ids[0], ids[2], ids[1], *ids[3:]], "item 'item-2' where the catalogue has 'item-1' .index 3"),
        (lambda ids: ids[:-1], "39 items instead of 40"),
    ],
    ids=["another order", "fewer items"],
)
def test_a_ranker_of_another_catalogue_is_refused(tmp_path: Path, change: Any, complaint: str) -> None:
    catalogue = make_catalogue()
    with pytest.raises(ExportError, match=complaint):
        export_savedmodel(
            TableRecommender(catalogue), catalogue, tmp_path / "m", export=WIDTHS, ranker=TableRanker(other_catalogue(change))
        )
    assert not (tmp_path / "m").exists()


def test_what_cannot_rank_or_sees_other_histories_is_refused(tmp_path: Path) -> None:
    catalogue = make_catalogue()
    recommender, short = TableRecommender(catalogue), TableRanker(catalogue)
    short.history_length = HISTORY_LENGTH - 1
    for ranker, complaint in ((recommender, "not a Reranker"), (short, "histories of 4 items, the recommender of 5")):
        with pytest.raises(ExportError, match=complaint):
            export_savedmodel(recommender, catalogue, tmp_path / "m", export=WIDTHS, ranker=ranker)


def test_profile_features_that_only_the_ranker_reads_have_to_be_given(tmp_path: Path) -> None:
    catalogue = make_catalogue()
    with pytest.raises(ExportError, match=r"recommender and the ranker read the profile features \['age'\]"):
        export_savedmodel(
            TableRecommender(catalogue), catalogue, tmp_path / "m", export=WIDTHS, ranker=TableRanker(catalogue, ("age",)), profiles=None
        )


# A trained ranker's own graph


def interest_ranker(catalogue: Catalogue) -> InterestRanker:
    tf.keras.utils.set_random_seed(3)
    profiles = make_profiles()
    return InterestRanker(
        items=ItemFields(catalogue, 4, catalogue.features, initializer_deviation=0.5),
        backbone=BACKBONES.build({"name": "din", "attention_hidden": [8]}, "backbone"),
        history_length=HISTORY_LENGTH,
        profile_features=profiles.features,
        hidden=[8],
        coarse_features=["category"],
        coarse_hidden=[8],
    )


@pytest.fixture(scope="module")
def real_ranker() -> InterestRanker:
    return interest_ranker(make_catalogue())


@pytest.fixture(scope="module")
def real_export(tmp_path_factory: pytest.TempPathFactory, real_ranker: InterestRanker) -> Exported:
    pytest.importorskip("scann", reason="ScaNN has no wheel for this platform and Python")
    catalogue, profiles = make_catalogue(), make_profiles()
    recommender = TableRecommender(catalogue)
    directory = tmp_path_factory.mktemp("real") / "fake"
    folder = export_savedmodel(recommender, catalogue, directory, export=WIDTHS, profiles=profiles, ranker=real_ranker)
    return Exported(recommender, catalogue, folder, ExportedModel(folder), profiles)


def test_features_of_candidates_are_looked_up_in_the_graph(real_export: Exported, real_ranker: InterestRanker) -> None:
    assert real_export.model.metadata["ranking"]["backbone"] == "din"
    assert real_export.model.metadata["ranking"]["coarse_features"] == ["category"]
    request = request_of(real_export, HISTORIES, USERS)
    answer = real_export.model.predict("recommend", request)
    vocabulary, profiles = real_export.catalogue.vocabulary, real_export.profiles
    assert profiles is not None
    given: dict[str, Any] = dict(profiles.features)
    profile = {
        REGION: tf.constant(given[REGION].values[USERS]),
        GENRES: tf.constant(given[GENRES].values[USERS]),
        f"{GENRES}_weights": tf.constant(given[GENRES].weights[USERS]),
        **ages(real_export, USERS),
    }
    history = tf.constant(np.stack([vocabulary.indices(row) for row in padded(HISTORIES)]))
    items = tf.constant([[vocabulary.index(item.decode()) for item in row] for row in answer["item_ids"]])
    expected = real_ranker.score(history, profile, items).numpy()
    np.testing.assert_allclose(answer["scores"], expected, rtol=1e-3, atol=1e-5)
    assert (np.diff(expected, axis=1) <= 1e-5).all()
    assert len(np.unique(expected)) > NUM_RESULTS


@pytest.mark.slow
def test_it_answers_without_python(real_export: Exported) -> None:
    process = ask(real_export.folder, "serving_default", {"history": padded(HISTORIES).tolist()})
    assert process.returncode == 0, process.stderr
    expected = real_export.model.predict("serving_default", {"history": padded(HISTORIES)})
    result = json.loads(process.stdout)
    assert result["answer"]["item_ids"] == [[item.decode() for item in row] for row in expected["item_ids"]]
    np.testing.assert_allclose(result["answer"]["scores"], expected["scores"], rtol=1e-3, atol=1e-5)
