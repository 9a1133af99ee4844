"""Attention over encoder states: ComiRec-SA's where the encoder adds nothing, and aware of context where it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS
from tfmi.layers.extractors.multi_interest.contextual_self_attention import ContextualSelfAttentiveInterests
from tfmi.layers.extractors.multi_interest.self_attention import SelfAttentiveInterests
from tfmi.layers.sequence_encoders.transformer_encoder import TransformerEncoder

BATCH, LENGTH, WIDTH, INTERESTS = 3, 6, 4, 2
MASK = tf.sequence_mask([6, 3, 1], LENGTH)
ITEMS = tf.constant(np.random.default_rng(0).normal(size=[BATCH, LENGTH, WIDTH]).astype(np.float32))


def built(**arguments: Any) -> ContextualSelfAttentiveInterests:
    """A layer with weights far from where training starts them."""
    layer = ContextualSelfAttentiveInterests(INTERESTS, **arguments)
    layer.build((None, LENGTH, WIDTH))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(scale=0.7, size=weight.shape) for weight in layer.get_weights()])
    return layer


def test_an_encoder_that_only_normalizes_gives_self_attention_with_normalized_keys() -> None:
    layer = ContextualSelfAttentiveInterests(
        INTERESTS, encoder={"name": "transformer", "num_blocks": 0, "positions": "none"}, values="states"
    )
    reference = SelfAttentiveInterests(INTERESTS, positions="none")
    output = layer(ITEMS, MASK)
    normalized = (ITEMS - tf.reduce_mean(ITEMS, -1, keepdims=True)) / tf.sqrt(tf.math.reduce_variance(ITEMS, -1, keepdims=True) + 1e-6)
    reference.build(ITEMS.shape)
    reference.set_weights([layer.hidden_kernel.numpy(), layer.interest_kernel.numpy()])
    expected = reference(normalized, MASK)
    np.testing.assert_allclose(output.weights, expected.weights, atol=1e-5)
    np.testing.assert_allclose(output.interests, expected.interests, atol=1e-5)


@pytest.mark.parametrize("encoder", [{"name": "gru"}, {"name": "transformer"}], ids=str)
def test_interests_are_means_of_items_or_of_states(encoder: dict[str, Any]) -> None:
    of_items = built(encoder=encoder)
    output = of_items(ITEMS, MASK)
    np.testing.assert_allclose(tf.reduce_sum(output.weights, axis=2), 1.0, atol=1e-6)
    np.testing.assert_allclose(output.interests, tf.matmul(output.weights, ITEMS), atol=1e-6)
    np.testing.assert_allclose(output.interests[2], np.repeat(ITEMS[2, :1], INTERESTS, axis=0), atol=1e-6)
    of_states = built(encoder=encoder, values="states")
    states = of_states.sequence_encoder(ITEMS, MASK).states
    np.testing.assert_array_equal(of_states(ITEMS, MASK).weights, output.weights)
    np.testing.assert_allclose(of_states(ITEMS, MASK).interests, tf.matmul(output.weights, states), atol=1e-6)


@pytest.mark.parametrize(
    ("encoder", "knows"),
    [
        ({"name": "gru"}, True),
        ({"name": "transformer", "positions": "none"}, True),
        ({"name": "transformer", "num_blocks": 0, "positions": "none"}, False),
    ],
    ids=str,
)
def test_what_an_item_weighs_depends_on_what_stands_before_it(encoder: dict[str, Any], knows: bool) -> None:
    layer = built(encoder=encoder)
    changed = tf.concat([-ITEMS[:, :1], ITEMS[:, 1:]], axis=1)
    logits, changed_logits = (layer(items, MASK).internals["logits"].numpy() for items in (ITEMS, changed))
    assert np.allclose(logits[0, :, 1:], changed_logits[0, :, 1:], atol=1e-5) != knows


def test_the_encoder_is_one_transformer_block_unless_described_and_takes_the_seed() -> None:
    encoder = ContextualSelfAttentiveInterests(seed=5).sequence_encoder
    assert isinstance(encoder, TransformerEncoder)
    assert (encoder.num_blocks, encoder.seed) == (1, 5)
    described = ContextualSelfAttentiveInterests(encoder={"name": "transformer", "norm": "pre", "seed": 6}, seed=5)
    assert described.sequence_encoder.seed == 6
    copy = ContextualSelfAttentiveInterests.from_config(described.get_config())
    assert copy.sequence_encoder.norm == "pre"
    assert copy.get_config() == described.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": "keys"}, "model.extractor: values: expected one of 'items', 'states', got 'keys'|model.extractor.values"),
        (
            {"encoder": {"name": "lstm"}},
            "model.extractor: unknown sequence encoder 'lstm'; available: dilated_convolution, gru, interest_tracking, transformer",
        ),
        ({"encoder": {"name": "transformer", "heads": 2}}, "model.extractor: encoder.heads: unknown parameter"),
        ({"encoder": {"name": "transformer", "num_blocks": -1}}, "model.extractor: encoder: num_blocks: expected"),
        ({"num_interests": 0}, "num_interests: .* at least 1"),
    ],
)
def test_mistakes_are_refused_with_the_path(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EXTRACTORS.build({"name": "contextual_self_attentive", **arguments}, "model.extractor")


def test_states_of_another_width_are_refused() -> None:
    layer = ContextualSelfAttentiveInterests(encoder={"name": "gru", "hidden_dimension": 5})
    with pytest.raises(ValueError, match="encoder: expected states of the items' width, 4, got 5"):
        layer.build((None, LENGTH, WIDTH))
