"""Small recommenders and catalogues whose answers a test can work out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, Catalogue, CategoricalFeature, MultiValuedFeature, NumericFeature, UserProfiles, Vocabulary
from tfmi.export import ExportedModel
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import drop_unknown_items

HISTORY_LENGTH = 5
NUM_INTERESTS = 3
DIMENSION = 8
NUM_RESULTS = 6
EXCLUSION_WIDTH = 4

# Names as users give columns: spaces and any alphabet.
REGION, AGE, GENRES = "home region", "âge", "genres"


def make_catalogue(items: int = 40, categories: int = 4) -> Catalogue:
    """Items "item-0" (most popular) to "item-<n-1>"; item i is of category i % categories, the last item of none."""
    rows = items + FIRST_INDEX
    values = np.zeros(rows, dtype=np.int32)
    values[FIRST_INDEX:] = np.arange(items) % categories + FIRST_INDEX
    values[-1] = 0
    category = CategoricalFeature(Vocabulary([f"category-{c}" for c in range(categories)]), values)
    counts = np.zeros(rows, dtype=np.int64)
    counts[FIRST_INDEX:] = np.arange(items, 0, -1)
    return Catalogue(Vocabulary([f"item-{i}" for i in range(items)]), {"category": category}, None, counts)


def make_profiles(users: int = 6) -> UserProfiles:
    """One feature of each kind; row 0 is the unknown user."""
    random = np.random.default_rng(3)
    known = np.arange(users + 1) > 0
    genres = np.where(known[:, None], random.integers(2, 5, (users + 1, 2)), 0).astype(np.int32)
    return UserProfiles(
        ["", *[f"user-{u}" for u in range(users)]],
        {
            REGION: CategoricalFeature(Vocabulary(["nord", "süd"]), np.where(known, random.integers(2, 4, users + 1), 0).astype(np.int32)),
            AGE: NumericFeature(np.where(known, random.uniform(18, 70, users + 1), np.nan).astype(np.float32), 40.0, 10.0),
            GENRES: MultiValuedFeature(Vocabulary(["a", "b", "c"]), genres, (genres > 0).astype(np.float32)),
        },
    )


class TableRecommender(tf.Module):
    """A ``VectorRecommender``: interest k is the mean vector of the history's items at positions k, k + K, ...; K' = distinct such k.

    The profile features shift every interest.
    """

    def __init__(self, catalogue: Catalogue, profile_features: tuple[str, ...] = (), seed: int = 0) -> None:
        super().__init__()
        random = np.random.default_rng(seed)
        self.history_length, self.num_rows = HISTORY_LENGTH, catalogue.num_rows
        self.requested_inputs: tuple[str, ...] = ()
        self.profile_features = profile_features
        self.table = tf.Variable(random.normal(size=(catalogue.num_rows, DIMENSION)).astype(np.float32), name="table")
        self.shift = tf.Variable((0.1 * random.normal(size=(DIMENSION,))).astype(np.float32), name="shift")

    def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
        history, profile, _ = drop_unknown_items(inputs)
        mask = tf.cast(history >= FIRST_INDEX, tf.float32)
        vectors = tf.gather(self.table, history) * mask[:, :, None]
        counts = tf.stack([tf.reduce_sum(mask[:, k::NUM_INTERESTS], axis=1) for k in range(NUM_INTERESTS)], axis=1)
        sums = tf.stack([tf.reduce_sum(vectors[:, k::NUM_INTERESTS], axis=1) for k in range(NUM_INTERESTS)], axis=1)
        interests = tf.math.divide_no_nan(sums, counts[:, :, None])
        active = counts > 0
        active = tf.concat([tf.ones_like(active[:, :1]), active[:, 1:]], axis=1)
        return interests + self._profile_shift(profile, tf.shape(history)[0])[:, None, None] * self.shift, active

    def _profile_shift(self, profile: Mapping[str, tf.Tensor], rows: tf.Tensor) -> tf.Tensor:
        shift = tf.zeros([rows])
        if REGION in self.profile_features:
            shift += tf.cast(profile[REGION], tf.float32)
        if AGE in self.profile_features:
            shift += profile[AGE]
        if GENRES in self.profile_features:
            shift += tf.reduce_sum(tf.cast(profile[GENRES], tf.float32) * profile[f"{GENRES}_weights"], axis=1)
        return shift

    def item_vectors(self) -> tf.Tensor:
        return self.table * tf.cast(tf.range(self.num_rows) >= FIRST_INDEX, tf.float32)[:, None]


class ExplainedRecommender(TableRecommender):
    """An ``ExplainableRecommender``: interest k is the mean of the known items at places k, k + K, ...: these are its weights."""

    def interests_with_weights(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        interests, active = self.user_interests(inputs)
        known = inputs.history >= FIRST_INDEX
        number = tf.where(known, (tf.cumsum(tf.cast(known, tf.int32), axis=1) - 1) % NUM_INTERESTS, -1)
        part = tf.cast(number[:, None, :] == tf.range(NUM_INTERESTS)[None, :, None], tf.float32)
        return interests, active, tf.math.divide_no_nan(part, tf.reduce_sum(part, axis=2, keepdims=True))


class TableRanker(tf.Module):
    """A ``Reranker`` with vectors of its own: a candidate's inner product with the sum over the history, shifted by its profile features.

    The sum is shifted by every categorical or numeric profile feature, times the vector of the item 2.
    """

    def __init__(self, catalogue: Catalogue, profile_features: tuple[str, ...] = (), seed: int = 5) -> None:
        super().__init__()
        self.history_length, self.vocabulary = HISTORY_LENGTH, catalogue.vocabulary
        self.profile_features = profile_features
        self.table = tf.Variable(np.random.default_rng(seed).normal(size=(catalogue.num_rows, DIMENSION)).astype(np.float32))

    def score(self, history: tf.Tensor, profile: Mapping[str, tf.Tensor] | None, candidates: tf.Tensor) -> tf.Tensor:
        known = tf.cast(history >= FIRST_INDEX, tf.float32)[:, :, None]
        users = tf.reduce_sum(tf.gather(self.table, history) * known, axis=1)
        for name in self.profile_features:
            users += tf.cast((profile or {})[name], tf.float32)[:, None] * self.table[FIRST_INDEX]
        scores = tf.einsum("bd,bcd->bc", users, tf.gather(self.table, candidates))
        return tf.where(candidates >= FIRST_INDEX, scores, float("-inf"))

    def describe(self) -> dict[str, Any]:
        return {"backbone": "table"}


class NextInLine(tf.Module):
    """A ``DirectRecommender``: after an item come the items with the following indices, cyclically; score -1, -2, ..."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.history_length, self.num_rows = HISTORY_LENGTH, catalogue.num_rows
        self.first = tf.Variable(FIRST_INDEX, name="first")

    def top_k(self, history: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        return self.similar_items(tf.reduce_max(history, axis=1), k)

    def similar_items(self, items: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        num_items = self.num_rows - self.first
        steps = tf.range(1, k + 1)
        neighbours = (items[:, None] - self.first + steps) % num_items + self.first
        present = tf.broadcast_to(steps[None, :] < num_items, tf.shape(neighbours))
        scores = tf.broadcast_to(-tf.cast(steps, tf.float32), tf.shape(neighbours))
        return tf.where(present, neighbours, 0), tf.where(present, scores, float("-inf"))


@dataclass(frozen=True)
class Exported:
    """A published version beside what it was made of."""

    recommender: Any
    catalogue: Catalogue
    folder: Path
    model: ExportedModel
    profiles: UserProfiles | None
