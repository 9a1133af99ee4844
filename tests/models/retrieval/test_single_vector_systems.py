"""GRU4Rec and SASRec as whole models under a softmax over all items: what session papers check before they compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.data.dataset import EvaluationSet, Sequences
from tfmi.evaluation.full_catalogue import recommend
from tfmi.evaluation.metrics import ranking_metrics
from tfmi.layers.base import EXTRACTORS
from tfmi.layers.readouts.label_aware_attention import LabelAwareAttention
from tfmi.losses.objectives.full_softmax import FullSoftmax
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.towers import ItemTower, UserTower
from tfmi.training.optimizers import RowSparseAdam

LENGTH, WIDTH = 5, 16
EXTRACTOR: dict[str, dict[str, Any]] = {
    "gru4rec": {"name": "newest_state", "project": True, "encoder": {"name": "gru"}},
    "sasrec": {"name": "newest_state", "encoder": {"name": "transformer"}},
}


def make_model(name: str, num_rows: int) -> InterestRetrieval:
    tf.keras.utils.set_random_seed(3)
    model = InterestRetrieval(
        item_tower=ItemTower(num_rows, WIDTH),
        user_tower=UserTower(WIDTH),
        extractor=EXTRACTORS.build(EXTRACTOR[name], "extractor"),
        readout=LabelAwareAttention(),
        objective=FullSoftmax(),
        regularizers={},
        history_length=LENGTH,
        normalize=False,
        seed=3,
    )
    model.compute_loss({"history": tf.zeros([1, LENGTH], tf.int32), "target": tf.constant([2])})
    return model


def random_prefixes(rows: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct prefixes of 1 to ``LENGTH`` items, and a target of each."""
    random = np.random.default_rng(1)
    lengths = random.integers(1, LENGTH + 1, rows)
    history = random.integers(2, num_rows, (rows, LENGTH)) * (np.arange(LENGTH) < lengths[:, None])
    history[:, 0] = 2 + np.arange(rows) % (num_rows - 2)
    return history.astype(np.int32), random.integers(2, num_rows, rows).astype(np.int32)


def hit_rate(model: InterestRetrieval, history: np.ndarray, target: np.ndarray, n: int) -> float:
    users = np.arange(len(history), dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum((history > 0).sum(axis=1))])
    targets = Sequences(np.arange(len(users) + 1), target, None, None, users)
    examples = EvaluationSet(Sequences(offsets, history[history > 0], None, None, users), targets)
    found = recommend(model, examples, n, batch_size=512)
    assert (found.items >= 2).all()
    return ranking_metrics(found.items, targets, cutoffs=[n], num_rows=model.num_rows)[f"hr@{n}"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXTRACTOR))
def test_memorises_64_examples(name: str) -> None:
    history, target = random_prefixes(64, num_rows=102)
    model = make_model(name, num_rows=102)
    model.compile(optimizer=RowSparseAdam(0.01))
    batch = {"history": tf.constant(history), "target": tf.constant(target)}
    model.fit(tf.data.Dataset.from_tensors(batch).repeat(), steps_per_epoch=150, verbose=0)
    assert hit_rate(model, history, target, 1) > 0.95


@pytest.mark.parametrize("name", sorted(EXTRACTOR))
def test_without_training_it_finds_what_chance_finds(name: str) -> None:
    history, target = random_prefixes(4000, num_rows=202)
    assert hit_rate(make_model(name, num_rows=202), history, target, 20) == pytest.approx(20 / 200, abs=0.015)


@pytest.mark.parametrize("name", sorted(EXTRACTOR))
def test_one_item_of_history_is_enough_and_the_score_is_the_product_with_the_items_that_are_read(name: str) -> None:
    model = make_model(name, num_rows=12)
    interests, active = model.user_interests(UserInputs(tf.constant([[5, 0, 0, 0, 0], [5, 7, 3, 0, 0]])))
    assert active.numpy().tolist() == [[True], [True]]
    target = tf.constant([4, 9])
    loss = model.compute_loss({"history": tf.constant([[5, 0, 0, 0, 0], [5, 7, 3, 0, 0]]), "target": target})
    (table,) = [variable for variable in model.trainable_variables if variable.shape[0] == 12]
    scores = interests.numpy()[:, 0] @ table.numpy()[2:].T
    expected = np.log(np.exp(scores).sum(axis=1)) - scores[[0, 1], target.numpy() - 2]
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
