"""Every signature of an exported model against brute force, and what it answers to unusual requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import (
    AGE,
    DIMENSION,
    GENRES,
    HISTORY_LENGTH,
    NUM_INTERESTS,
    NUM_RESULTS,
    REGION,
    Exported,
    TableRecommender,
    make_catalogue,
)
from tfmi.config import ExportConfig
from tfmi.data.dataset import FIRST_INDEX
from tfmi.export.profile_inputs import profile_values
from tfmi.export.retrieval.retrieval_signatures import RetrievalSignatures
from tfmi.export.warmup import serialized_examples
from tfmi.index.exact import ExactIndex
from tfmi.models.recommender import UserInputs

HISTORIES = [["item-3"], ["item-7", "item-9", "item-20", "item-7"], ["item-1", "item-2", "item-30", "item-4", "item-39"]]
USERS = np.array([1, 4, 0])


def padded(rows: Sequence[Sequence[str]], width: int = HISTORY_LENGTH) -> np.ndarray:
    table = np.full((len(rows), width), "", dtype=object)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def request_of(exported: Exported, histories: Sequence[Sequence[str]], users: np.ndarray, **changes: Any) -> dict[str, np.ndarray]:
    """A request to ``recommend`` that excludes nothing and asks for no diversity, unless ``changes`` say so."""
    profile = (
        profile_values(exported.profiles.features, users)
        if exported.profiles is not None and exported.model.metadata["profile_inputs"]
        else {}
    )
    rows = len(histories)
    return {"history": padded(histories), "exclude": padded([[]] * rows, 4), "diversity": np.zeros(rows, np.float32), **profile, **changes}


def true_scores(exported: Exported, histories: Sequence[Sequence[str]], users: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Scores [B, num_rows] of every item by its best interest, and that interest, straight from the recommender."""
    features = {}
    if exported.profiles is not None:
        rows = np.zeros(len(histories), dtype=int) if users is None else users
        given: dict[str, Any] = dict(exported.profiles.features)
        age = (given[AGE].values[rows] - given[AGE].mean) / given[AGE].deviation
        features = {
            REGION: tf.constant(given[REGION].values[rows]),
            AGE: tf.constant(np.nan_to_num(age).astype(np.float32)),
            GENRES: tf.constant(given[GENRES].values[rows]),
            f"{GENRES}_weights": tf.constant(given[GENRES].weights[rows]),
        }
    indices = np.stack([exported.catalogue.vocabulary.indices(row) for row in padded(histories)])
    interests, active = exported.recommender.user_interests(UserInputs(tf.constant(indices), features))
    scores = np.einsum("bkd,nd->bkn", interests.numpy(), exported.recommender.item_vectors().numpy())
    scores[~active.numpy()] = -np.inf
    scores[:, :, :FIRST_INDEX] = -np.inf
    return scores.max(axis=1), scores.argmax(axis=1)


def greedy(scores: np.ndarray, categories: np.ndarray, strength: float, n: int, pool: int) -> list[int]:
    """ComiRec's rule, word by word, among the best ``pool`` items."""
    left = sorted(np.flatnonzero(scores > -np.inf), key=lambda item: (-scores[item], item))[:pool]
    chosen: list[int] = []
    while left and len(chosen) < n:
        taken = [sum(categories[other] == categories[item] != 0 for other in chosen) for item in left]
        best = min(range(len(left)), key=lambda at: (-(scores[left[at]] - strength * taken[at]), left[at]))
        chosen.append(int(left.pop(best)))
    return chosen


def categories_of(exported: Exported) -> np.ndarray:
    categories = exported.catalogue.category_indices()
    assert categories is not None
    return categories


def identifiers(exported: Exported, items: Iterable[Any]) -> list[bytes]:
    return [exported.catalogue.vocabulary.identifier(int(item)).encode() for item in items]


@pytest.mark.parametrize("name", ["exact_export", "scann_export"])
def test_serving_default_answers_the_best_items_of_all_interests(name: str, request: pytest.FixtureRequest) -> None:
    exported = request.getfixturevalue(name)
    answer = exported.model.predict("serving_default", {"history": padded(HISTORIES)})
    scores, interests = true_scores(exported, HISTORIES, None)
    for row in range(len(HISTORIES)):
        best = np.argsort(-scores[row], kind="stable")[:NUM_RESULTS]
        assert answer["item_ids"][row].tolist() == identifiers(exported, best)
        np.testing.assert_allclose(answer["scores"][row], scores[row, best], rtol=1e-5)
        assert answer["interests"][row].tolist() == interests[row, best].tolist()


