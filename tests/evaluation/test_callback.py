"""The callback's metrics in the logs, where Keras' own callbacks find them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_full_catalogue import NUM_ITEMS, random_examples
from tests.export.fake_recommenders import HISTORY_LENGTH, TableRecommender, make_catalogue
from tfmi.config import EvaluationConfig
from tfmi.evaluation.callback import FullCatalogueEvaluation
from tfmi.evaluation.full_catalogue import evaluate

CATALOGUE = make_catalogue(NUM_ITEMS)
CONFIG = EvaluationConfig(cutoffs=[5, 20], batch_size=8)
STEPS_PER_EPOCH = 6


class Trainable(tf.keras.Model):
    """A Keras model that is a ``VectorRecommender``; training moves its table."""

    def __init__(self) -> None:
        super().__init__()
        self.recommender = TableRecommender(CATALOGUE)
        self.table = self.recommender.table
        self.history_length, self.num_rows = HISTORY_LENGTH, CATALOGUE.num_rows
        self.requested_inputs: tuple[str, ...] = ()
        self.user_interests, self.item_vectors = self.recommender.user_interests, self.recommender.item_vectors

    def train_step(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        self.table.assign_add(tf.random.stateless_normal(self.table.shape, [1, tf.cast(inputs[0], tf.int32)]))
        return {"loss": tf.reduce_mean(self.table)}


def fit(callbacks: list[tf.keras.callbacks.Callback], **options: int) -> tuple[Trainable, dict[str, list[float]]]:
    model = Trainable()
    model.compile(steps_per_execution=options.pop("steps_per_execution", 1))
    batches = tf.data.Dataset.range(STEPS_PER_EPOCH).batch(1)
    history = model.fit(batches, epochs=options.pop("epochs", 3), callbacks=callbacks, verbose=0)
    return model, history.history


@pytest.mark.slow
def test_every_epochs_logs_hold_the_metrics_of_the_model_as_it_is_then() -> None:
    callback = FullCatalogueEvaluation(random_examples(), CATALOGUE, config=CONFIG)
    model, history = fit([callback])
    expected = evaluate(model, random_examples(), CATALOGUE, CONFIG)
    assert {name.removeprefix("val_"): values[-1] for name, values in history.items() if name.startswith("val_")} == expected
    assert {"val_recall@20", "val_hr@5", "val_coverage@20", "val_diversity@5"} <= set(history)
    assert [steps for steps, _ in callback.results] == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH]
    assert len({metrics["coverage@5"] for _, metrics in callback.results}) > 1  # the model moved, and so did its metrics


def test_early_stopping_reads_the_metrics() -> None:
    callback = FullCatalogueEvaluation(random_examples(), CATALOGUE, config=CONFIG)
    # Nothing after the first epoch counts as better, so training ends after the second.
    stopping = tf.keras.callbacks.EarlyStopping("val_recall@20", mode="max", patience=1, min_delta=2.0)
    _, history = fit([callback, stopping], epochs=10)
    assert len(history["loss"]) == len(callback.results) == 2
    assert stopping.best == callback.results[0][1]["recall@20"]


@pytest.mark.parametrize(("steps_per_execution", "expected"), [(1, [4, 8, 12, 16]), (3, [6, 9, 12, 18])])
def test_evaluates_every_so_many_steps(steps_per_execution: int, expected: list[int]) -> None:
    callback = FullCatalogueEvaluation(random_examples(), CATALOGUE, config=CONFIG, every_steps=4, prefix="full_")
    _, history = fit([callback], steps_per_execution=steps_per_execution)
    assert [steps for steps, _ in callback.results] == expected
    newest = [[metrics for steps, metrics in callback.results if steps <= end][-1] for end in (6, 12, 18)]
    assert history["full_recall@20"] == [metrics["recall@20"] for metrics in newest]


def test_an_epoch_without_an_evaluation_yet_has_no_metrics() -> None:
    callback = FullCatalogueEvaluation(random_examples(), CATALOGUE, config=CONFIG, every_steps=100)
    _, history = fit([callback], epochs=2)
    assert list(history) == ["loss"]
    assert np.isfinite(history["loss"]).all()
