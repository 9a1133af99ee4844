"""Inner-product indexes that answer with a user-tag model's own scores, in both directions.

A score that is linear in the users' vectors is an inner product, so that what an index finds and what it scores are the model's own. The
cosine of a mixture of experts is not: an index searches the numerator, for several times as many candidates as are wanted, and the model
scores these. Where there are few tags or users, it scores all of them, and no index is asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.config import IndexConfig
from tfmi.core.errors import settings_at
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import InterestIndex, gather_rows, pad_columns
from tfmi.index.build import build_index, resolve_kind
from tfmi.index.merging import MISSING_SCORE
from tfmi.models.user_tags.user_tag_model import UserTagModel

# A score that is not linear: so many candidates by the numerator for each answer ...
CANDIDATES_PER_RESULT = 10
# ... and at least so many.
FEWEST_CANDIDATES = 1_000
WHY_APPROXIMATE = (
    "scoring 'cosine' with several experts divides by the norm of a mixture that depends on user and tag: candidates are found by the "
    "numerator, and scored by the model"
)


class _Search(tf.Module):
    """What both directions have in common.

    Args:
        model: A trained model.
        task: Which task's scores.
        vectors: [rows, S d], what the numerator is the inner product with.
        config: Of the index.
        server: What will serve, see ``resolve_kind``.

    Attributes:
        index: Searches the vectors; None where the model scores everything.
    """

    def __init__(self, model: UserTagModel, task: int, vectors: tf.Tensor, config: IndexConfig, server: str = "scann") -> None:
        super().__init__()
        self._model, self._task = model, task
        self._is_linear = model.is_linear(task)
        self._num_rows = int(vectors.shape[0])
        scores_all = not self._is_linear and self._num_rows - FIRST_INDEX <= FEWEST_CANDIDATES
        self.index: InterestIndex | None = None
        if not scores_all:
            kind = resolve_kind(config.kind, self._num_rows - FIRST_INDEX, int(vectors.shape[1]), server)
            with settings_at("index.kind"):
                self.index = build_index(kind, vectors, **config.search_parameters())

    def describe(self) -> dict[str, Any]:
        """For the metadata."""
        if self.index is None:
            return {"parameters": {"kind": "none", "scoring": "the model scores everything"}, "approximate": False}
        parameters = {"parameters": self.index.parameters()}
        if self._is_linear:
            return {**parameters, "approximate": False}
        candidates = f"{CANDIDATES_PER_RESULT} candidates for each result, at least {FEWEST_CANDIDATES}"
        return {**parameters, "approximate": True, "why_approximate": f"{WHY_APPROXIMATE}; {candidates}"}

    def _candidates(self, queries: tf.Tensor, k: tf.Tensor | int) -> tf.Tensor:
        """int32 [M, C] rows for the model to score, by rising row."""
        if self.index is None:
            return tf.repeat(tf.range(FIRST_INDEX, self._num_rows)[None], tf.shape(queries)[0], axis=0)
        pool = tf.minimum(tf.maximum(CANDIDATES_PER_RESULT * k, FEWEST_CANDIDATES), self._num_rows - FIRST_INDEX)
        return tf.sort(self.index.search(queries, pool)[1], axis=1)


class TagSearch(_Search):
    """The best tags of users for a task.

    Args:
        model: A trained model.
        task: Which task's scores.
        config: Of the index.
        server: What will serve, see ``resolve_kind``.
    """

    def __init__(self, model: UserTagModel, task: int, config: IndexConfig, server: str = "scann") -> None:
        super().__init__(model, task, model.tag_items(task), config, server)

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The model's scores float32 [B, k] and tags int32 [B, k] of ``user_queries`` [B, E d], best first; -inf and 0 where missing."""
        wanted = self._model.task_query(queries, self._task)
        if self._is_linear and self.index is not None:
            return self.index.search(wanted, k)
        tags = self._candidates(wanted, k)
        return best_of(self._model.score(queries, tags, self._task), tags, k)


class UserSearch(_Search):
    """The best users for tags by a task.

    Args:
        model: A trained model.
        task: Which task's scores.
        queries: A table [rows, E d] of the users' ``user_queries``; rows 0 and 1 are nobody's.
        config: Of the index.
        server: What will serve, see ``resolve_kind``.
    """

    def __init__(self, model: UserTagModel, task: int, queries: tf.Variable, config: IndexConfig, server: str = "scann") -> None:
        super().__init__(model, task, model.task_query(queries, task), config, server)
        self._tag_items = tf.Variable(model.tag_items(task), trainable=False, name="tag_items")
        self._queries = queries

    def search(self, tags: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The model's scores float32 [B, k] and rows of users int32 [B, k] for tags int32 [B], best first; -inf and 0 where missing, as
        for unknown tags."""
        wanted = gather_rows(self._tag_items, tags)  # [B, S d]
        if self._is_linear and self.index is not None:
            scores, users = self.index.search(wanted, k)
        else:
            users = self._candidates(wanted, k)  # [B, C]
            scores, users = best_of(self._scores(users, tags), users, k)
        known = (tags >= FIRST_INDEX)[:, None]
        return tf.where(known, scores, MISSING_SCORE), tf.where(known, users, PADDING_INDEX)

    def _scores(self, users: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
        """float32 [B, C] of users' rows [B, C]; -inf at row 0."""
        shape = tf.shape(users)
        queries = tf.gather(self._queries.read_value(), tf.reshape(users, [-1]))  # [B C, E d]
        scores = self._model.score(queries, tf.repeat(tags, shape[1])[:, None], self._task)
        return tf.where(users >= FIRST_INDEX, tf.reshape(scores, shape), MISSING_SCORE)


class EveryTag:
    """``TagSearch`` by brute force, to measure recall against."""

    def __init__(self, model: UserTagModel, task: int) -> None:
        self._model, self._task = model, task

    def search(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``TagSearch.search``."""
        scores = self._model.all_scores(queries, self._task)
        return best_of(scores, tf.repeat(tf.range(self._model.num_tag_rows)[None], tf.shape(scores)[0], axis=0), k)


class EveryUser:
    """``UserSearch`` by brute force, to measure recall against."""

    def __init__(self, model: UserTagModel, task: int, queries: np.ndarray, users_at_once: int = 1024) -> None:
        self._model, self._task, self._queries, self._users_at_once = model, task, queries, users_at_once

    def search(self, tags: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``UserSearch.search``."""
        blocks = [
            tf.gather(self._model.all_scores(self._queries[start : start + self._users_at_once], self._task), tags, axis=1)
            for start in range(0, len(self._queries), self._users_at_once)
        ]
        scores = tf.transpose(tf.concat(blocks, axis=0))  # [B, rows]
        rows = tf.repeat(tf.range(len(self._queries))[None], tf.shape(scores)[0], axis=0)
        return best_of(tf.where(rows >= FIRST_INDEX, scores, MISSING_SCORE), rows, k)


def best_of(scores: tf.Tensor, rows: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
    """The best ``k`` of ``scores`` [M, C] and their ``rows`` int32 [M, C]; ties go to the first, and -inf is no answer."""
    best, order = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]))
    found = tf.where(best > MISSING_SCORE, tf.gather(rows, order, batch_dims=1), PADDING_INDEX)
    return pad_columns(best, k, MISSING_SCORE), pad_columns(found, k, PADDING_INDEX)