def test_recommend_reads_the_profile(exact_export: Exported) -> None:
    answer = exact_export.model.predict("recommend", request_of(exact_export, HISTORIES, USERS))
    scores, _ = true_scores(exact_export, HISTORIES, USERS)
    for row in range(len(HISTORIES)):
        best = np.argsort(-scores[row], kind="stable")[:NUM_RESULTS]
        assert answer["item_ids"][row].tolist() == identifiers(exact_export, best)
    nobody = exact_export.model.predict("serving_default", {"history": padded(HISTORIES)})
    assert not np.allclose(answer["scores"][:2], nobody["scores"][:2])
    np.testing.assert_array_equal(answer["scores"][2], nobody["scores"][2])  # user row 0 is the unknown user


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0, 1e9])
def test_recommend_excludes_and_diversifies(exact_export: Exported, strength: float) -> None:
    scores, _ = true_scores(exact_export, HISTORIES, USERS)
    excluded = [np.argsort(-row, kind="stable")[[0, 2, 3]] for row in scores]
    exclude = padded([[exact_export.catalogue.vocabulary.identifier(int(i)) for i in row] + ["who?"] for row in excluded], 4)
    diversity = np.array([strength, 0.0, strength], np.float32)
    answer = exact_export.model.predict("recommend", request_of(exact_export, HISTORIES, USERS, exclude=exclude, diversity=diversity))
    categories = categories_of(exact_export)
    for row in range(len(HISTORIES)):
        scores[row, excluded[row]] = -np.inf
        expected = greedy(scores[row], categories, float(diversity[row]), NUM_RESULTS, pool=4 * NUM_RESULTS)
        assert answer["item_ids"][row].tolist() == identifiers(exact_export, expected)


@pytest.mark.parametrize(("odd", "plain"), [(np.nan, 0.0), (-3.0, 0.0), (-np.inf, 0.0), (np.inf, 1e9)])
def test_odd_diversities_have_defined_answers(exact_export: Exported, odd: float, plain: float) -> None:
    answers = [
        exact_export.model.predict("recommend", request_of(exact_export, HISTORIES, USERS, diversity=np.full(3, value, np.float32)))
        for value in (odd, plain)
    ]
    np.testing.assert_array_equal(answers[0]["item_ids"], answers[1]["item_ids"])
    np.testing.assert_array_equal(answers[0]["scores"], answers[1]["scores"])


def test_infinite_diversity_takes_categories_in_turn(exact_export: Exported) -> None:
    diversity = np.full(3, np.inf, np.float32)
    answer = exact_export.model.predict("recommend", request_of(exact_export, HISTORIES, USERS, diversity=diversity))
    categories = categories_of(exact_export)
    for row in answer["item_ids"]:
        first_four = [categories[exact_export.catalogue.vocabulary.index(item.decode())] for item in row[:4]]
        assert len(set(first_four)) == 4


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(exact_export: Exported) -> None:
    exclude = padded([[], ["item-3", "item-4", "item-5", "item-6"], ["item-1"]], 4)
    whole = request_of(exact_export, HISTORIES, USERS, exclude=exclude, diversity=np.array([0.4, 0.0, 1.0], np.float32))
    together = exact_export.model.predict("recommend", whole)
    for row in range(3):
        alone = exact_export.model.predict("recommend", {name: values[row : row + 1] for name, values in whole.items()})
        np.testing.assert_array_equal(alone["item_ids"][0], together["item_ids"][row])
        np.testing.assert_allclose(alone["scores"][0], together["scores"][row], rtol=1e-5)


def test_more_padding_changes_nothing(exact_export: Exported) -> None:
    narrow = request_of(exact_export, HISTORIES, USERS, exclude=padded([["item-3"]] * 3, 1), diversity=np.full(3, 0.4, np.float32))
    wide = {**narrow, "exclude": padded([["item-3"]] * 3, 9)}
    answers = [exact_export.model.predict("recommend", inputs) for inputs in (narrow, wide)]
    np.testing.assert_array_equal(answers[0]["item_ids"], answers[1]["item_ids"])
    np.testing.assert_array_equal(answers[0]["scores"], answers[1]["scores"])


def test_unknown_and_empty_ids_in_a_history_are_dropped_wherever_they_stand(exact_export: Exported) -> None:
    clean = exact_export.model.predict("serving_default", {"history": padded([["item-7", "item-9"]])})
    littered = exact_export.model.predict("serving_default", {"history": np.array([["who?", "item-7", "", "", "item-9"]], dtype=object)})
    np.testing.assert_array_equal(clean["item_ids"], littered["item_ids"])
    np.testing.assert_array_equal(clean["scores"], littered["scores"])


