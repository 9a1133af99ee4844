"""REMI's routing regularisation: golden values, invariances, and the gradient's way to each extractor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestOutput
from tfmi.losses.base import BatchContext
from tfmi.losses.regularizers.routing_regularization import RoutingRegularization, squared_variances

WIDTH = 64
GOLDEN_ROWS = [([0.25] * 4, 0.0), ([1.0, 0.0, 0.0, 0.0], 0.035156), ([0.7, 0.1, 0.1, 0.1], 0.004556)]


def context_of(weights: Any, item_counts: list[int], active: Any = None) -> BatchContext:
    """What a regulariser is given for ``weights`` [B, K, L] over histories of ``item_counts`` items."""
    weights = tf.constant(np.asarray(weights, np.float32))
    batch, interests, length = weights.shape
    active = tf.ones([batch, interests], tf.bool) if active is None else tf.constant(active)
    vectors = tf.zeros([batch, interests, WIDTH])
    mask = tf.sequence_mask(item_counts, length)
    items = tf.zeros([batch, length, WIDTH])
    return BatchContext(InterestOutput(vectors, active, weights, {}), items, tf.cast(mask, tf.int32), mask, items[:, 0], vectors)


def attention(item_counts: list[int], interests: int = 3, length: int = 6, seed: int = 0) -> np.ndarray:
    """Random weights [B, K, L] that sum to 1 over each history."""
    raw = np.random.default_rng(seed).random([len(item_counts), interests, length]) ** 3
    raw *= np.arange(length) < np.array(item_counts)[:, None, None]
    return raw / np.maximum(raw.sum(axis=2, keepdims=True), 1e-9)


@pytest.mark.parametrize(("row", "expected"), GOLDEN_ROWS)
@pytest.mark.parametrize("masked", [False, True])
def test_published_values(row: list[float], expected: float, masked: bool) -> None:
    by_length = RoutingRegularization(1.0, normalizer="length", masked=masked)(context_of([[row]], [4]))
    assert float(by_length) == pytest.approx(expected, abs=1e-6)
    by_width = RoutingRegularization(1.0, masked=masked)(context_of([[row]], [4]))
    assert float(by_width) == pytest.approx(expected * (4 / WIDTH) ** 2, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(("row", "spread"), zip([row for row, _ in GOLDEN_ROWS], [0.0, 0.75, 0.27], strict=True))
def test_published_spreads_and_variances(row: list[float], spread: float) -> None:
    attention, mask = tf.constant([[row]]), tf.ones([1, 4], tf.bool)
    assert float(squared_variances(attention, mask, 1.0)[0]) ** 0.5 == pytest.approx(spread, abs=1e-6)
    assert float(squared_variances(attention, mask, 4.0)[0]) ** 0.5 == pytest.approx(spread / 4, abs=1e-6)


def test_interests_add_up_and_the_weight_is_a_factor() -> None:
    context = context_of([[row for row, _ in GOLDEN_ROWS]], [4])
    expected = sum(value for _, value in GOLDEN_ROWS)
    for weight in (0.0, 1.0, 7.0):
        value = float(RoutingRegularization(weight, normalizer="length")(context))
        assert value == pytest.approx(weight * expected, rel=1e-4)


def test_default_is_the_authors_scale() -> None:
    """100 times the batch's sum of squared variances over the window, divided by the width."""
    weights = attention([6, 4])
    variances = ((weights - weights.mean(axis=2, keepdims=True)) ** 2).sum(axis=2) / WIDTH
    assert float(RoutingRegularization()(context_of(weights, [6, 4]))) == pytest.approx(100 * (variances**2).sum(), rel=1e-5)


@pytest.mark.parametrize(("batch", "length", "equivalent"), [(128, 20, 1250.0), (128, 40, 5000.0), (5, 6, 100.0 * 5 * (6 / 64) ** 2)])
def test_the_documented_equivalent_weight_of_mean_and_length(batch: int, length: int, equivalent: float) -> None:
    context = context_of(attention([length] * batch, length=length), [length] * batch)
    value = RoutingRegularization(equivalent, normalizer="length", reduction="mean")(context)
    assert float(value) == pytest.approx(float(RoutingRegularization()(context)), rel=1e-5)


def test_the_order_of_items_and_interests_does_not_matter_and_spikes_cost_most() -> None:
    weights, term = attention([6]), RoutingRegularization(1.0, normalizer="length")
    value = float(term(context_of(weights, [6])))
    shuffled = weights[:, [2, 0, 1]][:, :, [5, 3, 1, 0, 2, 4]]
    assert float(term(context_of(shuffled, [6]))) == pytest.approx(value, rel=1e-5)
    spikes = np.eye(6)[None, :3]
    assert float(term(context_of(spikes, [6]))) == pytest.approx(3 * ((1 - 1 / 6) / 6) ** 2, rel=1e-5)
    assert 0 < value < 3 * ((1 - 1 / 6) / 6) ** 2


def test_only_equal_weights_cost_nothing_and_nothing_costs_more_than_a_spike() -> None:
    random = np.random.default_rng(0)
    rows = np.concatenate([random.dirichlet([concentration] * 5, 100) for concentration in (0.02, 0.3, 1.0, 50.0)])
    nearly = np.array([[0.21, 0.19, 0.2, 0.2, 0.2]])
    costs = squared_variances(tf.constant(np.concatenate([nearly, rows])[:, None], tf.float32), tf.ones([401, 5], tf.bool), 5.0).numpy()
    assert (costs > 0).all()
    assert costs.max() <= ((1 - 1 / 5) / 5) ** 2 * (1 + 1e-5)
    assert costs.max() > 0.99 * ((1 - 1 / 5) / 5) ** 2  # the most pointed rows get there


