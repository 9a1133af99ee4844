"""What a version folder says about itself."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import AGE, GENRES, REGION, Exported, TableRecommender, make_catalogue, make_profiles
from tfmi.config import validate_config
from tfmi.core.errors import ExportError
from tfmi.data.dataset import Sequences
from tfmi.export import load_metadata
from tfmi.export.metadata import METADATA_PATH, as_json, write_metadata
from tfmi.export.profile_inputs import input_names
from tfmi.export.retrieval.search import describe_index
from tfmi.index.base import InterestIndex
from tfmi.index.build import build_index
from tfmi.index.exact import ExactIndex


def test_it_holds_the_run_the_servable_and_the_software(exact_export: Exported) -> None:
    metadata = load_metadata(exact_export.folder)
    assert metadata["system"] == "fake"
    assert metadata["configuration"] == {"seed": 7}
    assert metadata["metrics"] == {"test": {"recall@6": None}}  # JSON has no NaN
    assert metadata["data"] == {"users": 6}
    assert metadata["widths"] == {"history_length": 5, "num_results": 6, "exclusion_width": 4}
    assert metadata["items"] == 40
    assert metadata["versions"]["tensorflow"] == tf.__version__
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(metadata["created"])
    assert datetime.timedelta(0) <= age + datetime.timedelta(seconds=1) < datetime.timedelta(hours=1)
    assert metadata["index"]["recall"] == {"at": 6, "value": 1.0, "queries": 40, "of": "item vectors"}


def test_it_says_what_a_client_must_send(exact_export: Exported) -> None:
    metadata = load_metadata(exact_export.folder)
    inputs = metadata["signatures"]["recommend"]["inputs"]
    assert inputs == {
        "history": {"dtype": "string", "shape": [None, 5]},
        "exclude": {"dtype": "string", "shape": [None, 4]},
        "diversity": {"dtype": "float32", "shape": [None]},
        "profile_genres": {"dtype": "string", "shape": [None, 2]},
        "profile_genres_weights": {"dtype": "float32", "shape": [None, 2]},
        "profile_home_region": {"dtype": "string", "shape": [None]},
        "profile__ge": {"dtype": "float32", "shape": [None]},
    }
    assert metadata["signatures"]["serving_default"]["outputs"]["item_ids"] == {"dtype": "string", "shape": [None, 6]}
    features = {each["feature"]: each["kind"] for each in metadata["profile_inputs"]}
    assert features == {REGION: "categorical", AGE: "number", GENRES: "multi_valued"}


def test_input_names_never_clash() -> None:
    names = input_names(["возраст", "страна  ", "a b", "a_b", "tags", "tags_weights"])
    assert names["a b"] == "profile_a_b"
    assert names["a_b"] == "profile_a_b_2"
    assert names["tags"] == "profile_tags"
    assert names["tags_weights"] == "profile_tags_weights_2"
    assert len(set(names.values())) == 6


def test_a_model_without_index_says_so(direct_export: Exported) -> None:
    metadata = load_metadata(direct_export.folder)
    assert metadata["index"] == {"kind": "direct"}
    assert metadata["profile_inputs"] == []


class HalfBlind(InterestIndex):
    """Never finds an item of an odd index."""

    kind = "half_blind"

    def __init__(self, exact: ExactIndex) -> None:
        super().__init__(exact.num_rows, exact.dimension)
        self.exact = exact

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        scores, items = self.exact.search(queries, k)
        return scores, tf.where(items % 2 == 0, items, 0)

    def vectors(self, items: tf.Tensor) -> tf.Tensor:
        return self.exact.vectors(items)

    def parameters(self) -> dict[str, int | str]:
        return {"kind": self.kind}


def test_recall_is_measured_on_the_interests_of_real_users_where_they_are_known() -> None:
    catalogue = make_catalogue()
    recommender = TableRecommender(catalogue)
    histories = Sequences(np.array([0, 1, 4, 4]), np.array([5, 6, 7, 8], np.int32), None, None, np.arange(3, dtype=np.int32))
    index = HalfBlind(ExactIndex(recommender.item_vectors()))
    recall = describe_index(recommender, catalogue, index, 20, histories, features={})["recall"]
    assert recall["of"] == "user interests"
    assert recall["queries"] == 1 + 3 + 1  # an empty history has one active interest, too
    assert 0.2 < recall["value"] < 0.8


def test_recall_queries_read_the_profile() -> None:
    catalogue, profiles = make_catalogue(), make_profiles()
    recommender = TableRecommender(catalogue, (REGION, AGE, GENRES))
    histories = Sequences(np.array([0, 1, 4]), np.array([5, 6, 7, 8], np.int32), None, None, np.array([2, 5], np.int32))
    description = describe_index(recommender, catalogue, ExactIndex(recommender.item_vectors()), 5, histories, features=profiles.features)
    assert description["recall"]["value"] == 1.0


def test_the_target_recall_is_met_and_described() -> None:
    catalogue = make_catalogue(400)
    recommender = TableRecommender(catalogue)
    index = build_index("scann", recommender.item_vectors(), leaves=20)
    index.set_search({"leaves_to_search": 1})
    description = describe_index(recommender, catalogue, index, 5, None, features={}, target_recall=0.9)
    assert description["recall"]["value"] >= 0.9
    assert description["target_recall"]["met"]
    assert description["target_recall"]["widened"]["leaves_to_search"] == [1, description["parameters"]["leaves_to_search"]]


def test_numpy_values_become_json() -> None:
    values = {"a": np.float32(1.5), "b": np.array([1, 2]), "c": (np.int64(3), float("inf")), 4: Path("x"), "e": None, "f": True}
    assert json.loads(json.dumps(as_json(values), allow_nan=False)) == {
        "a": 1.5,
        "b": [1, 2],
        "c": [3, None],
        "4": "x",
        "e": None,
        "f": True,
    }


def test_a_configuration_comes_back_as_it_was(tmp_path: Path) -> None:
    """Hard label-aware attention is a power of infinity, which JSON lacks."""
    config = validate_config({"model": {"readout": {"name": "label_aware", "power": float("inf")}}, "optimizer": {"learning_rate": 1e-05}})
    write_metadata(tmp_path, {"configuration": config.model_dump(), "metrics": {"loss": float("inf")}})
    text = (tmp_path / METADATA_PATH).read_text()
    assert "Infinity" not in text
    assert json.loads(text)["metrics"] == {"loss": None}
    assert validate_config(load_metadata(tmp_path)["configuration"]) == config


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"format": 99}'])
def test_other_folders_are_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        write_metadata(tmp_path, {})
        (tmp_path / METADATA_PATH).write_text(content)
    with pytest.raises(ExportError, match=r"tfmi_metadata\.json"):
        load_metadata(tmp_path)
