"""InterestRetrieval: any extractor, readout and objective train together; unknown items and padding never matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.models.training import train
from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS, READOUTS, REPETITIONS, InterestOutput, Readout
from tfmi.layers.sequence_encoders.sequence_encoder import ENCODERS
from tfmi.losses.base import OBJECTIVES, REGULARIZERS, WEIGHTINGS, BatchContext, Contrast, ItemSpace, Objective, Regularizer
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval, drop_unknown_items
from tfmi.models.systems import load_config
from tfmi.models.towers import ItemTower, UserTower
from tfmi.training.optimizers import RowSparseAdam

NUM_ROWS, LENGTH, DIMENSION = 32, 6, 8


def _model(
    extractor: str = "capsule_routing",
    readout: str = "label_aware",
    objective: str = "full_softmax",
    item_dropout: float = 0.0,
    **options: Any,
) -> InterestRetrieval:
    tf.keras.utils.set_random_seed(3)
    given = {"num_rows": NUM_ROWS} if "num_rows" in EXTRACTORS.parameters(extractor) else {}
    model = InterestRetrieval(
        item_tower=ItemTower(NUM_ROWS, DIMENSION, hidden=[16] if item_dropout else [], dropout=item_dropout),
        user_tower=UserTower(DIMENSION, hidden=[16]),
        extractor=EXTRACTORS.build({"name": extractor, **given}, "extractor"),
        readout=READOUTS.build({"name": readout}, "readout"),
        objective=OBJECTIVES.build({"name": objective}, "objective"),
        regularizers=options.pop("regularizers", {}),
        history_length=LENGTH,
        **{"temperature": 0.1, "seed": 3, **options},
    )
    model.compute_loss(_batch())  # Weights are made now, under the seed above.
    return model


def _batch(rows: int = 16, seed: int = 0) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, LENGTH + 1, rows)
    history = rng.integers(2, NUM_ROWS, (rows, LENGTH)) * (np.arange(LENGTH) < lengths[:, None])
    return {"history": tf.constant(history, tf.int32), "target": tf.constant(rng.integers(2, NUM_ROWS, rows), tf.int32)}


@pytest.fixture
def float32_afterwards() -> Iterator[None]:
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def test_drop_unknown_items_keeps_order_and_moves_left() -> None:
    history = tf.constant([[0, 5, 1, 7, 0, 6], [1, 1, 0, 0, 0, 0], [2, 3, 4, 5, 6, 7]])
    expected = [[5, 7, 6, 0, 0, 0], [0] * 6, [2, 3, 4, 5, 6, 7]]
    np.testing.assert_array_equal(drop_unknown_items(UserInputs(history)).history, expected)


@pytest.mark.parametrize("readout", ["max_sim", "predicted_intention"])
def test_weights_stand_where_their_items_stand(readout: str) -> None:
    model = _model("sparse_interests", readout)
    plain = model.interests_with_weights(UserInputs(tf.constant([[5, 7, 6, 0, 0, 0], [1, 1, 0, 0, 0, 0]])))
    interests, active, weights = model.interests_with_weights(UserInputs(tf.constant([[0, 5, 1, 7, 0, 6], [0, 1, 0, 0, 0, 1]])))
    np.testing.assert_allclose(interests, model.user_interests(UserInputs(tf.constant([[5, 7, 6, 0, 0, 0], [0] * 6])))[0], atol=1e-6)
    known = weights.numpy()[0][:, [1, 3, 5]]
    np.testing.assert_allclose(known, plain[2].numpy()[0][:, :3], atol=1e-6)
    assert (known.sum(axis=1) > 0).all()
    assert weights.shape == [2, *interests.shape[1:2], LENGTH]
    assert not weights.numpy()[0][:, [0, 2, 4]].any()
    assert not weights.numpy()[1].any()
    assert bool(active[0, 0])


def _gives_what_is_needed(extractor: str, readout: str) -> bool:
    return set(READOUTS.get(readout).NEEDED_INTERNALS) <= set(EXTRACTORS.get(extractor).INTERNALS)


def _has_one_interest(extractor: str) -> bool:
    """Always: every readout is then the same."""
    return getattr(EXTRACTORS.get(extractor), "num_interests", None) == 1


COMBINATIONS = [
    (e, r)
    for e in EXTRACTORS.names()
    for r in READOUTS.names()
    if _gives_what_is_needed(e, r) and (r == "label_aware" or not _has_one_interest(e))
]


# Each extractor with one readout, and each readout with these extractors; the other pairs repeat both, and are left to `make test-all`.
WITH_EVERY_READOUT = {"capsule_routing", "sparse_interests"}


def _repeats(extractor: str, readout: str) -> bool:
    return readout != "label_aware" and extractor not in WITH_EVERY_READOUT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extractor", "readout"), [pytest.param(e, r, marks=pytest.mark.long if _repeats(e, r) else ()) for e, r in COMBINATIONS]
)
def test_every_extractor_trains_with_every_readout(extractor: str, readout: str) -> None:
    model = _model(extractor, readout, history_dropout=0.1)
    batch = _batch()
    first = model.compute_loss(batch)
    train(model, batch, steps=40)
    assert model.compute_loss(batch) < 0.8 * first


def _compares_apart(objective: str) -> bool:
    return OBJECTIVES.get(objective).COMPARES_ALL_ALIKE and not OBJECTIVES.get(objective).wants_context()


TRAINABLE = [(o, r) for o in OBJECTIVES.names() for r in READOUTS.names() if not READOUTS.get(r).SUMS_INTERESTS or _compares_apart(o)]


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "readout"), TRAINABLE)
def test_every_objective_trains_with_every_readout(objective: str, readout: str) -> None:
    extractor = "capsule_routing" if ("capsule_routing", readout) in COMBINATIONS else "sparse_interests"
    model = _model(extractor, readout, objective)
    first, _, last = train(model, _batch(), steps=20, epochs=3)
    assert last["loss"] < first["loss"]


def test_history_items_and_unknown_items_anywhere_give_the_same_interests() -> None:
    model = _model("self_attentive")
    clean, _ = model.user_interests(UserInputs(tf.constant([[5, 9, 4, 0, 0, 0]])))
    messy, _ = model.user_interests(UserInputs(tf.constant([[0, 5, 1, 9, 1, 4]])))
    np.testing.assert_allclose(clean, messy, atol=1e-6)


def test_padding_and_unknown_items_are_never_looked_up_in_training() -> None:
    model = _model(objective="in_batch", history_dropout=0.2)  # does not look up every item
    batch = {"history": tf.constant([[5, 9, 0, 0, 0, 0], [7, 1, 0, 0, 0, 0]]), "target": tf.constant([3, 4])}
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    table = next(weight for weight in model.trainable_weights if "item_id" in weight.name)
    looked_up = tape.gradient(loss, table).indices.numpy()
    assert {5, 7, 9} <= set(looked_up)
    assert looked_up.min() >= 2


@pytest.mark.slow
@pytest.mark.parametrize("extractor", EXTRACTORS.names())
def test_a_batch_of_empty_histories_trains(extractor: str) -> None:
    model = _model(extractor, history_dropout=0.2)
    batch = {"history": tf.zeros([3, LENGTH], tf.int32), "target": tf.constant([3, 4, 5])}
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    gradients = tape.gradient(loss, model.trainable_variables)
    values = [loss, *(tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None)]
    assert all(np.isfinite(value.numpy()).all() for value in values)


def test_scores_are_cosines_when_normalized() -> None:
    model = _model()
    interests, active = model.user_interests(UserInputs(_batch()["history"]))
    norms = np.linalg.norm(interests.numpy(), axis=-1)
    np.testing.assert_allclose(norms[active.numpy()], 1.0, rtol=1e-5)
    np.testing.assert_array_equal(norms[~active.numpy()], 0.0)
    vectors = model.item_vectors().numpy()
    np.testing.assert_array_equal(vectors[:2], 0.0)
    np.testing.assert_allclose(np.linalg.norm(vectors[2:], axis=-1), 1.0, rtol=1e-5)
    assert len(vectors) == NUM_ROWS


def test_inactive_interests_stay_zero_behind_a_tower_with_bias() -> None:
    model = _model()
    interests, active = model.user_interests(UserInputs(tf.constant([[5, 0, 0, 0, 0, 0]])))
    assert active.numpy().tolist() == [[True, False, False, False]]
    np.testing.assert_array_equal(interests[0, 1:], np.zeros((3, DIMENSION)))


def test_full_softmax_loss_equals_numpy() -> None:
    model = _model("mean_pooling", objective="full_softmax")
    batch = _batch(5)
    interests, _ = model.user_interests(UserInputs(batch["history"]))
    logits = interests.numpy()[:, 0] @ model.item_vectors().numpy()[2:].T / 0.1
    log_sum = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
    expected = (log_sum - logits[np.arange(5), batch["target"].numpy() - 2]).mean()
    np.testing.assert_allclose(model.compute_loss(batch), expected, rtol=1e-5)


def test_weights_of_zero_remove_examples() -> None:
    model = _model("mean_pooling")
    batch = _batch(6)
    half = {name: value[:3] for name, value in batch.items()}
    weighted = {**batch, "weight": tf.constant([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])}
    np.testing.assert_allclose(model.compute_loss(weighted), model.compute_loss(half), rtol=1e-5)


def test_a_weight_of_three_is_three_times_the_share_of_the_gradient() -> None:
    model = _model("mean_pooling", objective="full_softmax")
    batch = _batch()
    rows = len(batch["target"])
    weights = [3.0] + [1.0] * (rows - 1)
    repeated = {name: tf.repeat(values, [3] + [1] * (rows - 1), axis=0) for name, values in batch.items()}
    gradients = []
    for inputs in ({**batch, "weight": tf.constant(weights)}, repeated):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs)
        gradients.append([tf.convert_to_tensor(each).numpy() for each in tape.gradient(loss, model.trainable_weights) if each is not None])
    for weighted, counted in zip(*gradients, strict=True):
        np.testing.assert_allclose(weighted, counted, rtol=1e-4, atol=1e-6)
    assert any(np.abs(each).max() > 1e-3 for each in gradients[0])


def test_regularizers_are_added_and_see_the_internals() -> None:
    class WeightsPenalty(Regularizer):
        def call(self, inputs: BatchContext, training: bool | None = None) -> tf.Tensor:
            return 10.0 * tf.reduce_mean(
                tf.reduce_sum(inputs.output.weights, axis=[1, 2]) / tf.reduce_sum(tf.cast(inputs.mask, tf.float32), 1)
            )

    batch = _batch()
    plain, penalized = _model(), _model(regularizers={"weights": WeightsPenalty()})
    # Coupling weights sum to 1 over the interests of each item, so the penalty is exactly 10.
    np.testing.assert_allclose(penalized.compute_loss(batch) - plain.compute_loss(batch), 10.0, rtol=1e-4)


@pytest.mark.slow
def test_regularizers_are_reported_by_name() -> None:
    class Seven(Regularizer):
        def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
            return tf.constant(7.0)

    model = _model(regularizers={"seven": Seven()})
    model.compile(optimizer=RowSparseAdam(0.01))
    history = model.fit(tf.data.Dataset.from_tensors(_batch()).repeat(), steps_per_epoch=2, verbose=0).history
    assert history["seven"] == [7.0]
    assert history["loss"][0] > 7.0


@pytest.mark.slow
def test_a_readout_may_use_internals_and_serve_one_aggregated_vector() -> None:
    class Aggregated(Readout):
        def call(self, interests: tf.Tensor, active: tf.Tensor, target: tf.Tensor, output: InterestOutput) -> tf.Tensor:
            return self._aggregate(interests, output)

        def serve(self, interests: tf.Tensor, active: tf.Tensor, output: InterestOutput) -> tuple[tf.Tensor, tf.Tensor]:
            return self._aggregate(interests, output)[:, None, :], active[:, :1]

        def _aggregate(self, interests: tf.Tensor, output: InterestOutput) -> tf.Tensor:
            return tf.einsum("bk,bkd->bd", tf.reduce_max(output.internals["logits"], axis=2), interests)

    model = _model("self_attentive")
    model.readout = Aggregated()
    model.compile(optimizer=RowSparseAdam(0.01))
    model.fit(tf.data.Dataset.from_tensors(_batch()).repeat(), steps_per_epoch=2, verbose=0)
    interests, active = model.user_interests(UserInputs(_batch()["history"]))
    assert interests.shape == (16, 1, DIMENSION)
    assert active.numpy().all()


def test_a_readout_is_refused_where_the_extractor_lacks_what_it_needs() -> None:
    with pytest.raises(ConfigError, match=r"model\.readout: PredictedIntention needs current_intention"):
        _model("capsule_routing", "predicted_intention")


@pytest.mark.slow
@pytest.mark.parametrize("normalize", [True, False])
def test_mixed_interests_are_scored_alike_in_training_and_in_serving(normalize: bool) -> None:
    model = _model("sparse_interests", "predicted_intention", normalize=normalize)
    model.readout.temperature = 5.0  # a mixture, not a choice
    batch = _batch()
    served, active = model.user_interests(UserInputs(batch["history"]))
    assert served.shape == (16, 1, DIMENSION)
    assert active.numpy().all()
    norms = np.linalg.norm(served[:, 0], axis=-1)
    assert np.allclose(norms, 1.0, rtol=1e-5) == normalize
    logits = served.numpy()[:, 0] @ model.item_vectors().numpy()[2:].T / 0.1
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["target"] - 2, logits)
    np.testing.assert_allclose(model.compute_loss(batch), np.mean(losses), rtol=1e-5)


def test_an_objective_may_look_at_the_history() -> None:
    seen: list[BatchContext] = []

    class Nosy(Objective):
        def contrast(  # type: ignore[override]
            self,
            queries: tf.Tensor,
            targets: tf.Tensor,
            items: ItemSpace,
            left_out: tf.Tensor | None = None,
            training: bool | None = None,
            *,
            context: BatchContext,
        ) -> Contrast:
            seen.append(context)
            return Contrast(tf.zeros(tf.shape(targets)), tf.zeros(tf.shape(targets)))

    model = _model()
    model.objective = Nosy()
    batch = _batch()
    model.compute_loss(batch)
    np.testing.assert_array_equal(seen[0].history_indices, batch["history"])


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(policy: str, float32_afterwards: None) -> None:
    tf.keras.mixed_precision.set_global_policy(policy)
    model = _model()
    optimizer = RowSparseAdam(0.02)
    model.compile(optimizer=tf.keras.mixed_precision.LossScaleOptimizer(optimizer) if policy == "mixed_float16" else optimizer)
    history = model.fit(tf.data.Dataset.from_tensors(_batch()).repeat(), steps_per_epoch=20, epochs=4, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert all(variable.dtype == tf.float32 for variable in model.trainable_variables)
    assert model.user_interests(UserInputs(_batch()["history"]))[0].dtype == tf.float32


@pytest.mark.slow
@pytest.mark.usefixtures("float32_afterwards")
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_step_is_traced_once_however_many_an_execution_takes(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tf.keras.mixed_precision.set_global_policy(policy)
    model = _model("mean_pooling")
    computed: list[bool] = []
    compute_loss = model.compute_loss

    def counted(inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        computed.append(training)
        return compute_loss(inputs, training)

    monkeypatch.setattr(model, "compute_loss", counted)
    optimizer = RowSparseAdam(0.01)
    optimizer.build(model.trainable_variables)
    scaled = tf.keras.mixed_precision.LossScaleOptimizer(optimizer) if policy == "mixed_float16" else optimizer
    model.compile(optimizer=scaled, steps_per_execution=3)
    before = model.item_vectors().numpy()
    model.fit(tf.data.Dataset.from_tensors(_batch()).repeat(), steps_per_epoch=6, verbose=0)
    assert computed == [True]
    assert optimizer.iterations.numpy() == 6
    assert np.abs(model.item_vectors().numpy() - before).max() > 0


@pytest.mark.slow
def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    def trained(seed: int) -> np.ndarray:
        model = _model(history_dropout=0.3, seed=seed, objective="sampled_softmax")
        train(model, _batch(), steps=5, learning_rate=0.01)
        return model.item_vectors().numpy()

    first, again, other = trained(1), trained(1), trained(2)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_predict_gives_the_scored_interests() -> None:
    model = _model("self_attentive")
    batch = _batch()
    np.testing.assert_allclose(model(batch), model.user_interests(UserInputs(batch["history"]))[0], atol=1e-6)


@pytest.mark.slow
def test_a_mixture_sums_over_active_interests_for_target_and_negatives_alike() -> None:
    """Also with a user's own items and a catalogue of which some is left out."""
    for repetition in (None, REPETITIONS.build({"name": "learned_gate"}, "repetition")):
        model = _model(readout="mixture", repetition=repetition)
        batch = _batch()
        loss = model.compute_loss(batch)
        output, users, _ = model.extract(batch["history"])
        scores = tf.einsum("bkd,nd->bkn", users, model.item_vectors()) / 0.1
        counts = tf.reduce_sum(tf.cast(output.active, tf.float32), axis=1, keepdims=True)
        scores = (tf.reduce_logsumexp(tf.where(output.active[:, :, None], scores, -1e9), axis=1) - tf.math.log(counts)).numpy()  # [B, N]
        if repetition is not None:
            _, _, own = model.interests_with_repeats(UserInputs(batch["history"]))
            for row, (items, values) in enumerate(zip(own.items.numpy(), own.scores.numpy(), strict=True)):
                scores[row, items] = -np.inf
                scores[row, items[np.isfinite(values)]] = values[np.isfinite(values)] / 0.1
        scores[:, :2] = -np.inf
        targets = batch["target"].numpy()
        expected = np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(targets)), targets])
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("objective", ["in_batch", "harder_negatives", "bpr"])
def test_a_mixture_needs_an_objective_that_compares_interests_alike(objective: str) -> None:
    with pytest.raises(ConfigError, match=r"model.objective: Mixture compares every interest for itself.*full_softmax"):
        _model(readout="mixture", objective=objective)
    with pytest.raises(ConfigError, match=r"model.objective: Mixture"):
        load_config(system="comirec_sa", settings=["model.readout.name=mixture", f"model.objective={{name: {objective}}}"])


