"""Every signature of an exported user-tag model against the model in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.tags.tag_datasets import (
    AUDIENCE,
    EXCLUSION_WIDTH,
    NOBODY,
    NUM_RESULTS,
    NUM_USERS,
    WIDTH,
    ExportedTags,
    export_tags,
    make_tag_dataset,
)
from tests.export.test_c_api import ask
from tests.models.user_tags.user_tag_models import KERNELS, NUM_TAGS, TWO_TOWER, UTPM, make_model
from tfmi.config import ExportConfig, IndexConfig
from tfmi.core.errors import ExportError
from tfmi.data.dataset import FIRST_INDEX
from tfmi.data.features import feature_arrays
from tfmi.export import ExportedModel, releasing
from tfmi.export.profile_inputs import profile_values
from tfmi.export.tags.explanations import explain_tag
from tfmi.export.tags.export_user_tags import export_user_tags
from tfmi.export.tags.tag_details import read_sample_profiles, read_tags
from tfmi.export.tags.user_fields import UserFields
from tfmi.export.warmup import read_warmup, serialized_examples

pytestmark = pytest.mark.slow

TASKS = ["click", "buy"]
KNOWN = np.arange(NOBODY)
SIGNATURES = ["explain_tags", "recommend_tags", "score_tags", "serving_default", "tag_users", "user_tags", "user_tags_examples"]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ExportedTags:
    """Virtual kernels, scored by inner products, in a ScaNN index."""
    pytest.importorskip("scann", reason="ScaNN has no wheel for this platform and Python")
    return export_tags(KERNELS, tmp_path_factory.mktemp("kernels") / "toy", "scann")


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> ExportedTags:
    """Attention fusion, scored by cosines with biases, in an exact index; own tags are excluded."""
    widths = {"exclude_history": True}
    return export_tags(UTPM, tmp_path_factory.mktemp("fused") / "toy", "exact", widths=widths, scoring="cosine")


@pytest.fixture(params=["kernels", "fused"])
def exported(request: pytest.FixtureRequest) -> ExportedTags:
    return request.getfixturevalue(request.param)


def request_of(exported: ExportedTags, users: np.ndarray, **more: Any) -> dict[str, np.ndarray]:
    return {**profile_values(exported.dataset.states.fields, users), **more}


def logits(exported: ExportedTags, users: np.ndarray, task: int) -> np.ndarray:
    """The model's own logits [users, V] from the dataset's arrays."""
    arrays = feature_arrays(exported.dataset.states.fields)
    queries = exported.model.user_queries({name: tf.constant(values[users]) for name, values in arrays.items()})
    tags = tf.repeat(tf.range(NUM_TAGS + 2)[None], len(users), axis=0)
    return exported.model.score(queries, tags, task).numpy() + float(exported.model.bias(task))


def own_tags(exported: ExportedTags, user: int) -> set[int]:
    return set(exported.dataset.states.fields["liked"].values[user].tolist())


def padded(rows: list[list[str]], width: int) -> np.ndarray:
    table = np.full([len(rows), width], "", dtype=object)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def expect_tags(exported: ExportedTags, answer: dict[str, np.ndarray], users: np.ndarray, excluded: list[set[int]]) -> None:
    """Check answers against brute force: the same tags in the same order, with the model's own scores to 1e-5."""
    for task, name in enumerate(TASKS):
        scores = logits(exported, users, task)
        for row, out in enumerate(excluded):
            scores[row, list(out)] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :NUM_RESULTS]
        expected = [[exported.dataset.tags.identifier(int(tag)).encode() for tag in row] for row in best]
        assert answer[f"{name}_tags"].tolist() == expected
        assert np.abs(answer[f"{name}_scores"] - np.take_along_axis(scores, best, axis=1)).max() < 1e-5


def excluded_by_default(exported: ExportedTags, users: np.ndarray) -> list[set[int]]:
    return [own_tags(exported, user) if exported.saved.metadata["exclude_history"] else set() for user in users]


def test_a_users_tags_are_the_models_brute_force(exported: ExportedTags) -> None:
    for signature in ("user_tags", "serving_default"):
        answer = exported.saved.predict(signature, request_of(exported, KNOWN))
        assert not answer["cold_start"].any()
        expect_tags(exported, answer, KNOWN, excluded_by_default(exported, KNOWN))


