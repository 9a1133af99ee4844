"""``export_user_tags``: from a user-tag model to a published SavedModel."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.config import ExportConfig, IndexConfig, check_server
from tfmi.core.errors import ExportError
from tfmi.data.dataset import FIRST_INDEX, CategoricalFeature, Feature, MultiValuedFeature
from tfmi.data.features import feature_arrays
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.export.metadata import check_run_metadata
from tfmi.export.recall import describe_recall, sample_rows
from tfmi.export.releasing import export_errors, release
from tfmi.export.tags.tag_details import write_sample_profiles, write_tags
from tfmi.export.tags.tag_search import EveryTag, EveryUser
from tfmi.export.tags.user_tag_signatures import AudienceUsers, TagSearches, UserTagSignatures, output_names
from tfmi.index.recall import RecallProbe
from tfmi.models.user_tags.user_tag_model import UserTagModel

log = logging.getLogger(__name__)

KIND = "user_tags"
USERS_PER_BATCH = 1024


def export_user_tags(
    model: UserTagModel,
    dataset: TagDataset,
    directory: str | Path,
    *,
    export: ExportConfig | None = None,
    index: IndexConfig | None = None,
    metadata: Mapping[str, Any] | None = None,
    version: int | None = None,
) -> Path:
    """Publish a user-tag model as a SavedModel for TensorFlow Serving.

    The version folder appears under ``directory`` only after its warm-up requests have been replayed on the saved model and answered
    as the model in memory answers them.

    Args:
        model: A trained model.
        dataset: What it was trained on. ``dataset.users`` become the audiences of ``tag_users``, unless ``export.audience_size`` is 0;
            users of whom nothing is known are in none.
        directory: The model's directory, ``savedmodels/<name>``.
        export: Widths of the servable; default: ``ExportConfig()``.
        index: Kind and parameters of the indexes; default: ``IndexConfig()``.
        metadata: What to say about the run: ``system``, ``configuration``, ``metrics``, ``data``.
        version: The version number; None takes 1 + the highest one.

    Returns:
        The published ``<directory>/<version>``.

    Raises:
        ExportError: Model and data do not fit, or anything went wrong; nothing is published and nothing left behind.
        TfmiError: An index cannot be built from the model's vectors or with these parameters.
    """
    directory, export, index = Path(directory), export or ExportConfig(), index or IndexConfig()
    check_run_metadata(metadata or {})
    features = _features(model, dataset)
    with export_errors(directory):
        sampled, users = _known_users(model, dataset, features, export.audience_size > 0)
        check_server(index.kind, export.server)
        searches = TagSearches(model, users, index, export.server)
        # Before any signature is traced: it may have an index search further.
        found = _describe_searches(model, searches, sampled, users, export, target_recall=index.target_recall)
        signatures = UserTagSignatures(model, dataset, features, users, searches=searches, export=export)

        def write_details(folder: Path) -> None:
            if export.item_details:
                write_tags(folder, dataset, signatures.task_keys)
            if export.sample_users and export.audience_size:
                known = np.flatnonzero(is_known(features, np.asarray(dataset.users.states)))
                write_sample_profiles(folder, dataset, features, known, export.sample_users)

        described = {"system": directory.name, **(metadata or {}), "kind": KIND, "index": {"kind": searches.kind(index.kind), **found}}
        published = release(
            directory, signatures, described, batch_sizes=export.warmup_batch_sizes, version=version, write_details=write_details
        )
    log.info("Published %s (%s)", published, summarize_searches(described["index"]))
    return published


def tags_in_memory(model: UserTagModel, dataset: TagDataset, *, export: ExportConfig, index: IndexConfig) -> UserTagSignatures:
    """The signatures that an export of a model would have, for asking without exporting.

    Raises:
        ExportError, IndexBuildError: As ``export_user_tags``.
    """
    features = _features(model, dataset)
    _, users = _known_users(model, dataset, features, export.audience_size > 0)
    return UserTagSignatures(model, dataset, features, users, searches=TagSearches(model, users, index, export.server), export=export)


def summarize_searches(description: Mapping[str, Any]) -> str:
    """One line for people about what the metadata says of the indexes."""
    parts = [
        f"{direction} {task} {each['recall']['value']:.4f}"
        for direction in ("user_tags", "tag_users")
        for task, each in description.get(direction, {}).items()
    ]
    return f"index {description['kind']}, recall against brute force: {', '.join(parts)}"


def _features(model: UserTagModel, dataset: TagDataset) -> dict[str, Feature]:
    """The dataset's features that the model reads."""
    names, known = model.field_embedding.field_names, dataset.states.fields
    missing = sorted(set(names) - set(known))
    if missing:
        raise ExportError(f"the model reads the fields {missing}, which the data lacks; give the data that it was trained on")
    if model.num_tag_rows != dataset.tags.num_rows or model.task_names != tuple(dataset.task_names):
        raise ExportError(
            f"the model knows {model.num_tag_rows} tag rows and the tasks {list(model.task_names)}, the data has {dataset.tags.num_rows} "
            f"and {list(dataset.task_names)}: give the data that it was trained on"
        )
    keys = output_names(dataset.task_names)
    if len(set(keys)) != len(keys):
        raise ExportError(f"tasks: {list(dataset.task_names)} cannot be told apart as outputs, {list(keys)}; rename one")
    return {name: known[name] for name in sorted(names)}


