"""What the metadata says about a servable and its index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.config import ExportConfig
from tfmi.core.versions import versions
from tfmi.data.dataset import FIRST_INDEX, Catalogue, Feature, Sequences
from tfmi.data.splitting.slicing import whole_rows
from tfmi.export.profile_inputs import ProfileInputs, profile_values
from tfmi.export.retrieval.retrieval_signatures import RetrievalSignatures, weight_of_retrieval
from tfmi.index.base import InterestIndex
from tfmi.index.exact import ExactIndex
from tfmi.index.recall import RecallProbe, Searches
from tfmi.index.widening import widen_search
from tfmi.models.recommender import Reranker, Retriever, UserInputs, VectorRecommender

RECALL_QUERIES = 512


def describe_servable(servable: RetrievalSignatures, catalogue: Catalogue, export: ExportConfig) -> dict[str, Any]:
    """What a client needs to know of a servable, and which software made it."""
    return {
        "widths": {
            "history_length": servable.history_length,
            "num_results": export.num_results,
            "exclusion_width": export.exclusion_width,
        },
        "exclude_history": export.leaves_out_history,
        "integration": servable.integration,
        "filters": None if servable.filter_inputs is None else servable.filter_inputs.describe(),
        "diversity": catalogue.category_indices() is not None,
        "items": catalogue.candidate_rows - FIRST_INDEX,
        "profile_inputs": servable.profile_inputs.describe(),
        "signatures": servable.describe_signatures(),
        "versions": versions(),
    }


def describe_stages(ranker: Reranker | None, catalogue: Catalogue, export: ExportConfig) -> dict[str, Any]:
    """The stages that an answer goes through, and whose scores it holds."""
    if ranker is None:
        return {"stages": ["retrieval"]}
    return {
        "stages": ["retrieval", "ranking"],
        "ranking": {
            **ranker.describe(),
            "pool": min(export.ranking_pool * export.num_results, len(catalogue.vocabulary)),
            "retrieval_weight": weight_of_retrieval(export),
            "scores": "the ranker's logits of a click, plus retrieval_weight times the retriever's score; of rank the logits alone; of the "
            "cold-start list shares of training events; of similar_items the retriever's",
        },
    }


def candidate_vectors(recommender: VectorRecommender, catalogue: Catalogue) -> tf.Tensor:
    """Vectors float32 [rows, d] of the items that can be recommended, and of padding and unknown."""
    return recommender.item_vectors()[: catalogue.candidate_rows]


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
        queries, of = sample_rows(candidate_vectors(recommender, catalogue).numpy()[FIRST_INDEX:]), "item vectors"
    else:
        queries, of = _sample_interests(recommender, histories, features), "user interests"
    exact = index if isinstance(index, ExactIndex) else ExactIndex(candidate_vectors(recommender, catalogue))
    recall = describe_recall(index, index, RecallProbe(exact, queries, n), of, target_recall)
    return {"kind": index.kind, "parameters": index.parameters(), **recall}


def describe_recall(
    search: Searches, index: InterestIndex | None, probe: RecallProbe, of: str, target_recall: float | None
) -> dict[str, Any]:
    """The share of the exact answers that ``search``, which asks ``index``, finds, and what the queries are ``of``.

    An approximate index is widened until it finds ``target_recall``.
    """
    described: dict[str, Any] = {}
    if index is not None and index.is_approximate:
        widening = widen_search(index, probe, target_recall, search)
        value, described = widening.recall, widening.describe()
    else:
        value = probe.recall(search)
    return {"recall": {"at": probe.k, "value": value, "queries": probe.num_queries, "of": of}, **described}


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


def sample_rows(rows: np.ndarray, most: int = RECALL_QUERIES) -> np.ndarray:
    """At most so many of ``rows`` [M, ...], the same ones every time."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(0).choice(len(rows), size=most, replace=False))]


def summarize_index(description: Mapping[str, Any]) -> str:
    """One line for people about what ``describe_index`` found."""
    recall = description.get("recall")
    if recall is None:
        return "ranks without an index"
    measured = f"{recall['value']:.4f} on {recall['queries']} {recall['of']}"
    return f"index {description['kind']}, recall@{recall['at']} against exact search {measured}"
