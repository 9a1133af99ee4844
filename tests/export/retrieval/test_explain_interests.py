"""``explain_interests``: where interests come from and what each finds by itself, against brute force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import HISTORY_LENGTH, NUM_INTERESTS, NUM_RESULTS, ExplainedRecommender, make_catalogue
from tests.export.retrieval.test_signatures import HISTORIES, padded
from tfmi.config import ExportConfig
from tfmi.data.dataset import FIRST_INDEX
from tfmi.export.retrieval.retrieval_signatures import RetrievalSignatures
from tfmi.export.warmup import RequestMaker
from tfmi.index.exact import ExactIndex
from tfmi.models.recommender import OwnItems, UserInputs

MOST_RESULTS = 12


class Repeating(ExplainedRecommender):
    """Scores a user's own items apart."""

    knows_repeats = True
    apart: ClassVar = {"own_items": "a rule of their own"}

    def interests_with_repeats(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, OwnItems]:
        interests, active = self.user_interests(inputs)
        zeros = tf.zeros_like(inputs.history)
        return interests, active, OwnItems(inputs.history, tf.where(inputs.history >= FIRST_INDEX, 9.0, float("-inf")), zeros)


def servable(
    recommender: type[ExplainedRecommender] = ExplainedRecommender, **export: Any
) -> tuple[ExplainedRecommender, RetrievalSignatures]:
    catalogue = make_catalogue()
    model = recommender(catalogue)
    config = ExportConfig(num_results=NUM_RESULTS, exclusion_width=4, **export)
    return model, RetrievalSignatures(model, ExactIndex(model.item_vectors()), catalogue, config, {})


def ask(signatures: RetrievalSignatures, histories: Sequence[Sequence[str]], **changes: Any) -> dict[str, np.ndarray]:
    inputs = {"history": padded(histories), "exclude": padded([[]] * len(histories), 4), **changes}
    return signatures.answer("explain_interests", inputs)


def nearest(model: ExplainedRecommender, history: Sequence[int], left_out: Sequence[int] = ()) -> list[bytes]:
    """The ids nearest to the mean of the items with these numbers."""
    vectors = model.item_vectors().numpy()[FIRST_INDEX:]
    scores = vectors @ vectors[list(history)].mean(axis=0)
    scores[list(left_out)] = -np.inf
    return [f"item-{row}".encode() for row in np.argsort(-scores, kind="stable")[:NUM_RESULTS]]


@pytest.fixture(scope="module")
def plain() -> tuple[ExplainedRecommender, RetrievalSignatures]:
    return servable()


@pytest.fixture(scope="module")
def filterable() -> tuple[ExplainedRecommender, RetrievalSignatures]:
    return servable(filterable=["category"], most_results=MOST_RESULTS)


def test_each_interest_says_what_it_is_made_of_and_what_it_finds(plain: tuple[ExplainedRecommender, RetrievalSignatures]) -> None:
    model, signatures = plain
    answer = ask(signatures, HISTORIES)
    assert answer["count"].tolist() == [1, 3, 3]
    np.testing.assert_allclose(answer["weights"][1], np.array([[0.5, 0, 0, 0.5, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]]))
    assert answer["item_ids"].shape == answer["scores"].shape == (3, NUM_INTERESTS, NUM_RESULTS)
    for interest, numbers in enumerate([[7, 7], [9], [20]]):
        assert answer["item_ids"][1, interest].tolist() == nearest(model, numbers)
    assert (np.diff(answer["scores"][1]) <= 0).all()
    assert answer["item_ids"][0, 1:].tolist() == [[b""] * NUM_RESULTS] * 2
    assert (answer["scores"][0, 1:] == -np.inf).all()


