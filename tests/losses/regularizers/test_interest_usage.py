"""The usage network: its features and loss written out, what it may touch, and what it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS, READOUTS, InterestExtractor
from tfmi.losses.base import OBJECTIVES, REGULARIZERS, BatchContext, Regularizer
from tfmi.losses.regularizers.channel_orthogonality import ChannelOrthogonality
from tfmi.losses.regularizers.interest_usage import InterestUsage, items_of_interests, usage_network
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.systems import load_config
from tfmi.models.towers import ItemTower, UserTower
from tfmi.training.optimizers import RowSparseAdam

WIDTH, LENGTH, NUM_ROWS = 6, 7, 32
ITEM_COUNTS = np.array([7, 4, 2, 0])
ELASTIC = {"name": "elastic_archive", "num_channels": 5, "max_channels": 3}
ATTENTIVE = {"name": "self_attentive", "num_interests": 3}


def make_extractor(spec: dict[str, Any]) -> InterestExtractor:
    tf.keras.utils.set_random_seed(2)
    return EXTRACTORS.build(spec, "model.extractor")


def make_context(extractor: InterestExtractor) -> BatchContext:
    random = np.random.default_rng(0)
    history = tf.constant(random.normal(size=(len(ITEM_COUNTS), LENGTH, WIDTH)), tf.float32)
    mask = tf.sequence_mask(ITEM_COUNTS, LENGTH)
    output = extractor(history, mask)
    target = tf.constant(random.normal(size=(len(ITEM_COUNTS), WIDTH)), tf.float32)
    scored = tf.math.l2_normalize(tf.cast(output.interests, tf.float32), axis=-1)
    return BatchContext(output, history, tf.cast(mask, tf.int32) * 2, mask, target, scored)


def reference_shares(network: InterestUsage, context: BatchContext, user: int) -> np.ndarray:
    """The shares of one user's interests in float64."""
    output = context.output
    weights, active = output.weights[user].numpy(), output.active[user].numpy()
    logits = np.full(len(active), -np.inf)
    for k in np.flatnonzero(active):
        if "channels" in output.internals:
            channel = output.internals["channels"][user, k].numpy()
            meaning = output.internals["channel_vectors"][channel].numpy() if channel >= 0 else np.zeros(WIDTH)
        else:
            meaning = network.slot_vectors[k].numpy()
        count = sum(weights[:, i].argmax() == k and weights[:, i].max() > 0 for i in range(LENGTH))
        length = ITEM_COUNTS[user]
        features = np.concatenate([context.interests[user, k], meaning, [np.log(1 + count), count / length if length else 0.0]])
        hidden = np.maximum(features @ network.hidden_kernel.numpy() + network.hidden_bias.numpy(), 0)
        logits[k] = (hidden @ network.output_kernel.numpy())[0]
    return np.exp(logits) / np.exp(logits).sum()


@pytest.mark.parametrize("spec", [ELASTIC, ATTENTIVE, {"name": "capsule_routing"}], ids=lambda spec: spec["name"])
def test_equals_the_network_and_the_cross_entropy_written_out(spec: dict[str, Any]) -> None:
    context = make_context(make_extractor(spec))
    network = InterestUsage(hidden_dimension=9)
    loss = network(context)
    network.hidden_bias.assign(np.random.default_rng(1).normal(size=9))
    loss = network(context)
    shares = network.shares(context.output, context.interests, context.mask)
    losses = []
    for user in range(len(ITEM_COUNTS)):
        expected = reference_shares(network, context, user)
        np.testing.assert_allclose(shares[user], expected, atol=1e-5)
        scores = np.where(context.output.active[user], context.interests[user].numpy() @ context.target[user].numpy(), -np.inf)
        losses.append(-np.log(expected[scores.argmax()]))
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)


def test_items_belong_to_the_interest_with_the_largest_weight() -> None:
    weights = tf.constant([[[0.5, 0.2, 0.4, 0.0], [0.1, 0.3, 0.4, 0.0], [0.0, 0.1, 0.0, 0.0]]])
    assert items_of_interests(weights).numpy().tolist() == [[2, 1, 0]]


def test_items_of_a_channel_are_its_items() -> None:
    context = make_context(make_extractor(ELASTIC))
    channels, assignment = (context.output.internals[name].numpy() for name in ("channels", "assignment"))
    expected = [
        [(items == channel).sum() if channel >= 0 else 0 for channel in row] for row, items in zip(channels, assignment, strict=True)
    ]
    np.testing.assert_array_equal(items_of_interests(context.output.weights), expected)


