"""From a recommender's item vectors to an index, and what the metadata says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.config import IndexConfig, check_server
from tfmi.core.errors import settings_at
from tfmi.data.dataset import FIRST_INDEX, Catalogue, Feature, Sequences
from tfmi.data.splitting.slicing import whole_rows
from tfmi.export.profile_inputs import ProfileInputs, profile_values
from tfmi.export.recall import describe_recall, sample_rows
from tfmi.index.base import InterestIndex
from tfmi.index.build import build_index, resolve_kind
from tfmi.index.exact import ExactIndex, ExactSearch
from tfmi.index.recall import RecallProbe
from tfmi.models.recommender import DirectRecommender, Retriever, UserInputs, VectorRecommender


def candidate_vectors(recommender: VectorRecommender, catalogue: Catalogue) -> tf.Tensor:
    """Vectors float32 [rows, d] of the items that can be recommended, and of padding and unknown."""
    return recommender.item_vectors()[: catalogue.candidate_rows]


def build_search(recommender: Retriever, catalogue: Catalogue, config: IndexConfig, server: str) -> InterestIndex | None:
    """The index of the items that can be recommended, that ``server`` can load; None for a recommender that ranks by itself."""
    if isinstance(recommender, DirectRecommender):
        return None
    check_server(config.kind, server)
    vectors = candidate_vectors(recommender, catalogue)
    kind = resolve_kind(config.kind, int(vectors.shape[0]) - FIRST_INDEX, int(vectors.shape[1]), server)
    with settings_at("index.kind"):
        return build_index(kind, vectors, **config.search_parameters())


def describe_index(
    recommender: Retriever,
    catalogue: Catalogue,
    index: InterestIndex | None,
    n: int,
    histories: Sequences | None,
    *,
    features: Mapping[str, Feature],
    target_recall: float | None = None,
) -> dict[str, Any]:
    """Kind, parameters, and the share of the exact best n items of a query that the index finds.

    Queries are the interests of a sample of users, or a sample of item vectors where there are no ``histories``. With a
    ``target_recall`` the index searches further first, see ``widen_search``; signatures are to be traced after this.
    """
    if index is None or not isinstance(recommender, VectorRecommender):
        return {"kind": "direct"}
    if histories is None or not len(histories):
        rows = sample_rows(np.arange(FIRST_INDEX, index.num_rows))
        queries, of = index.vectors(tf.constant(rows, tf.int32)).numpy(), "item vectors"
    else:
        queries, of = _sample_interests(recommender, histories, features), "user interests"
    exact = index if isinstance(index, ExactIndex) else ExactSearch(index)
    recall = describe_recall(index, index, RecallProbe(exact, queries, n), of, target_recall)
    return {"kind": index.kind, "parameters": index.parameters(), **recall}


def _sample_interests(recommender: VectorRecommender, histories: Sequences, features: Mapping[str, Feature]) -> np.ndarray:
    """Active interests [M, d] of a sample of users."""
    rows = sample_rows(np.arange(len(histories)))
    sampled = whole_rows(histories, rows)
    history = tf.constant(sampled.padded(recommender.history_length))
    times = sampled.padded_timestamps(recommender.history_length)
    inputs = ProfileInputs(features)
    requests = {name: tf.constant(values) for name, values in profile_values(features, sampled.users).items()}
    profile = inputs.encode(requests, tf.constant(len(rows)))
    interests, active = recommender.user_interests(UserInputs(history, profile, None if times is None else tf.constant(times)))
    return sample_rows(tf.boolean_mask(interests, active).numpy())


def summarize_index(description: Mapping[str, Any]) -> str:
    """One line for people about what ``describe_index`` found."""
    recall = description.get("recall")
    if recall is None:
        return "ranks without an index"
    measured = f"{recall['value']:.4f} on {recall['queries']} {recall['of']}"
    return f"index {description['kind']}, recall@{recall['at']} against exact search {measured}"
