"""What a trained retriever is rebuilt from: its configuration, vocabularies and features, and its weights.

``state.json`` says which configuration and features there are, ``texts.parquet`` holds every vocabulary and the titles, ``arrays.npz`` the
arrays of features (no Python objects), ``weights.*`` a TensorFlow checkpoint of the model. Users are not in it: of their profiles a few
rows, without ids, keep the shapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import tensorflow as tf

from tfmi.config import RunConfig, validate_config
from tfmi.core.errors import ConfigError, ExportError, TfmiError
from tfmi.data.dataset import (
    Catalogue,
    CategoricalFeature,
    EvaluationSet,
    Feature,
    InteractionDataset,
    ItemFeature,
    MultiValuedFeature,
    NumericFeature,
    Sequences,
    UserProfiles,
    VectorFeature,
    Vocabulary,
)
from tfmi.layers.common.adapting import AdaptsToSequences
from tfmi.models.retrieval.build_retriever import build_model, build_votes
from tfmi.models.retrieval.counted_votes import CountedVotes
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.training_step import create_variables

STATE_FOLDER = Path("assets.extra") / "tfmi_state"
FORMAT = 1
_STATE, _TEXTS, _ARRAYS, _WEIGHTS = "state.json", "texts.parquet", "arrays.npz", "weights"
_PROFILE_ROWS = 64


@dataclass(frozen=True)
class StoredState:
    """A trained retriever's surroundings, without the log that it was trained on.

    Attributes:
        config: The run's configuration.
        catalogue: The items as training knew them.
        profiles: The users' features, of a few rows; None if it reads none.
        has_timestamps: Whether the data has times.
        folder: Where the weights are.
    """

    config: RunConfig
    catalogue: Catalogue
    profiles: UserProfiles | None
    has_timestamps: bool
    folder: Path

    def dataset(self, catalogue: Catalogue | None = None) -> InteractionDataset:
        """A dataset without an event, from which the same model can be built, on this catalogue or another one."""
        nothing = Sequences(
            np.zeros(1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0) if self.has_timestamps else None,
            None,
            np.zeros(0, np.int32),
        )
        nobody = EvaluationSet(nothing, nothing)
        return InteractionDataset("stored", catalogue or self.catalogue, nothing, nobody, nobody, profiles=self.profiles)

    def restored_model(self) -> InterestRetrieval:
        """The model with its trained weights.

        Raises:
            ConfigError: The model counts something in the sequences that it was trained on, which are not stored.
            ExportError: The weights do not fit.
        """
        model = untrained_model(self.config, self.dataset())
        try:
            checkpoint = tf.train.Checkpoint(model=model).read(str(self.folder / _WEIGHTS))
            checkpoint.assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise ExportError(f"{self.folder}: the stored weights do not fit the stored configuration: {reason}") from None
        if model.votes is None:
            model.votes = self._stored_votes()
        return model

    def _stored_votes(self) -> CountedVotes | None:
        """What the model's votes have counted, read from its checkpoint: how large the tables are, only that knows."""
        votes = build_votes(self.config)
        if votes is None:
            return None
        stored = tf.train.load_checkpoint(str(self.folder / _WEIGHTS))
        tables = {
            match[1]: stored.get_tensor(name)
            for name in stored.get_variable_to_shape_map()
            if (match := re.fullmatch(r"model/votes/(?:counts/)?(\w+)/\.ATTRIBUTES/VARIABLE_VALUE", name))
        }
        votes.take(tables, self.catalogue.num_rows)
        return votes


