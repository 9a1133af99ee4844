"""Users' own items at their own scores: one answer, whoever merges it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_full_catalogue import random_examples
from tests.export.fake_recommenders import HISTORY_LENGTH, TableRecommender, make_catalogue
from tfmi.config import ExportConfig
from tfmi.core.errors import ConfigError
from tfmi.evaluation.diversity import DiverseRanker
from tfmi.evaluation.full_catalogue import CatalogueRanker
from tfmi.export.retrieval.retrieval_signatures import RetrievalSignatures
from tfmi.index.build import build_index
from tfmi.index.merging import Candidates
from tfmi.index.repeats import merge_repeats
from tfmi.index.sources import RepeatingCandidates
from tfmi.models.recommender import OwnItems, UserInputs, knows_repeats
from tfmi.models.systems import load_config

NUM_ITEMS = 60
CATALOGUE = make_catalogue(NUM_ITEMS)


class Repeating(TableRecommender):
    """Scores a user's own item by where it stands: the first place 1, the next 0, and so on, its last place counting."""

    knows_repeats = True
    apart: ClassVar = {"own_items": "scored by the model's repetition"}

    def interests_with_repeats(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, OwnItems]:
        history = inputs.history
        places = tf.range(tf.shape(history)[1])
        later = (history[:, :, None] == history[:, None, :]) & (places[None, None, :] > places[None, :, None])
        last = (history >= 2) & ~tf.reduce_any(later, axis=2)
        scores = tf.where(last, 1.0 - tf.cast(places, tf.float32)[None, :], -np.inf)
        return *self.user_interests(inputs), OwnItems(history, scores, tf.fill(tf.shape(history), 2))


def expected_lists(recommender: Repeating, histories: np.ndarray, n: int, exclude: np.ndarray | None = None) -> np.ndarray:
    """int [U, n], item by item."""
    interests, active = (value.numpy() for value in recommender.user_interests(UserInputs(tf.constant(histories))))
    answers = []
    for row, history in enumerate(histories):
        scores = np.where(active[row][:, None], interests[row] @ recommender.table.numpy().T, -np.inf).max(axis=0)
        scores[:2] = -np.inf
        for place, item in enumerate(history):
            if item >= 2:
                scores[item] = 1.0 - place
        if exclude is not None:
            scores[exclude[row]] = -np.inf
        order = np.argsort(-scores, kind="stable")[:n]
        answers.append(np.where(np.isneginf(scores[order]), 0, order))
    return np.array(answers)


@pytest.fixture
def recommender() -> Repeating:
    return Repeating(CATALOGUE)


@pytest.fixture
def histories() -> np.ndarray:
    padded = random_examples(longest=HISTORY_LENGTH).histories.padded(HISTORY_LENGTH)
    padded[0] = [7, 9, 7, 9, 7]
    return padded


@pytest.mark.parametrize("kind", ["exact", "scann", "partitioned"])
@pytest.mark.parametrize("k", [6, NUM_ITEMS])
def test_a_search_finds_new_items_and_own_ones_join_them(recommender: Repeating, histories: np.ndarray, kind: str, k: int) -> None:
    source = RepeatingCandidates(recommender, build_index(kind, recommender.item_vectors()))
    found = source.candidates(UserInputs(tf.constant(histories)), k)
    np.testing.assert_array_equal(found.items[:, :k], expected_lists(recommender, histories, k))
    items = found.items.numpy()[:, :k]
    own = (histories[:, None, :] == items[:, :, None]).any(axis=2) & (items >= 2)
    assert (found.interests[:, :k].numpy()[own] == 2).all()
    for row in found.items.numpy():
        assert len(set(row[row > 0])) == (row > 0).sum()


@pytest.mark.slow
def test_evaluation_serving_and_the_sweep_give_the_same_lists(recommender: Repeating, histories: np.ndarray) -> None:
    examples = random_examples(longest=HISTORY_LENGTH)
    histories = examples.histories.padded(HISTORY_LENGTH)
    known = (histories >= 2).any(axis=1)  # the others get the cold-start list in serving
    expected = expected_lists(recommender, histories, 6)[known]
    ranked = CatalogueRanker(recommender).rank(examples, 6, batch_size=5)
    np.testing.assert_array_equal(ranked.items[known], expected)
    ids = np.array(["", "unknown", *CATALOGUE.vocabulary.ids], dtype=object)
    signatures = RetrievalSignatures(
        recommender, build_index("exact", recommender.item_vectors()), CATALOGUE, ExportConfig(num_results=6), {}
    )
    served = signatures.signatures["serving_default"](history=tf.constant(ids[np.where(histories == 1, 0, histories)]))
    np.testing.assert_array_equal(served["item_ids"].numpy()[known].astype(str), ids[expected].astype(str))
    assert signatures.integration["own_items"]
    ranker = DiverseRanker(recommender, np.asarray(CATALOGUE.category_indices()), n=6, pool=18)
    np.testing.assert_array_equal(ranker.rank(examples, [0.0], batch_size=5)[0].items[known], expected)


@pytest.mark.slow
def test_what_is_left_out_is_left_out_of_both_parts(recommender: Repeating) -> None:
    examples = random_examples(longest=HISTORY_LENGTH)
    ranked = CatalogueRanker(recommender).rank(examples, 10, batch_size=5, exclude_history=True)
    histories = examples.histories.padded(HISTORY_LENGTH)
    np.testing.assert_array_equal(ranked.items, expected_lists(recommender, histories, 10, exclude=histories))


def test_an_item_that_was_found_loses_its_found_score() -> None:
    found = Candidates(tf.constant([[5, 6, 7]]), tf.constant([[3.0, 2.0, 1.0]]), tf.constant([[0, 1, 0]]))
    own = OwnItems(tf.constant([[5, 9, 0, 9]]), tf.constant([[-np.inf, 1.5, -np.inf, -np.inf]]), tf.constant([[1, 1, 1, 1]]))
    merged = merge_repeats(found, own)
    np.testing.assert_array_equal(merged.items, [[6, 9, 7, 0, 0, 0, 0]])  # 5 is the user's own, and has no score
    np.testing.assert_allclose(merged.scores[0, :3], [2.0, 1.5, 1.0])
    np.testing.assert_array_equal(merged.interests[0, :3], [1, 1, 0])


def test_a_recommender_says_whether_it_knows_repeats(recommender: Repeating) -> None:
    assert knows_repeats(recommender)
    recommender.knows_repeats = False
    assert not knows_repeats(recommender)
    assert not knows_repeats(TableRecommender(CATALOGUE))


class RepeatingAndSharing(Repeating):
    def interests_with_shares(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        interests, active = self.user_interests(inputs)
        return interests, active, tf.cast(active, tf.float32)


def test_places_cannot_be_allotted_to_interests_and_to_own_items() -> None:
    both = RepeatingAndSharing(CATALOGUE)
    with pytest.raises(ConfigError, match="but RepeatingAndSharing scores some items apart"):
        CatalogueRanker(both, 1.0)
    with pytest.raises(ConfigError, match="but RepeatingAndSharing scores some items apart"):
        RetrievalSignatures(both, build_index("exact", both.item_vectors()), CATALOGUE, ExportConfig(), {}, quota_exponent=1.0)
    settings = ["model.regularizers.usage={name: interest_usage}", "index.integration=allotted", "model.repetition={name: learned_gate}"]
    with pytest.raises(ConfigError, match=r"index.integration: 'allotted' gives places to interests"):
        load_config(system="octopus", settings=settings)
