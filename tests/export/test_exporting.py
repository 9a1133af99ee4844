"""What an export writes, checks and refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import DIMENSION, Exported, NextInLine, TableRecommender, make_catalogue, make_profiles
from tfmi.config import ExportConfig, IndexConfig
from tfmi.core.errors import ExportError, IndexBuildError, TfmiError
from tfmi.data.dataset import FIRST_INDEX, Catalogue
from tfmi.export import ExportedModel, export_savedmodel, releasing, saving
from tfmi.export.retrieval import export_retriever
from tfmi.export.warmup import RequestMaker, WarmupRequest, compare_answers, read_warmup
from tfmi.models.recommender import UserInputs

EXACT = IndexConfig(kind="exact")
SMALL = ExportConfig(num_results=5, exclusion_width=3, warmup_batch_sizes=[1])


# Warm-up


def test_there_is_warmup_for_every_signature_and_batch_size(exact_export: Exported) -> None:
    requests = list(read_warmup(exact_export.folder))
    calls = {(request.signature, len(next(iter(request.inputs.values())))) for request in requests}
    assert calls == {(signature, size) for signature in exact_export.model.signature_names for size in (1, 3)}
    known = {identifier.encode() for identifier in exact_export.catalogue.vocabulary.ids}
    histories = [request.inputs["history"] for request in requests if "history" in request.inputs]
    assert all(set(history.ravel()) <= known | {b""} for history in histories)
    assert all((history != b"").any(axis=1).all() for history in histories)


def test_warmup_is_what_tensorflow_serving_reads(exact_export: Exported) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    path = exact_export.folder / "assets.extra" / "tf_serving_warmup_requests"
    records = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert len(records) == 10
    for record in records:
        assert record.WhichOneof("log_type") == "predict_log"
        assert record.predict_log.request.model_spec.name == "fake"
        assert not record.predict_log.request.model_spec.HasField("version")


def test_too_many_warmup_records_are_refused() -> None:
    maker = RequestMaker(make_catalogue(), 5, 4, {})
    with pytest.raises(ExportError, match="warmup_batch_sizes"):
        maker.requests(["serving_default"] * 5, range(1, 202))


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("item_ids", np.array([[b"b", b"a"]], dtype=object), "item_ids"),
        ("scores", np.array([[1.0, -np.inf]], np.float32), "scores"),
        ("scores", np.array([[1.0, np.nan]], np.float32), "scores"),
        ("scores", np.array([1.0, 0.5], np.float32), "shape"),
    ],
)
def test_answers_that_differ_are_noticed(name: str, value: np.ndarray, complaint: str) -> None:
    answer = {"item_ids": np.array([[b"a", b"b"]], dtype=object), "scores": np.array([[1.0, 0.5]], np.float32)}
    compare_answers(WarmupRequest("serving_default", {}), answer, dict(answer))
    with pytest.raises(ExportError, match=complaint):
        compare_answers(WarmupRequest("serving_default", {}), answer, {**answer, name: value})
    with pytest.raises(ExportError, match="expected"):
        compare_answers(WarmupRequest("serving_default", {}), answer, {"scores": answer["scores"]})


# Large catalogues


@pytest.mark.parametrize("kind", ["exact", "partitioned", "direct"])
def test_nothing_of_the_catalogues_size_is_a_constant(kind: str, request: pytest.FixtureRequest) -> None:
    """A graph may have no more than 2 GB, and loading one copies its constants several times."""
    from tensorflow.core.protobuf import saved_model_pb2

    exported: Exported = request.getfixturevalue(f"{kind}_export")
    graph = saved_model_pb2.SavedModel.FromString((exported.folder / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    shapes = {node.name: [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim] for node in nodes if node.op == "Const"}
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    assert sizes
    assert {name: size for name, size in sizes.items() if size >= len(exported.catalogue.vocabulary)} == {}


def test_the_index_in_memory_is_gone_before_the_saved_one_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexes: list[weakref.ref[Any]] = []
    alive: list[bool] = []

    def built(*arguments: Any) -> Any:
        index = build_search(*arguments)
        indexes.append(weakref.ref(index))
        return index

    def loaded(folder: Path) -> ExportedModel:
        alive.extend(index() is not None for index in indexes)
        return ExportedModel(folder)

    build_search = export_retriever.build_search
    monkeypatch.setattr(export_retriever, "build_search", built)
    monkeypatch.setattr(releasing, "ExportedModel", loaded)
    monkeypatch.setattr(saving, "WORTH_COLLECTING", 1)
    catalogue = make_catalogue()
    export_savedmodel(TableRecommender(catalogue), catalogue, tmp_path / "m", export=SMALL, index=EXACT)
    assert alive == [False]


# Nothing is published that does not answer


def assert_nothing_published(directory: Path) -> None:
    assert not directory.exists() or list(directory.iterdir()) == []


@pytest.mark.slow
def test_a_failing_replay_blocks_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_width(folder: Path, model_name: str, requests: list[WarmupRequest]) -> None:
        broken = [WarmupRequest("serving_default", {"history": np.array([["item-1"]], dtype=object)})]
        write_warmup(folder, model_name, broken)

    write_warmup = releasing.write_warmup
    monkeypatch.setattr(releasing, "write_warmup", wrong_width)
    catalogue = make_catalogue()
    with pytest.raises(ExportError, match="exactly 5 columns"):
        export_savedmodel(NextInLine(catalogue), catalogue, tmp_path / "m", export=SMALL)
    assert_nothing_published(tmp_path / "m")


class Shifted(NextInLine):
    """Adds a number to every score."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(catalogue)
        self.shift = tf.Variable(0.0, name="shift")

    def top_k(self, history: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        items, scores = super().top_k(history, k)
        return items, scores + self.shift


@pytest.mark.slow
def test_answers_other_than_in_memory_block_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change_after_saving(folder: Path, model_name: str, requests: list[WarmupRequest]) -> None:
        recommender.shift.assign(0.25)
        write_warmup(folder, model_name, requests)

    write_warmup = releasing.write_warmup
    monkeypatch.setattr(releasing, "write_warmup", change_after_saving)
    catalogue = make_catalogue()
    recommender = Shifted(catalogue)
    with pytest.raises(ExportError, match="'scores' differ"):
        export_savedmodel(recommender, catalogue, tmp_path / "m", export=SMALL)
    assert_nothing_published(tmp_path / "m")


class Untraceable(TableRecommender):
    def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.constant(inputs.history.numpy()), inputs.history > 0


def test_a_model_that_cannot_be_traced_is_an_export_error(tmp_path: Path) -> None:
    catalogue = make_catalogue()
    with pytest.raises(ExportError, match="nothing was published"):
        export_savedmodel(Untraceable(catalogue), catalogue, tmp_path / "m", export=SMALL, index=EXACT)
    assert_nothing_published(tmp_path / "m")


def test_a_diverged_model_is_refused(tmp_path: Path) -> None:
    catalogue = make_catalogue()
    recommender = TableRecommender(catalogue)
    recommender.table[3, 0].assign(float("nan"))
    with pytest.raises(IndexBuildError, match="diverged"):
        export_savedmodel(recommender, catalogue, tmp_path / "m", export=SMALL, index=EXACT)
    assert_nothing_published(tmp_path / "m")


def test_arguments_that_do_not_fit_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    catalogue = make_catalogue()
    recommender = TableRecommender(catalogue, ("shoe size",))
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("neither a VectorRecommender", tf.Module(), {}),
        ("give the catalogue that it was trained on", TableRecommender(make_catalogue(9)), {}),
        ("unknown keys", recommender, {"metadata": {"metric": {}}}),
        ("shoe size", recommender, {"profiles": make_profiles()}),
        ("shoe size", recommender, {"profiles": None}),
    ]
    for complaint, candidate, arguments in cases:
        with pytest.raises(TfmiError, match=complaint):
            export_savedmodel(candidate, catalogue, tmp_path / "m", export=SMALL, index=EXACT, **arguments)
        assert_nothing_published(tmp_path / "m")


