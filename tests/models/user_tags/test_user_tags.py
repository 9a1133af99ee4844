"""UserTagModel: what an item's tags add up to, what an index may search, and what training touches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.models.training import train
from tests.models.user_tags.user_tag_models import (
    BODY,
    DIMENSION,
    ENCODERS,
    KERNELS,
    NUM_TAGS,
    TWO_TOWER,
    UTPM,
    features,
    make_batch,
    make_model,
    shared_model,
    tag_vocabulary,
)
from tfmi.layers.common.fields import FieldEmbedding
from tfmi.layers.user_encoders.tag_tower import TagTower
from tfmi.models.user_tags.user_tag_model import UserTagModel

VARIANTS: list[dict[str, Any]] = [
    {},
    {"scoring": "expert_cosine", "tag_reduce": "mean", "tower": {"hidden": [5]}},
    {"scoring": "cosine", "tower": {"hidden": [], "networks": "shared"}},
]


@pytest.fixture(params=ENCODERS, ids=lambda spec: spec["name"])
def encoder(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture
def float32_afterwards() -> Iterator[None]:
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def with_tags(tags: Any, rows: int = 8, **changes: Any) -> dict[str, Any]:
    """A batch of users with other tags: the same for all, or [rows, N]."""
    array = np.array(tags, np.int32)
    return {**make_batch(rows), "tags": tf.constant(np.broadcast_to(array, [rows, array.shape[-1]])), **changes}


def gradients(model: UserTagModel, batch: dict[str, Any]) -> dict[str, np.ndarray]:
    """By the identity of the weight; 0 where there is none."""
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    dense = [
        np.zeros(v.shape) if g is None else tf.convert_to_tensor(g).numpy()
        for g, v in zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
    ]
    return {v.ref(): g for v, g in zip(model.trainable_variables, dense, strict=True)}


# An index


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_scores_are_inner_products_wherever_the_model_says_so(encoder: dict[str, Any], options: dict[str, Any]) -> None:
    model = shared_model(encoder, **options)
    queries = model.user_queries(make_batch()["fields"])
    several = encoder["name"] == "virtual_kernel"
    assert model.exact_by_inner_product == (options.get("scoring") != "cosine" or not several)
    assert queries.shape == [8, (5 if several else 2) * DIMENSION]
    tags = tf.repeat(tf.range(NUM_TAGS + 2)[None], 8, axis=0)
    for task in range(2):
        scores, items, query = (
            model.score(queries, tags, task).numpy(),
            model.tag_items(task).numpy(),
            model.task_query(queries, task).numpy(),
        )
        assert items.shape == (NUM_TAGS + 2, len(model.user_encoder.experts_of(task)) * DIMENSION)
        assert (scores[:, :2] == -np.inf).all()
        assert (items[:2] == 0).all()
        np.testing.assert_allclose(model.all_scores(queries, task), scores, rtol=1e-4, atol=1e-5)
        if model.exact_by_inner_product:
            products = query @ items.T
            assert np.abs(products - scores)[:, 2:].max() < 1e-5
            np.testing.assert_array_equal(np.argsort(-products[:, 2:], axis=1)[:, :5], np.argsort(-scores[:, 2:], axis=1)[:, :5])


@pytest.mark.parametrize("options", [*VARIANTS, {"global_bias": True}], ids=str)
def test_a_tags_score_is_the_logit_of_an_item_that_has_it_alone(encoder: dict[str, Any], options: dict[str, Any]) -> None:
    # Nobody else asks for a model with biases.
    model = shared_model(encoder, **options)
    if model._biases is not None:
        model._biases.assign([0.3, -0.7])
    queries = model.user_queries(make_batch()["fields"])
    for tag in (2, 7):
        logits = model.logits(with_tags([tag]))
        for task in range(2):
            score = model.score(queries, tf.fill([8, 1], tag), task)[:, 0]
            np.testing.assert_allclose(model.probabilities(score, task), tf.sigmoid(logits[:, task]), rtol=1e-5, atol=1e-6)
            bias = 0.0 if model._biases is None else float(model._biases[task])
            np.testing.assert_allclose(score + bias, logits[:, task], rtol=1e-4, atol=1e-5)


def test_by_cosine_the_numerator_of_a_mixture_ranks_otherwise() -> None:
    kernels = {**KERNELS, "task_experts": [[0, 1]]}
    model = make_model(kernels, num_tasks=1, scoring="cosine", initial_scale=1.0)
    model.user_encoder.virtual_kernels.kernels.assign(np.eye(5, DIMENSION) * 50)
    # The first tag is answered by a long expert that points elsewhere, the second by a short one that points at it.
    table = np.zeros([NUM_TAGS + 2, DIMENSION], np.float32)
    table[2, 0] = table[3, 1] = 1
    model.tag_tower.table.assign(table)
    experts = np.zeros([1, 5, DIMENSION], np.float32)
    experts[0, 0, :3], experts[0, 1, 1] = [5, 0, 20], 1
    queries = tf.constant(experts.reshape([1, -1]))
    by_cosine = model.score(queries, tf.constant([[2, 3]]), 0).numpy()[0]
    by_numerator = (model.task_query(queries, 0).numpy() @ model.tag_items(0).numpy().T)[0, 2:4]
    np.testing.assert_allclose(by_cosine, [5 / np.hypot(5, 20), 1], rtol=1e-4)
    np.testing.assert_allclose(by_numerator, [5, 1], rtol=1e-4)
    np.testing.assert_allclose(model.all_scores(queries, 0)[0, 2:4], by_cosine, rtol=1e-4)
    assert not model.exact_by_inner_product
    assert make_model({**KERNELS, "task_experts": [[3]]}, num_tasks=1, scoring="cosine").exact_by_inner_product


def test_experts_that_are_alike_do_not_depend_on_the_tag() -> None:
    model = shared_model(KERNELS)
    alike = tf.tile(tf.random.stateless_normal([3, DIMENSION], seed=[1, 2]), [1, 5])
    tags = tf.repeat(tf.range(NUM_TAGS + 2)[None], 3, axis=0)
    plain = alike.numpy()[:, :DIMENSION] @ model.tag_tower.table.numpy().T
    np.testing.assert_allclose(model.score(alike, tags, 1)[:, 2:], plain[:, 2:], rtol=1e-4, atol=1e-5)


def test_one_expert_is_a_plain_two_tower_model() -> None:
    model = shared_model({**KERNELS, "num_experts": 1, "kernel_deviation": 9.0}, num_tasks=1)
    batch, table = make_batch(), model.tag_tower.table.numpy()
    users = model.user_encoder(model.field_embedding(batch["fields"])).numpy()[:, 0]
    items = [table[tags[tags >= 2]].sum(axis=0) for tags in batch["tags"].numpy()]
    np.testing.assert_allclose(model.logits(batch)[:, 0], (users * items).sum(axis=1), rtol=1e-4, atol=1e-5)


# An item's tags


def test_a_sum_of_tags_is_additive() -> None:
    model = shared_model(UTPM)
    first, second, both = (model.logits(with_tags(tags)).numpy() for tags in ([3, 5], [8, 2, 11], [8, 3, 2, 5, 11]))
    np.testing.assert_allclose(both, first + second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_padding_unknown_tags_and_order_change_nothing(encoder: dict[str, Any], reduce: str) -> None:
    model = shared_model(encoder, tag_reduce=reduce, tower={"hidden": [5]})
    expected = model.logits(with_tags([4, 9]))
    np.testing.assert_allclose(model.logits(with_tags([0, 9, 1, 4, 0])), expected, atol=1e-6)


def test_means_of_tags_are_of_the_size_of_one() -> None:
    model = shared_model(KERNELS, tag_reduce="mean", tower={"hidden": [5]})
    np.testing.assert_allclose(model.logits(with_tags([4, 4, 4])), model.logits(with_tags([4])), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model._reduced(tf.constant([[0, 4]]), 1, False), model.tag_tower(tf.constant([4]), task=1), rtol=1e-5)


@pytest.mark.parametrize("options", [*VARIANTS, {"global_bias": True}], ids=str)
def test_an_item_without_tags_has_the_bias(options: dict[str, Any]) -> None:
    # Nobody else asks for a model with biases.
    model = shared_model(KERNELS, **options)
    if model._biases is not None:
        model._biases.assign([0.3, -0.7])
    np.testing.assert_allclose(model.logits(with_tags([0, 1]))[0], [0, 0] if model._biases is None else [0.3, -0.7], atol=1e-6)


def test_the_best_single_tag_is_the_first_answer() -> None:
    model = shared_model(UTPM, num_tasks=1)
    queries = model.user_queries(make_batch()["fields"])
    singles = np.stack([model.logits(with_tags([tag]))[:, 0] for tag in range(2, NUM_TAGS + 2)], axis=1)
    np.testing.assert_array_equal(tf.argmax(model.all_scores(queries, 0), axis=1), singles.argmax(axis=1) + 2)


# Training


def test_the_loss_is_that_of_the_logits() -> None:
    model, batch = shared_model(KERNELS), make_batch()
    z, y = model.logits(batch).numpy().astype(np.float64), batch["labels"].numpy()
    expected = (np.logaddexp(0, z) - y * z).mean(axis=0).sum()
    assert float(model.compute_loss(batch)) == pytest.approx(expected, rel=1e-5)


def test_labels_per_tag_make_a_sample_of_every_tag() -> None:
    model = shared_model(UTPM, per_tag_labels=True, num_tasks=1)
    batch = make_batch(num_tasks=1)
    losses = []
    for position in range(4):
        tags = batch["tags"].numpy()[:, position]
        z = model.logits({**batch, "tags": batch["tags"][:, position, None]}).numpy()[:, 0].astype(np.float64)
        y = batch["labels"].numpy()[:, 0]
        losses.extend((np.logaddexp(0, z) - y * z)[tags > 0])
    assert len(losses) > 8
    assert float(model.compute_loss(batch)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_step_on_one_item_moves_its_tags_alone_and_every_query() -> None:
    model = make_model(UTPM, num_tasks=1)
    batch = {**make_batch(num_tasks=1), "tags": tf.constant([[3, 7, 0]] + [[0, 0, 0]] * 7), "labels": tf.ones([8, 1])}
    table, queries = model.tag_tower.table.numpy(), model.user_encoder.fusion.queries.numpy()
    model.compile(tf.keras.optimizers.SGD(1.0))
    model.train_step(batch)
    moved = np.flatnonzero(np.abs(model.tag_tower.table.numpy() - table).max(axis=1))
    assert moved.tolist() == [3, 7]
    assert (np.abs(model.user_encoder.fusion.queries.numpy() - queries).max(axis=1) > 0).all()


def test_a_task_without_weight_leaves_its_private_experts_and_tag_tower_alone() -> None:
    model = make_model(KERNELS, tower={"hidden": [5]})
    batch = {**make_batch(), "weights": tf.constant([[1.0, 0.0]] * 8)}
    bodies = model.user_encoder.bodies
    towers = model.tag_tower._networks
    before = [layer.get_weights() for layer in [*bodies, *towers]]
    kernels = model.user_encoder.virtual_kernels.kernels.numpy()
    model.compile(tf.keras.optimizers.SGD(1.0))
    model.train_step(batch)
    moved = [
        any((old != new).any() for old, new in zip(weights, layer.get_weights(), strict=True))
        for weights, layer in zip(before, [*bodies, *towers], strict=True)
    ]
    assert moved == [True, True, True, False, False, True, False]
    moved_kernels = (model.user_encoder.virtual_kernels.kernels.numpy() != kernels).any(axis=1)
    assert moved_kernels.tolist() == [True, True, True, False, False]


def test_a_task_without_weight_leaves_the_gradients_of_others_alone(encoder: dict[str, Any]) -> None:
    model = shared_model({**encoder, **({"task_experts": [[0, 1], [1, 2]]} if encoder["name"] == "virtual_kernel" else {})})
    silent = {**make_batch(), "weights": tf.constant([[1.0, 0.0]] * 8)}
    other_labels = {**silent, "labels": tf.stack([silent["labels"][:, 0], 1 - silent["labels"][:, 1]], axis=1)}
    expected, found = gradients(model, silent), gradients(model, other_labels)
    for weight, gradient in expected.items():
        np.testing.assert_array_equal(found[weight], gradient)


def test_rows_of_weight_zero_do_not_exist(encoder: dict[str, Any]) -> None:
    model, batch = shared_model(encoder), make_batch()
    first = tf.nest.map_structure(lambda value: value[:5], batch)
    masked = {**batch, "weights": tf.cast(tf.range(8)[:, None] < 5, tf.float32) * tf.ones([1, 2])}
    assert float(model.compute_loss(masked)) == pytest.approx(float(model.compute_loss(first)), rel=1e-5)
    expected, found = gradients(model, first), gradients(model, masked)
    for weight, gradient in expected.items():
        np.testing.assert_allclose(found[weight], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("options", [*VARIANTS, {"per_tag_labels": True}, {"loss": {"name": "entire_space"}}], ids=str)
def test_users_and_items_of_nothing_train(encoder: dict[str, Any], options: dict[str, Any]) -> None:
    model = shared_model(encoder, **options)
    nothing = tf.nest.map_structure(lambda value: value[-1:], make_batch())
    assert np.isfinite(model.compute_loss(nothing))
    assert all(np.isfinite(gradient).all() for gradient in gradients(model, nothing).values())


def test_an_entire_space_has_one_set_of_embeddings() -> None:
    model = make_model(TWO_TOWER, loss={"name": "entire_space"})
    embeddings = {weight.ref() for weight in model.field_embedding.trainable_variables}
    batch = {**make_batch(), "labels": tf.zeros([8, 2])}
    found = gradients(model, batch)
    assert all(np.any(found[weight]) for weight in embeddings)
    bodies = model.user_encoder.bodies
    assert all(any(np.any(found[weight.ref()]) for weight in body.trainable_variables) for body in bodies)


def test_an_item_is_at_times_one_of_its_tags() -> None:
    model = make_model(UTPM, tag_dropout_to_one=0.5)
    tags = tf.constant([[2, 3, 0, 5]] * 400 + [[0, 0, 0, 0]])
    drawn = model._one_tag_at_times(tags).numpy()
    assert (drawn[-1] == 0).all()
    counts = (drawn[:-1] > 0).sum(axis=1)
    assert set(counts) == {1, 3}
    assert 0.4 < (counts == 1).mean() < 0.6
    assert set(drawn[:-1][counts == 1].max(axis=1)) == {2, 3, 5}
    batch = make_batch()
    assert float(model.compute_loss(batch)) == float(model.compute_loss(batch))  # not in inference
    assert float(model.compute_loss(batch, training=True)) != float(model.compute_loss(batch, training=True))


@pytest.mark.slow
def test_fit_reports_every_tasks_loss_and_predicts_logits() -> None:
    model, batch = make_model(KERNELS), make_batch()
    model.compile(tf.keras.optimizers.Adam(0.01))
    history = model.fit(tf.data.Dataset.from_tensors(batch).repeat(3), epochs=2, verbose=0).history
    assert set(history) == {"loss", "loss_click", "loss_buy"}
    np.testing.assert_allclose(history["loss"], np.add(history["loss_click"], history["loss_buy"]), rtol=1e-5)
    assert history["loss"][1] < history["loss"][0]
    np.testing.assert_allclose(model.predict(tf.data.Dataset.from_tensors(batch), verbose=0), model.logits(batch), rtol=1e-4, atol=1e-5)


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    order = np.argsort(np.argsort(scores)) + 1
    positives = labels > 0
    return (order[positives].sum() - positives.sum() * (positives.sum() + 1) / 2) / (positives.sum() * (~positives).sum())


@pytest.mark.slow
def test_every_encoder_can_memorise_two_random_columns(encoder: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    model = make_model(encoder, num_cities=256)
    batch = make_batch(256)
    batch["fields"]["city"] = tf.range(2, 258)
    batch["tags"] = tf.constant(rng.integers(2, NUM_TAGS + 2, [256, 2]), tf.int32)
    batch["labels"] = tf.constant(rng.integers(0, 2, [256, 2]), tf.float32)
    train(model, batch, steps=150, learning_rate=0.03)
    logits, labels = model.logits(batch).numpy(), batch["labels"].numpy()
    assert [auc(labels[:, task], logits[:, task]) > 0.99 for task in range(2)] == [True, True]


@pytest.mark.slow
def test_mixed_precision_has_the_loss_of_float32(float32_afterwards: None) -> None:
    for position, spec in enumerate(ENCODERS):
        options = VARIANTS[position % len(VARIANTS)]
        tf.keras.mixed_precision.set_global_policy("float32")
        reference = make_model(spec, **options)
        tf.keras.mixed_precision.set_global_policy("mixed_float16")
        model = make_model(spec, **options)
        model.set_weights(reference.get_weights())
        loss = model.compute_loss(make_batch())
        assert loss.dtype == tf.float32
        assert float(loss) == pytest.approx(float(reference.compute_loss(make_batch())), abs=0.1)
        assert all(np.isfinite(gradient).all() for gradient in gradients(model, make_batch()).values())
        assert model.user_queries(make_batch()["fields"]).dtype == tf.float32
        assert model.tag_items(0).dtype == tf.float32


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_weights_survive(options: dict[str, Any], tmp_path: Path) -> None:
    model, other = make_model(KERNELS, **options), make_model(KERNELS, seed=4, **options)
    if model._biases is not None:
        model._biases.assign([0.3, -0.7])
    queries, items = model.user_queries(make_batch()["fields"]), model.tag_items(1)
    assert np.abs(other.tag_items(1) - items).max() > 0
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other.user_queries(make_batch()["fields"]), queries)
    np.testing.assert_array_equal(other.tag_items(1), items)
    np.testing.assert_array_equal(other.logits(make_batch()), model.logits(make_batch()))


@pytest.mark.slow
def test_exporters_survive_as_a_saved_model(tmp_path: Path) -> None:
    model, fields = make_model(KERNELS), make_batch()["fields"]
    servable = tf.Module()
    servable.model = model
    specs = {name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in fields.items()}
    servable.queries = tf.function(model.user_queries, input_signature=[specs], autograph=False)
    servable.items = tf.function(lambda: model.tag_items(1), input_signature=[], autograph=False)
    expected = servable.queries(fields), servable.items()
    tf.saved_model.save(servable, str(tmp_path))
    restored = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(restored.queries(fields), expected[0])
    np.testing.assert_array_equal(restored.items(), expected[1])


def test_tags_may_share_the_table_of_a_field() -> None:
    model = make_model(UTPM, shared_tag_field="liked")
    assert model.tag_tower.table is model.field_embedding.table("liked")
    assert len({weight.ref() for weight in model.trainable_variables}) == len(model.trainable_variables)
    with pytest.raises(ValueError, match="needs the shape"):
        make_model(UTPM, shared_tag_field="city")
    with pytest.raises(ValueError, match="no field 'age' has a table"):
        make_model(UTPM, shared_tag_field="age")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tag_reduce": "max"}, "tag_reduce"),
        ({"scoring": "cos"}, "scoring"),
        ({"initial_scale": 0.0}, "initial_scale"),
        ({"tag_dropout_to_one": 1.5}, "tag_dropout_to_one"),
        ({"tag_dropout_to_one": 0.5, "per_tag_labels": True}, "every tag stands alone already"),
        ({"num_tasks": 3, "loss": {"name": "entire_space"}}, "two nested tasks"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model({"name": "two_tower", "body": BODY}, **options)


def test_parts_that_do_not_fit_are_refused() -> None:
    fitting = make_model(TWO_TOWER)

    def model(**parts: Any) -> UserTagModel:
        given = {
            "field_embedding": FieldEmbedding(features(), DIMENSION),
            "user_encoder": fitting.user_encoder,
            "tag_tower": fitting.tag_tower,
            "loss": fitting.loss_of_tasks,
            "task_names": ["click", "buy"],
        }
        return UserTagModel(**{**given, **parts})

    with pytest.raises(ValueError, match="user_encoder: expected one for the 1 tasks"):
        model(task_names=["click"])
    with pytest.raises(ValueError, match="task_names: expected distinct names"):
        model(task_names=["click", "click"])
    with pytest.raises(ValueError, match="tag_tower: expected one for the 2 tasks"):
        model(tag_tower=TagTower(tag_vocabulary().num_rows, DIMENSION, 1))
    with pytest.raises(ValueError, match="tags need the width of users, 6, got 5"):
        model(tag_tower=TagTower(tag_vocabulary().num_rows, 5, 2))