@pytest.mark.slow
@pytest.mark.usefixtures("float32_afterwards")
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("readout", ["label_aware", "mixture"])
def test_a_whole_model_in_mixed_precision_has_the_loss_of_float32(policy: str, readout: str) -> None:
    def loss() -> tf.Tensor:
        options = {"repetition": REPETITIONS.build({"name": "learned_gate"}, "repetition")}
        apart = {"apart": REGULARIZERS.build({"name": "re_contrast", "weight": 0.1}, "apart")}
        return _model("self_attentive", readout, regularizers=apart, **options).compute_loss(_batch())

    expected = loss()
    tf.keras.mixed_precision.set_global_policy(policy)
    low = loss()
    assert low.dtype == tf.float32
    np.testing.assert_allclose(low, expected, rtol=0.02)


@pytest.mark.slow
def test_own_items_are_attributed_to_interests_that_are_served() -> None:
    model = _model("sparse_interests", "predicted_intention", repetition=REPETITIONS.build({"name": "learned_gate"}, "repetition"))
    interests, _, own = model.interests_with_repeats(UserInputs(_batch()["history"]))
    assert interests.shape[1] == 1
    assert not own.interests.numpy().any()


@pytest.mark.slow
def test_dropout_of_the_item_tower_reaches_targets_and_negatives_in_training() -> None:
    model = _model(item_dropout=0.5)
    query, target = tf.eye(DIMENSION)[:1], tf.constant([3])
    losses = [float(model.objective.losses(query, target, model.items, training)[0]) for training in (False, True, True)]
    assert len(set(losses)) == 3


