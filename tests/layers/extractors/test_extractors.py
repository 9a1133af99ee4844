"""What every extractor promises, whatever it computes."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_metrics import ragged
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.layers.common.adapting import AdaptsToSequences
from tfmi.layers.extractors.single_vector.factorized_transitions import FactorizedTransitions

LENGTH, WIDTH, PROFILE_WIDTH, NUM_ROWS = 12, 6, 3, 9
ITEM_COUNTS = [0, 1, 2, 5, 9, 12]
VARIANTS: list[dict[str, Any]] = [
    {
        "name": "joined",
        "extractors": [
            {"name": "newest_state", "encoder": {"name": "gru"}, "project": True},
            {"name": "self_attentive", "num_interests": 2, "positions": "none"},
        ],
    },
    {"name": "joined", "extractors": [{"name": "capsule_routing", "num_interests": 3}, {"name": "mean_pooling"}]},
    {"name": "anchored", "num_interests": 2, "extractor": {"name": "capsule_routing"}, "recency_decay": 1.0},
    {"name": "capsule_routing", "adaptive": False, "logit_update": "replace"},
    {"name": "capsule_routing", "num_interests": 1, "stop_gradient_routing": False},
    {"name": "capsule_routing", "initial_identity": 1.0, "initializer_deviation": 0.1},
    {"name": "comirec_routing", "num_interests": 1},
    {"name": "comirec_routing", "stop_gradient_routing": False},
    {"name": "comirec_routing", "positions": "newest", "initial_identity": 1.0, "initializer_deviation": 0.1},
    {"name": "self_attentive", "num_interests": 1, "positions": "none"},
    {"name": "self_attentive", "positions": "newest", "use_bias": True},
    {"name": "self_attentive", "value_projection": True, "output_transform": "tanh_dense"},
    {"name": "mean_pooling", "recency_decay": 0.8},
    {"name": "sparse_interests", "num_interests": 1, "positions": "none", "tie_w3": True, "residual_items": True},
    {"name": "sparse_interests", "num_prototypes": 4, "assignment": "cosine", "positions": "newest"},
    {"name": "elastic_archive", "num_channels": 5, "max_channels": 2, "attention": "cosine", "assignment_grad": "straight_through"},
    {
        **{"name": "newest_state", "project": True, "output_dropout": 0.3, "use_bias": False},
        "encoder": {"name": "gru", "hidden_dimension": 5, "use_bias": False},
    },
    {"name": "newest_state", "encoder": {"name": "transformer", "num_blocks": 0}},
    {"name": "newest_state", "encoder": {"name": "transformer", "norm": "pre", "positions": "newest", "activation": "relu"}},
    {"name": "newest_state", "encoder": {"name": "transformer", "norm": "pre", "positions": "none", "gate": True, "activation": "swiglu"}},
    {"name": "newest_state", "encoder": {"name": "transformer", "num_blocks": 1, "positions": "relative"}},
    {"name": "contextual_self_attentive", "encoder": {"name": "gru"}, "values": "states"},
    {"name": "user_aware_routing", "profile_fields": [1, 2], "logit_update": "accumulate", "residual": True},
    {"name": "periodic_interactive", "positions": "newest", "blocks": 1, "centre": False},
    {"name": "neural_attentive", "hidden_dimension": 5, "softmax": True, "use_bias": True},
    {"name": "attention_memory", "add_mean": False, "initializer_deviation": 0.5},
    {"name": "newest_state", "project": True, "encoder": {"name": "dilated_convolution", "dilations": [1, 2], "width": 2}},
    {"name": "session_graph", "steps": 2},
    {"name": "graph_self_attention", "attention_share": 0.0, "num_blocks": 1},
    {"name": "graph_self_attention", "attention_share": 1.0, "steps": 2, "num_heads": 1, "activation": "relu"},
    {"name": "soft_attention", "positions": "none"},
    {"name": "global_context", "num_rows": NUM_ROWS, "neighbours": 2, "log_counts": True, "session_dropout": 0.0},
    {"name": "interest_trend", "encoder": {"name": "interest_tracking", "positions": "newest", "residual": "item"}},
    {"name": "interest_trend", "query": "mean", "encoder": {"name": "interest_tracking", "positions": "none", "dropout": 0.0}},
]
# What the data gives a layer of its own kind.
GIVEN = {"factorized_transitions": {"num_rows": NUM_ROWS}, "global_context": {"num_rows": NUM_ROWS}}
SPECS = [{"name": name, **GIVEN.get(name, {})} for name in EXTRACTORS.names()] + VARIANTS


class Case:
    """An extractor of a specification, with what several tests ask of it. They share it: none changes its weights.

    Attributes:
        extractor: Built for the longest histories.
        expected: Its inference on ``batch()``.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        tf.keras.utils.set_random_seed(3)
        self.extractor = build(spec)
        self.expected = extract(self.extractor, *batch())

    @functools.cached_property
    def compiled(self) -> Any:
        """Its interests, traced for any number of users."""
        signature = [tf.TensorSpec([None, LENGTH, WIDTH]), tf.TensorSpec([None, LENGTH], tf.bool)]
        return tf.function(lambda *inputs: extract(self.extractor, *inputs).interests, input_signature=signature, autograph=False)

    def copy(self) -> InterestExtractor:
        """An extractor of the same configuration and weights, whose random stream is at its start."""
        copy = type(self.extractor).from_config(self.extractor.get_config())
        extract(copy, *batch())
        copy.set_weights(self.extractor.get_weights())
        return copy


