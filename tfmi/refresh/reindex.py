"""The next version of an exported retriever without training: another catalogue, another index, or both."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.config import IndexConfig, LogConfig, RunConfig
from tfmi.core.errors import ConfigError, ExportError
from tfmi.data.dataset import FIRST_INDEX, Catalogue, NumericFeature, Sequences, VectorFeature
from tfmi.data.reading.log import read_catalogue
from tfmi.export import export_savedmodel
from tfmi.export.item_details import read_sample_users
from tfmi.export.metadata import load_metadata
from tfmi.export.publishing import newest_version
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.refresh.new_catalogue import CatalogueChange, change_catalogue
from tfmi.refresh.stored_state import STATE_FOLDER, StoredState, read_state, untrained_model, write_state
from tfmi.refresh.transplant import Surroundings, moves, rows_of, transplant

log = logging.getLogger(__name__)

# Vectors that point less alike than this have moved.
SAME_COSINE = 0.9999


@dataclass(frozen=True)
class Reindexed:
    """A published version and what was done for it, as its metadata says."""

    folder: Path
    report: dict[str, Any]


@dataclass(frozen=True)
class _Version:
    """A published version that another one is made from, and the configuration of the new one."""

    folder: Path
    metadata: dict[str, Any]
    state: StoredState
    config: RunConfig


def reindex(
    model: Path, *, catalogue: Path | None, index: IndexConfig | None = None, directory: Path | None = None, min_known_share: float = 0.5
) -> Reindexed:
    """Publish the next version of a retriever.

    Args:
        model: A version folder, or a model's folder, whose newest version is taken.
        catalogue: The newer catalogue, in the form that the log's configuration describes; None: the same items.
        index: Kind and parameters of the index; None: those of the version.
        directory: Where to publish; None: beside the version.
        min_known_share: The least share of the known items that a newer catalogue has to have.

    Raises:
        ConfigError: Nothing would change, or the model cannot be rebuilt without its log.
        DataError: The catalogue cannot be read, or hardly belongs to the model.
        ExportError: The version does not hold what is needed.
    """
    if catalogue is None and index is None:
        raise ConfigError("nothing to do: give a newer catalogue (--catalogue), another index (--index), or both")
    version = newest_version(model)
    metadata = load_metadata(version)
    state = read_state(
        version / STATE_FOLDER,
        f"{version}: holds no trained weights (system {metadata.get('system')!r}): only retrievers that are trained do, unless "
        "export.state is false. For another index of any run: training/train.py --resume --output RUN --index KIND",
    )
    # What was decided by the log, which is not at hand now, stays decided.
    export = state.config.export.model_copy(update={"exclude_history": bool(metadata["exclude_history"])})
    config = state.config.model_copy(update={"export": export, **({} if index is None else {"index": index})})
    old = state.restored_model()
    report: dict[str, Any] = {"from_version": int(version.name), "metrics": f"as measured of version {version.name}"}
    recommender, items = old, state.catalogue
    if catalogue is not None:
        rejects = version.parent / "reindex.rejects.csv"
        table = read_catalogue(catalogue, _log_config(config, state.catalogue), rejects, may_lack_columns=True)
        change = change_catalogue(state.catalogue, table, source=str(catalogue), min_known_share=min_known_share)
        _check_that_features_tell(change, config)
        items = change.catalogue
        recommender = _model_of(state, config, old, items)
        report |= {"catalogue": str(catalogue), **_describe_change(change), "vectors": _movement(old, state.catalogue, recommender, items)}
    folder = _publish(recommender, items, _Version(version, metadata, state, config), directory or version.parent, report)
    return Reindexed(folder, report)


def describe_reindexing(report: dict[str, Any]) -> str:
    """What was done, for people."""
    lines = [f"from version {report['from_version']}"]
    if "known" in report:
        lines.append(f"items        {report['known']:,} known, {report['new']:,} new, {report['gone']:,} gone from the answers")
        if report["left_out"]:
            lines.append(f"left out     {report['left_out']:,} new items of which no feature is known, e.g. {report['left_out_example']!r}")
        if report["kept_columns"]:
            lines.append(f"not given    {', '.join(report['kept_columns'])}: known items keep theirs")
        for name, count in report["unknown_values"].items():
            lines.append(f"unknown      {count:,} values of {name!r} that training has not seen")
        moved = report["vectors"]
        lines.append(f"vectors      {moved['moved']:,} of {moved['compared']:,} known items moved, mean cosine {moved['mean_cosine']:.4f}")
        for each in moved["moved_most"][:3]:
            lines.append(f"             cosine {each['cosine']:.3f}  {each['item']}")
    return "\n".join(lines)


def _log_config(config: RunConfig, catalogue: Catalogue) -> LogConfig:
    """How to read the newer catalogue: as the former one was; data without a catalogue file is given its default columns."""
    given = config.data.log if config.data.dataset == "log" else LogConfig()
    numbers = [name for name, feature in catalogue.features.items() if isinstance(feature, NumericFeature)]
    vectors = [name for name, feature in catalogue.features.items() if isinstance(feature, VectorFeature)]
    in_columns = [name for name in vectors if name not in given.catalogue_columns.vector_files]
    columns = given.catalogue_columns.model_copy(update={"numbers": numbers, "vectors": in_columns})
    return given.model_copy(update={"catalogue_columns": columns})


def _check_that_features_tell(change: CatalogueChange, config: RunConfig) -> None:
    tower = config.model.item_tower
    reads = sorted(change.catalogue.features) if tower.features == "auto" else sorted(tower.features)
    if change.nameless and not reads:
        log.warning("This model knows items by their ids alone: %s new items are left out", f"{len(change.nameless):,}")
    elif change.new and not tower.id_dropout and tower.use_id:
        log.warning(
            "New items are placed by their features (%s), but the model was trained without model.item_tower.id_dropout: features alone "
            "never had to say where an item belongs, and the new ones may be placed badly. Train with 0.2, say",
            ", ".join(reads),
        )


def _model_of(state: StoredState, config: RunConfig, old: InterestRetrieval, items: Catalogue) -> InterestRetrieval:
    model = untrained_model(config, state.dataset(items))
    transplant(moves(old, Surroundings(state.catalogue, state.profiles), model, Surroundings(items, state.profiles)))
    if old.votes is not None:
        model.votes = old.votes.of_other_items(rows_of(state.catalogue.vocabulary, items.vocabulary), items.candidate_rows)
    return model


def _describe_change(change: CatalogueChange) -> dict[str, Any]:
    return {
        "known": change.known,
        "new": change.new,
        "gone": change.gone,
        "left_out": len(change.nameless),
        "left_out_example": change.nameless[0] if change.nameless else None,
        "kept_columns": change.kept_columns,
        "unknown_values": change.unknown_values,
    }


def _movement(old: InterestRetrieval, before: Catalogue, new: InterestRetrieval, after: Catalogue) -> dict[str, Any]:
    """How far the vectors of items moved that both catalogues have."""
    ids = after.vocabulary.ids[: after.num_candidates]
    old_rows = before.vocabulary.indices(ids)
    common = np.flatnonzero(old_rows >= FIRST_INDEX)
    first = _unit(old.item_vectors().numpy()[old_rows[common]])
    second = _unit(new.item_vectors().numpy()[common + FIRST_INDEX])
    cosines = (first * second).sum(axis=1)
    least = np.argsort(cosines, kind="stable")[:10]
    return {
        "compared": len(common),
        "moved": int((cosines < SAME_COSINE).sum()),
        "mean_cosine": float(cosines.mean()) if len(common) else 1.0,
        "moved_most": [{"item": ids[common[place]], "cosine": float(cosines[place])} for place in least if cosines[place] < SAME_COSINE],
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _publish(model: InterestRetrieval, items: Catalogue, version: _Version, directory: Path, report: dict[str, Any]) -> Path:
    state, config, metadata = version.state, version.config, version.metadata
    data = state.dataset(items)
    described = {
        "system": metadata["system"],
        "configuration": config.model_dump(),
        "metrics": metadata.get("metrics", {}),
        "data": {**metadata.get("data", {}), "reindexed": report},
    }
    try:
        users = read_sample_users(version.folder)
    except ExportError:
        users = None
    return export_savedmodel(
        model,
        items,
        directory,
        export=config.export,
        index=config.index,
        profiles=state.profiles,
        histories=None if users is None else _histories(users["history"].to_pylist(), items, state),
        metadata=described,
        write_state=lambda folder: write_state(folder / STATE_FOLDER, config, data, model),
    )


def _histories(histories: list[list[str]], items: Catalogue, state: StoredState) -> Sequences | None:
    """The held-out users that the version keeps, on which to measure the index's recall."""
    rows = [items.vocabulary.indices(history) for history in histories if history]
    if not rows:
        return None
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    flat = np.concatenate(rows).astype(np.int32)
    times = np.zeros(len(flat)) if state.has_timestamps else None
    return Sequences(offsets, flat, times, None, np.zeros(len(rows), np.int32))