def test_width_of_the_network() -> None:
    elastic, attentive = InterestUsage(), InterestUsage(hidden_dimension=4)
    elastic(make_context(make_extractor(ELASTIC)))
    attentive(make_context(make_extractor(ATTENTIVE)))
    assert [tuple(v.shape) for v in elastic.trainable_variables] == [(2 * WIDTH + 2, WIDTH), (WIDTH,), (WIDTH, 1)]
    assert [tuple(v.shape) for v in attentive.trainable_variables] == [(3, WIDTH), (2 * WIDTH + 2, 4), (4,), (4, 1)]
    assert InterestUsage.from_config(attentive.get_config()).hidden_dimension == 4


@pytest.mark.parametrize("spec", [ELASTIC, ATTENTIVE], ids=lambda spec: spec["name"])
def test_no_gradient_leaves_the_network(spec: dict[str, Any]) -> None:
    extractor, network = make_extractor(spec), InterestUsage()
    network(make_context(extractor))
    with tf.GradientTape() as tape:
        context = make_context(extractor)
        tape.watch(context.target)
        loss = network(context)
    leaving = tape.gradient(loss, [context.target, *extractor.trainable_variables])
    assert all(gradient is None for gradient in leaving)
    with tf.GradientTape() as tape:
        loss = network(make_context(extractor))
    for gradient in tape.gradient(loss, network.trainable_variables):
        assert np.isfinite(gradient.numpy()).all()
        assert np.abs(gradient.numpy()).max() > 0


def make_model(spec: dict[str, Any], regularizers: dict[str, Regularizer], readout: str = "label_aware") -> InterestRetrieval:
    tf.keras.utils.set_random_seed(3)
    model = InterestRetrieval(
        item_tower=ItemTower(NUM_ROWS, WIDTH),
        user_tower=UserTower(WIDTH),
        extractor=EXTRACTORS.build(spec, "model.extractor"),
        readout=READOUTS.build({"name": readout}, "model.readout"),
        objective=OBJECTIVES.build({"name": "full_softmax"}, "model.objective"),
        regularizers=regularizers,
        history_length=LENGTH,
        temperature=0.1,
        history_dropout=0.2,
        seed=3,
    )
    model.compute_loss(make_batch())
    model.compile(optimizer=RowSparseAdam(0.02))
    return model


def make_batch(rows: int = 32) -> dict[str, tf.Tensor]:
    random = np.random.default_rng(0)
    history = random.integers(2, NUM_ROWS, (rows, LENGTH)) * (np.arange(LENGTH) < random.integers(1, LENGTH + 1, rows)[:, None])
    return {"history": tf.constant(history, tf.int32), "target": tf.constant(random.integers(2, NUM_ROWS, rows), tf.int32)}


def train(model: InterestRetrieval, steps: int) -> None:
    model.fit(tf.data.Dataset.from_tensors(make_batch()).repeat(), steps_per_epoch=steps, verbose=0)


@pytest.mark.slow
def test_training_the_network_leaves_the_representation_as_it_was_bit_for_bit() -> None:
    plain = make_model(ELASTIC, {"orthogonality": ChannelOrthogonality()})
    usage = make_model(ELASTIC, {"orthogonality": ChannelOrthogonality(), "usage": InterestUsage()})
    before = [variable.numpy() for variable in usage.regularizers["usage"].trainable_variables]
    for model in (plain, usage):
        train(model, 8)
    for variable, other in zip(plain.trainable_variables, usage.trainable_variables, strict=False):
        assert variable.shape == other.shape
        np.testing.assert_array_equal(variable, other)
    assert len(usage.trainable_variables) == len(plain.trainable_variables) + 3
    assert all(
        (variable.numpy() != old).any() for variable, old in zip(usage.regularizers["usage"].trainable_variables, before, strict=True)
    )


@pytest.mark.slow
def test_a_model_learns_which_interest_is_used() -> None:
    model = make_model(ELASTIC, {"usage": InterestUsage()})
    batches = tf.data.Dataset.from_tensors(make_batch())
    first = model.evaluate(batches, verbose=0, return_dict=True)["usage"]
    train(model, 40)
    assert model.evaluate(batches, verbose=0, return_dict=True)["usage"] < 0.9 * first


