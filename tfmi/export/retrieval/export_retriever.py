"""``export_savedmodel``: from a recommender to a published SavedModel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.config import ExportConfig, IndexConfig
from tfmi.core.errors import ExportError
from tfmi.data.dataset import FIRST_INDEX, Catalogue, Feature, Sequences, UserProfiles
from tfmi.export.item_details import write_items, write_sample_users
from tfmi.export.item_map import mapped_rows, write_map
from tfmi.export.metadata import check_run_metadata
from tfmi.export.releasing import export_errors, release
from tfmi.export.retrieval.retrieval_signatures import RetrievalSignatures, results_per_interest
from tfmi.export.retrieval.search import build_search, describe_index, summarize_index
from tfmi.index.base import InterestIndex
from tfmi.models.recommender import REQUESTABLE_INPUTS, DirectRecommender, Reranker, Retriever, VectorRecommender

log = logging.getLogger(__name__)


def export_savedmodel(
    recommender: Retriever,
    catalogue: Catalogue,
    directory: str | Path,
    *,
    export: ExportConfig | None = None,
    index: IndexConfig | None = None,
    profiles: UserProfiles | None = None,
    metadata: Mapping[str, Any] | None = None,
    histories: Sequences | None = None,
    version: int | None = None,
    ranker: Reranker | None = None,
    write_state: Callable[[Path], None] | None = None,
) -> Path:
    """Publish a recommender, or a recommender and a ranker behind it, as a SavedModel for TensorFlow Serving.

    The version folder appears under ``directory`` only after its warm-up requests have been replayed on the saved model and answered
    as the model in memory answers them.

    Args:
        recommender: A trained model. If it has an attribute ``profile_features`` (names), these of the profile become inputs; else all.
        catalogue: The items that the recommender was trained on.
        directory: The model's directory, ``savedmodels/<name>``.
        export: Widths of the servable; default: ``ExportConfig()``.
        index: Kind and parameters of the index; ignored for a ``DirectRecommender``, which ranks by itself. Default: ``IndexConfig()``.
        profiles: The users' features, if the recommender was trained with any.
        metadata: What to say about the run: ``system``, ``configuration``, ``metrics``, ``data``.
        histories: Real histories on which to measure the index's recall; without them item vectors serve as queries.
        version: The version number; None takes 1 + the highest one.
        ranker: Ranks the best ``export.ranking_pool`` x ``export.num_results`` items that the recommender finds, and gives them their
            scores. It must know the same items in the same order, and histories of the same length.
        write_state: Writes into the version folder what another version can be made from without training.

    Returns:
        The published ``<directory>/<version>``.

    Raises:
        ExportError: Anything went wrong; nothing is published and nothing left behind.
        TfmiError: The index cannot be built from the model's vectors or with these parameters.
    """
    directory, export, index = Path(directory), export or ExportConfig(), index or IndexConfig()
    _check(recommender, catalogue)
    check_run_metadata(metadata or {})
    if ranker is not None:
        _check_ranker(ranker, recommender, catalogue)
    features = _profile_features(recommender, ranker, profiles)
    search = build_search(recommender, catalogue, index, export.server)
    with export_errors(directory):
        # Before any signature is traced: it may have the index search further.
        depth = results_per_interest(export, ranker)
        found = describe_index(recommender, catalogue, search, depth, histories, features=features, target_recall=index.target_recall)
        signatures = RetrievalSignatures(recommender, search, catalogue, export, features, quota_exponent=index.allotment(), ranker=ranker)
        del search  # the signatures hold it alone, and free it

        described = {"system": directory.name, **(metadata or {}), "index": found}

        def write_details(folder: Path) -> None:
            _write_details(folder, catalogue, signatures.index, profiles=profiles, histories=histories, export=export)
            if write_state is not None and export.state:
                write_state(folder)

        batch_sizes = export.warmup_batch_sizes
        published = release(directory, signatures, described, batch_sizes=batch_sizes, version=version, write_details=write_details)
    log.info("Published %s (%s)", published, summarize_index(found))
    return published


def retrieval_in_memory(
    recommender: Retriever, catalogue: Catalogue, *, export: ExportConfig, index: IndexConfig, profiles: UserProfiles | None = None
) -> RetrievalSignatures:
    """The signatures that an export of a recommender would have, for asking without exporting.

    Raises:
        ExportError, IndexBuildError: As ``export_savedmodel``.
    """
    _check(recommender, catalogue)
    features = _profile_features(recommender, None, profiles)
    search = build_search(recommender, catalogue, index, export.server)
    return RetrievalSignatures(recommender, search, catalogue, export, features, quota_exponent=index.allotment())


def _check(recommender: Retriever, catalogue: Catalogue) -> None:
    if not isinstance(recommender, VectorRecommender | DirectRecommender):
        raise ExportError(
            f"{type(recommender).__name__} cannot be exported: it is neither a VectorRecommender (user_interests, item_vectors, "
            "requested_inputs) nor a DirectRecommender (top_k, similar_items); see tfmi/models/recommender.py"
        )
    unknown = set(recommender.requested_inputs) - set(REQUESTABLE_INPUTS) if isinstance(recommender, VectorRecommender) else set()
    if unknown:
        raise ExportError(f"the recommender requests {sorted(unknown)}, which no request can hold; expected {list(REQUESTABLE_INPUTS)}")
    if recommender.num_rows != catalogue.num_rows:
        raise ExportError(
            f"the recommender knows {recommender.num_rows} item rows, the catalogue has {catalogue.num_rows}: "
            "give the catalogue that it was trained on"
        )


def _check_ranker(ranker: Reranker, recommender: Retriever, catalogue: Catalogue) -> None:
    """Both stages speak in item indices: an index must mean the same item to both."""
    if not isinstance(ranker, Reranker):
        raise ExportError(
            f"{type(ranker).__name__} cannot rank in a servable: it is not a Reranker (score, vocabulary, ...); see "
            "tfmi/models/recommender.py"
        )
    known, ranked = catalogue.vocabulary.ids, ranker.vocabulary.ids
    if known != ranked:
        differing = next((row for row, pair in enumerate(zip(known, ranked, strict=False)) if pair[0] != pair[1]), None)
        difference = (
            f"{len(ranked)} items instead of {len(known)}"
            if differing is None
            else f"item {ranked[differing]!r} where the catalogue has {known[differing]!r} (index {differing + FIRST_INDEX})"
        )
        raise ExportError(
            f"the ranker was trained on another catalogue than the recommender: it knows {difference}. Train both on one split, whose "
            "vocabulary has the same items in the same order"
        )
    if ranker.history_length != recommender.history_length:
        raise ExportError(
            f"the ranker sees histories of {ranker.history_length} items, the recommender of {recommender.history_length}; train both with "
            "the same data.history_length"
        )


def _profile_features(recommender: Retriever, ranker: Reranker | None, profiles: UserProfiles | None) -> dict[str, Feature]:
    """The profile features that become inputs: those that either stage reads."""
    features = {} if profiles is None else profiles.features
    names: set[str] = set() if ranker is None else set(ranker.profile_features)
    if not isinstance(recommender, DirectRecommender):
        names |= set(getattr(recommender, "profile_features", features))
    missing = sorted(names - set(features))
    if missing:
        reader = "recommender reads" if ranker is None else "recommender and the ranker read"
        raise ExportError(f"the {reader} the profile features {missing}, which the profiles lack; give those it was trained on")
    return {name: features[name] for name in sorted(names)}


def _write_details(
    folder: Path,
    catalogue: Catalogue,
    search: InterestIndex | None,
    *,
    profiles: UserProfiles | None,
    histories: Sequences | None,
    export: ExportConfig,
) -> None:
    """What programs and people read beside the signatures: items, their map, and some users."""
    if export.item_details:
        write_items(folder, catalogue)
        if search is not None:
            rows = mapped_rows(np.asarray(catalogue.counts)[FIRST_INDEX : catalogue.candidate_rows])
            vectors = search.vectors(tf.constant(rows + FIRST_INDEX, tf.int32)).numpy()
            write_map(folder, [catalogue.vocabulary.ids[row] for row in rows], vectors)
    if histories is not None and export.sample_users:
        write_sample_users(folder, histories, catalogue, profiles, export.sample_users)