# What is saved


@pytest.mark.slow
def test_only_what_the_signatures_read_is_saved(tmp_path: Path) -> None:
    """No optimiser state, no training weights: the catalogue's table twice (histories, index) and the item lists."""
    catalogue = make_catalogue()
    recommender = TableRecommender(catalogue)
    recommender.optimizer_state = tf.Variable(np.zeros((1000, DIMENSION), np.float32))
    folder = export_savedmodel(recommender, catalogue, tmp_path / "m", export=SMALL, index=EXACT, version=5)
    assert folder == tmp_path / "m" / "5"
    shapes = [shape for _, shape in tf.train.list_variables(str(folder / "variables" / "variables"))]
    assert [1000, DIMENSION] not in shapes
    assert shapes.count([catalogue.num_rows, DIMENSION]) == 2


FRESH = """
import json, sys
import tensorflow as tf
from scann import scann_ops
model = tf.saved_model.load(sys.argv[1])
answer = model.signatures["serving_default"](history=tf.constant(json.loads(sys.argv[2])))
ids = [[item.decode() for item in row] for row in answer["item_ids"].numpy()]
print(json.dumps([ids, sorted(name for name in sys.modules if name.startswith("tfmi") or name == "tensorflow_recommenders")]))
"""


@pytest.mark.slow
def test_a_fresh_process_needs_nothing_of_tfmi(scann_export: Exported) -> None:
    history = [["item-7", "item-9", "", "", ""]]
    command = [sys.executable, "-I", "-c", FRESH, str(scann_export.folder), json.dumps(history)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    ids, modules = json.loads(process.stdout.splitlines()[-1])
    expected = scann_export.model.predict("serving_default", {"history": np.array(history, dtype=object)})
    assert ids == [[item.decode() for item in row] for row in expected["item_ids"]]
    assert modules == []


# Bad requests to a loaded model


@pytest.mark.slow
def test_bad_requests_get_clear_errors_and_the_model_lives_on(exact_export: Exported) -> None:
    model = exact_export.model
    good = next(request.inputs for request in read_warmup(exact_export.folder) if request.signature == "recommend")
    table = np.full((1, 5), "item-1", dtype=object)
    bad: list[tuple[str, str, dict[str, Any]]] = [
        ("no signature 'recomend' \\(did you mean 'recommend'", "recomend", good),
        ("takes the inputs", "recommend", {"history": table}),
        ("takes the inputs", "serving_default", {"history": table, "k": [3]}),
        ("history must have two dimensions.* exactly 5 columns", "serving_default", {"history": table[:, :4]}),
        ("history must have two dimensions.* exactly 5 columns", "serving_default", {"history": table[0]}),
        ("history must have two dimensions.* exactly 5 columns", "serving_default", {"history": table[None]}),
        ("exclude must have as many rows", "recommend", {**good, "exclude": np.full((2, 4), "", dtype=object)}),
        ("exclude must have two dimensions", "recommend", {**good, "exclude": np.full(4, "", dtype=object)}),
        ("diversity must have one dimension", "recommend", {**good, "diversity": np.zeros((1, 1), np.float32)}),
        ("diversity must have as many rows", "recommend", {**good, "diversity": np.zeros(2, np.float32)}),
        ("profile_home_region must have as many rows", "recommend", {**good, "profile_home_region": np.array(["nord"] * 2, dtype=object)}),
        (
            "profile_genres must have two dimensions.* 2 columns",
            "recommend",
            {**good, "profile_genres": np.full((1, 3), "a", dtype=object)},
        ),
        ("item_ids must have one dimension", "similar_items", {"item_ids": table}),
        ("Could not parse example", "recommend_examples", {"examples": np.array([b"not an example"], dtype=object)}),
        ("Can't convert|convert", "recommend", {**good, "diversity": np.array(["much"], dtype=object)}),
    ]
    for complaint, signature, inputs in bad:
        with pytest.raises((TfmiError, tf.errors.InvalidArgumentError, TypeError, ValueError), match=complaint):
            model.predict(signature, inputs)
    answer = model.predict("recommend", good)
    assert answer["item_ids"].shape == (1, 6)


def test_profile_values_that_training_did_not_know_have_defined_answers(exact_export: Exported) -> None:
    good = next(request.inputs for request in read_warmup(exact_export.folder) if request.signature == "recommend")
    unknown = {**good, "profile_home_region": np.array(["atlantis"], dtype=object), "profile__ge": np.array([np.inf], np.float32)}
    missing = {**good, "profile__ge": np.array([np.nan], np.float32), "profile_genres": np.array([["", ""]], dtype=object)}
    weightless = {**good, "profile_genres_weights": np.array([[np.nan, -1.0]], np.float32)}
    for inputs in (unknown, missing, weightless):
        assert np.isfinite(exact_export.model.predict("recommend", inputs)["scores"]).all()
    no_genres = {**good, "profile_genres": np.array([["", ""]], dtype=object)}
    np.testing.assert_array_equal(
        exact_export.model.predict("recommend", weightless)["scores"], exact_export.model.predict("recommend", no_genres)["scores"]
    )


def test_a_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a model that tfmi exported"):
        ExportedModel(tmp_path)


@pytest.mark.slow
def test_a_catalogue_that_nobody_bought_from_can_be_served(tmp_path: Path) -> None:
    catalogue = dataclasses.replace(make_catalogue(10), counts=np.zeros(12, np.int64))
    folder = export_savedmodel(NextInLine(catalogue), catalogue, tmp_path / "m", export=SMALL)
    answer = ExportedModel(folder).predict("serving_default", {"history": np.full((1, 5), "", dtype=object)})
    assert answer["item_ids"][0].tolist() == [f"item-{i}".encode() for i in range(5)]
    assert answer["scores"][0].tolist() == [0.0] * 5


@pytest.mark.parametrize("kind", ["exact", "scann", "partitioned"])
def test_an_index_of_another_kind_can_be_built_from_an_export(request: pytest.FixtureRequest, kind: str) -> None:
    export: Exported = request.getfixturevalue(f"{kind}_export")
    assert export.model.item_ids() == export.catalogue.vocabulary.ids
    vectors = export.model.item_vectors()
    assert not vectors[:FIRST_INDEX].any()
    np.testing.assert_array_equal(vectors[FIRST_INDEX:], export.recommender.item_vectors()[FIRST_INDEX:])


@pytest.mark.slow
def test_a_model_without_an_index_holds_no_vectors(direct_export: Exported) -> None:
    assert direct_export.model.item_ids() == direct_export.catalogue.vocabulary.ids
    with pytest.raises(ExportError, match="does not hold its item vectors"):
        direct_export.model.item_vectors()
