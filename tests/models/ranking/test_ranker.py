"""InterestRanker: every backbone trains with and without coarse labels, which never are an input; padding never matters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.models.ranking.test_item_fields import make_catalogue
from tests.models.training import train
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import Catalogue, CategoricalFeature, Feature, MultiValuedFeature, NumericFeature, Vocabulary
from tfmi.data.impressions.coarse_labels import pseudo_coarse_labels
from tfmi.evaluation.binary_metrics import auc
from tfmi.layers.backbones.backbone import BACKBONES, RankingInputs, SharedInteraction
from tfmi.losses.tasks.soft_coarse_loss import SoftCoarseLoss
from tfmi.models.ranking.item_fields import ItemFields
from tfmi.models.ranking.ranker import InterestRanker
from tfmi.training.optimizers import RowSparseAdam

LENGTH = 5
COARSE = ("category", "brand")
SMALL: dict[str, dict[str, Any]] = {
    "din": {"attention_hidden": [8]},
    "xdeepfm": {"map_sizes": [6]},
    "dcn": {"num_layers": 2},
    "autoint": {"num_layers": 1, "head_dimension": 4},
    "finalmlp": {"first_hidden": [8], "second_hidden": [8], "gate_hidden": []},
}
PROFILE: dict[str, Feature] = {
    "age": NumericFeature(np.zeros(1, np.float32), 0.0, 1.0),
    "city": CategoricalFeature(Vocabulary(["north", "south"]), np.zeros(1, np.int32)),
    "hobbies": MultiValuedFeature(Vocabulary(["chess", "golf"]), np.zeros((1, 2), np.int32), np.zeros((1, 2), np.float32)),
}


def _ranker(backbone: str = "deepfm", catalogue: Catalogue | None = None, **options: Any) -> InterestRanker:
    tf.keras.utils.set_random_seed(3)
    catalogue = catalogue or make_catalogue()
    model = InterestRanker(
        items=ItemFields(catalogue, 4, catalogue.features, initializer_deviation=0.3),
        backbone=BACKBONES.build({"name": backbone, **SMALL.get(backbone, {})}, "model.backbone"),
        history_length=LENGTH,
        **{"profile_features": PROFILE, "coarse_features": COARSE, "hidden": [8], "coarse_hidden": [6], **options},
    )
    model.compute_loss(_batch(num_coarse=len(model.coarse_features)))  # Weights are made now, under the seed above.
    return model


def _batch(rows: int = 16, seed: int = 0, num_rows: int = 6, num_coarse: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    history = rng.integers(2, num_rows, (rows, LENGTH)) * (np.arange(LENGTH) < rng.integers(0, LENGTH + 1, rows)[:, None])
    label = rng.integers(0, 2, rows)
    hobbies = rng.integers(0, 4, (rows, 2))
    profile = {
        "age": tf.constant(rng.normal(size=rows), tf.float32),
        "city": tf.constant(rng.integers(0, 4, rows), tf.int32),
        "hobbies": tf.constant(hobbies, tf.int32),
        "hobbies_weights": tf.constant((hobbies >= 2) * rng.random((rows, 2)), tf.float32),
    }
    return {
        "history": tf.constant(history, tf.int32),
        "profile": profile,
        "item": tf.constant(rng.integers(2, num_rows, rows), tf.int32),
        "label": tf.constant(label, tf.float32),
        "coarse": tf.constant(np.maximum(label[:, None], rng.integers(0, 2, (rows, num_coarse))), tf.float32),
    }


def _gradients(model: InterestRanker, variables: list[tf.Variable], **changes: Any) -> list[tf.Tensor | None]:
    with tf.GradientTape() as tape:
        loss = model.compute_loss({**_batch(), **changes}, training=True)
    return tape.gradient(loss, variables)


def _largest(gradients: list[tf.Tensor | None]) -> float:
    return max((float(np.abs(tf.convert_to_tensor(g)).max()) for g in gradients if g is not None), default=0.0)


def _only_fine(model: InterestRanker) -> None:
    """Freeze the fusion at (1, 0, ..., 0)."""
    assert model.fusion is not None
    model.fusion.set_weights([np.eye(1 + len(model.coarse_heads))[0]])
    model.fusion.trainable = False


@pytest.fixture
def float32_afterwards() -> Iterator[None]:
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES.names())
def test_every_backbone_learns_arbitrary_labels(backbone: str) -> None:
    catalogue = Catalogue(Vocabulary(map(str, range(64))), {}, None, np.arange(66))
    model = _ranker(backbone, catalogue, hidden=[32], coarse_hidden=[16], coarse_features=("category",))
    batch = _batch(128, num_rows=66, num_coarse=1)
    (report,) = train(model, batch, steps=60)
    assert set(report) == {"loss", "final", "fine", "coarse_category"}
    assert auc(batch["label"].numpy(), model(batch).numpy()) > 0.99


@pytest.mark.slow
def test_fit_and_predict_take_data_sets() -> None:
    model, batch = _ranker(), _batch()
    model.compile(optimizer=RowSparseAdam(0.02))
    data = tf.data.Dataset.from_tensors(batch)
    history = model.fit(data.repeat(), steps_per_epoch=5, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    np.testing.assert_allclose(model.predict(data, verbose=0), model(batch), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES.names())
def test_fused_by_the_fine_logit_alone_it_is_the_bare_backbone(backbone: str) -> None:
    wrapped, bare = _ranker(backbone), _ranker(backbone, coarse_features=())
    _only_fine(wrapped)
    assert bare.fusion is None
    assert [metric.name for metric in bare.metrics] == ["loss", "final"]
    for part in ("items", "backbone", "fine_head", "_user_fields", "_user_first_order"):
        getattr(bare, part).set_weights(getattr(wrapped, part).get_weights())
    batch = _batch()
    np.testing.assert_allclose(wrapped(batch), bare(batch), rtol=1e-6)
    assert np.abs(wrapped(batch) - wrapped.all_logits(batch["history"], batch["profile"], batch["item"][:, None])[1][:, 0, 1]).max() > 1e-3


def test_padding_and_unknown_items_of_a_history_change_nothing() -> None:
    model, batch = _ranker("din"), _batch()
    longer = {**batch, "history": tf.pad(tf.concat([tf.ones([16, 1], tf.int32), batch["history"]], axis=1), [[0, 0], [1, 3]])}
    np.testing.assert_allclose(model(longer), model(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["din", "fignn"])
def test_scores_of_many_candidates_are_those_of_each_pair(backbone: str) -> None:
    model, batch = _ranker(backbone), _batch(3)
    candidates = tf.constant([[2, 5, 3, 0], [4, 4, 1, 2], [0, 1, 2, 3]])
    scores = model.score(batch["history"], batch["profile"], candidates)
    assert scores.dtype == tf.float32
    for column in range(4):
        items = candidates[:, column]
        expected = np.where(items >= 2, model({**batch, "item": items}), -np.inf)
        np.testing.assert_allclose(scores[:, column], expected, rtol=1e-4, atol=1e-5)


def test_users_are_embedded_once_for_all_their_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = _ranker("din"), _batch(3)
    seen, backbone = [], model.backbone

    def watched(inputs: RankingInputs, training: bool) -> SharedInteraction:
        seen.append(inputs)
        return backbone(inputs, training=training)

    monkeypatch.setattr(model, "backbone", watched)
    model.score(batch["history"], batch["profile"], tf.fill([3, 7], 2))
    assert seen[0].history.shape[0] == 3
    assert seen[0].candidate.shape[0] == 21


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_finite(policy: str, float32_afterwards: None) -> None:
    tf.keras.mixed_precision.set_global_policy(policy)
    model = _ranker("din")
    with tf.GradientTape() as tape:
        loss = model.compute_loss(_batch(), training=True)
    assert loss.dtype == tf.float32
    values = [loss, model(_batch()), *tape.gradient(loss, model.trainable_variables)]
    assert all(np.isfinite(tf.convert_to_tensor(value)).all() for value in values if value is not None)


def test_the_loss_by_hand() -> None:
    model = _ranker(fine_weight=0.5, coarse_weight=0.3, coarse_loss=SoftCoarseLoss(0.4, 0.2))
    batch = _batch()
    predicted, logits = model.all_logits(batch["history"], batch["profile"], batch["item"][:, None])
    label, coarse = batch["label"].numpy(), batch["coarse"].numpy()

    def entropy(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.logaddexp(0, values) - labels * values

    values = logits.numpy()[:, 0]
    omega = np.where(label[:, None] == 1, 1.0, np.where(coarse == 1, 0.4, 0.2))
    parts = [entropy(label, predicted.numpy()[:, 0]), entropy(label, values[:, 0])]
    parts += [(omega * entropy(coarse, values[:, 1:]))[:, position] for position in range(2)]
    means = [part.mean() for part in parts]
    expected = means[0] + 0.5 * means[1] + 0.3 * (means[2] + means[3])
    for metric in model.metrics:
        metric.reset_state()
    np.testing.assert_allclose(model.compute_loss(batch), expected, rtol=1e-5)
    reported = {metric.name: float(metric.result()) for metric in model.part_trackers}
    assert reported == pytest.approx(dict(zip(["final", "fine", "coarse_category", "coarse_brand"], means, strict=True)), rel=1e-5)


def test_rows_of_weight_zero_are_as_if_they_were_not_there() -> None:
    model, batch = _ranker(), _batch()
    first = tf.nest.map_structure(lambda values: values[:10], batch)
    weight = tf.cast(tf.range(16) < 10, tf.float32) * 3.0
    np.testing.assert_allclose(model.compute_loss({**batch, "weight": weight}), model.compute_loss(first), rtol=1e-5)
    assert model.compute_loss({**batch, "weight": tf.zeros([16])}) == 0


@pytest.mark.slow
def test_coarse_labels_are_no_input() -> None:
    model, batch = _ranker(), _batch()
    without = {key: values for key, values in batch.items() if key not in ("coarse", "label")}
    np.testing.assert_array_equal(model(without), model(batch))
    model.compile(optimizer=RowSparseAdam(0.01))
    held_out = {key: values for key, values in batch.items() if key != "coarse"}
    losses = model.evaluate(tf.data.Dataset.from_tensors(held_out), verbose=0, return_dict=True)
    assert losses["loss"] == pytest.approx(losses["final"] + losses["fine"], rel=1e-5)
    assert losses["coarse_category"] == 0
    with pytest.raises(ValueError, match="the labels of category, brand"):
        model.compute_loss(held_out, training=True)


@pytest.mark.slow
def test_outcomes_of_held_out_rows_do_not_reach_training() -> None:
    """The whole way from rows to gradients: a later positive of the same user and category is cut off before labels are made."""
    users, values = np.zeros(17, np.int64), np.full(17, 2)
    gradients = []
    for later in (0, 1):
        labels = np.append(np.zeros(16), later)
        coarse = pseudo_coarse_labels(users[:16], labels[:16], values[:16])
        model = _ranker(coarse_features=("category",))
        changes = {"label": tf.constant(labels[:16], tf.float32), "coarse": tf.constant(coarse)[:, None]}
        gradients.append(_gradients(model, model.coarse_heads[0].trainable_variables, **changes))
    for first, second in zip(*gradients, strict=True):
        np.testing.assert_array_equal(first, second)


def test_coarse_heads_learn_through_the_fusion_alone_if_it_lets_them() -> None:
    model = _ranker(fine_weight=0.0, coarse_weight=0.0)
    networks = [variable for head in model.coarse_heads for variable in head.trainable_variables]
    assert _largest(_gradients(model, networks)) > 0
    _only_fine(model)
    assert _largest(_gradients(model, networks)) == 0
    assert _largest(_gradients(model, model.items.trainable_variables)) > 0


def test_coarse_losses_reach_embeddings_but_no_other_head() -> None:
    model = _ranker(fusion=False, coarse_weight=1.0)
    first, second = (head.trainable_variables for head in model.coarse_heads)
    batch = _batch()
    with tf.GradientTape(persistent=True) as tape:
        _, logits = model.all_logits(batch["history"], batch["profile"], batch["item"][:, None])
        loss = tf.reduce_sum(model.coarse_loss(batch["label"], batch["coarse"], logits[:, 0, 1:])[:, 0])
    assert _largest(tape.gradient(loss, first)) > 0
    assert _largest(tape.gradient(loss, model.items.trainable_variables)) > 0
    assert _largest(tape.gradient(loss, second)) == 0
    assert _largest(tape.gradient(loss, model.fine_head.trainable_variables)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES.names())
def test_detached_coarse_heads_leave_the_rest_alone(backbone: str) -> None:
    model, batch = _ranker(backbone, detach=True), _batch()
    with tf.GradientTape(persistent=True) as tape:
        _, logits = model.all_logits(batch["history"], batch["profile"], batch["item"][:, None])
        loss = tf.reduce_sum(model.coarse_loss(batch["label"], batch["coarse"], logits[:, 0, 1:]))
        fine = tf.reduce_sum(logits[..., 0])
    shared = model.items.trainable_variables + model.backbone.trainable_variables + model._user_fields.trainable_variables
    assert _largest(tape.gradient(loss, shared)) == 0
    assert _largest(tape.gradient(fine, shared)) > 0
    for head in model.coarse_heads:
        assert _largest(tape.gradient(loss, head.trainable_variables)) > 0


def test_without_fusion_the_fine_logit_is_predicted_and_counted_once() -> None:
    model, batch = _ranker(fusion=False, coarse_weight=0.0), _batch()
    predicted, logits = model.all_logits(batch["history"], batch["profile"], batch["item"][:, None])
    np.testing.assert_array_equal(predicted, logits[..., 0])
    assert [metric.name for metric in model.metrics] == ["loss", "final", "coarse_category", "coarse_brand"]
    expected = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(batch["label"], predicted[:, 0]))
    np.testing.assert_allclose(model.compute_loss(batch), expected, rtol=1e-6)


def test_fusion_starts_as_the_mean_and_may_have_a_bias() -> None:
    model, batch = _ranker(fusion_bias=True), _batch()
    predicted, logits = model.all_logits(batch["history"], batch["profile"], batch["item"][:, None])
    np.testing.assert_allclose(predicted, tf.reduce_mean(logits, axis=-1), rtol=1e-5, atol=1e-6)
    assert model.fusion is not None
    assert len(model.fusion.trainable_variables) == 2


def test_every_variable_is_trained() -> None:
    model = _ranker("autoint")
    missing = [v.name for v, g in zip(model.trainable_variables, _gradients(model, model.trainable_variables), strict=True) if g is None]
    assert missing == []


def test_users_without_history_or_profile_get_finite_scores() -> None:
    model = _ranker("din")
    profile = {
        "age": tf.zeros([1]),
        "city": tf.zeros([1], tf.int32),
        "hobbies": tf.zeros([1, 1], tf.int32),
        "hobbies_weights": tf.zeros([1, 1]),
    }
    scores = model.score(tf.zeros([1, LENGTH], tf.int32), profile, tf.constant([[2, 3]]))
    assert np.isfinite(scores).all()


@pytest.mark.slow
@pytest.mark.parametrize("coarse_features", [(), ("category",), COARSE])
def test_stored_and_restored(tmp_path: Path, coarse_features: tuple[str, ...]) -> None:
    batch = _batch(num_coarse=len(coarse_features))
    first, second = (_ranker_of(coarse_features, batch, seed) for seed in (1, 2))
    path = tf.train.Checkpoint(model=first).write(str(tmp_path / "ranker"))
    assert np.abs(first(batch) - second(batch)).max() > 1e-4
    tf.train.Checkpoint(model=second).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(first(batch), second(batch))


def _ranker_of(coarse_features: tuple[str, ...], batch: dict[str, Any], seed: int) -> InterestRanker:
    tf.keras.utils.set_random_seed(seed)
    catalogue = make_catalogue()
    model = InterestRanker(
        items=ItemFields(catalogue, 4, catalogue.features),
        backbone=BACKBONES.build({"name": "din", "attention_hidden": [4], "seed": seed}, "model.backbone"),
        history_length=LENGTH,
        coarse_features=coarse_features,
        seed=seed,
    )
    model.compute_loss(batch)
    return model


@pytest.mark.slow
def test_a_saved_model_scores_alike(tmp_path: Path) -> None:
    model, batch = _ranker("din", profile_features={}), _batch()
    module = tf.Module()
    module.model = model
    specification = tf.TensorSpec([None, None], tf.int32)
    module.score = tf.function(
        lambda history, items: model.score(history, {}, items), input_signature=[specification, specification], autograph=False
    )
    tf.saved_model.save(module, str(tmp_path / "model"))
    candidates = tf.tile(tf.constant([[2, 3, 0]]), [16, 1])
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(
        loaded.score(batch["history"], candidates), model.score(batch["history"], {}, candidates), rtol=1e-5, atol=1e-6
    )


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="each once, got brand, brand"):
        _ranker(coarse_features=("brand", "brand"))
    with pytest.raises(ConfigError, match=r"coarse_weight: .* got -1"):
        _ranker(coarse_weight=-1.0)
    with pytest.raises(ConfigError, match="'history_length' has the name of a field"):
        _ranker(profile_features={"history_length": PROFILE["age"]})
