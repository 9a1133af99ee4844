"""What a state may know in any encoder; recurrent and transformer encoders against independent implementations."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.layers.sequence_encoders.gated_recurrent import GatedRecurrentEncoder
from tfmi.layers.sequence_encoders.sequence_encoder import ENCODERS, SequenceEncoder, build_encoder
from tfmi.layers.sequence_encoders.transformer_encoder import TransformerBlock, TransformerEncoder, rotated

BATCH, LENGTH, WIDTH = 4, 6, 4
ITEM_COUNTS = np.array([6, 3, 1, 0])
MASK = np.arange(LENGTH) < ITEM_COUNTS[:, None]
SPECS: list[dict[str, Any]] = [
    {"name": "gru"},
    {"name": "gru", "hidden_dimension": 5, "use_bias": False},
    {"name": "transformer", "num_blocks": 0},
    {"name": "transformer", "num_blocks": 1, "causal": False},
    {"name": "transformer", "norm": "pre", "positions": "newest"},
    {"name": "transformer", "norm": "pre", "positions": "rotary", "gate": True, "activation": "swiglu"},
    {"name": "transformer", "positions": "relative", "causal": False},
    {"name": "dilated_convolution", "dilations": [1, 2]},
    {"name": "interest_tracking"},
    {"name": "interest_tracking", "positions": "newest", "residual": "item"},
]


def items() -> np.ndarray:
    return np.random.default_rng(0).normal(size=[BATCH, LENGTH, WIDTH]).astype(np.float32)


def encode(encoder: SequenceEncoder, history: np.ndarray, mask: np.ndarray = MASK, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    states, weights = encoder(tf.constant(history), tf.constant(mask), **options)
    return states.numpy(), weights.numpy()


def randomized(encoder: SequenceEncoder) -> SequenceEncoder:
    """Weights far from where training starts them, biases and gains included."""
    encoder.build((None, LENGTH, WIDTH))
    rng = np.random.default_rng(1)
    encoder.set_weights([rng.normal(scale=0.7, size=weight.shape) for weight in encoder.get_weights()])
    return encoder


@pytest.fixture(params=SPECS, ids=lambda spec: "-".join(str(value) for value in spec.values()))
def encoder(request: pytest.FixtureRequest) -> SequenceEncoder:
    return randomized(ENCODERS.build(request.param, "encoder"))


def test_newest_only_is_the_newest_item_of_all_states(encoder: SequenceEncoder) -> None:
    states, weights = encode(encoder, items())
    newest_states, newest_weights = encode(encoder, items(), newest_only=True)
    assert newest_states.shape == (BATCH, 1, encoder.state_dimension(WIDTH))
    for user in range(BATCH):
        expected = ITEM_COUNTS[user] - 1 if ITEM_COUNTS[user] else LENGTH - 1  # a row of padding, which is 0
        np.testing.assert_allclose(newest_states[user, 0], states[user, expected], atol=1e-5)
        np.testing.assert_allclose(newest_weights[user, 0], weights[user, expected], atol=1e-6)


def test_weights_of_real_items_sum_to_one_over_real_items_and_padding_has_none(encoder: SequenceEncoder) -> None:
    states, weights = encode(encoder, items())
    np.testing.assert_allclose(weights.sum(axis=2), MASK, atol=1e-6)
    assert (weights >= 0).all()
    assert (weights[~(MASK[:, :, None] & MASK[:, None, :])] == 0).all()
    assert (states[~MASK] == 0).all()


def test_later_items_never_change_earlier_states(encoder: SequenceEncoder) -> None:
    history = items()
    changed = history.copy()
    changed[:, 3:] *= -1.0
    expected, output = encode(encoder, history)[0], encode(encoder, changed)[0]
    is_causal = getattr(encoder, "causal", True)
    assert np.allclose(output[0, :3], expected[0, :3], atol=1e-6) == is_causal
    assert not np.allclose(output[0, 3:], expected[0, 3:], atol=1e-3)


def test_padding_and_what_stands_there_changes_nothing(encoder: SequenceEncoder) -> None:
    history = items()
    expected = encode(encoder, history)[0]
    dirty = np.where(MASK[..., None], history, np.nan).astype(np.float32)
    np.testing.assert_array_equal(encode(encoder, dirty)[0], expected)
    np.testing.assert_allclose(encode(encoder, history[1:, :3], MASK[1:, :3])[0], expected[1:, :3], atol=1e-6)


def test_users_keep_their_states_in_any_order(encoder: SequenceEncoder) -> None:
    order = [2, 0, 3, 1]
    expected = encode(encoder, items())[0]
    np.testing.assert_allclose(encode(encoder, items()[order], MASK[order])[0], expected[order], atol=1e-6)


def test_inference_drops_nothing(encoder: SequenceEncoder) -> None:
    np.testing.assert_array_equal(encode(encoder, items(), training=False)[0], encode(encoder, items())[0])


# Gated recurrent units


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def unrolled(encoder: SequenceEncoder, history: np.ndarray) -> np.ndarray:
    """The equations for one user's items [n, d] in float64, one gate after the other: states [n, h]."""
    kernels, recurrent_kernels, *biases = [weight.astype(np.float64) for weight in encoder.get_weights()]
    input_biases, state_biases = biases[0] if biases else np.zeros([2, kernels.shape[1]])
    u_z, u_r, u = np.split(kernels, 3, axis=-1)
    v_z, v_r, v = np.split(recurrent_kernels, 3, axis=-1)
    b_z, b_r, b = np.split(input_biases, 3)
    c_z, c_r, c = np.split(state_biases, 3)
    state, states = np.zeros(len(v)), []
    for item in history:
        update = sigmoid(item @ u_z + b_z + state @ v_z + c_z)
        reset = sigmoid(item @ u_r + b_r + state @ v_r + c_r)
        state = update * state + (1 - update) * np.tanh(item @ u + b + reset * (state @ v + c))
        states.append(state)
    return np.array(states)


