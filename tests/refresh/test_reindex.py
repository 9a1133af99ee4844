"""Versions without training, and training that goes on: on models whose weights are what chance made them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.exports import loaded
from tfmi.cli import reindex as reindex_cli
from tfmi.config import DataConfig, EmbeddedConfig, RunConfig
from tfmi.core.errors import ConfigError, ExportError
from tfmi.data.dataset import FIRST_INDEX, InteractionDataset
from tfmi.data.loading import load_dataset
from tfmi.export import export_savedmodel
from tfmi.export.item_details import read_items
from tfmi.export.metadata import load_metadata
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.systems import load_config
from tfmi.refresh.reindex import reindex
from tfmi.refresh.stored_state import STATE_FOLDER, read_state, untrained_model, write_state
from tfmi.refresh.transplant import Surroundings, moves, rows_of, transplant, transplant_slots
from tfmi.training.optimizers import build_optimizer

pytestmark = pytest.mark.slow

SETTINGS = [
    "model.dimension=8",
    "data.history_length=6",
    "model.item_tower.id_dropout=0.3",
    "index.kind=exact",
    "export.num_results=8",
    "export.exclusion_width=2",
    "export.warmup_batch_sizes=[1]",
    "export.filterable=[category]",
    "export.explain_interests=false",
]


@dataclass(frozen=True)
class Published:
    """A version, and what it was made of."""

    config: RunConfig
    data: InteractionDataset
    model: InterestRetrieval
    directory: Path


def _config(*more: str, system: str = "mind") -> RunConfig:
    return load_config(system=system, settings=[*SETTINGS, "model.extractor.iterations=1", *more])


def _data(items: int = 60, seed: int = 7) -> InteractionDataset:
    return load_dataset(DataConfig(embedded=EmbeddedConfig(users=80, items=items, seed=seed)))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Version 1 of an untrained MIND with a profile."""
    config, data = _config(), _data()
    model = untrained_model(config, data)
    directory = tmp_path_factory.mktemp("reindex") / "mind"
    export_savedmodel(
        model,
        data.catalogue,
        directory,
        export=config.export,
        index=config.index,
        profiles=data.profiles,
        histories=data.valid.histories,
        metadata={"system": "mind", "configuration": config.model_dump(), "metrics": {"test": {"recall@10": 0.5}}, "data": {"users": 80}},
        write_state=lambda folder: write_state(folder / STATE_FOLDER, config, data, model),
    )
    return Published(config, data, model, directory)


def _catalogue(version: Path) -> pd.DataFrame:
    """The catalogue of a version as a file has it."""
    table = read_items(version).to_pandas()
    tags = [
        "|".join(f"{name}:{weight}" for name, weight in zip(names, weights, strict=True))
        for names, weights in zip(table["feature.tags"], table["feature.tags.weights"], strict=True)
    ]
    return pd.DataFrame(
        {
            "item": table["item_id"],
            "title": table["title"],
            "category": table["feature.category"],
            "brand": table["feature.brand"],
            "tags": tags,
            "price": table["feature.price"],
        }
    )


def _ask(version: Path, history: list[str], signature: str = "serving_default") -> dict[str, np.ndarray]:
    request: dict[str, Any] = {"history": np.array([[*history, *[""] * (6 - len(history))]], dtype=object)}
    if signature == "user_interests":
        request |= {"profile_age_band": [""], "profile_region": [""]}
    return loaded(version).predict(signature, request)


def _allowed_answer(version: Path, clicked: str, allowed: list[str]) -> set[str]:
    """Which of the ``allowed`` items answer to a history of one click."""
    request: dict[str, Any] = {}
    for name, described in load_metadata(version)["signatures"]["recommend_filtered"]["inputs"].items():
        shape = [1, *(abs(width or 1) for width in described["shape"][1:])]
        request[name] = np.full(shape, "", dtype=object) if described["dtype"] == "string" else np.zeros(shape, described["dtype"])
    request["history"][0, 0] = clicked
    request["allow_items"] = np.array([allowed], dtype=object)
    (found,) = loaded(version).predict("recommend_filtered", request)["item_ids"]
    return {item.decode() for item in found} - {""}