def test_answers_hold_each_real_item_once(exact_export: Exported) -> None:
    random = np.random.default_rng(0)
    histories = [[f"item-{i}" for i in random.integers(0, 45, random.integers(0, 6))] for _ in range(20)]
    request = request_of(exact_export, histories, random.integers(0, 7, 20), diversity=random.uniform(-1, 2, 20).astype(np.float32))
    answer = exact_export.model.predict("recommend", request)
    known = {identifier.encode() for identifier in exact_export.catalogue.vocabulary.ids}
    for row in answer["item_ids"]:
        assert len(set(row)) == NUM_RESULTS
        assert set(row) <= known


# Cold start


@pytest.mark.parametrize("name", ["exact_export", "scann_export", "direct_export"])
def test_users_of_whom_nothing_is_known_get_the_most_popular_items(name: str, request: pytest.FixtureRequest) -> None:
    exported = request.getfixturevalue(name)
    answer = exported.model.predict("serving_default", {"history": padded([[], ["who?", "what?"], ["item-3"]])})
    total = exported.catalogue.counts.sum()
    for row in range(2):
        assert answer["item_ids"][row].tolist() == [f"item-{i}".encode() for i in range(NUM_RESULTS)]
        np.testing.assert_allclose(answer["scores"][row], [(40 - i) / total for i in range(NUM_RESULTS)], rtol=1e-6)
        assert answer["interests"][row].tolist() == [-1] * NUM_RESULTS
    assert (answer["interests"][2] >= 0).all()


def test_cold_start_honours_exclusions_and_diversity(exact_export: Exported) -> None:
    exclude = padded([["item-0", "item-2"], []], 4)
    request = request_of(exact_export, [[], []], np.zeros(2, int), exclude=exclude, diversity=np.array([0.0, np.inf], np.float32))
    answer = exact_export.model.predict("recommend", request)
    assert answer["item_ids"][0].tolist() == [b"item-1", b"item-3", b"item-4", b"item-5", b"item-6", b"item-7"]
    assert answer["item_ids"][1].tolist() == [b"item-0", b"item-1", b"item-2", b"item-3", b"item-4", b"item-5"]  # categories 0 1 2 3 0 1


# Examples


def test_examples_answer_as_recommend_does(exact_export: Exported) -> None:
    exclude = padded([["item-3"], [], ["who?", "item-8"]], 4)
    request = request_of(exact_export, HISTORIES, USERS, exclude=exclude, diversity=np.array([0.5, 0.0, np.nan], np.float32))
    plain = exact_export.model.predict("recommend", request)
    examples = exact_export.model.predict("recommend_examples", {"examples": serialized_examples(request)})
    np.testing.assert_array_equal(plain["item_ids"], examples["item_ids"])
    np.testing.assert_allclose(plain["scores"], examples["scores"], rtol=1e-5)


def test_examples_keep_the_newest_items_of_a_long_history(exact_export: Exported) -> None:
    history = [f"item-{i}" for i in range(12)]
    with_gap = tf.train.BytesList(value=[item.encode() for item in [*history[:9], "", *history[9:]]])
    long = tf.train.Example(features=tf.train.Features(feature={"history": tf.train.Feature(bytes_list=with_gap)}))
    expected = exact_export.model.predict("serving_default", {"history": padded([history[-HISTORY_LENGTH:]])})
    answer = exact_export.model.predict("recommend_examples", {"examples": np.array([long.SerializeToString()], dtype=object)})
    np.testing.assert_array_equal(answer["item_ids"], expected["item_ids"])


def test_everything_in_an_example_is_optional(exact_export: Exported) -> None:
    answer = exact_export.model.predict(
        "recommend_examples", {"examples": np.array([tf.train.Example().SerializeToString()], dtype=object)}
    )
    assert answer["item_ids"][0, 0] == b"item-0"
    assert answer["interests"][0, 0] == -1


def test_examples_take_more_exclusions_than_the_width(exact_export: Exported) -> None:
    exclude = np.array([[f"item-{i}" for i in range(35)]], dtype=object)
    answer = exact_export.model.predict(
        "recommend_examples", {"examples": serialized_examples({"history": padded([["item-3"]]), "exclude": exclude})}
    )
    assert set(answer["item_ids"][0]) - {b""} == {f"item-{i}".encode() for i in range(35, 40)}
    assert answer["item_ids"][0, 5] == b""
    assert answer["scores"][0, 5] == -np.inf