@pytest.mark.parametrize("use_bias", [True, False])
def test_recurrent_states_equal_the_unrolled_cell(use_bias: bool) -> None:
    encoder = randomized(GatedRecurrentEncoder(5, use_bias=use_bias))
    states = encode(encoder, items())[0]
    for user, count in enumerate(ITEM_COUNTS[:3]):
        np.testing.assert_allclose(states[user, :count], unrolled(encoder, items()[user, :count]), atol=1e-5)


def test_the_newest_recurrent_state_is_that_of_keras_with_a_mask() -> None:
    encoder = randomized(GatedRecurrentEncoder(5))
    keras = tf.keras.layers.GRU(5)
    keras.build((None, LENGTH, WIDTH))
    keras.set_weights(encoder.get_weights())
    expected = keras(tf.constant(items()), mask=tf.constant(MASK))
    np.testing.assert_allclose(encode(encoder, items(), newest_only=True)[0][:, 0], expected, atol=1e-6)


def test_recurrent_states_know_the_order() -> None:
    encoder = randomized(GatedRecurrentEncoder())
    swapped = items()[:, [1, 0, *range(2, LENGTH)]]
    difference = encode(encoder, swapped, newest_only=True)[0] - encode(encoder, items(), newest_only=True)[0]
    assert np.abs(difference[:2]).max(axis=(1, 2)).min() > 1e-3


# Transformer