def test_a_stored_model_is_rebuilt_without_its_log(published: Published) -> None:
    state = read_state(published.directory / "1" / STATE_FOLDER, "")
    assert state.config == published.config
    assert state.catalogue.vocabulary.ids == published.data.catalogue.vocabulary.ids
    np.testing.assert_array_equal(state.restored_model().item_vectors(), published.model.item_vectors())


def test_another_index_answers_as_before(published: Published, capsys: pytest.CaptureFixture[str]) -> None:
    folder = published.directory
    command = [str(folder / "1"), "--index", "exact", "--savedmodels", str(folder.parent / "other")]
    assert reindex_cli.main(command) == 0
    version = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["savedmodel"])
    history = published.data.catalogue.vocabulary.ids[:4]
    before, after = _ask(folder / "1", history), _ask(version, history)
    np.testing.assert_array_equal(before["item_ids"], after["item_ids"])
    np.testing.assert_allclose(before["scores"], after["scores"], rtol=1e-5)


def test_a_newer_catalogue(published: Published, tmp_path: Path) -> None:
    first = published.directory / "1"
    catalogue = _catalogue(first)
    gone, kept = catalogue["item"][:5].tolist(), catalogue["item"][5:].tolist()
    twin = catalogue.iloc[[20]].assign(item="twin-1")
    newer = pd.concat([catalogue.iloc[5:], twin, twin.assign(item="twin-2")])
    changed = newer["item"] == kept[0]
    newer.loc[changed, "category"] = next(name for name in newer["category"] if name != newer.loc[changed, "category"].iloc[0])
    path = tmp_path / "newer.csv"
    newer.to_csv(path, index=False)
    done = reindex(first, catalogue=path, directory=tmp_path / "mind")
    assert {key: done.report[key] for key in ("known", "new", "gone", "left_out")} == {"known": 55, "new": 2, "gone": 5, "left_out": 0}
    assert done.report["vectors"]["moved"] == 1
    assert done.report["vectors"]["moved_most"][0]["item"] == kept[0]
    metadata = load_metadata(done.folder)
    assert metadata["items"] == 57
    assert metadata["data"]["reindexed"]["from_version"] == 1
    assert metadata["metrics"] == {"test": {"recall@10": 0.5}}
    # Histories still understand what is gone, and understand what is new; answers have only what is there.
    unchanged = [*gone[:2], kept[3]]
    np.testing.assert_allclose(
        _ask(first, unchanged, "user_interests")["interests"],
        _ask(done.folder, unchanged, "user_interests")["interests"],
        rtol=1e-4,
        atol=1e-6,
    )
    vectors, ids = loaded(done.folder).item_vectors(), loaded(done.folder).item_ids()
    assert ids == [*kept, "twin-1", "twin-2"]
    np.testing.assert_array_equal(vectors[ids.index("twin-1") + FIRST_INDEX], vectors[ids.index("twin-2") + FIRST_INDEX])
    first_twin, second_twin = (_ask(done.folder, [twin], "user_interests") for twin in ("twin-1", "twin-2"))
    assert first_twin["count"][0] >= 1
    np.testing.assert_array_equal(first_twin["interests"], second_twin["interests"])
    for history in ([], gone, [gone[0], kept[1]]):
        assert not {item.decode() for item in _ask(done.folder, history)["item_ids"][0]} & set(gone)
    # Nor do requests for what only items that are gone have, or for these themselves.
    for asked in (gone, [*gone, kept[1]]):
        assert _allowed_answer(done.folder, kept[3], asked) == set(asked) - set(gone)
    similar = loaded(done.folder).predict("similar_items", {"item_ids": [gone[0], "twin-1"]})["item_ids"]
    assert set(similar[0]) == {b""}
    assert similar[1][0] == b"twin-2"
    # A version that was made so is one that others can be made from.
    again = reindex(done.folder, catalogue=path, directory=tmp_path / "mind")
    assert {key: again.report[key] for key in ("known", "new", "gone")} == {"known": 57, "new": 0, "gone": 5}
    np.testing.assert_allclose(loaded(again.folder).item_vectors(), vectors, rtol=1e-5, atol=1e-7)