def test_excluded_tags_are_replaced_by_the_next_best(exported: ExportedTags) -> None:
    users, wishes = np.array([0, 1, 2]), [["tag 1", "tag 2", "tag 3", "tag 4"], [], ["tag 7", "no tag"]]
    answer = exported.saved.predict("recommend_tags", request_of(exported, users, exclude=padded(wishes, EXCLUSION_WIDTH)))
    excluded = [{exported.dataset.tags.index(tag) for tag in row} for row in wishes]
    expect_tags(exported, answer, users, [a | b for a, b in zip(excluded, excluded_by_default(exported, users), strict=True)])


def test_examples_may_have_any_length(exported: ExportedTags) -> None:
    fields = request_of(exported, KNOWN)
    longer = {
        "profile_liked": np.concatenate([fields["profile_liked"], np.full([NOBODY, 1], "", dtype=object)], axis=1),
        "profile_liked_weights": np.concatenate([fields["profile_liked_weights"], np.zeros([NOBODY, 1], np.float32)], axis=1),
    }
    wishes = padded([["tag 1", "tag 2"]] * NOBODY, 9)
    answer = exported.saved.predict("user_tags_examples", {"examples": serialized_examples({**fields, **longer, "exclude": wishes})})
    excluded = [
        {exported.dataset.tags.index("tag 1"), exported.dataset.tags.index("tag 2")} | own for own in excluded_by_default(exported, KNOWN)
    ]
    expect_tags(exported, answer, KNOWN, excluded)
    (empty,) = exported.saved.predict("user_tags_examples", {"examples": serialized_examples({"exclude": padded([[]], 1)})})["cold_start"]
    assert empty


def test_users_of_whom_nothing_is_known_get_the_popular_tags(exported: ExportedTags) -> None:
    strangers = {
        "profile_age": np.array([np.nan, np.inf], np.float32),
        "profile_city": np.array(["", "no city"], dtype=object),
        "profile_liked": np.array([["", "", ""], ["no tag", "tag 1", "tag 2"]], dtype=object),
        "profile_liked_weights": np.array([[1, 1, 1], [1, 0, np.nan]], np.float32),
    }
    answer = exported.saved.predict("user_tags", strangers)
    assert answer["cold_start"].all()
    out = {"tag 1", "tag 2"} if exported.saved.metadata["exclude_history"] else set()
    for task, name in enumerate(TASKS):
        counts = exported.dataset.tag_counts[task]
        ids = [exported.dataset.tags.identifier(int(tag)) for tag in np.argsort(-counts, kind="stable")]
        assert [tag.decode() for tag in answer[f"{name}_tags"][0]] == ids[:NUM_RESULTS]
        assert [tag.decode() for tag in answer[f"{name}_tags"][1]] == [tag for tag in ids if tag not in out][:NUM_RESULTS]
        np.testing.assert_allclose(answer[f"{name}_scores"][0], np.sort(counts)[::-1][:NUM_RESULTS] / counts.sum(), rtol=1e-5)
    one_field = {**strangers, "profile_age": np.array([30, np.nan], np.float32)}
    assert exported.saved.predict("user_tags", one_field)["cold_start"].tolist() == [False, True]


def test_a_tags_audience_is_the_models_brute_force(exported: ExportedTags) -> None:
    tags = np.array([f"tag {i}" for i in range(NUM_TAGS)] + ["no tag", ""], dtype=object)
    answer = exported.saved.predict("tag_users", {"tags": tags})
    for task, name in enumerate(TASKS):
        scores = logits(exported, KNOWN, task).T[2:]  # [tags, users]; nobody is in no audience
        best = np.argsort(-scores, axis=1, kind="stable")[:, :AUDIENCE]
        assert answer[f"{name}_user_ids"][:NUM_TAGS].tolist() == [[f"user {user}".encode() for user in row] for row in best]
        assert np.abs(answer[f"{name}_scores"][:NUM_TAGS] - np.take_along_axis(scores, best, axis=1)).max() < 1e-5
        assert (answer[f"{name}_user_ids"][NUM_TAGS:] == b"").all()
        assert (answer[f"{name}_scores"][NUM_TAGS:] == -np.inf).all()


def test_given_tags_are_scored(exported: ExportedTags) -> None:
    users = np.array([0, 5, NOBODY])
    tags = padded([["tag 3", "no tag", "tag 11"], [], ["tag 0"]], NUM_RESULTS)
    answer = exported.saved.predict("score_tags", request_of(exported, users, tags=tags))
    indices = np.vectorize(exported.dataset.tags.index)(tags)
    for task, name in enumerate(TASKS):
        np.testing.assert_allclose(answer[f"{name}_scores"], np.take_along_axis(logits(exported, users, task), indices, axis=1), atol=1e-5)