@pytest.mark.slow
@pytest.mark.parametrize("spec", [ELASTIC, ATTENTIVE], ids=lambda spec: spec["name"])
def test_a_model_gives_interests_with_shares(spec: dict[str, Any]) -> None:
    model = make_model(spec, {"usage": InterestUsage()})
    history = tf.constant([[5, 9, 4, 7, 8, 2, 3], [0, 5, 1, 9, 0, 0, 4], [5, 9, 4, 0, 0, 0, 0], [0] * 7])
    users = UserInputs(tf.TensorSpec([None, LENGTH], tf.int32))
    compiled = tf.function(model.interests_with_shares, autograph=False).get_concrete_function(users)
    interests, active, shares = compiled(UserInputs(history))
    expected_interests, expected_active = model.user_interests(UserInputs(history))
    np.testing.assert_allclose(interests, expected_interests, atol=1e-6)
    np.testing.assert_array_equal(active, expected_active)
    np.testing.assert_allclose(tf.reduce_sum(shares, axis=1), 1.0, atol=1e-6)
    assert (shares.numpy()[~active.numpy()] == 0).all()
    np.testing.assert_allclose(shares[1], shares[2], atol=1e-6)  # unknown items and padding never matter
    assert shares.dtype == tf.float32


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_the_network_in_float32(policy: str) -> None:
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        network = InterestUsage()
        context = make_context(make_extractor(ATTENTIVE))
        lower = tf.as_dtype(policy.removeprefix("mixed_"))
        context = context._replace(interests=tf.cast(context.interests, lower), target=tf.cast(context.target, lower))
        loss = network(context)
        shares = network.shares(context.output, context.interests, context.mask)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert loss.dtype == shares.dtype == tf.float32
    assert np.isfinite(float(loss))
    np.testing.assert_allclose(shares[0], reference_shares(network, context, 0), atol=1e-4)


def test_a_single_interest_has_nothing_to_share() -> None:
    with pytest.raises(ValueError, match="interest_usage would have no effect: ElasticArchive gives one interest"):
        InterestUsage().check(make_extractor({**ELASTIC, "max_channels": 1}))
    InterestUsage().check(make_extractor(ELASTIC))


def test_only_models_with_one_network_and_interests_to_serve_can_allot() -> None:
    hard = READOUTS.build({"name": "label_aware"}, "model.readout")
    network = InterestUsage()
    assert usage_network([ChannelOrthogonality(), network], hard) is network
    for networks in ([], [network, InterestUsage()]):
        with pytest.raises(ValueError, match=rf"needs one interest_usage.*found {len(networks)}"):
            usage_network(networks, hard)
    mixing = {"name": "predicted_intention", "served": "aggregated"}
    with pytest.raises(ValueError, match="PredictedIntention serves a mixture"):
        usage_network([network], READOUTS.build(mixing, "model.readout"))
    assert usage_network([network], READOUTS.build({**mixing, "served": "interests"}, "model.readout")) is network
    with pytest.raises(ConfigError, match="needs one interest_usage"):
        make_model(ELASTIC, {}).interests_with_shares(UserInputs(tf.ones([1, LENGTH], tf.int32)))


def test_an_impossible_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="hidden_dimension: expected a number of at least 1, got 0"):
        REGULARIZERS.build({"name": "interest_usage", "hidden_dimension": 0}, "model.regularizers.usage")


def test_configurations_that_cannot_allot_are_refused_before_anything_is_loaded() -> None:
    usage, allotted = "model.regularizers.usage={name: interest_usage}", "index.integration=allotted"
    config = load_config(system="octopus", settings=[usage, allotted, "index.quota_exponent=0.5"])
    assert config.index.allotment() == 0.5
    assert load_config(system="octopus").index.allotment() is None
    for system, settings, message in [
        ("octopus", [allotted], "model.regularizers: allotting places .* needs one interest_usage"),
        ("item_knn", [allotted], "index.integration: given, but 'item_knn' counts and ranks by itself"),
        ("octopus", ["index.quota_exponent=2.0"], "quota_exponent does nothing without integration: allotted"),
        ("octopus", [usage, "model.extractor.max_channels=1"], "interest_usage would have no effect"),
        ("mind", ["model.regularizers.apart={name: channel_orthogonality}"], "channel_orthogonality needs channel_vectors"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_config(system=system, settings=settings)


def test_octopus_with_a_single_channel_or_a_single_interest_is_a_valid_configuration() -> None:
    for name in ("num_channels", "max_channels"):
        config = load_config(system="octopus", settings=[f"model.extractor.{name}=1"])
        assert EXTRACTORS.build(config.model.extractor, "model.extractor").num_interests == 1