def _known_users(
    model: UserTagModel, dataset: TagDataset, features: Mapping[str, Feature], with_table: bool
) -> tuple[tf.Tensor, AudienceUsers | None]:
    """``user_queries`` of a sample of the users of whom something is known, and the table of all of these."""
    states = np.asarray(dataset.users.states)
    rows = np.flatnonzero(is_known(features, states))
    if not with_table:
        rows = sample_rows(rows)
    if not len(rows):
        raise ExportError(f"dataset {dataset.name!r}: nothing is known of any user, so there is nobody to answer for")
    arrays = feature_arrays(features)
    blocks = []
    for start in range(0, len(rows), USERS_PER_BATCH):
        chosen = states[rows[start : start + USERS_PER_BATCH]]
        blocks.append(model.user_queries({name: tf.constant(array[chosen]) for name, array in arrays.items()}).numpy())
    queries = np.concatenate(blocks)
    table = AudienceUsers([dataset.users.ids[int(row)] for row in rows], queries) if with_table else None
    return tf.constant(sample_rows(queries)), table


def is_known(features: Mapping[str, Feature], rows: np.ndarray) -> np.ndarray:
    """bool [rows]: of which rows of the features anything is known; see ``ProfileInputs.known``."""
    known = np.zeros(len(rows), bool)
    for feature in features.values():
        values = feature.values[rows]
        if isinstance(feature, MultiValuedFeature):
            known |= ((values >= FIRST_INDEX) & (feature.weights[rows] > 0)).any(axis=1)
        else:
            known |= values >= FIRST_INDEX if isinstance(feature, CategoricalFeature) else np.isfinite(values)
    return known


def _describe_searches(
    model: UserTagModel,
    searches: TagSearches,
    sampled: tf.Tensor,
    users: AudienceUsers | None,
    export: ExportConfig,
    *,
    target_recall: float | None,
) -> dict[str, Any]:
    """Per direction and task: how it is searched, and the share of the model's own best that is found."""
    tags = tf.constant(sample_rows(np.arange(FIRST_INDEX, model.num_tag_rows, dtype=np.int32)))
    described: dict[str, Any] = {"user_tags": {}}
    for task, search in enumerate(searches.tags):
        probe = RecallProbe(EveryTag(model, task), sampled, export.num_results)
        recall = describe_recall(search, search.index, probe, "users", target_recall)
        described["user_tags"][model.task_names[task]] = {**search.describe(), **recall}
    if users is not None:
        described["tag_users"] = {}
        for task, audience in enumerate(searches.users):
            probe = RecallProbe(EveryUser(model, task, users.queries), tags, export.audience_size)
            recall = describe_recall(audience, audience.index, probe, "tags", target_recall)
            described["tag_users"][model.task_names[task]] = {**audience.describe(), **recall}
    return described
