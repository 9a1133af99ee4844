"""``export_savedmodel``: build the index, trace, save, replay, describe, publish."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.config import ExportConfig, IndexConfig
from tfmi.data.structures import Catalogue, Feature, Sequences, UserProfiles
from tfmi.errors import ExportError, TfmiError
from tfmi.export.describing import describe_index, describe_servable, summarize_index
from tfmi.export.loading import ExportedModel
from tfmi.export.metadata import write_metadata
from tfmi.export.publishing import publish
from tfmi.export.signatures import ServingSignatures
from tfmi.export.timestamps import TIMESTAMPS
from tfmi.export.warmup import Request, RequestMaker, compare_answers, read_warmup, write_warmup
from tfmi.index.base import InterestIndex
from tfmi.index.build import build_index
from tfmi.models.recommender import REQUESTABLE_INPUTS, DirectRecommender, Recommender, VectorRecommender

log = logging.getLogger(__name__)

RUN_METADATA = ("system", "configuration", "metrics", "data")


def export_savedmodel(
    recommender: Recommender,
    catalogue: Catalogue,
    directory: str | Path,
    *,
    export: ExportConfig | None = None,
    index: IndexConfig | None = None,
    profiles: UserProfiles | None = None,
    metadata: Mapping[str, Any] | None = None,
    histories: Sequences | None = None,
    version: int | None = None,
) -> Path:
    """Publish a recommender as a SavedModel for TensorFlow Serving.

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

    Returns:
        The published ``<directory>/<version>``.

    Raises:
        ExportError: Anything went wrong; nothing is published and nothing left behind.
        TfmiError: The index cannot be built from the model's vectors or with these parameters.
    """
    directory, export, index = Path(directory), export or ExportConfig(), index or IndexConfig()
    _check(recommender, catalogue, metadata or {})
    profile_features = _profile_features(recommender, profiles)
    search = _build_index(recommender, index)
    try:
        servable = ServingSignatures(recommender, search, catalogue, export, profile_features, quota_exponent=index.allotment())
        has_timestamps = TIMESTAMPS in servable.input_specs["serving_default"]
        maker = RequestMaker(catalogue, recommender.history_length, export.exclusion_width, profile_features, has_timestamps)
        requests = maker.requests(sorted(servable.signatures), export.warmup_batch_sizes)
        description = {
            "system": directory.name,
            **(metadata or {}),
            "index": describe_index(recommender, search, export.num_results, histories, profile_features),
            **describe_servable(servable, catalogue, export),
        }

        def fill(folder: Path) -> None:
            servable.save(folder)
            write_warmup(folder, directory.name, requests)
            write_metadata(folder, description)
            _replay(folder, servable)

        published = publish(directory, fill, version)
    except TfmiError:
        raise
    except Exception as error:
        raise ExportError(f"{directory}: the model could not be exported, so nothing was published: {error}") from error
    log.info("Published %s (%s)", published, summarize_index(description["index"]))
    return published


def _check(recommender: Recommender, catalogue: Catalogue, metadata: Mapping[str, Any]) -> None:
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
    odd_keys = sorted(set(metadata) - set(RUN_METADATA))
    if odd_keys:
        raise ExportError(f"metadata: unknown keys {odd_keys}; a run describes itself with {list(RUN_METADATA)}")


def _profile_features(recommender: Recommender, profiles: UserProfiles | None) -> dict[str, Feature]:
    """The profile features that become inputs: those the recommender reads."""
    if isinstance(recommender, DirectRecommender):
        return {}
    features = {} if profiles is None else profiles.features
    names = getattr(recommender, "profile_features", features)
    missing = sorted(set(names) - set(features))
    if missing:
        raise ExportError(f"the recommender reads the profile features {missing}, which the profiles lack; give those it was trained on")
    return {name: features[name] for name in sorted(names)}


def _build_index(recommender: Recommender, config: IndexConfig) -> InterestIndex | None:
    if isinstance(recommender, DirectRecommender):
        return None
    return build_index(config.kind, recommender.item_vectors(), **config.search_parameters())


def _replay(folder: Path, servable: ServingSignatures) -> None:
    """Read the warm-up requests back and answer them from the saved files alone; any difference raises ``ExportError``."""
    saved = ExportedModel(folder)
    for request in read_warmup(folder):
        expected = _answer_in_memory(servable, request)
        compare_answers(request, expected, saved.predict(request.signature, request.inputs))


def _answer_in_memory(servable: ServingSignatures, request: Request) -> dict[str, np.ndarray]:
    tensors = {name: tf.constant(values) for name, values in request.inputs.items()}
    return {name: value.numpy() for name, value in servable.signatures[request.signature](**tensors).items()}
