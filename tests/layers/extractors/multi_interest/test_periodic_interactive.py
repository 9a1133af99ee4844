"""PIMI's intervals, star attention and interests against their properties and naive implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import InterestOutput
from tfmi.layers.extractors.multi_interest.interval_encoding import IntervalEncoding, day_numbers, interval_counts
from tfmi.layers.extractors.multi_interest.periodic_interactive import PeriodicInteractiveInterests
from tfmi.layers.extractors.multi_interest.self_attention import SelfAttentiveInterests

BATCH, LENGTH, WIDTH, INTERESTS, SPAN, DAY = 4, 7, 6, 3, 9, 86400.0
COUNTS = np.array([7, 3, 1, 0])


def random_inputs(length: int = LENGTH) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Items, mask and times, over twenty days, of histories of 0 to 7 items padded to ``length``."""
    random = np.random.default_rng(0)
    items = random.normal(size=[BATCH, LENGTH, WIDTH])
    times = np.sort(1.6e9 + 20 * DAY * random.random([BATCH, LENGTH]), axis=1)
    more = length - LENGTH
    mask = np.arange(length) < COUNTS[:, None]
    times = np.where(mask, np.pad(times, [(0, 0), (0, more)]), 0)
    return tf.constant(np.pad(items, [(0, 0), (0, more), (0, 0)]), tf.float32), tf.constant(mask), tf.constant(times)


def built(**arguments: Any) -> PeriodicInteractiveInterests:
    tf.keras.utils.set_random_seed(2)
    layer = PeriodicInteractiveInterests(INTERESTS, **{"time_span": SPAN, "max_length": 12, **arguments})
    layer.build((None, LENGTH, WIDTH))
    for variable in layer.trainable_variables:
        if "bias" in variable.name:
            variable.assign(0.3 * tf.random.normal(variable.shape) + 0.1)
    return layer


def extract(layer: PeriodicInteractiveInterests, length: int = LENGTH) -> InterestOutput:
    items, mask, times = random_inputs(length)
    return layer(items, mask, timestamps=times)


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def naive_encoding(layer: IntervalEncoding, times: np.ndarray) -> np.ndarray:
    """The equations with every pair's embedding, for n known times."""
    embeddings, kernel = layer.embeddings.numpy().astype(float), layer.score_kernel.numpy()[:, 0].astype(float)
    days = [round((time - times[0]) / DAY) + 1 for time in times]
    relations = np.array([[embeddings[min(abs(first - second), layer.time_span)] for second in days] for first in days])  # [n, n, d]
    return np.stack([softmax(row @ kernel) @ row for row in relations])