def normalized(values: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(values.var(axis=-1, keepdims=True) + 1e-6)
    return (values - values.mean(axis=-1, keepdims=True)) / deviation * gain + bias


def dense(layer: tf.keras.layers.Dense, values: np.ndarray) -> np.ndarray:
    return values @ np.float64(layer.kernel.numpy()) + layer.bias.numpy()


def norm(layer: tf.keras.layers.LayerNormalization, values: np.ndarray) -> np.ndarray:
    return normalized(values, layer.gamma.numpy(), layer.beta.numpy())


def attend(block: TransformerBlock, values: np.ndarray, causal: bool, bias: np.ndarray | None = None) -> np.ndarray:
    """Attention of one user's states [n, d], one head and one query at a time."""
    attention, width = block.attention, values.shape[1] // block.num_heads
    queries, both = dense(attention.query_projection, values), dense(attention.key_value_projection, values)
    output = np.zeros_like(queries)
    if attention.rotary:
        queries, keys = (turned(part, block.num_heads) for part in (queries, both[:, : values.shape[1]]))
        both = np.concatenate([keys, both[:, values.shape[1] :]], axis=1)
    for head in range(block.num_heads):
        columns = slice(head * width, (head + 1) * width)
        keys, head_values = both[:, : values.shape[1]][:, columns], both[:, values.shape[1] :][:, columns]
        for position, query in enumerate(queries[:, columns]):
            seen = position + 1 if causal else len(values)
            by_distance = 0.0 if bias is None else bias[np.maximum(position - np.arange(seen), 0), head]
            scores = np.exp(keys[:seen] @ query / math.sqrt(width) + by_distance)
            output[position, columns] = scores @ head_values[:seen] / scores.sum()
    return dense(attention.output_projection, output)


def turned(values: np.ndarray, num_heads: int) -> np.ndarray:
    """Each head's pairs of dimensions as complex numbers, turned by the position, one after the other."""
    heads = values.reshape(len(values), num_heads, -1)
    half = heads.shape[2] // 2
    pairs = heads[..., :half] + 1j * heads[..., half:]
    for position in range(len(values)):
        for pair in range(half):
            pairs[position, :, pair] *= np.exp(1j * position * 10_000 ** (-pair / half))
    return np.concatenate([pairs.real, pairs.imag], axis=-1).reshape(values.shape)


def gated(block: TransformerBlock, gate: str, states: np.ndarray, added: np.ndarray) -> np.ndarray:
    return added * sigmoid(dense(getattr(block, gate), states)) if block.gate else added


def feed_forward(block: TransformerBlock, values: np.ndarray) -> np.ndarray:
    inner = dense(block.inner_layer, values)
    if block.activation == "swiglu":
        passed, gate = np.split(inner, 2, axis=-1)
        return dense(block.outer_layer, passed * gate * sigmoid(gate))
    activated = np.maximum(inner, 0) if block.activation == "relu" else inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
    return dense(block.outer_layer, activated)


def transformed(encoder: TransformerEncoder, history: np.ndarray) -> np.ndarray:
    """The equations for one user's items [n, d] in float64."""
    states = history.astype(np.float64)
    bias = encoder.distance_bias.bias.numpy() if encoder.positions == "relative" else None
    if encoder.positions in {"oldest", "newest"}:
        positions = encoder.position_embeddings.numpy()[: len(states)]
        states = states + (positions if encoder.positions == "oldest" else positions[::-1])
    if encoder.norm == "post":
        states = norm(encoder.outside_norm, states)
        for block in encoder.blocks:
            states = norm(block.attention_norm, states + attend(block, states, encoder.causal, bias))
            states = norm(block.inner_norm, states + feed_forward(block, states))
        return states
    for block in encoder.blocks:
        states = states + gated(block, "attention_gate", states, attend(block, norm(block.attention_norm, states), encoder.causal, bias))
        states = states + gated(block, "inner_gate", states, feed_forward(block, norm(block.inner_norm, states)))
    return norm(encoder.outside_norm, states)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"norm": "pre", "activation": "relu", "positions": "newest", "inner_dimension": 7},
        {"norm": "pre", "num_blocks": 0, "num_heads": 1},
        {"positions": "none", "causal": False, "num_heads": 4, "num_blocks": 1},
        {"positions": "rotary", "num_blocks": 1},
        {"positions": "relative"},
        {"positions": "relative", "norm": "pre", "causal": False, "num_heads": 4},
        {"norm": "pre", "gate": True, "activation": "swiglu", "positions": "rotary", "inner_dimension": 6},
    ],
    ids=str,
)
def test_transformer_states_equal_the_equations_written_out(arguments: dict[str, Any]) -> None:
    encoder = randomized(TransformerEncoder(**arguments))
    states = encode(encoder, items())[0]
    for user, count in enumerate(ITEM_COUNTS[:3]):
        np.testing.assert_allclose(states[user, :count], transformed(encoder, items()[user, :count]), atol=1e-4)


@pytest.mark.parametrize("norm_place", ["post", "pre"])
def test_without_blocks_a_state_is_the_normalized_sum_of_item_and_position(norm_place: Any) -> None:
    encoder = randomized(TransformerEncoder(0, norm=norm_place))
    expected = norm(encoder.outside_norm, items()[1, 2] + encoder.position_embeddings.numpy()[2])
    np.testing.assert_allclose(encode(encoder, items(), newest_only=True)[0][1, 0], expected, atol=1e-5)


def test_without_positions_and_order_states_follow_their_items() -> None:
    order = [3, 0, 5, 1, 4, 2]
    history, mask = items()[:1], MASK[:1]
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"positions": "none", "causal": False}, True),
        ({"positions": "none"}, False),
        ({"causal": False}, False),
    ]
    for arguments, follows in cases:
        encoder = randomized(TransformerEncoder(**arguments))
        expected = encode(encoder, history, mask)[0][:, order]
        assert np.allclose(encode(encoder, history[:, order], mask)[0], expected, atol=1e-5) == follows


def test_positions_from_the_newest_item_do_not_move_when_older_items_appear() -> None:
    cases: list[tuple[Literal["newest", "oldest"], bool]] = [("newest", True), ("oldest", False)]
    for positions, same in cases:
        encoder = randomized(TransformerEncoder(0, positions=positions))
        with_older = encode(encoder, items()[:1], MASK[:1])[0]
        without = encode(encoder, items()[:1, 2:], MASK[:1, 2:])[0]
        assert np.allclose(with_older[:, 2:], without, atol=1e-5) == same