def test_two_copies_of_a_batch_double_the_sum_and_keep_the_mean() -> None:
    weights, counts = attention([6, 3, 1]), [6, 3, 1]
    for term, factor in [(RoutingRegularization(reduction="sum"), 2.0), (RoutingRegularization(reduction="mean"), 1.0)]:
        once = float(term(context_of(weights, counts)))
        twice = float(term(context_of(np.concatenate([weights, weights]), counts * 2)))
        assert twice == pytest.approx(factor * once, rel=1e-5)


def test_the_masked_form_takes_no_notice_of_padding_and_spares_equal_weights() -> None:
    counts = [5, 3, 1, 0]
    weights = attention(counts, length=5)
    padded = np.pad(weights, [(0, 0), (0, 0), (0, 4)])
    for normalizer in ("dim", "length"):
        masked, whole = (RoutingRegularization(normalizer=normalizer, masked=masked) for masked in (True, False))
        assert float(masked(context_of(padded, counts))) == pytest.approx(float(masked(context_of(weights, counts))), rel=1e-5)
        assert float(whole(context_of(padded, counts))) != pytest.approx(float(whole(context_of(weights, counts))), rel=0.01)
        equal = np.array([[[1 / 3] * 3 + [0.0] * 4]])
        assert float(masked(context_of(equal, [3]))) == pytest.approx(0.0, abs=1e-9)
        assert float(whole(context_of(equal, [3]))) > 1e-6  # 1 / 3 - 1 / 7, squared


def test_inactive_interests_cost_nothing() -> None:
    weights = attention([6, 4])
    for masked in (False, True):
        term = RoutingRegularization(masked=masked)
        value = float(term(context_of(weights, [6, 4], [[True, True, False]] * 2)))
        assert value == pytest.approx(float(term(context_of(weights[:, :2], [6, 4]))), rel=1e-5)


LEARNING = [
    {"name": "self_attentive"},
    {"name": "capsule_routing", "stop_gradient_routing": False},
    {"name": "comirec_routing", "initializer_deviation": 0.3, "stop_gradient_routing": False},
]


@pytest.mark.parametrize("spec", LEARNING, ids=lambda spec: spec["name"])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_reach_the_extractor_and_are_finite_for_empty_and_short_histories(spec: dict[str, Any], masked: bool) -> None:
    tf.keras.utils.set_random_seed(1)
    extractor, term = EXTRACTORS.build(spec, "extractor"), RoutingRegularization(masked=masked)
    term.check(extractor)
    history, counts = tf.random.normal([4, 6, 8]), [6, 3, 1, 0]
    mask = tf.sequence_mask(counts, 6)
    extractor(history, mask)
    sizes = []
    for rows in (slice(0, 2), slice(2, 4)):
        with tf.GradientTape() as tape:
            output = extractor(history[rows], mask[rows], training=True)
            loss = term(BatchContext(output, history[rows], mask[rows], mask[rows], history[rows, 0], output.interests))
        gradients = [gradient for gradient in tape.gradient(loss, extractor.trainable_variables) if gradient is not None]
        sizes.append(max(float(tf.reduce_max(tf.abs(tf.convert_to_tensor(gradient)))) for gradient in gradients))
    assert np.isfinite(sizes).all()
    assert sizes[0] > 1e-5
    assert sizes[1] < 1e-3 * sizes[0]  # a single item's weight is always 1


def test_descending_flattens_the_attention() -> None:
    weights = tf.Variable(tf.random.stateless_normal([2, 3, 6], seed=[1, 2]))
    context = context_of(attention([6, 6]), [6, 6])
    term = RoutingRegularization(1.0, normalizer="length")
    values = []
    for _ in range(50):
        with tf.GradientTape() as tape:
            value = term(context._replace(output=context.output._replace(weights=tf.nn.softmax(weights))))
        values.append(float(value))
        weights.assign_sub(300.0 * tape.gradient(value, weights))
    assert values[-1] < 0.1 * values[0]


@pytest.mark.parametrize("name", ["capsule_routing", "comirec_routing"])
def test_routing_without_gradient_is_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(ValueError, match=r"routing_regularization would have no effect.*stop_gradient_routing: false"):
        RoutingRegularization().check(EXTRACTORS.build({"name": name}, "extractor"))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_low_precision_meets_a_float32_loss(policy: str) -> None:
    context = context_of(attention([6, 4]), [6, 4])
    low = tf.as_dtype(policy.removeprefix("mixed_"))
    output = context.output._replace(interests=tf.cast(context.output.interests, low))
    value = RoutingRegularization(dtype=tf.keras.mixed_precision.Policy(policy))(context._replace(output=output))
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx(float(RoutingRegularization()(context)), rel=1e-6)


def test_configuration_round_trip() -> None:
    arguments: dict[str, Any] = {"weight": 3.0, "normalizer": "length", "reduction": "mean", "masked": True}
    copy = RoutingRegularization.from_config(RoutingRegularization(**arguments).get_config())
    assert {name: getattr(copy, name) for name in arguments} == arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "weight: expected a number of at least 0"),
        ({"normalizer": "batch"}, "normalizer: expected one of 'dim', 'length'"),
        ({"reduction": "max"}, "reduction: expected one of 'sum', 'mean'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RoutingRegularization(**arguments)