def naive_block(block: Any, items: np.ndarray, context: np.ndarray, centre: np.ndarray | None, padding: int = 0) -> Any:
    """A round of messages for one user, one query, one key and one head at a time; ``padding`` zero vectors are seen by the centre."""
    weights = {variable.name.split(":")[0]: variable.numpy().astype(float) for variable in block.trainable_variables}
    head = block.head_dimension

    def attend(query: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
        project = [vector @ weights["input_kernel"] + weights["input_bias"] for vector in [query, *seen]]
        q, k, v = np.split(np.stack(project), 3, axis=1)
        heads = []
        for number in range(block.num_heads):
            part = slice(number * head, (number + 1) * head)
            heads.append(softmax(k[1:, part] @ q[0, part] / np.sqrt(head)) @ v[1:, part])
        return np.maximum(np.concatenate(heads) @ weights["output_kernel"] + weights["output_bias"], 0)

    passed = []
    for place, item in enumerate(items):
        before = [items[place - 1]] if place else [np.zeros_like(item)] if block.parity_padding else []
        passed.append(attend(item, [*before, item, context[place], *([] if centre is None else [centre])]))
    zeros = [np.zeros_like(context[0])] * (padding if block.parity_padding else 0)
    return np.stack(passed), None if centre is None else attend(centre, [centre, *passed, *zeros])


@pytest.mark.parametrize(
    "arguments", [{}, {"parity_padding": True}, {"centre": False, "positions": "newest"}, {"num_heads": 2, "blocks": 1, "use_bias": False}]
)
def test_equals_the_equations_written_out(arguments: dict[str, Any]) -> None:
    items, _, times = (tensor.numpy() for tensor in random_inputs())
    layer = built(**arguments)
    output = extract(layer)
    for user, length in enumerate(COUNTS[:3]):
        history = items[user, :length].astype(float)
        positions = layer.position_embeddings.numpy()[:length]
        context = history + (positions if layer.positions == "oldest" else positions[::-1])
        features = context + naive_encoding(layer.interval_encoding, times[user, :length])
        centre = features.mean(axis=0) if layer.centre else None
        for block in layer.star_blocks:
            features, centre = naive_block(block, features, context, centre, LENGTH - length)
        np.testing.assert_allclose(output.internals["features"][user, :length], features, atol=1e-5)
        hidden = features @ layer.hidden_kernel.numpy() + (layer.hidden_bias.numpy() if layer.use_bias else 0)
        scores = np.tanh(hidden) @ layer.interest_kernel.numpy()
        expected = np.stack([softmax(scores[:, interest]) for interest in range(INTERESTS)])
        np.testing.assert_allclose(output.weights[user, :, :length], expected, atol=1e-5)
        np.testing.assert_allclose(output.interests[user], expected @ history, atol=1e-5)


# Periodicity


def test_days_are_rounded_and_intervals_symmetric_zero_on_the_diagonal_and_bounded() -> None:
    hours = np.array([[0.0, 11.0, 13.0, 35.0, 37.0, 24.0 * 400]])
    times = tf.constant(1.6e9 + 3600 * hours)
    np.testing.assert_array_equal(day_numbers(times, times > 0), [[0, 0, 1, 1, 2, 400]])
    counts = interval_counts(times, times > 0, SPAN).numpy()[0]
    expected = np.zeros([6, SPAN + 1])
    for first, day in enumerate([0, 0, 1, 1, 2, 400]):
        for other in [0, 0, 1, 1, 2, 400]:
            expected[first, min(abs(day - other), SPAN)] += 1
    np.testing.assert_array_equal(counts, expected)
    assert (counts[:, 0] >= 1).all()


@pytest.mark.parametrize("dtype", [tf.float64, tf.int64])
def test_moving_all_times_changes_nothing(dtype: tf.DType) -> None:
    items, mask, times = random_inputs()
    layer = built()
    times = tf.round(times)
    moved = tf.where(mask, times + 3.3e8 + 12345, 0)
    expected = layer(items, mask, timestamps=tf.cast(times, dtype))
    output = layer(items, mask, timestamps=tf.cast(moved, dtype))
    np.testing.assert_array_equal(output.interests, expected.interests)


def test_counting_intervals_equals_the_sum_over_pairs() -> None:
    _, mask, times = random_inputs()
    encoding = built().interval_encoding
    vectors, weights = encoding(times, mask)
    for user, length in enumerate(COUNTS[:3]):
        np.testing.assert_allclose(vectors[user, :length], naive_encoding(encoding, times[user, :length].numpy()), atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(weights, axis=2), tf.cast(mask, tf.float32), atol=1e-6)
    assert (vectors.numpy()[~mask.numpy()] == 0).all()


def test_gradients_of_the_interval_embeddings_equal_those_of_the_sum_over_pairs() -> None:
    _, mask, times = random_inputs()
    encoding = built().interval_encoding
    sources = [encoding.embeddings, encoding.score_kernel]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoding(times, mask)[0] ** 3)
    gradients = tape.gradient(loss, sources)
    days = tf.cast(day_numbers(times, mask), tf.int32)
    with tf.GradientTape() as tape:
        relations = tf.gather(encoding.embeddings, tf.minimum(tf.abs(days[:, :, None] - days[:, None]), SPAN))
        scores = tf.where(mask[:, None, :], tf.squeeze(relations @ encoding.score_kernel, axis=3), -1e9)
        vectors = tf.einsum("bij,bijd->bid", tf.nn.softmax(scores), relations) * tf.cast(mask[..., None], tf.float32)
        loss = tf.reduce_sum(vectors**3)
    for gradient, expected in zip(gradients, tape.gradient(loss, sources), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), tf.convert_to_tensor(expected), atol=1e-5)