def _whole_sequences(rows: int = 5) -> dict[str, tf.Tensor]:
    """Histories with a target after each item, weights of the targets, and one history that ends early."""
    rng = np.random.default_rng(4)
    lengths = np.array([LENGTH, 3, 1, LENGTH, 2])[:rows]
    is_real = np.arange(LENGTH) < lengths[:, None]
    history, last = rng.integers(2, 9, (rows, LENGTH)), rng.integers(2, 9, (rows, 1))
    target = np.concatenate([history[:, 1:], last], axis=1)
    return {
        "history": tf.constant(history * is_real, tf.int32),
        "target": tf.constant(target * is_real, tf.int32),
        "weight": tf.constant(rng.random((rows, LENGTH)), tf.float32),
    }


def _prefixes(sequences: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The same as one example for each target."""
    history, target = sequences["history"].numpy(), sequences["target"].numpy()
    users, places = np.nonzero(target)
    prefixes = history[users] * (np.arange(LENGTH) <= places[:, None])
    batch = {"history": prefixes, "target": target[users, places]}
    if "weight" in sequences:
        batch["weight"] = sequences["weight"].numpy()[users, places]
    return {name: tf.constant(values) for name, values in batch.items()}


NO_DROPOUT = {"name": "transformer", "num_blocks": 1, "dropout": 0.0, "attention_dropout": 0.0}


def over(encoder: str, **options: Any) -> dict[str, Any]:
    return {"name": "newest_state", "encoder": {"name": encoder}, **options}


def over_transformer(extractor: str) -> dict[str, Any]:
    return {"name": extractor, "encoder": NO_DROPOUT}


TRANSFORMER = {"name": "newest_state", "encoder": {**NO_DROPOUT, "num_blocks": 2}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extractor", "readout", "objective", "options"),
    [
        (TRANSFORMER, "label_aware", {"name": "full_softmax"}, {}),
        (TRANSFORMER, "label_aware", {"name": "in_batch"}, {}),
        (over("gru", project=True), "label_aware", {"name": "sampled_softmax"}, {}),
        (over("dilated_convolution", project=True), "label_aware", {"name": "full_softmax"}, {"repetition": {"name": "learned_gate"}}),
        (
            {"name": "interest_trend", "encoder": {"name": "interest_tracking", "dropout": 0.0}},
            "label_aware",
            {"name": "full_softmax"},
            {"weighting": {"name": "adaptive_weight"}},
        ),
        ({"name": "mean_pooling"}, "label_aware", {"name": "full_softmax"}, {}),
        ({"name": "self_attentive"}, "label_aware", {"name": "full_softmax"}, {"regularizers": {"cosine": {"name": "interest_cosine"}}}),
        ({"name": "self_attentive"}, "max_sim", {"name": "full_softmax"}, {"repetition": {"name": "learned_gate"}}),
        (
            over_transformer("contextual_self_attentive"),
            "mixture",
            {"name": "full_softmax"},
            {"regularizers": {"attend": {"name": "re_attend"}}},
        ),
    ],
)
def test_a_target_after_every_item_costs_what_the_prefixes_cost(
    extractor: dict[str, Any], readout: str, objective: dict[str, Any], options: dict[str, Any]
) -> None:
    """At dropout 0 one pass over the histories and one pass per prefix are the same loss, with the same gradient."""
    tf.keras.utils.set_random_seed(3)
    model = InterestRetrieval(
        item_tower=ItemTower(NUM_ROWS, DIMENSION),
        user_tower=UserTower(DIMENSION, hidden=[16]),
        extractor=EXTRACTORS.build(extractor, "extractor"),
        readout=READOUTS.build({"name": readout}, "readout"),
        objective=OBJECTIVES.build(objective, "objective"),
        weighting=WEIGHTINGS.build(options["weighting"], "weighting") if "weighting" in options else None,
        repetition=REPETITIONS.build(options["repetition"], "repetition") if "repetition" in options else None,
        regularizers={name: REGULARIZERS.build(spec, name) for name, spec in options.get("regularizers", {}).items()},
        history_length=LENGTH,
        temperature=0.5,
    )
    sequences = _whole_sequences()
    prefixes = _prefixes(sequences)
    model.compute_loss(sequences)
    compared = []
    for batch in (sequences, prefixes):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
        compared.append([loss, *(tf.convert_to_tensor(gradient) for gradient in gradients)])
    for one_pass, one_by_one in zip(*compared, strict=True):
        np.testing.assert_allclose(one_pass, one_by_one, atol=2e-5)


def test_an_extractor_that_reads_histories_as_a_whole_refuses_sequences() -> None:
    with pytest.raises(ConfigError, match=r"data\.examples: sequences .* CapsuleRouting: .* take prefixes"):
        _model("capsule_routing").compute_loss(_whole_sequences())
    with pytest.raises(ConfigError, match=r"data\.examples: sequences .* set positions to oldest"):
        load_config(system="sasrec", settings=["data.examples=sequences", "model.extractor.encoder.positions=newest"])


ENCODED = [
    ("capsule_routing", "label_aware"),
    ("self_attentive", "max_sim"),
    ("sparse_interests", "predicted_intention"),
    ("newest_state", "label_aware"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("extractor", "readout"), ENCODED)
def test_behind_a_causal_encoder_every_extractor_answers_after_every_item(extractor: str, readout: str) -> None:
    """The encoder reads a history once; what cannot answer in one pass reads each prefix of its states, to the same loss."""
    spec = TRANSFORMER if extractor == "newest_state" else {"name": extractor}
    encoder = ENCODERS.build(NO_DROPOUT, "encoder")
    tf.keras.utils.set_random_seed(3)
    model = InterestRetrieval(
        item_tower=ItemTower(NUM_ROWS, DIMENSION),
        user_tower=UserTower(DIMENSION),
        encoder=encoder,
        extractor=EXTRACTORS.build(spec, "extractor"),
        readout=READOUTS.build({"name": readout}, "readout"),
        objective=OBJECTIVES.build({"name": "full_softmax"}, "objective"),
        regularizers={},
        history_length=LENGTH,
        temperature=0.5,
    )
    sequences = _whole_sequences()
    compared = []
    for batch in (sequences, _prefixes(sequences)):
        model.compute_loss(batch)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch)
        gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
        compared.append([loss, *(tf.convert_to_tensor(gradient) for gradient in gradients)])
    assert all(np.abs(gradient).max() > 0 for gradient in compared[0][1:3])
    for one_pass, one_by_one in zip(*compared, strict=True):
        np.testing.assert_allclose(one_pass, one_by_one, atol=3e-5)


@pytest.mark.slow
def test_an_encoder_changes_what_the_extractor_reads_and_has_to_keep_the_width() -> None:
    plain, encoded = (_model("mean_pooling", encoder=encoder) for encoder in (None, ENCODERS.build({"name": "gru"}, "encoder")))
    assert len(encoded.trainable_variables) == len(plain.trainable_variables) + 3
    batch = _batch()
    assert not np.allclose(plain(batch), encoded(batch), atol=1e-3)
    with pytest.raises(ConfigError, match=r"model\.encoder: expected states of the items' width, 8, got 5"):
        _model("mean_pooling", encoder=ENCODERS.build({"name": "gru", "hidden_dimension": 5}, "encoder"))
    with pytest.raises(ConfigError, match=r"data\.examples: sequences .* TransformerEncoder: .* set positions to oldest"):
        load_config(system="mind", settings=["data.examples=sequences", "model.encoder={name: transformer, positions: newest}"])
    assert load_config(system="mind", settings=["data.examples=sequences", "model.encoder={name: transformer}"]).model.encoder is not None