def test_more_exclusions_than_anyone_needs_are_refused(exact_export: Exported) -> None:
    many = [f"item-{i % 40}" for i in range(10_001)]
    history = padded([["item-3"]])
    for most, complaint in ((10_000, None), (10_001, "exclude.* at most 10000")):
        exclude = np.array([many[:most]], dtype=object)
        requests = {
            "recommend": request_of(exact_export, [["item-3"]], USERS[:1], exclude=exclude),
            "recommend_examples": {"examples": serialized_examples({"history": history, "exclude": exclude})},
        }
        for signature, request in requests.items():
            if complaint is None:
                assert not exact_export.model.predict(signature, request)["item_ids"].any()  # all 40 items are excluded
            else:
                with pytest.raises(tf.errors.InvalidArgumentError, match=complaint):
                    exact_export.model.predict(signature, request)


@pytest.mark.slow
def test_repeated_exclusions_search_no_further_than_distinct_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting_search(index: ExactIndex, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tf.py_function(lambda value: asked.append(int(value)), [k], [])
        return search(index, queries, k)

    search = ExactIndex.search
    monkeypatch.setattr(ExactIndex, "search", counting_search)
    _, servable = servable_of(40, ExportConfig(num_results=5, exclusion_width=30))
    for excluded in (["item-3"] * 30, ["item-3", "who?", "item-8"]):
        exclude = tf.constant(padded([excluded], 30))
        servable.signatures["recommend"](history=tf.constant(padded([["item-3"]])), exclude=exclude, diversity=tf.constant([0.0]))
    assert asked == [5 + 1, 5 + 2]


# Interests and neighbours


def test_user_interests_are_the_recommenders(exact_export: Exported) -> None:
    histories = [*HISTORIES, [], ["who?"]]
    users = np.array([1, 4, 0, 2, 3])
    request = request_of(exact_export, histories, users)
    answer = exact_export.model.predict("user_interests", {k: v for k, v in request.items() if k not in ("exclude", "diversity")})
    assert answer["interests"].shape == (5, NUM_INTERESTS, DIMENSION)
    assert answer["count"].tolist() == [1, 3, 3, 0, 0]
    best = np.einsum("bkd,nd->bkn", answer["interests"], exact_export.recommender.item_vectors().numpy())[1].max(axis=0)
    np.testing.assert_allclose(best[FIRST_INDEX:], true_scores(exact_export, histories, users)[0][1, FIRST_INDEX:], rtol=1e-4, atol=1e-5)
    for row, count in enumerate(answer["count"]):
        assert not answer["interests"][row, count:].any()


def test_models_that_rank_by_themselves_have_no_interests(direct_export: Exported) -> None:
    assert direct_export.model.signature_names == ["recommend", "recommend_examples", "serving_default", "similar_items"]
    answer = direct_export.model.predict("serving_default", {"history": padded([["item-38"]])})
    assert answer["item_ids"][0].tolist() == [b"item-39", b"item-0", b"item-1", b"item-2", b"item-3", b"item-4"]


@pytest.mark.parametrize("name", ["exact_export", "scann_export"])
def test_similar_items_leave_the_item_itself_out(name: str, request: pytest.FixtureRequest) -> None:
    exported = request.getfixturevalue(name)
    answer = exported.model.predict("similar_items", {"item_ids": np.array(["item-5", "who?", ""], dtype=object)})
    vectors = exported.recommender.item_vectors().numpy()
    scores = vectors @ vectors[exported.catalogue.vocabulary.index("item-5")]
    scores[[0, 1, exported.catalogue.vocabulary.index("item-5")]] = -np.inf
    best = np.argsort(-scores, kind="stable")[:NUM_RESULTS]
    assert answer["item_ids"][0].tolist() == identifiers(exported, best)
    np.testing.assert_allclose(answer["scores"][0], scores[best], rtol=1e-5)
    for row in (1, 2):
        assert answer["item_ids"][row].tolist() == [b""] * NUM_RESULTS
        assert (answer["scores"][row] == -np.inf).all()


# Unusual sizes


@pytest.mark.parametrize("name", ["exact_export", "scann_export"])
def test_an_empty_batch_has_an_empty_answer(name: str, request: pytest.FixtureRequest) -> None:
    exported = request.getfixturevalue(name)
    recommend = request_of(exported, [], np.zeros(0, int))
    interests = {key: values for key, values in recommend.items() if key not in ("exclude", "diversity")}
    for signature, inputs in {
        "serving_default": {"history": np.zeros((0, HISTORY_LENGTH), dtype=object)},
        "recommend": recommend,
        "recommend_examples": {"examples": np.zeros(0, dtype=object)},
        "similar_items": {"item_ids": np.zeros(0, dtype=object)},
        "user_interests": interests,
    }.items():
        answer = exported.model.predict(signature, inputs)
        if signature == "user_interests":
            assert answer["interests"].shape == (0, NUM_INTERESTS, DIMENSION)
        else:
            assert answer["item_ids"].shape == (0, NUM_RESULTS), signature


def test_a_huge_id_is_just_unknown(exact_export: Exported) -> None:
    answer = exact_export.model.predict("serving_default", {"history": padded([["x" * 1_000_000, "item-3"]])})
    expected = exact_export.model.predict("serving_default", {"history": padded([["item-3"]])})
    np.testing.assert_array_equal(answer["item_ids"], expected["item_ids"])


def servable_of(items: int, export: ExportConfig) -> tuple[TableRecommender, RetrievalSignatures]:
    catalogue = make_catalogue(items)
    recommender = TableRecommender(catalogue)
    return recommender, RetrievalSignatures(recommender, ExactIndex(recommender.item_vectors()), catalogue, export, {})


@pytest.mark.slow
def test_answers_of_a_small_catalogue_are_padded() -> None:
    _, servable = servable_of(4, ExportConfig(num_results=7, exclusion_width=2))
    histories: list[list[list[str]]] = [[["item-1"]], [[]]]
    for history in histories:
        answer = servable.signatures["serving_default"](history=tf.constant(padded(history)))
        assert set(answer["item_ids"].numpy()[0, :4]) == {b"item-0", b"item-1", b"item-2", b"item-3"}
        assert answer["item_ids"].numpy()[0, 4:].tolist() == [b""] * 3
        assert (answer["scores"].numpy()[0, 4:] == -np.inf).all()
        assert answer["interests"].numpy()[0, 4:].tolist() == [-1] * 3


@pytest.mark.slow
def test_histories_can_be_excluded_and_answers_stay_full() -> None:
    _, servable = servable_of(12, ExportConfig(num_results=5, exclusion_width=2, exclude_history=True))
    history = ["item-1", "item-2", "item-3", "item-4", "item-5"]
    default = servable.signatures["serving_default"](history=tf.constant(padded([history])))
    exclude, diversity = tf.constant([["item-6", "item-7"]]), tf.constant([0.5])
    chosen = servable.signatures["recommend"](history=tf.constant(padded([history])), exclude=exclude, diversity=diversity)
    assert not set(default["item_ids"].numpy()[0]) & {item.encode() for item in history}
    assert b"" not in default["item_ids"].numpy()[0]
    assert set(chosen["item_ids"].numpy()[0]) == {b"item-0", b"item-8", b"item-9", b"item-10", b"item-11"}


@pytest.mark.slow
def test_without_categories_diversity_changes_nothing() -> None:
    catalogue = make_catalogue()
    recommender = TableRecommender(catalogue)
    bare = type(catalogue)(catalogue.vocabulary, {}, None, catalogue.counts)
    servable = RetrievalSignatures(
        recommender, ExactIndex(recommender.item_vectors()), bare, ExportConfig(num_results=5, exclusion_width=2), {}
    )
    inputs = {"history": tf.constant(padded(HISTORIES)), "exclude": tf.fill([3, 2], "")}
    answers = [servable.signatures["recommend"](**inputs, diversity=tf.fill([3], value))["item_ids"].numpy() for value in (0.0, 5.0)]
    np.testing.assert_array_equal(answers[0], answers[1])


def test_all_signatures_share_one_trace_of_the_model_and_of_the_search() -> None:
    class Counting(TableRecommender):
        traces = 0

        def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
            self.traces += 1
            return super().user_interests(inputs)

    class CountingIndex(ExactIndex):
        traces = 0

        def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
            self.traces += 1
            return super().search(queries, k)

    catalogue = make_catalogue()
    recommender = Counting(catalogue)
    index = CountingIndex(recommender.item_vectors())
    signatures = RetrievalSignatures(recommender, index, catalogue, ExportConfig(num_results=NUM_RESULTS), {})
    assert len({id(signatures.signatures[name]) for name in signatures.signatures}) == 5
    assert recommender.traces == 1
    assert index.traces == 2  # of the interests of users, and of the neighbours of items
