"""MTAW's interest tracking and enhancing layers, against loops over one session."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.extractors.multi_interest.contextual_self_attention import ContextualSelfAttentiveInterests
from tfmi.layers.extractors.single_vector.interest_tracking import InterestTrackingEncoder
from tfmi.layers.extractors.single_vector.interest_trend import InterestTrend

LENGTH, WIDTH = 6, 4
ITEM_COUNTS = np.array([6, 3, 1, 0])
MASK = np.arange(LENGTH) < ITEM_COUNTS[:, None]
OPTIONS: list[dict[str, Any]] = [{}, {"positions": "newest", "residual": "item"}, {"positions": "none"}]


def items() -> np.ndarray:
    return np.random.default_rng(0).normal(size=[len(ITEM_COUNTS), LENGTH, WIDTH]).astype(np.float32)


def interest_trend(query: Any = "newest", **options: Any) -> InterestTrend:
    return InterestTrend(query=query, encoder={"name": "interest_tracking", **options})


def randomized(layer: Any) -> Any:
    """Weights far from where training starts them, biases and gains included."""
    layer.build((None, LENGTH, WIDTH))
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(scale=0.7, size=weight.shape) for weight in layer.get_weights()])
    return layer


def float64(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)


def dense(layer: tf.keras.layers.Dense, values: np.ndarray) -> np.ndarray:
    return values @ float64(layer.kernel.numpy()) + layer.bias.numpy()


def attend(query: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = np.exp(items @ query / math.sqrt(len(query)))
    return scores / scores.sum(), scores @ items / scores.sum()


def tracked(encoder: InterestTrackingEncoder, history: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The equations for one user's items [n, d] in float64, one item after the other: x, l and the attention."""
    x = float64(history)
    if encoder.positions != "none":
        positions = encoder.position_embeddings.numpy()[: len(x)]
        x = x + (positions if encoder.positions == "oldest" else positions[::-1])
    states, attention = np.zeros_like(x), np.zeros([len(x), len(x)])
    for place, item in enumerate(x):
        attention[place, : place + 1], instant = attend(np.maximum(dense(encoder.query_layer, item), 0), x[: place + 1])
        transformed = dense(encoder.outer_layer, np.maximum(dense(encoder.inner_layer, instant), 0))
        summed = (instant if encoder.residual == "tracked" else item) + transformed
        states[place] = (summed - summed.mean()) / np.sqrt(summed.var() + 1e-6) * encoder.norm.gamma.numpy() + encoder.norm.beta.numpy()
    return x, states, attention


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_instant_interests_equal_the_equations_written_out(options: dict[str, Any]) -> None:
    encoder = randomized(InterestTrackingEncoder(**options))
    states, weights = encoder(items(), tf.constant(MASK))
    for user, count in enumerate(ITEM_COUNTS):
        _, expected, attention = tracked(encoder, items()[user, :count])
        np.testing.assert_allclose(states[user, :count], expected, atol=1e-4)
        np.testing.assert_allclose(weights[user, :count, :count], attention, atol=1e-5)


def test_the_first_item_attends_to_itself_alone() -> None:
    encoder = randomized(InterestTrackingEncoder())
    for layer in (encoder.outer_layer.kernel, encoder.outer_layer.bias, encoder.norm.beta):
        layer.assign(tf.zeros_like(layer))
    encoder.norm.gamma.assign(tf.ones([WIDTH]))
    first = items()[:3, 0] + encoder.position_embeddings.numpy()[0]
    expected = (first - first.mean(axis=1, keepdims=True)) / first.std(axis=1, keepdims=True)
    np.testing.assert_allclose(encoder(items(), tf.constant(MASK)).states[:3, 0], expected, atol=1e-4)


@pytest.mark.parametrize("query", ["newest", "mean"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_trend_equals_the_equations_written_out(options: dict[str, Any], query: Any) -> None:
    extractor = randomized(interest_trend(query, **options))
    output = extractor(items(), tf.constant(MASK))
    for user, count in enumerate(ITEM_COUNTS[:3]):
        _, states, attention = tracked(extractor.encoder, items()[user, :count])
        asking = states[-1] if query == "newest" else states.mean(axis=0)
        trend, expected = attend(np.maximum(dense(extractor.query_layer, asking), 0), states)
        np.testing.assert_allclose(output.interests[user, 0], expected, atol=1e-4)
        np.testing.assert_allclose(output.internals["trend"][user, 0, :count], trend, atol=1e-5)
        np.testing.assert_allclose(output.weights[user, 0, :count], trend @ attention, atol=1e-5)
    assert not output.interests[3].numpy().any()


def test_the_trend_passes_every_argument_on() -> None:
    arguments: dict[str, Any] = {
        "positions": "newest",
        "residual": "item",
        "dropout": 0.1,
        "initializer_deviation": 0.4,
        "max_length": 9,
        "seed": 11,
    }
    extractor = interest_trend("mean", **arguments)
    assert arguments.items() <= extractor.encoder.get_config().items()
    described = extractor.get_config()
    assert (described["query"], described["encoder"]) == ("mean", {"name": "interest_tracking", **arguments})


def test_dropout_is_for_training() -> None:
    extractor = randomized(interest_trend(dropout=0.5))
    expected = extractor(items(), tf.constant(MASK)).interests
    np.testing.assert_array_equal(extractor(items(), tf.constant(MASK), training=False).interests, expected)
    assert not np.allclose(extractor(items(), tf.constant(MASK), training=True).interests, expected, atol=1e-3)


def test_a_history_longer_than_its_positions_is_refused() -> None:
    extractor = interest_trend(max_length=4)
    extractor(tf.ones([1, 3, WIDTH]), tf.ones([1, 3], tf.bool))
    with pytest.raises(ValueError, match=r"longer than the 4 positions.*it has 5"):
        extractor(tf.ones([1, 5, WIDTH]), tf.ones([1, 5], tf.bool))


def test_contextual_attention_takes_it_for_an_encoder() -> None:
    extractor = ContextualSelfAttentiveInterests(2, encoder={"name": "interest_tracking", "positions": "newest"}, seed=7)
    assert isinstance(extractor.sequence_encoder, InterestTrackingEncoder)
    assert extractor.sequence_encoder.seed == 7
    assert extractor(items(), tf.constant(MASK)).interests.shape == [len(ITEM_COUNTS), 2, WIDTH]


def test_positions_start_as_asked() -> None:
    for deviation, expected in ((None, 0.1), (0.5, 0.5)):
        encoder = InterestTrackingEncoder(initializer_deviation=deviation)
        encoder.build((None, 50, 100))
        assert abs(np.std(encoder.position_embeddings) - expected) < 0.1 * expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "oldest"}, "query: expected one of 'newest', 'mean'"),
        ({"positions": "latest"}, "positions: expected one of"),
        ({"residual": "none"}, "residual: expected one of 'tracked', 'item'"),
        ({"dropout": 1.0}, "rate: expected"),
        ({"max_length": 0}, "max_length: expected"),
        ({"initializer_deviation": -1.0}, "initializer_deviation: expected"),
    ],
)
def test_impossible_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InterestTrend(**options) if "query" in options else InterestTrackingEncoder(**options)
    with pytest.raises(ValueError, match="rate" if "dropout" in options else next(iter(options))):
        interest_trend(**options)