def test_constant_intervals_give_all_items_the_same_vector() -> None:
    encoding = built().interval_encoding
    together, _ = encoding(tf.fill([1, 4], tf.constant(1.6e9, tf.float64)), tf.ones([1, 4], tf.bool))
    np.testing.assert_allclose(together[0], tf.repeat(encoding.embeddings[:1], 4, axis=0), atol=1e-6)
    apart, _ = encoding(tf.constant([[1.6e9, 1.7e9]], tf.float64), tf.ones([1, 2], tf.bool))
    np.testing.assert_allclose(apart[0, 0], apart[0, 1], atol=1e-6)
    alone, _ = encoding(tf.constant([[1.6e9, 0.0]], tf.float64), tf.constant([[True, False]]))
    np.testing.assert_allclose(alone[0], [encoding.embeddings[0], np.zeros(WIDTH)], atol=1e-6)


def test_an_item_of_unknown_time_is_as_if_met_alone_and_unseen_by_the_others() -> None:
    encoding = built().interval_encoding
    times = np.array([[1.6e9, 0.0, 1.6e9 + 3 * DAY]])
    vectors, _ = encoding(tf.constant(times), tf.ones([1, 3], tf.bool))
    np.testing.assert_allclose(vectors[0, 1], encoding.embeddings[0], atol=1e-6)
    np.testing.assert_allclose(vectors.numpy()[0, [0, 2]], naive_encoding(encoding, times[0, [0, 2]]), atol=1e-6)
    unknown, _ = encoding(tf.zeros([1, 3], tf.float64), tf.ones([1, 3], tf.bool))
    np.testing.assert_allclose(unknown[0], tf.repeat(encoding.embeddings[:1], 3, axis=0), atol=1e-6)


def test_times_at_padding_change_nothing() -> None:
    items, mask, times = random_inputs()
    layer = built()
    for garbage in (np.nan, np.inf, 5.0):
        dirty = layer(items, mask, timestamps=tf.where(mask, times, garbage))
        np.testing.assert_array_equal(dirty.interests, extract(layer).interests)


def test_without_times_the_periodicity_is_left_out() -> None:
    items, mask, _ = random_inputs()
    layer = built()
    output = layer(items, mask)
    assert "interval_weights" not in output.internals
    assert np.abs(output.weights - extract(layer).weights).max() > 1e-4
    layer.interval_encoding.embeddings.assign(tf.zeros([SPAN + 1, WIDTH]))
    np.testing.assert_allclose(output.interests, extract(layer).interests, atol=1e-6)


# Interactivity


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_without_the_centre_an_item_knows_its_nearest_predecessors_only(blocks: int) -> None:
    items, mask, _ = random_inputs()
    layer = built(centre=False, blocks=blocks, dropout=0.0)
    expected = layer(items, mask).internals["features"].numpy()[0]
    for changed in range(LENGTH):
        other = layer(items + tf.one_hot(changed, LENGTH)[None, :, None], mask).internals["features"].numpy()[0]
        moved = np.abs(other - expected).max(axis=1) > 1e-6
        assert not np.delete(moved, range(changed, min(changed + blocks + 1, LENGTH))).any()
        assert moved[changed]
    assert np.abs(expected).max() > 0


def test_the_centre_carries_messages_to_every_item() -> None:
    items, mask, _ = random_inputs()
    layer = built(blocks=1)
    change = tf.one_hot(LENGTH - 1, LENGTH)[None, :, None]
    moved = np.abs(layer(items + change, mask).internals["features"] - layer(items, mask).internals["features"])
    assert (moved[0].max(axis=1) > 1e-6).all()


