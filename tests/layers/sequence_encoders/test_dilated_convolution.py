"""NextItNet's convolutions against those of Keras, and how far they see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.extractors.single_vector.newest_state import NewestState
from tfmi.layers.sequence_encoders.dilated_convolution import CausalConvolution, DilatedConvolutionEncoder

LENGTH, WIDTH = 40, 3
ITEM_COUNTS = np.array([40, 13, 1, 0, 2])
MASK = np.arange(LENGTH) < ITEM_COUNTS[:, None]


def items() -> np.ndarray:
    return np.random.default_rng(0).normal(size=[len(ITEM_COUNTS), LENGTH, WIDTH]).astype(np.float32)


def randomized(layer: Any, shape: tuple[int | None, ...] = (None, LENGTH, WIDTH)) -> Any:
    layer.build(shape)
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in layer.get_weights()])
    return layer


def convolutional(**options: Any) -> Any:
    """NextItNet's interest."""
    return NewestState({"name": "dilated_convolution", **options}, project=True)


@pytest.mark.parametrize(("width", "dilation"), [(3, 1), (3, 4), (2, 8), (1, 1), (5, 2)])
def test_a_convolution_equals_kerass(width: int, dilation: int) -> None:
    convolution = randomized(CausalConvolution(width, dilation), (None, WIDTH))
    keras = tf.keras.layers.Conv1D(WIDTH, width, padding="causal", dilation_rate=dilation)
    keras.build((None, LENGTH, WIDTH))
    kernel = convolution.projection.kernel.numpy().reshape([width, WIDTH, WIDTH])
    keras.set_weights([kernel[::-1], convolution.projection.bias.numpy()])  # Keras' kernels begin with the oldest item
    places = np.argwhere(MASK)
    rows = convolution(tf.constant(items()[MASK]), tf.constant(places[:, 1]))
    np.testing.assert_allclose(rows, keras(items() * MASK[..., None]).numpy()[MASK], atol=1e-5)


def float64(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)


def normalized(norm: tf.keras.layers.LayerNormalization, values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(values.var(axis=-1, keepdims=True) + 1e-6) * norm.gamma.numpy() + norm.beta.numpy()


def test_states_equal_the_equations_item_by_item() -> None:
    encoder = randomized(DilatedConvolutionEncoder([1, 2], width=3))
    states = encoder(items(), tf.constant(MASK)).states.numpy()
    for user, count in enumerate(ITEM_COUNTS):
        x = float64(items()[user, :count])
        for block in encoder.blocks:
            y = x
            for convolution, norm, factor in zip(block.convolutions, block.norms, (1, 2), strict=True):
                kernels = convolution.projection.kernel.numpy().reshape([3, WIDTH, WIDTH])
                z = np.tile(float64(convolution.projection.bias.numpy()), [count, 1])
                for place in range(count):
                    for step, kernel in enumerate(kernels):
                        older = place - step * factor * block.dilation
                        z[place] += y[older] @ kernel if older >= 0 else 0
                y = np.maximum(normalized(norm, z), 0)
            x = x + y
        np.testing.assert_allclose(states[user, :count], x, atol=1e-4)
        assert not states[user, count:].any()


def test_a_state_sees_exactly_its_receptive_field() -> None:
    encoder = randomized(DilatedConvolutionEncoder([1, 2], width=3))
    reach = 1 + 2 * (1 + 2) + 2 * (2 + 4)
    # Every path has to stay open, which ReLU closes at random.
    for block in encoder.blocks:
        for norm in block.norms:
            norm.beta.assign(tf.fill([WIDTH], 5.0))
    history = tf.constant(items()[:1])
    with tf.GradientTape() as tape:
        tape.watch(history)
        loss = tf.reduce_sum(tf.square(encoder(history, tf.constant(MASK[:1]), newest_only=True).states))
    seen = np.flatnonzero(np.abs(tape.gradient(loss, history).numpy()[0]).max(axis=1) > 0)
    assert seen.tolist() == list(range(LENGTH - reach, LENGTH))


def test_the_interest_is_the_projected_state_of_the_newest_item() -> None:
    extractor = randomized(convolutional(dilations=[1, 4]))
    states = extractor.encoder(items(), tf.constant(MASK)).states.numpy()
    output = extractor(items(), tf.constant(MASK))
    for user in np.flatnonzero(ITEM_COUNTS):
        state = states[user, ITEM_COUNTS[user] - 1]
        expected = state @ extractor.projection.kernel.numpy() + extractor.projection.bias.numpy()
        np.testing.assert_allclose(output.interests[user, 0], expected, atol=1e-4)
        np.testing.assert_array_equal(output.weights[user, 0], np.eye(LENGTH)[ITEM_COUNTS[user] - 1])
    assert not output.interests[3].numpy().any()


def test_two_different_early_items_give_two_interests() -> None:
    extractor = randomized(convolutional())
    changed = items()
    changed[1, 1] += 1.0
    difference = extractor(changed, tf.constant(MASK)).interests - extractor(items(), tf.constant(MASK)).interests
    moved = np.abs(difference).max(axis=(1, 2))
    assert moved[1] > 1e-3
    assert not np.delete(moved, 1).any()


def test_ten_blocks_of_two_dilations_are_the_default() -> None:
    assert convolutional().encoder.dilations == (1, 4) * 5
    assert convolutional().encoder.width == 3


@pytest.mark.parametrize(
    ("options", "message"), [({"dilations": []}, "dilations"), ({"dilations": [0]}, "dilation"), ({"width": 0}, "width")]
)
def test_impossible_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}: expected a number of at least 1"):
        convolutional(**options)