def test_the_best_of_all_interests_is_what_recommend_answers(plain: tuple[ExplainedRecommender, RetrievalSignatures]) -> None:
    _, signatures = plain
    explained = ask(signatures, HISTORIES)
    recommended = signatures.answer(
        "recommend", {"history": padded(HISTORIES), "exclude": padded([[]] * 3, 4), "diversity": np.zeros(3, np.float32)}
    )
    for row in range(3):
        best: dict[bytes, float] = {}
        for ids, scores in zip(explained["item_ids"][row], explained["scores"][row], strict=True):
            for item, score in zip(ids, scores, strict=True):
                best[item] = max(score, best.get(item, -np.inf))
        assert sorted(best, key=lambda item: -best[item])[:NUM_RESULTS] == recommended["item_ids"][row].tolist()


def test_weights_stand_where_known_items_stand(plain: tuple[ExplainedRecommender, RetrievalSignatures]) -> None:
    _, signatures = plain
    clean = ask(signatures, [["item-7", "item-9"]])
    littered = ask(signatures, [[]], history=np.array([["who?", "item-7", "", "", "item-9"]], object))
    np.testing.assert_allclose(littered["weights"][0], np.array([[0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0] * 5]))
    np.testing.assert_array_equal(clean["item_ids"], littered["item_ids"])
    assert littered["count"].tolist() == [2]


def test_of_whom_nothing_is_known_there_are_no_interests(plain: tuple[ExplainedRecommender, RetrievalSignatures]) -> None:
    answer = ask(plain[1], [[], ["who?"]])
    assert answer["count"].tolist() == [0, 0]
    assert not answer["weights"].any()
    assert not answer["item_ids"].any()
    assert ask(plain[1], [])["item_ids"].shape == (0, NUM_INTERESTS, NUM_RESULTS)


def test_exclusions_hold_for_every_interest_and_for_their_own_row_alone(plain: tuple[ExplainedRecommender, RetrievalSignatures]) -> None:
    model, signatures = plain
    answer = ask(signatures, [["item-7", "item-9"], ["item-7"]], exclude=padded([["item-7", "item-3", "who?"], []], 4))
    assert answer["item_ids"][0, 0].tolist() == nearest(model, [7], [7, 3])
    assert answer["item_ids"][0, 1].tolist() == nearest(model, [9], [7, 3])
    assert answer["item_ids"][1, 0].tolist() == nearest(model, [7])


def test_own_items_are_left_out_where_answers_leave_them_out_or_score_them_apart() -> None:
    for recommender, export in ((ExplainedRecommender, {"exclude_history": True}), (Repeating, {})):
        model, signatures = servable(recommender, **export)
        answer = ask(signatures, [["item-7", "item-9"]])
        assert answer["item_ids"][0, 0].tolist() == nearest(model, [7], [7, 9])


def test_it_can_be_left_out() -> None:
    _, signatures = servable(explain_interests=False)
    assert "explain_interests" not in signatures.signatures


def test_filters_and_numbers_of_results_hold_for_every_interest(filterable: tuple[ExplainedRecommender, RetrievalSignatures]) -> None:
    model, signatures = filterable
    answer = ask(
        signatures,
        [["item-7", "item-9"]] * 2,
        allow_category=np.array([["category-1"], [""]], object),
        deny_category=np.array([[""], [""]], object),
        allow_items=np.array([[""], [""]], object),
        num_results=np.array([4, 9], np.int32),
    )
    assert answer["item_ids"].shape == (2, NUM_INTERESTS, 9)
    others = [number for number in range(40) if number % 4 != 1]
    assert answer["item_ids"][0, 0].tolist() == [*nearest(model, [7], others)[:4], *[b""] * 5]
    assert answer["item_ids"][1, 0, :NUM_RESULTS].tolist() == nearest(model, [7])
    assert (answer["item_ids"][1, 0] != b"").all()


def test_its_warm_up_takes_filters_only_where_there_are_any(filterable: tuple[ExplainedRecommender, RetrievalSignatures]) -> None:
    filters = filterable[1].filter_inputs.specs()  # type: ignore[union-attr]
    for given in ({}, filters):
        (request,) = RequestMaker(make_catalogue(), HISTORY_LENGTH, 4, {}, filters=given).requests(["explain_interests"], [2])
        assert set(request.inputs) == {"history", "exclude", *given}