@pytest.mark.parametrize("positions", ["oldest", "newest", "none"])
def test_without_blocks_and_times_it_is_self_attention(positions: Any) -> None:
    items, mask, _ = random_inputs()
    layer = built(blocks=0, positions=positions)
    reference = SelfAttentiveInterests(INTERESTS, positions=positions, use_bias=True, max_length=12)
    reference.build((None, LENGTH, WIDTH))
    for variable in reference.variables:
        variable.assign(getattr(layer, variable.name.split(":")[0]))
    np.testing.assert_allclose(layer(items, mask).interests, reference(items, mask).interests, atol=1e-6)


def test_interests_are_in_the_convex_hull_of_the_items() -> None:
    items, _, _ = random_inputs()
    output = extract(built())
    np.testing.assert_allclose(tf.reduce_sum(output.weights, axis=2)[:3], 1.0, atol=1e-6)
    assert (output.weights.numpy() >= 0).all()
    np.testing.assert_allclose(output.interests, tf.matmul(output.weights, items), atol=1e-6)


@pytest.mark.slow
def test_padding_matters_only_to_the_published_code() -> None:
    for parity, same in [(False, True), (True, False)]:
        layer = built(parity_padding=parity)
        expected, output = extract(layer), extract(layer, LENGTH + 4)
        np.testing.assert_allclose(output.interests[3], np.zeros([INTERESTS, WIDTH]), atol=0)
        assert np.allclose(output.weights[1, :, :3], expected.weights[1, :, :3], atol=1e-6) == same


@pytest.mark.slow
def test_dropout_is_for_training_only() -> None:
    items, mask, times = random_inputs()
    layer = built(dropout=0.5)
    inference = extract(layer).interests
    np.testing.assert_array_equal(extract(layer).interests, inference)
    drawn = [layer(items, mask, timestamps=times, training=True).interests.numpy()[0] for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-5
    still = built(dropout=0.0)
    np.testing.assert_array_equal(still(items, mask, timestamps=times, training=True).interests, extract(still).interests)


def test_sizes_are_those_of_the_published_code_where_nothing_else_is_asked_for() -> None:
    layer = PeriodicInteractiveInterests()
    layer.build((None, LENGTH, 64))
    assert (layer.num_interests, layer.time_span, layer.blocks, layer.num_heads, layer.dropout) == (4, 64, 3, 4, 0.1)
    assert layer.interval_encoding.embeddings.shape == [65, 64]  # an interval of 0 and one of the span itself are told apart
    assert layer.position_embeddings.shape == [LENGTH, 64]
    assert (layer.hidden_kernel.shape, layer.interest_kernel.shape) == ([64, 256], [256, 4])
    assert [block.head_dimension for block in layer.star_blocks] == [16, 16, 16]
    kernels = {id(block.input_kernel) for block in layer.star_blocks}
    assert len(kernels) == 3  # every block has weights of its own


def test_heads_that_do_not_divide_the_width_get_wider() -> None:
    layer = built(num_heads=4)
    block = layer.star_blocks[0]
    assert (block.head_dimension, block.input_kernel.shape, block.output_kernel.shape) == (2, [WIDTH, 24], [8, WIDTH])
    assert built(num_heads=3).star_blocks[0].input_kernel.shape == [WIDTH, 3 * WIDTH]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_interests": 0}, "num_interests: expected a number of at least 1, got 0"),
        ({"blocks": -1}, "blocks: .* at least 0"),
        ({"num_heads": 0}, "num_heads: .* at least 1"),
        ({"time_span": 0}, "time_span: .* at least 1"),
        ({"dropout": 1.0}, "rate: expected a number of at least 0 and below 1"),
        ({"positions": "latest"}, "positions: expected one of 'oldest', 'newest', 'none'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PeriodicInteractiveInterests(**arguments)