def write_state(folder: Path, config: RunConfig, data: InteractionDataset, model: InterestRetrieval | None = None) -> None:
    """Store what a retriever is rebuilt from.

    Args:
        folder: Made if needed.
        config: The run.
        data: What it was trained on.
        model: Its weights are stored, too; None where checkpoints hold them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts: dict[str, list[str]] = {"items": data.catalogue.vocabulary.ids}
    arrays: dict[str, np.ndarray] = {"counts": np.asarray(data.catalogue.counts)}
    if data.catalogue.titles is not None:
        texts["titles"] = list(data.catalogue.titles)
    if data.catalogue.without_id is not None:
        arrays["without_id"] = data.catalogue.without_id
    described: dict[str, Any] = {"items": _store_features(data.catalogue.features, "item", texts, arrays, None)}
    if data.profiles is not None:
        described["profiles"] = _store_features(data.profiles.features, "profile", texts, arrays, _PROFILE_ROWS)
    state = {
        "format": FORMAT,
        "configuration": config.model_dump(),
        "has_timestamps": data.valid.histories.timestamps is not None,
        "num_candidates": data.catalogue.num_candidates,
        "features": described,
    }
    names = [name for name, values in texts.items() for _ in values]
    table = pa.table({"of": pa.array(names).dictionary_encode(), "text": pa.array([t for values in texts.values() for t in values])})
    pyarrow.parquet.write_table(table, folder / _TEXTS, compression="zstd")
    np.savez(folder / _ARRAYS, allow_pickle=False, **arrays)
    if model is not None:
        tf.train.Checkpoint(model=model).write(str(folder / _WEIGHTS))
    (folder / _STATE).write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")


def read_state(folder: Path, missing: str) -> StoredState:
    """Read what ``write_state`` wrote.

    Args:
        folder: The folder.
        missing: What to tell somebody whose folder has no state.

    Raises:
        ExportError: There is none, or it cannot be read.
    """
    if not (folder / _STATE).is_file():
        raise ExportError(missing)
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise ExportError(f"{folder}: was written by another version of tfmi (format {state['format']}); export the model again")
        table = pyarrow.parquet.read_table(folder / _TEXTS)
        texts: dict[str, list[str]] = {}
        for name in table["of"].unique().to_pylist():
            texts[name] = table.filter(pc.equal(table["of"].cast(pa.string()), name))["text"].to_pylist()
        with np.load(folder / _ARRAYS, allow_pickle=False) as stored:
            arrays = dict(stored)
        config = validate_config(state["configuration"])
    except TfmiError:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ExportError(f"{folder}: the stored state cannot be read: {error}") from None
    items = _restore_features(state["features"]["items"], "item", texts, arrays)
    profiles = None
    if "profiles" in state["features"]:
        features = {
            name: _of_users(each) for name, each in _restore_features(state["features"]["profiles"], "profile", texts, arrays).items()
        }
        rows = max((len(each.values) for each in features.values()), default=1)
        profiles = UserProfiles([""] * rows, features)
    catalogue = Catalogue(
        Vocabulary(texts.get("items", [])),
        items,
        texts.get("titles"),
        arrays["counts"],
        num_candidates=state["num_candidates"],
        without_id=arrays.get("without_id"),
    )
    return StoredState(config, catalogue, profiles, state["has_timestamps"], folder)


def untrained_model(config: RunConfig, data: InteractionDataset) -> InterestRetrieval:
    """A model for the data, every variable made.

    Raises:
        ConfigError: The model counts something in the sequences that it is trained on, and there are none. Votes are left out then:
            they take no part in training, and have to be brought along.
    """
    model = build_model(config, data) if len(data.train) else _build_without_sequences(config, data)
    create_variables(model, first_batch(model, config))
    return model


def first_batch(model: InterestRetrieval, config: RunConfig) -> dict[str, Any]:
    """A batch of one example that has whatever the model may read."""
    length = config.data.history_length
    batch: dict[str, Any] = {"history": tf.constant([[2, 2, *[0] * (length - 2)][:length]], tf.int32), "target": tf.constant([2], tf.int32)}
    if model.profile_encoder is not None:
        batch["profile"] = model.profile_encoder.unknown(1)
    batch["timestamps"] = tf.zeros([1, length], tf.float64)
    return batch


def _build_without_sequences(config: RunConfig, data: InteractionDataset) -> InterestRetrieval:
    votes = config.model.votes
    if votes is not None and not votes.learned:
        config = config.model_copy(update={"model": config.model.model_copy(update={"votes": None})})
    model = build_model(config, data, adapt=False)
    adapting = [part for part in model.submodules if isinstance(part, AdaptsToSequences)]
    if adapting:
        raise ConfigError(
            f"{config.system!r} counts in the sequences that it is trained on ({type(adapting[0]).__name__}), which are not stored with "
            "it: new items are not in its counts. Train it again on the newer data. For another index: training/train.py --resume "
            "--output RUN --index KIND"
        )
    return model


def _store_features(
    features: Mapping[str, ItemFeature], prefix: str, texts: dict[str, list[str]], arrays: dict[str, np.ndarray], rows: int | None
) -> list[dict[str, Any]]:
    described = []
    for place, (name, feature) in enumerate(features.items()):
        key = f"{prefix}.{place}"
        arrays[f"{key}.values"] = feature.values[:rows]
        entry: dict[str, Any] = {"name": name}
        if isinstance(feature, NumericFeature):
            entry |= {"kind": "number", "mean": feature.mean, "deviation": feature.deviation}
        elif isinstance(feature, VectorFeature):
            entry |= {"kind": "vector", "scale": feature.scale}
        else:
            texts[key] = feature.vocabulary.ids
            entry["kind"] = "categorical"
            if isinstance(feature, MultiValuedFeature):
                entry["kind"] = "multi_valued"
                arrays[f"{key}.weights"] = feature.weights[:rows]
        described.append(entry)
    return described


def _restore_features(
    described: list[dict[str, Any]], prefix: str, texts: Mapping[str, list[str]], arrays: Mapping[str, np.ndarray]
) -> dict[str, ItemFeature]:
    features: dict[str, ItemFeature] = {}
    for place, entry in enumerate(described):
        key = f"{prefix}.{place}"
        values = arrays[f"{key}.values"]
        if entry["kind"] == "number":
            features[entry["name"]] = NumericFeature(values, entry["mean"], entry["deviation"])
        elif entry["kind"] == "vector":
            features[entry["name"]] = VectorFeature(values, entry["scale"])
        else:
            vocabulary = Vocabulary(texts.get(key, []))
            if entry["kind"] == "multi_valued":
                features[entry["name"]] = MultiValuedFeature(vocabulary, values, arrays[f"{key}.weights"])
            else:
                features[entry["name"]] = CategoricalFeature(vocabulary, values)
    return features


def _of_users(feature: ItemFeature) -> Feature:
    if isinstance(feature, VectorFeature):
        raise ExportError("the stored state gives users vectors, which no model reads")
    return feature