def test_rotary_states_know_distances_only() -> None:
    """Attention to one item and itself: the same wherever in the history the two stand, if their distance is."""
    encoder = randomized(TransformerEncoder(1, positions="rotary", norm="pre"))
    pair = items()[0, :2]
    near = encode(encoder, pair[None], np.ones([1, 2], bool))[0]
    with_one_between = np.stack([pair[0], pair[0], pair[1]])
    assert not np.allclose(encode(encoder, with_one_between[None], np.ones([1, 3], bool))[0][0, 2], near[0, 1], atol=1e-3)
    vectors = tf.constant(np.random.default_rng(3).normal(size=[2, 8]), tf.float32)
    products = []
    for start in (0, 5, 40):
        query, key = (rotated(vectors[row : row + 1], tf.constant([start + 3 * row]), num_heads=2) for row in (0, 1))
        np.testing.assert_allclose(np.linalg.norm(query), np.linalg.norm(vectors[0]), rtol=1e-5)
        products.append(np.sum(np.reshape(query * key, [2, 4]), axis=1))
    np.testing.assert_allclose(products[1:], [products[0]] * 2, atol=1e-4)


def test_relative_positions_start_with_weights_that_fall_with_age() -> None:
    encoder = TransformerEncoder(1, positions="relative", initializer_deviation=0.0)
    weights = encode(encoder, np.ones([1, 4, WIDTH], np.float32), np.ones([1, 4], bool), newest_only=True)[1][0, 0]
    ages = np.arange(4)[::-1]
    heads = [(1.0 + ages) ** -exponent for exponent in (0.5, 1.0)]
    np.testing.assert_allclose(weights, np.mean([head / head.sum() for head in heads], axis=0), rtol=1e-5)


def test_every_dropout_is_on_in_training_and_has_a_seed_of_its_own() -> None:
    encoder = TransformerEncoder(3, dropout=0.3, attention_dropout=0.4, seed=5)
    dropouts = [layer for layer in encoder._flatten_layers() if isinstance(layer, ElementDropout)]
    assert sorted(layer.seed for layer in dropouts) == list(range(5, 5 + 1 + 3 * 3))
    assert [layer.rate for layer in dropouts].count(0.4) == 3
    randomized(encoder)
    expected = encode(encoder, items())[0]
    for layer in dropouts:
        for other in dropouts:
            other.rate = 0.5 if other is layer else 0.0
        assert not np.allclose(encode(encoder, items(), training=True)[0], expected, atol=1e-3)


def test_a_fully_padded_history_stays_finite_in_half_precision() -> None:
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        encoder = TransformerEncoder()
        history = tf.zeros([1, LENGTH, WIDTH])
        with tf.GradientTape() as tape:
            tape.watch(history)
            states, weights = encoder(history, tf.zeros([1, LENGTH], tf.bool), training=True)
            loss = tf.reduce_sum(tf.cast(states, tf.float32)) + tf.reduce_sum(weights)
        values = [states, weights, *tape.gradient(loss, [history, *encoder.trainable_variables])]
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert all(np.isfinite(tf.cast(tf.convert_to_tensor(value), tf.float32).numpy()).all() for value in values)


def test_heads_have_to_divide_the_width() -> None:
    with pytest.raises(ValueError, match="num_heads: expected a divisor of the 4 dimensions of item vectors, got 3"):
        TransformerEncoder(num_heads=3).build((None, LENGTH, WIDTH))
    with pytest.raises(ValueError, match="num_heads: rotary positions turn pairs of a head's dimensions, got heads of 1"):
        TransformerEncoder(num_heads=4, positions="rotary").build((None, LENGTH, WIDTH))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_blocks": -1}, "num_blocks: expected a number of at least 0"),
        ({"num_heads": 0}, "num_heads: .* at least 1"),
        ({"num_blocks": 0, "inner_dimension": 0}, "inner_dimension: .* at least 1"),
        ({"activation": "tanh"}, "activation: expected one of 'gelu', 'relu'"),
        ({"norm": "none"}, "norm: expected one of 'post', 'pre'"),
        ({"positions": "latest"}, "positions: expected one of 'oldest', 'newest', 'none'"),
        ({"gate": True}, "gate: .* set norm to pre"),
        ({"dropout": 1.0}, "rate: expected a number of at least 0 and below 1"),
        ({"initializer_deviation": -1.0}, "initializer_deviation: .* at least 0"),
    ],
)
def test_impossible_transformers_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerEncoder(**arguments)


def test_an_encoder_from_a_description_gets_the_seed_that_it_takes() -> None:
    transformer = build_encoder({"name": "transformer", "num_blocks": 1}, seed=7)
    assert isinstance(transformer, TransformerEncoder)
    assert (transformer.num_blocks, transformer.seed) == (1, 7)
    assert isinstance(build_encoder({"name": "gru"}, seed=7), GatedRecurrentEncoder)
    with pytest.raises(ValueError, match=r"encoder.num_block: unknown parameter.*did you mean 'num_blocks'"):
        build_encoder({"name": "transformer", "num_block": 1}, seed=7)
    with pytest.raises(ValueError, match="encoder: hidden_dimension: expected"):
        build_encoder({"name": "gru", "hidden_dimension": 0}, seed=7)