def test_what_experts_say_adds_up_and_effects_are_what_leaving_out_does(exported: ExportedTags) -> None:
    users = np.array([0, 5, 7, NOBODY])
    tags = np.array(["tag 3", "tag 4", "no tag", "tag 5"], dtype=object)
    fields = request_of(exported, users)
    answer = exported.saved.predict("explain_tags", {**fields, "tags": tags})

    def scores(changed: dict[str, np.ndarray], name: str) -> np.ndarray:
        given = {**fields, **changed, "tags": np.repeat(tags[:, None], NUM_RESULTS, axis=1)}
        return exported.saved.predict("score_tags", given)[f"{name}_scores"][:, 0]

    known = np.array([True, True, False, True])
    for task, name in enumerate(TASKS):
        own = scores({}, name)
        shown = np.where(known, own, 0)
        np.testing.assert_allclose(answer[f"{name}_scores"], own, atol=1e-5)
        together = answer[f"{name}_experts"].sum(axis=1) + answer[f"{name}_biases"]
        np.testing.assert_allclose(together[known], own[known], atol=1e-5)
        np.testing.assert_allclose(answer[f"{name}_gates"].sum(axis=1), known, atol=1e-5)
        used = list(exported.model.user_encoder.experts_of(task))
        assert not np.delete(answer[f"{name}_experts"], used, axis=1).any()
        left_out = {
            "age": {"profile_age": np.full(4, np.nan, np.float32)},
            "city": {"profile_city": np.full(4, "", dtype=object)},
            "liked": {"profile_liked": np.full([4, WIDTH], "", dtype=object)},
        }
        for field, changed in left_out.items():
            effect = shown - np.where(known, scores(changed, name), 0)
            np.testing.assert_allclose(answer[f"{name}_effect_{field}"], effect, atol=1e-5)
        for column in range(WIDTH):
            without = fields["profile_liked"].copy()
            without[:, column] = ""
            effect = shown - np.where(known, scores({"profile_liked": without}, name), 0)
            np.testing.assert_allclose(answer[f"{name}_value_effects_liked"][:, column], effect, atol=1e-5)
        looked = np.sum([answer[f"{name}_attention_{field}"] for field in left_out], axis=0)
        np.testing.assert_allclose(looked[:3], known[:3], atol=1e-5)
        np.testing.assert_allclose(answer[f"{name}_value_attention_liked"].sum(axis=1), answer[f"{name}_attention_liked"], atol=1e-5)


def test_explanations_become_rows_for_people(kernels: ExportedTags) -> None:
    fields = UserFields(kernels.saved.metadata["profile_inputs"])
    request = fields.request_of({"age": 31, "city": "city 1", "liked": {"tag 1": 2.0, "tag 4": 0.5}})
    explanations = explain_tag(kernels.saved, request, "tag 2")
    assert [each.task for each in explanations] == TASKS
    for task, each in enumerate(explanations):
        assert sum(each.experts.values()) + each.bias == pytest.approx(each.score, abs=1e-5)
        assert tuple(each.experts) == kernels.model.user_encoder.experts_of(task)
        assert {evidence.field for evidence in each.fields} == {"age", "city", "liked"}
        assert {evidence.value for evidence in each.values} == {"tag 1", "tag 4"}
        effects = [abs(evidence.effect) for evidence in each.fields]
        assert effects == sorted(effects, reverse=True)
        assert each.rows()[0].startswith(f"tag 2 ({each.task}): score ")
        assert len(each.rows(1)) == 4


def test_a_model_that_attends_to_nothing_explains_without_attention(tmp_path: Path) -> None:
    plain = export_tags(TWO_TOWER, tmp_path / "toy", "exact", widths={"audience_size": 0, "warmup_batch_sizes": [1]})
    outputs = plain.saved.metadata["signatures"]["explain_tags"]["outputs"]
    assert "click_effect_city" in outputs
    assert not [name for name in outputs if "attention" in name]
    # Without an audience no user id is anywhere.
    assert plain.saved.signature_names == [name for name in SIGNATURES if name != "tag_users"]
    assert plain.saved.metadata["users"] == 0
    assert not [path for path in plain.folder.rglob("*") if path.is_file() and b"user 3" in path.read_bytes()]


