"""The newest state of an encoder as a single interest: GRU4Rec's and SASRec's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, READOUTS, InterestExtractor
from tfmi.layers.extractors.single_vector.newest_state import NewestState
from tfmi.layers.sequence_encoders.transformer_encoder import TransformerEncoder
from tfmi.losses.base import OBJECTIVES
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.towers import ItemTower, UserTower

LENGTH, WIDTH = 6, 4
ITEM_COUNTS = [6, 3, 1, 0]
MASK = tf.sequence_mask(ITEM_COUNTS, LENGTH)
ITEMS = tf.constant(np.random.default_rng(0).normal(size=[len(ITEM_COUNTS), LENGTH, WIDTH]).astype(np.float32))


GRU4REC: dict[str, Any] = {"name": "newest_state", "project": True, "encoder": {"name": "gru"}}
SASREC: dict[str, Any] = {"name": "newest_state", "encoder": {"name": "transformer"}}


def recurrent(hidden_dimension: int | None = None, *, use_bias: bool = True, dropout: float = 0.0) -> NewestState:
    encoder = {"name": "gru", "hidden_dimension": hidden_dimension, "use_bias": use_bias}
    return NewestState(encoder, project=True, output_dropout=dropout, use_bias=use_bias)


def randomized(extractor: InterestExtractor) -> InterestExtractor:
    """Weights far from where training starts them, biases included."""
    extractor.build((None, LENGTH, WIDTH))
    rng = np.random.default_rng(1)
    extractor.set_weights([rng.normal(scale=0.7, size=weight.shape) for weight in extractor.get_weights()])
    return extractor


def test_the_recurrent_interest_is_the_projected_state_of_the_newest_item() -> None:
    extractor = randomized(recurrent(5))
    states = extractor.encoder(ITEMS, MASK).states.numpy()
    output = extractor(ITEMS, MASK)
    for user, count in enumerate(ITEM_COUNTS[:3]):
        expected = states[user, count - 1] @ extractor.projection.kernel.numpy() + extractor.projection.bias.numpy()
        np.testing.assert_allclose(output.interests[user, 0], expected, atol=1e-6)
        np.testing.assert_array_equal(output.weights[user, 0], np.eye(LENGTH)[count - 1])


def test_recurrent_weights_with_and_without_bias() -> None:
    shapes = [tuple(weight.shape) for weight in randomized(recurrent(5)).trainable_variables]
    assert shapes == [(WIDTH, 15), (5, 15), (2, 15), (5, WIDTH), (WIDTH,)]
    shapes = [tuple(weight.shape) for weight in randomized(recurrent(use_bias=False)).trainable_variables]
    assert shapes == [(WIDTH, 3 * WIDTH), (WIDTH, 3 * WIDTH), (WIDTH, WIDTH)]


def test_dropout_of_the_recurrent_state_is_for_training() -> None:
    extractor = randomized(recurrent(dropout=0.5))
    expected = extractor(ITEMS, MASK).interests
    np.testing.assert_array_equal(extractor(ITEMS, MASK, training=False).interests, expected)
    assert not np.allclose(extractor(ITEMS, MASK, training=True).interests, expected, atol=1e-3)


def test_the_transformer_interest_is_the_state_of_the_newest_item() -> None:
    extractor = randomized(NewestState())
    states, weights = extractor.encoder(ITEMS, MASK)
    output = extractor(ITEMS, MASK)
    for user, count in enumerate(ITEM_COUNTS[:3]):
        np.testing.assert_allclose(output.interests[user, 0], states[user, count - 1], atol=1e-5)
        np.testing.assert_allclose(output.weights[user, 0], weights[user, count - 1], atol=1e-6)


def test_the_encoder_is_as_described_and_describes_itself() -> None:
    arguments: dict[str, Any] = {
        **{"num_blocks": 3, "num_heads": 4, "inner_dimension": 5, "activation": "relu", "norm": "pre", "positions": "newest", "gate": True},
        **{"causal": True, "dropout": 0.1, "attention_dropout": 0.3, "initializer_deviation": 0.4, "max_length": 9, "seed": 11},
    }
    extractor = NewestState({"name": "transformer", **arguments}, seed=3)
    assert isinstance(extractor.encoder, TransformerEncoder)
    assert arguments.items() <= extractor.encoder.get_config().items()
    assert extractor.get_config()["encoder"] == {"name": "transformer", **arguments}
    assert NewestState({"name": "transformer"}, seed=3).encoder.seed == 3, "an encoder without a seed of its own has the extractor's"


def test_states_of_another_width_need_a_projection() -> None:
    with pytest.raises(ValueError, match="encoder: expected states of the items' width, 4, got 5; set project to true"):
        NewestState({"name": "gru", "hidden_dimension": 5})(ITEMS, MASK)


@pytest.mark.parametrize("spec", [GRU4REC, SASREC, {**SASREC, "encoder": {"name": "transformer", "num_blocks": 0}}], ids=str)
def test_weights_are_constant_exactly_where_no_gradient_passes(spec: dict[str, Any]) -> None:
    extractor = randomized(EXTRACTORS.build(spec, "extractor"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(extractor(ITEMS, MASK).weights))
    gradients = tape.gradient(loss, extractor.trainable_variables, unconnected_gradients="zero")
    flows = any(float(tf.norm(tf.convert_to_tensor(gradient))) > 1e-6 for gradient in gradients)
    assert flows == (extractor.why_weights_are_constant is None)


@pytest.mark.parametrize("spec", [GRU4REC, SASREC], ids=["gru4rec", "sasrec"])
def test_histories_and_candidates_share_one_item_table(spec: dict[str, Any]) -> None:
    model = InterestRetrieval(
        item_tower=ItemTower(9, WIDTH),
        user_tower=UserTower(WIDTH),
        extractor=EXTRACTORS.build(spec, "extractor"),
        readout=READOUTS.build({"name": "label_aware"}, "readout"),
        objective=OBJECTIVES.build({"name": "full_softmax"}, "objective"),
        regularizers={},
        history_length=LENGTH,
    )
    with tf.GradientTape() as tape:
        loss = model.compute_loss({"history": tf.constant([[3, 4, 0, 0, 0, 0]]), "target": tf.constant([5])})
    tables = [variable for variable in model.trainable_variables if variable.shape[0] == 9]
    assert len(tables) == 1
    rows = tf.convert_to_tensor(tape.gradient(loss, tables[0])).numpy()
    assert np.abs(rows[2:]).max(axis=1).min() > 0  # all of them as candidates, and the history's besides