@functools.cache
def _case(spec: str) -> Case:
    return Case(json.loads(spec))


def case_of(spec: dict[str, Any]) -> Case:
    """The case of a specification, made once in this process."""
    return _case(json.dumps(spec))


@pytest.fixture(params=SPECS, ids=lambda spec: "-".join(str(value) for value in spec.values()))
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


@pytest.fixture
def extractor(case: Case) -> InterestExtractor:
    return case.extractor


def build(spec: dict[str, Any]) -> InterestExtractor:
    """The extractor, adapted to sequences if it looks at any."""
    extractor = EXTRACTORS.build(spec, "extractor")
    if isinstance(extractor, AdaptsToSequences):
        extractor.adapt(ragged([[2, 3, 4, 5], [6, 4, 6], [3, 2, 8]]), NUM_ROWS)
    return extractor


class ItemTable:
    """Item vectors of a fixed table."""

    values = np.random.default_rng(7).normal(size=[NUM_ROWS, WIDTH]).astype(np.float32)

    def embed(self, item_indices: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return tf.gather(self.values, item_indices)


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def mixed_policy(request: pytest.FixtureRequest) -> Iterator[str]:
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf.keras.mixed_precision.set_global_policy("float32")


def batch(length: int = LENGTH, garbage: float = 0.0) -> tuple[tf.Tensor, tf.Tensor]:
    """Six histories of 0 to 12 items, cut to ``length`` at the right, with ``garbage`` at padding."""
    history = np.random.default_rng(0).normal(size=[len(ITEM_COUNTS), LENGTH, WIDTH])
    mask = np.arange(LENGTH) < np.array(ITEM_COUNTS)[:, None]
    history = np.where(mask[..., None], history, garbage).astype(np.float32)
    return tf.constant(history[:, :length]), tf.constant(mask[:, :length])


def clicked(mask: tf.Tensor) -> tf.Tensor:
    """int32 [B, L], some items twice."""
    return tf.where(mask, 2 + tf.range(mask.shape[1])[None] * 3 % (NUM_ROWS - 4), 0)


def extract(
    extractor: InterestExtractor, history: tf.Tensor, mask: tf.Tensor, training: bool = False, profile: float = 1.0
) -> InterestOutput:
    offered = {
        "profile": tf.fill([tf.shape(history)[0], PROFILE_WIDTH], profile),
        "timestamps": tf.cast(tf.where(mask, tf.range(history.shape[1])[None], 0), tf.float64),
        "history_indices": clicked(mask),
        "items": ItemTable(),
    }
    optional = {name: offered[name] for name in extractor.requested_inputs()}
    return extractor(history, mask, training=training, **optional)


def test_output_has_the_promised_shapes_and_types(extractor: InterestExtractor) -> None:
    history, mask = batch()
    for training in (False, True):
        output = extract(extractor, history, mask, training)
        assert output.interests.shape == [len(ITEM_COUNTS), extractor.num_interests, WIDTH]
        assert output.interests.dtype == tf.float32
        assert output.active.shape == [len(ITEM_COUNTS), extractor.num_interests]
        assert output.active.dtype == tf.bool
        assert output.weights.shape == [len(ITEM_COUNTS), extractor.num_interests, LENGTH]
        assert output.weights.dtype == tf.float32


def test_active_interests_come_first_and_the_others_are_zero(case: Case) -> None:
    output = case.expected
    active = output.active.numpy()
    assert active[:, 0].all()
    assert (np.diff(active.astype(int), axis=1) <= 0).all()
    assert (output.interests.numpy()[~active] == 0).all()


def test_weights_are_exactly_zero_at_padding(case: Case) -> None:
    _, mask = batch()
    weights = case.expected.weights.numpy()
    at_padding = np.broadcast_to(~mask.numpy()[:, None, :], weights.shape)
    assert (weights[at_padding] == 0).all()
    assert (weights[~at_padding] >= 0).all()
    assert weights[~at_padding].sum() > 0


@pytest.mark.parametrize("garbage", [1e9, np.inf, np.nan])
def test_what_stands_at_padding_changes_nothing(case: Case, garbage: float) -> None:
    output = extract(case.extractor, *batch(garbage=garbage))
    np.testing.assert_array_equal(output.interests, case.expected.interests)
    np.testing.assert_array_equal(output.weights, case.expected.weights)


def test_more_padding_changes_nothing(case: Case) -> None:
    expected = case.expected  # built for the longest history
    rows = np.array(ITEM_COUNTS) <= 9
    short_history, short_mask = batch(length=9)
    output = extract(case.extractor, short_history, short_mask)
    np.testing.assert_allclose(output.interests.numpy()[rows], expected.interests.numpy()[rows], atol=1e-6)
    np.testing.assert_allclose(output.weights.numpy()[rows], expected.weights.numpy()[rows, :, :9], atol=1e-6)
    np.testing.assert_array_equal(output.active.numpy()[rows], expected.active.numpy()[rows])


def test_gradients_are_finite_and_ignore_padding_even_where_it_is_not_a_number(extractor: InterestExtractor) -> None:
    history, mask = batch(garbage=np.nan)
    with tf.GradientTape() as tape:
        tape.watch(history)
        output = extract(extractor, history, mask, training=True)
        loss = tf.reduce_sum(tf.square(output.interests))
        # What an extractor promises beyond interests may have weights of its own.
        promised = [output.internals[name] for name in extractor.INTERNALS]
        loss += sum(tf.reduce_sum(tf.square(value)) for value in promised if value.dtype.is_floating)
    gradient, *weight_gradients = tape.gradient(loss, [history, *extractor.trainable_variables])
    if isinstance(extractor, FactorizedTransitions):
        assert gradient is None  # it reads which items these are, and nothing else of them
    else:
        assert (gradient.numpy()[~mask.numpy()] == 0).all()
        assert np.abs(gradient.numpy()[mask.numpy()]).max() > 0
    for variable, weight_gradient in zip(extractor.trainable_variables, weight_gradients, strict=True):
        assert weight_gradient is not None, variable.name
        assert np.isfinite(tf.convert_to_tensor(weight_gradient).numpy()).all(), variable.name


def test_an_empty_history_of_an_unknown_user_gives_zeros_and_finite_gradients(extractor: InterestExtractor) -> None:
    history, mask = tf.zeros([2, LENGTH, WIDTH]), tf.zeros([2, LENGTH], tf.bool)
    with tf.GradientTape() as tape:
        tape.watch(history)
        output = extract(extractor, history, mask, training=True, profile=0.0)
        loss = tf.reduce_sum(output.interests + tf.square(output.interests))
    assert (output.interests.numpy() == 0).all()
    for gradient in tape.gradient(loss, [history, *extractor.trainable_variables], unconnected_gradients="zero"):
        assert np.isfinite(tf.convert_to_tensor(gradient).numpy()).all()


def test_users_do_not_influence_each_other(case: Case) -> None:
    history, mask = batch()
    for user in range(len(ITEM_COUNTS)):
        alone = extract(case.extractor, history[user : user + 1], mask[user : user + 1]).interests
        np.testing.assert_allclose(alone[0], case.expected.interests[user], atol=1e-6)


@pytest.mark.slow
def test_inference_repeats_itself_draws_nothing_and_compiles_for_any_batch_size(case: Case) -> None:
    history, mask = batch()
    expected, compiled = case.expected.interests.numpy(), case.compiled
    np.testing.assert_array_equal(extract(case.extractor, history, mask).interests, expected)
    operations = {operation.type for operation in compiled.get_concrete_function().graph.get_operations()}
    assert not [name for name in operations if "Random" in name or "Rng" in name]
    np.testing.assert_allclose(compiled(history, mask), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(compiled(history[2:3], mask[2:3]), expected[2:3], rtol=1e-5, atol=1e-6)
    assert compiled(history[:0], mask[:0]).shape == [0, case.extractor.num_interests, WIDTH]


@pytest.mark.slow
def test_equal_seeds_give_equal_training_outputs() -> None:
    history, mask = batch()
    pairs = [(case_of(spec).copy(), case_of(spec).copy()) for spec in SPECS]
    # Neither operation seeds nor the global seed matter. Setting it empties TensorFlow's cache of kernels, so once for all.
    tf.random.set_seed(99)
    for spec, (one, other) in zip(SPECS, pairs, strict=True):
        for _ in range(2):
            first, second = extract(one, history, mask, training=True), extract(other, history, mask, training=True)
            np.testing.assert_array_equal(first.interests, second.interests, err_msg=str(spec))


def test_configuration_survives_a_round_trip(case: Case) -> None:
    copy = case.copy()
    assert copy.get_config() == case.extractor.get_config()
    np.testing.assert_array_equal(extract(copy, *batch()).interests, case.expected.interests)


# Keras would translate the layers' Python code once more for every model.
@tf.autograph.experimental.do_not_convert
def functional_model(extractor: InterestExtractor) -> tf.keras.Model:
    history = tf.keras.Input([LENGTH, WIDTH])
    mask = tf.keras.Input([LENGTH], dtype=tf.bool)
    if "history_indices" not in extractor.required_inputs():
        return tf.keras.Model([history, mask], extractor(history, mask).interests)
    indices = tf.keras.Input([LENGTH], dtype=tf.int32)
    return tf.keras.Model([history, mask, indices], extractor(history, mask, history_indices=indices).interests)


@pytest.mark.slow
def test_the_keras_format_restores_outputs(extractor: InterestExtractor, tmp_path: Path) -> None:
    if "items" in extractor.required_inputs():
        pytest.skip("a functional model has tensors for inputs, and no table of items")
    model = functional_model(extractor)
    history, mask = batch()
    inputs = [history, mask, clicked(mask)][: len(model.inputs)]
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    restored = tf.autograph.experimental.do_not_convert(tf.keras.models.load_model)(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored(inputs), expected)


@pytest.mark.slow
def test_a_checkpoint_restores_outputs_and_the_random_stream(extractor: InterestExtractor, tmp_path: Path) -> None:
    history, mask = batch()
    extract(extractor, history, mask, training=True)
    path = tf.train.Checkpoint(extractor=extractor).save(str(tmp_path / "checkpoint"))
    expected = [extract(extractor, history, mask, training=training).interests for training in (True, True, False)]
    fresh = type(extractor).from_config(extractor.get_config())
    extract(fresh, history, mask)
    tf.train.Checkpoint(extractor=fresh).restore(path).assert_consumed()
    for training, interests in zip((True, True, False), expected, strict=True):
        np.testing.assert_array_equal(extract(fresh, history, mask, training=training).interests, interests)


@pytest.mark.slow
def test_a_saved_model_of_the_inference_path_gives_the_same_answers(tmp_path: Path) -> None:
    history, mask = batch()
    servable = tf.Module()
    cases = [case_of(spec) for spec in SPECS]
    # As an export does, the variables are saved, and not the layers: Keras would trace each of their calls again.
    servable.variables_read = [case.extractor.variables for case in cases]
    servable.interests = [case.compiled for case in cases]
    tf.saved_model.save(servable, str(tmp_path))
    restored = tf.saved_model.load(str(tmp_path))
    for case, spec, interests in zip(cases, SPECS, restored.interests, strict=True):
        for _ in range(2):
            np.testing.assert_allclose(interests(history, mask), case.expected.interests, rtol=1e-5, atol=1e-6, err_msg=str(spec))


def chosen_alike(extractor: InterestExtractor, output: InterestOutput, other: InterestOutput) -> np.ndarray:
    """bool [B]: where what an extractor promises in integers agrees: a choice between nearly equal scores may fall differently."""
    choices = [name for name in extractor.INTERNALS if output.internals[name].dtype.is_integer]
    agree = [np.all(output.internals[name] == other.internals[name], axis=-1) for name in choices]
    return np.logical_and.reduce([np.ones(len(ITEM_COUNTS), bool), *agree])


@pytest.mark.slow
def test_mixed_precision_computes_weights_in_float32(mixed_policy: str) -> None:
    history, mask = batch()
    for spec in SPECS:
        tf.keras.mixed_precision.set_global_policy("float32")
        case = case_of(spec)
        expected = case.expected
        tf.keras.mixed_precision.set_global_policy(mixed_policy)
        extractor = build(spec)
        extract(extractor, history, mask)
        extractor.set_weights(case.extractor.get_weights())
        output = extract(extractor, history, mask)
        assert output.interests.dtype == tf.as_dtype(mixed_policy.removeprefix("mixed_"))
        assert output.weights.dtype == tf.float32
        alike = chosen_alike(extractor, output, expected)
        assert alike.mean() >= 0.5, spec
        np.testing.assert_allclose(tf.cast(output.interests, tf.float32)[alike], expected.interests[alike], atol=0.1, err_msg=str(spec))
        assert all(variable.dtype == tf.float32 for variable in extractor.trainable_variables)
        large = extract(extractor, history * 100.0, mask, training=True)
        assert np.isfinite(tf.cast(large.interests, tf.float32).numpy()).all()


def test_a_mask_from_an_embedding_is_taken_and_ends_here() -> None:
    embedding = tf.keras.layers.Embedding(9, WIDTH, mask_zero=True)
    extractor = EXTRACTORS.build({"name": "mean_pooling"}, "extractor")
    vectors = embedding(tf.constant([[3, 4, 0]]))
    interests = extractor(vectors, mask=vectors._keras_mask).interests
    np.testing.assert_allclose(interests[0, 0], tf.reduce_mean(vectors[0, :2], axis=0), atol=1e-6)
    assert not hasattr(interests, "_keras_mask")


@pytest.mark.parametrize(
    "spec",
    [
        *({"name": name, "max_length": 4} for name in ("capsule_routing", "comirec_routing", "self_attentive")),
        *({"name": name, "max_length": 4} for name in ("user_aware_routing", "periodic_interactive")),
        {"name": "newest_state", "encoder": {"name": "transformer", "max_length": 4}},
    ],
    ids=str,
)
def test_a_history_longer_than_built_for_is_refused(spec: dict[str, Any]) -> None:
    extractor = EXTRACTORS.build(spec, "extractor")
    extractor(tf.ones([1, 3, WIDTH]), tf.ones([1, 3], tf.bool))
    extractor(tf.ones([1, 4, WIDTH]), tf.ones([1, 4], tf.bool))
    with pytest.raises(ValueError, match=r"longer than the 4 positions.*max_length.*it has 5"):
        extractor(tf.ones([1, 5, WIDTH]), tf.ones([1, 5], tf.bool))


def test_interests_after_every_item_are_those_of_the_prefixes(extractor: InterestExtractor) -> None:
    if extractor.why_not_every_item is not None:
        assert len(extractor.why_not_every_item) > 20
        return
    history, mask = batch()
    extract(extractor, history, mask)  # makes the weights
    offered = {"history_indices": clicked(mask)}
    optional = {name: offered[name] for name in extractor.requested_inputs()}
    every = extractor(history, mask, training=False, every_item=True, **optional)
    assert every.interests.shape == [len(ITEM_COUNTS), LENGTH, extractor.num_interests, WIDTH]
    assert every.active.shape == [len(ITEM_COUNTS), LENGTH, extractor.num_interests]
    for length in range(1, LENGTH + 1):
        rows = [row for row, count in enumerate(ITEM_COUNTS) if count >= length]
        upto = mask & (tf.range(LENGTH) < length)
        prefix = extract(extractor, history, upto)
        at = InterestOutput(*(tf.nest.map_structure(lambda part: part[:, length - 1], part) for part in every))  # noqa: B023
        assert at.internals.keys() == prefix.internals.keys()
        for found, expected in zip(tf.nest.flatten(at), tf.nest.flatten(prefix), strict=True):
            np.testing.assert_allclose(found.numpy()[rows].astype(float), expected.numpy()[rows].astype(float), atol=2e-5)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "newest_state", "encoder": {"name": "transformer", "positions": "newest"}},
        {"name": "interest_trend", "encoder": {"name": "interest_tracking", "positions": "newest"}},
        {"name": "self_attentive", "positions": "newest"},
        {"name": "anchored"},
        {"name": "contextual_self_attentive", "encoder": {"name": "transformer", "causal": False}},
        {"name": "capsule_routing"},
    ],
)
def test_what_looks_ahead_says_why_it_cannot_answer_after_every_item(spec: dict[str, Any]) -> None:
    reason = EXTRACTORS.build(spec, "extractor").why_not_every_item
    assert reason is not None
    assert "set positions" in reason or "what follows" in reason or "take prefixes" in reason