@pytest.mark.parametrize(
    ("signature", "changes", "message"),
    [
        ("user_tags", {"profile_liked": padded([["tag 1"]], WIDTH + 1)}, "profile_liked .*exactly 3 columns"),
        ("user_tags", {"profile_liked_weights": np.ones([1, 1], np.float32)}, "profile_liked_weights .*exactly 3 columns"),
        ("user_tags", {"profile_city": np.array(["a", "b"], dtype=object)}, "profile_city must have as many rows"),
        ("score_tags", {"tags": padded([["tag 1"]], NUM_RESULTS - 1)}, "tags .*exactly 5 columns"),
        ("score_tags", {"tags": padded([["tag 1"]] * 2, NUM_RESULTS)}, "tags must have as many rows"),
        ("explain_tags", {"tags": np.array(["tag 1", "tag 2"], dtype=object)}, "tags must have as many rows"),
        ("recommend_tags", {"exclude": np.array(["tag 1"], dtype=object)}, "exclude must have two dimensions"),
    ],
)
def test_the_graph_refuses_other_shapes(kernels: ExportedTags, signature: str, changes: dict[str, Any], message: str) -> None:
    # As TensorFlow Serving does, which does not look at a signature's shapes.
    function = kernels.saved._model.signatures[signature]
    request = {name: tf.convert_to_tensor(value) for name, value in request_of(kernels, np.array([0]), **changes).items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        function._call_flat(_flat(function, request), function.captured_inputs)


def _flat(function: Any, request: dict[str, tf.Tensor]) -> list[tf.Tensor]:
    """The tensors in the order of the graph's inputs, unchecked."""
    return [request[name] for name in sorted(function.structured_input_signature[1])]


def test_the_metadata_says_what_is_served(exported: ExportedTags) -> None:
    metadata = exported.saved.metadata
    assert (metadata["kind"], metadata["system"], metadata["tags"], metadata["users"]) == ("user_tags", "toy", NUM_TAGS, NUM_USERS - 1)
    assert exported.saved.signature_names == SIGNATURES
    assert [task["task"] for task in metadata["tasks"]] == TASKS
    assert [task["bias"] for task in metadata["tasks"]] == pytest.approx([float(exported.model.bias(task)) for task in (0, 1)])
    for direction in ("user_tags", "tag_users"):
        for task in TASKS:
            described = metadata["index"][direction][task]
            assert described["approximate"] is False
            assert described["recall"]["value"] == 1.0
    sizes = {(request.signature, len(next(iter(request.inputs.values())))) for request in read_warmup(exported.folder)}
    assert sizes == {(signature, size) for signature in SIGNATURES for size in (1, 3)}


# What is refused


def test_answers_other_than_in_memory_block_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(UTPM, global_bias=True)
    write_warmup = releasing.write_warmup

    def change_after_saving(*arguments: Any) -> None:
        assert model._biases is not None
        model._biases.assign([0.5, 0.5])
        write_warmup(*arguments)

    monkeypatch.setattr(releasing, "write_warmup", change_after_saving)
    sizes = ExportConfig(num_results=3, exclusion_width=2, audience_size=0, warmup_batch_sizes=[1])
    with pytest.raises(ExportError, match="_scores' differ"):
        export_user_tags(model, make_tag_dataset(), tmp_path / "toy", export=sizes, index=IndexConfig(kind="exact"))
    assert list((tmp_path / "toy").iterdir()) == []


def test_another_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="give the data that it was trained on"):
        export_user_tags(make_model(UTPM), make_tag_dataset(num_tags=9), tmp_path / "toy")
    with pytest.raises(ExportError, match="unknown keys"):
        export_user_tags(make_model(UTPM), make_tag_dataset(), tmp_path / "toy", metadata={"metric": 1})
    assert not (tmp_path / "toy").exists()


@pytest.mark.slow
def test_audiences_without_tensorflows_python(kernels: ExportedTags) -> None:
    import json

    process = ask(kernels.folder, "tag_users", {"tags": ["tag 3", "no tag"]})
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert result["imported"] == []
    expected = ExportedModel(kernels.folder).predict("tag_users", {"tags": np.array(["tag 3", "no tag"], dtype=object)})
    for name in TASKS:
        assert result["answer"][f"{name}_user_ids"] == [[user.decode() for user in row] for row in expected[f"{name}_user_ids"]]
        np.testing.assert_allclose(result["answer"][f"{name}_scores"], expected[f"{name}_scores"], rtol=1e-5)


def test_a_published_version_has_its_tags_and_some_users(exported: ExportedTags) -> None:
    tags = read_tags(exported.folder).to_pylist()
    assert [each["tag"] for each in tags] == exported.dataset.tags.ids
    assert tags[0]["events.click"] == int(exported.dataset.tag_counts[0][FIRST_INDEX])
    users = read_sample_profiles(exported.folder).to_pylist()
    assert {each["user_id"] for each in users} <= set(exported.dataset.users.ids)
    assert {"profile.age", "profile.city", "profile.liked", "profile.liked.weights"} <= set(users[0])