def test_what_cannot_be_reindexed_says_so(published: Published, tmp_path: Path) -> None:
    first = published.directory / "1"
    with pytest.raises(ConfigError, match="nothing to do"):
        reindex(first, catalogue=None)
    with pytest.raises(ExportError, match=r"not_here.*tfmi_metadata"):
        reindex(tmp_path / "not_here", catalogue=tmp_path / "x.csv")
    (first / STATE_FOLDER).rename(first / "hidden")
    try:
        with pytest.raises(ExportError, match=r"holds no trained weights .*--resume --output RUN --index KIND"):
            reindex(first, catalogue=tmp_path / "x.csv")
    finally:
        (first / "hidden").rename(first / STATE_FOLDER)


def test_votes_are_rebuilt_without_the_log_that_they_counted(tmp_path: Path) -> None:
    config, data = _config("model.votes={}"), _data()
    model = untrained_model(config, data)
    assert model.votes is not None
    assert model.votes.chosen is not None
    model.votes.chosen.assign(0.25)
    write_state(tmp_path, config, data, model)
    again = read_state(tmp_path, "").restored_model()
    assert again.votes is not None
    history = tf.constant(data.valid.histories.padded(6)[:5])
    assert float(again.votes(history).votes.numpy().max()) == pytest.approx(0.25)
    for stored, counted in zip(again.votes(history), model.votes(history), strict=True):
        np.testing.assert_array_equal(stored, counted)


def test_a_model_that_counts_in_its_sequences_is_not_rebuilt(tmp_path: Path) -> None:
    config = load_config(system="gce_gnn", settings=["model.dimension=8", "data.history_length=6"])
    data = _data()
    write_state(tmp_path, config, data)
    with pytest.raises(ConfigError, match="counts in the sequences that it is trained on"):
        read_state(tmp_path, "").restored_model()


def test_weights_and_moments_go_with_what_their_rows_stand_for() -> None:
    config, old_data, new_data = _config(), _data(), _data(items=70, seed=8)
    old, new = untrained_model(config, old_data), untrained_model(config, new_data)
    optimizers = [build_optimizer(config.optimizer, 10) for _ in range(2)]
    for optimizer, model in zip(optimizers, (old, new), strict=True):
        optimizer.build(model.trainable_variables)
    for moment in optimizers[0]._momentums:
        moment.assign(tf.random.stateless_normal(moment.shape, [1, 2]))
    fresh = new.item_tower.tables()[""].numpy()
    found = moves(old, Surroundings(old_data.catalogue, old_data.profiles), new, Surroundings(new_data.catalogue, new_data.profiles))
    assert len(found) == len(new.trainable_variables)
    transplant(found)
    transplant_slots(found, *optimizers)
    rows = rows_of(old_data.catalogue.vocabulary, new_data.catalogue.vocabulary)
    kept = rows >= 0
    assert 2 < kept.sum() < len(kept)
    table = new.item_tower.tables()[""].numpy()
    np.testing.assert_array_equal(table[kept], old.item_tower.tables()[""].numpy()[rows[kept]])
    np.testing.assert_array_equal(table[~kept], fresh[~kept])
    place = next(i for i, variable in enumerate(new.trainable_variables) if variable is new.item_tower.tables()[""])
    source = next(i for i, variable in enumerate(old.trainable_variables) if variable is old.item_tower.tables()[""])
    np.testing.assert_array_equal(optimizers[1]._momentums[place].numpy()[kept], optimizers[0]._momentums[source].numpy()[rows[kept]])
    assert not optimizers[1]._momentums[place].numpy()[~kept].any()
    identifier = old_data.catalogue.features["brand"].vocabulary.ids[0]  # type: ignore[union-attr]
    before = old_data.catalogue.features["brand"].vocabulary.index(identifier)  # type: ignore[union-attr]
    after = new_data.catalogue.features["brand"].vocabulary.index(identifier)  # type: ignore[union-attr]
    np.testing.assert_array_equal(new.item_tower.tables()["brand"][after], old.item_tower.tables()["brand"][before])
    other = untrained_model(_config("model.dimension=4"), new_data)
    with pytest.raises(ConfigError, match="same configuration"):
        moves(old, Surroundings(old_data.catalogue, old_data.profiles), other, Surroundings(new_data.catalogue, new_data.profiles))
