"""Indexes that answer with a user-tag model's own scores, in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.models.user_tags.user_tag_models import KERNELS, NUM_TAGS, TWO_TOWER, UTPM, make_batch, make_model
from tfmi.config import IndexConfig
from tfmi.export.tags import tag_search
from tfmi.export.tags.tag_search import EveryTag, EveryUser, TagSearch, UserSearch
from tfmi.index.recall import measure_recall
from tfmi.models.user_tags.user_tag_model import UserTagModel

USERS, TASKS = 30, (0, 1)
ALL_TAGS = tf.range(NUM_TAGS + 2)


def user_table(model: UserTagModel) -> tf.Variable:
    """``user_queries`` of users, rows 0 and 1 being nobody's."""
    return tf.Variable(np.pad(model.user_queries(make_batch(USERS)["fields"]).numpy(), ((2, 0), (0, 0))))


def brute_force(model: UserTagModel, queries: tf.Tensor, task: int) -> np.ndarray:
    """The model's scores [users, V], pair by pair."""
    return model.score(queries, tf.repeat(ALL_TAGS[None], len(queries), axis=0), task).numpy()


def expect_best(scores: np.ndarray, found: tuple[tf.Tensor, tf.Tensor], k: int) -> None:
    """Check an answer against all scores [M, C]: same order, and the same scores to 1e-5."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found[1], best)
    assert np.abs(np.take_along_axis(scores, best, axis=1) - found[0].numpy()).max() < 1e-5


@pytest.fixture(params=["exact", "scann"])
def config(request: pytest.FixtureRequest) -> IndexConfig:
    if request.param == "scann":
        pytest.importorskip("scann", reason="ScaNN has no wheel for this platform and Python")
    return IndexConfig(kind=request.param)


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["dot", "expert_cosine", "cosine"])
@pytest.mark.parametrize("encoder", [UTPM, KERNELS, TWO_TOWER], ids=lambda spec: spec["name"])
def test_the_index_is_the_models_brute_force(encoder: dict[str, Any], scoring: str, config: IndexConfig) -> None:
    model = make_model(encoder, scoring=scoring)
    table = user_table(model)
    for task in TASKS:
        scores = brute_force(model, table[2:], task)
        expect_best(scores, TagSearch(model, task, config).search(table[2:], 7), 7)
        audience = np.pad(scores, ((2, 0), (0, 0)), constant_values=-np.inf).T[2:]  # [tags, users]
        expect_best(audience, UserSearch(model, task, table, config).search(ALL_TAGS[2:], 9), 9)


def test_unknown_tags_have_no_audience_and_answers_are_never_invented(config: IndexConfig) -> None:
    model = make_model(KERNELS)
    search = UserSearch(model, 0, user_table(model), config)
    scores, users = search.search(tf.constant([0, 1, 5]), USERS + 3)
    assert (scores.numpy()[:2] == -np.inf).all()
    assert (users.numpy()[:2] == 0).all()
    assert sorted(users.numpy()[2, :USERS]) == list(range(2, USERS + 2))
    assert (users.numpy()[2, USERS:] == 0).all()
    _, tags = TagSearch(model, 0, config).search(user_table(model)[2:4], NUM_TAGS + 2)
    assert (tags.numpy()[:, -2:] == 0).all()


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> UserTagModel:
    """A model whose cosine is not an inner product, and whose candidates are fewer than its tags and users."""
    monkeypatch.setattr(tag_search, "FEWEST_CANDIDATES", 4)
    monkeypatch.setattr(tag_search, "CANDIDATES_PER_RESULT", 2)
    return make_model(KERNELS, scoring="cosine")


@pytest.mark.slow
def test_what_is_approximate_says_so_and_has_the_models_own_scores(few_candidates: UserTagModel, config: IndexConfig) -> None:
    model, table = few_candidates, user_table(few_candidates)
    tags, users = TagSearch(model, 1, config), UserSearch(model, 1, table, config)
    for search in (tags, users):
        described = search.describe()
        assert described["approximate"] is True
        assert "norm of a mixture" in described["why_approximate"]
    scores = brute_force(model, table[2:], 1)
    own, found = (part.numpy() for part in tags.search(table[2:], 3))
    np.testing.assert_allclose(own, np.take_along_axis(scores, found, axis=1), rtol=1e-5)
    assert (np.diff(own, axis=1) <= 0).all()
    own, found = (part.numpy() for part in users.search(ALL_TAGS[2:], 3))
    np.testing.assert_allclose(own, scores[found - 2, np.arange(2, NUM_TAGS + 2)[:, None]], rtol=1e-5)
    assert measure_recall(tags, EveryTag(model, 1), table[2:], 3) <= 1.0
    assert 0.3 < measure_recall(users, EveryUser(model, 1, table.numpy(), users_at_once=7), ALL_TAGS[2:], 3) < 1.0


@pytest.mark.slow
def test_linear_scores_and_few_tags_are_exact() -> None:
    exact = IndexConfig(kind="exact")
    linear, cosine = make_model(KERNELS), make_model(KERNELS, scoring="cosine")
    assert TagSearch(linear, 0, exact).describe() == {"parameters": {"kind": "exact"}, "approximate": False}
    described = TagSearch(cosine, 0, exact).describe()
    assert described["approximate"] is False
    assert described["parameters"]["scoring"] == "the model scores everything"
    for model in (linear, cosine):
        table = user_table(model)
        assert measure_recall(TagSearch(model, 0, exact), EveryTag(model, 0), table[2:], 5) == 1.0
        assert measure_recall(UserSearch(model, 0, table, exact), EveryUser(model, 0, table.numpy()), ALL_TAGS[2:], 5) == 1.0
