"""The figures of interests against loops over users, and what happens where a figure means nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_full_catalogue import NUM_ITEMS, random_examples
from tests.evaluation.test_metrics import ragged
from tfmi.data.dataset import EvaluationSet
from tfmi.evaluation.diagnostics import interest_diagnostics
from tfmi.layers.base import InterestOutput, num_real_items
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval, drop_unknown_items

NUM_INTERESTS, LENGTH, DIMENSION = 3, 6, 4


class Stub:
    """Interest k weighs item i by a table's entry [i, k]; a history of n items has min(n, K) active interests."""

    history_length = LENGTH

    def __init__(self, num_rows: int = NUM_ITEMS + 2, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.weights = tf.constant(random.uniform(0.1, 1.0, (num_rows, NUM_INTERESTS)), tf.float32)
        self.vectors = tf.constant(random.normal(size=(num_rows, DIMENSION)), tf.float32)

    def extract(
        self, history: tf.Tensor, profile: Mapping[str, tf.Tensor], timestamps: tf.Tensor | None, training: bool
    ) -> tuple[InterestOutput, tf.Tensor, tf.Tensor]:
        assert not training
        mask = history >= 2
        weights = tf.transpose(tf.gather(self.weights, history), [0, 2, 1]) * tf.cast(mask, tf.float32)[:, None, :]
        active = tf.range(NUM_INTERESTS) < tf.maximum(num_real_items(mask), 1)[:, None]
        interests = tf.where(active[..., None], tf.matmul(weights, tf.gather(self.vectors, history)), 0.0)
        return InterestOutput(interests, active, weights, {}), interests, interests

    def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
        output, scored, _ = self.extract(*drop_unknown_items(inputs), training=False)
        return scored, output.active

    def item_vectors(self) -> tf.Tensor:
        return self.vectors


def diagnose(model: Stub, recommended: np.ndarray, examples: EvaluationSet, **options: Any) -> dict[str, Any]:
    return interest_diagnostics(cast(InterestRetrieval, model), recommended, examples, **{"batch_size": 7, **options})


def expected_figures(model: Stub, recommended: np.ndarray, examples: EvaluationSet) -> dict[str, Any]:
    """One user at a time, in NumPy."""
    table, vectors = model.weights.numpy().astype(np.float64), model.vectors.numpy().astype(np.float64)
    figures: dict[str, list[float]] = {"active": [], "attention_entropy": [], "cosine": [], "contributing@5": []}
    found = np.zeros(NUM_INTERESTS)
    for user in range(len(examples)):
        history = [item for item in examples.histories.row(user)[-LENGTH:] if item >= 2]
        if not history:
            continue
        active = min(len(history), NUM_INTERESTS)
        weights = table[history].T[:active]  # [active, items]
        interests = weights @ vectors[history]
        figures["active"].append(active)
        if len(history) > 1:
            shares = weights / weights.sum(axis=1, keepdims=True)
            figures["attention_entropy"].append((-(shares * np.log(shares)).sum(axis=1) / np.log(len(history))).mean())
        pairs = list(itertools.combinations(interests, 2))
        if pairs:
            figures["cosine"].append(np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]))
        finders = [int(np.argmax(interests @ vectors[item])) for item in recommended[user] if item >= 2]
        figures["contributing@5"].append(len(set(finders)))
        found += np.bincount(finders, minlength=NUM_INTERESTS)
    share = found / found.sum()
    return {
        "users": len(figures["active"]),
        **{name: np.mean(values) for name, values in figures.items()},
        "recommendation_share": share,
        "recommendation_balance": -(share * np.log(share)).sum() / np.log(NUM_INTERESTS),
    }


def test_every_figure_is_the_mean_over_users_one_at_a_time() -> None:
    examples, model = random_examples(users=50), Stub()
    random = np.random.default_rng(1)
    recommended = np.stack([random.permutation(np.arange(2, NUM_ITEMS + 2))[:5] for _ in range(50)])
    recommended[::4, 3:] = 0  # shorter lists
    figures, expected = diagnose(model, recommended, examples), expected_figures(model, recommended, examples)
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=1e-5), name
    assert 0 < figures["users"] < 50  # some histories hold no known item
    assert sum(figures["recommendation_share"]) == pytest.approx(1)


def test_batches_do_not_matter() -> None:
    examples, model = random_examples(), Stub()
    recommended = np.tile(np.arange(2, 7), (len(examples), 1))
    small, large = (diagnose(model, recommended, examples, batch_size=size) for size in (3, 100))
    assert small.keys() == large.keys()
    assert all(small[name] == pytest.approx(large[name]) for name in small)


def test_equal_weights_have_the_entropy_1_and_a_single_item_0() -> None:
    examples, recommended = EvaluationSet(ragged([[2, 3, 4]]), ragged([[5]])), np.array([[6]])
    model = Stub()
    model.weights = tf.ones_like(model.weights)
    equal = diagnose(model, recommended, examples)
    assert (equal["attention_entropy"], equal["cosine"]) == (pytest.approx(1), pytest.approx(1))
    model.weights = tf.one_hot(tf.range(NUM_ITEMS + 2) - 2, NUM_INTERESTS)  # interest k looks at item 2 + k alone
    assert diagnose(model, recommended, examples)["attention_entropy"] == pytest.approx(0)


def test_orthogonal_interests_have_the_cosine_0_and_each_finds_its_own() -> None:
    model = Stub()
    model.weights = tf.one_hot(tf.range(NUM_ITEMS + 2) - 2, NUM_INTERESTS)
    model.vectors = tf.one_hot((tf.range(NUM_ITEMS + 2) - 2) % NUM_INTERESTS, DIMENSION)
    examples = EvaluationSet(ragged([[2, 3, 4]]), ragged([[5]]))
    figures = diagnose(model, np.array([[5, 6, 7, 8]]), examples)
    assert figures["cosine"] == pytest.approx(0)
    assert figures["contributing@4"] == 3
    assert figures["recommendation_share"] == [0.5, 0.25, 0.25]
    one_sided = diagnose(model, np.array([[5, 8, 11, 0]]), examples)
    assert one_sided["recommendation_share"] == [1, 0, 0]
    assert one_sided["recommendation_balance"] == 0


def test_figures_that_nobody_has_are_left_out() -> None:
    examples, model = EvaluationSet(ragged([[2], [0, 3]]), ragged([[5], [5]])), Stub()
    figures = diagnose(model, np.array([[6], [7]]), examples)
    assert figures.keys() == {"users", "active", "contributing@1", "recommendation_share", "recommendation_balance"}
    nothing = diagnose(model, np.array([[0], [0]]), examples)
    assert nothing.keys() == {"users", "active", "contributing@1"}
    assert diagnose(model, np.array([[6]]), EvaluationSet(ragged([[1, 0]]), ragged([[5]]))) == {}


def test_of_many_users_a_seeded_draw_is_looked_at() -> None:
    examples, model = random_examples(users=40), Stub()
    recommended = np.tile(np.arange(2, 7), (40, 1))
    figures = [diagnose(model, recommended, examples, max_users=10, seed=seed) for seed in (0, 0, 1)]
    assert [each["users"] for each in figures] == [10] * 3
    assert figures[0] == figures[1] != figures[2]
