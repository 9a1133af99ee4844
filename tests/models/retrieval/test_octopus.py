"""Octopus as a whole: what it is trained with, and which lists its elastic interests give."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.data.dataset import EvaluationSet, Sequences
from tfmi.evaluation.full_catalogue import recommend
from tfmi.layers.extractors.multi_interest.elastic_archive import ElasticArchive
from tfmi.layers.readouts.label_aware_attention import LabelAwareAttention
from tfmi.losses.objectives.full_softmax import FullSoftmax
from tfmi.losses.regularizers.channel_orthogonality import ChannelOrthogonality, squared_cosines
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.systems import load_config
from tfmi.models.towers import ItemTower, UserTower

NUM_ROWS, LENGTH, WIDTH = 42, 6, 8
HISTORIES = np.array([[2, 9, 17, 30, 4, 23], [5, 6, 0, 0, 0, 0], [11, 0, 0, 0, 0, 0], [8, 8, 12, 0, 0, 0]], np.int32)


def make_octopus(normalize: bool = True, weight: float = 0.1, project: bool = False) -> InterestRetrieval:
    """A small Octopus whose channels are not orthogonal."""
    tf.keras.utils.set_random_seed(3)
    model = InterestRetrieval(
        item_tower=ItemTower(NUM_ROWS, WIDTH),
        user_tower=UserTower(WIDTH, project=project),
        extractor=ElasticArchive(6, max_channels=4),
        readout=LabelAwareAttention(),
        objective=FullSoftmax(),
        regularizers={"orthogonality": ChannelOrthogonality(weight)},
        history_length=LENGTH,
        normalize=normalize,
        temperature=0.1,
    )
    model.compute_loss(batch_of(HISTORIES))
    model.extractor.channels.assign(tf.random.normal([6, WIDTH]))
    return model


def batch_of(histories: np.ndarray, target: int = 7) -> dict[str, tf.Tensor]:
    return {"history": tf.constant(histories, tf.int32), "target": tf.fill([len(histories)], target)}


def test_the_recipe_has_as_many_channels_as_dimensions_and_competing_interests() -> None:
    config = load_config(system="octopus")
    assert config.model.extractor["num_channels"] == config.model.dimension == 64
    assert config.model.regularizers == {"orthogonality": {"name": "channel_orthogonality", "weight": 0.1}}
    assert config.index.integration == "competitive"


def test_the_loss_is_the_match_of_the_best_channel_and_the_orthogonality() -> None:
    model = make_octopus()
    interests, active = (tensor.numpy() for tensor in model.user_interests(UserInputs(tf.constant(HISTORIES))))
    items = model.item_vectors().numpy()
    losses = []
    for user in range(len(HISTORIES)):
        scores = np.where(active[user], interests[user] @ items[7], -np.inf)
        logits = items[2:] @ interests[user, scores.argmax()] / 0.1
        losses.append(np.log(np.exp(logits).sum()) - logits[7 - 2])
    expected = np.mean(losses) + 0.1 * float(squared_cosines(model.extractor.channels))
    np.testing.assert_allclose(model.compute_loss(batch_of(HISTORIES)), expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_competing_interests_give_the_items_of_the_best_active_score_even_where_all_are_negative(sign: float) -> None:
    model = make_octopus(normalize=False, project=True)
    # Items and their means have a large first coordinate: with the signs turned around, every score is below 0.
    table = tf.concat([tf.fill([NUM_ROWS, 1], 3.0), 0.2 * tf.random.normal([NUM_ROWS, WIDTH - 1])], axis=1)
    model.item_tower.trainable_variables[0].assign(table)
    model.user_tower.set_weights([sign * np.eye(WIDTH), np.zeros(WIDTH)])
    interests, active = (tensor.numpy() for tensor in model.user_interests(UserInputs(tf.constant(HISTORIES))))
    assert not active.all()
    assert (interests[~active] == 0).all()  # they would score 0
    scores = np.einsum("bkd,nd->bkn", interests, table.numpy()[2:])
    assert (np.sign(scores[active]) == sign).all()
    best = np.where(active[:, :, None], scores, -np.inf).max(axis=1)
    lengths = (HISTORIES > 0).sum(axis=1)
    rows = np.arange(len(HISTORIES), dtype=np.int32)
    histories = Sequences(np.concatenate([[0], np.cumsum(lengths)]), HISTORIES[HISTORIES > 0], None, None, rows)
    targets = Sequences(np.arange(len(rows) + 1), np.full(len(rows), 7, np.int32), None, None, rows)
    found = recommend(model, EvaluationSet(histories, targets), 15, batch_size=3)
    order = np.argsort(-best, axis=1, kind="stable")[:, :15]
    np.testing.assert_array_equal(found.items, order + 2)
    np.testing.assert_allclose(found.scores, np.take_along_axis(best, order, axis=1), rtol=1e-5)


def test_an_empty_history_teaches_nothing() -> None:
    model = make_octopus(weight=0.0)
    for histories, learns in [(HISTORIES[:2], True), (np.zeros_like(HISTORIES[:2]), False)]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch_of(histories), training=True)
        gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
        largest = max(float(tf.reduce_max(tf.abs(tf.convert_to_tensor(gradient)))) for gradient in gradients)
        assert (largest > 0) == learns
