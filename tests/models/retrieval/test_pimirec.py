"""PIMIRec as a whole: times from the data to the interests, and what it is without them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import DataError
from tfmi.data.dataset import EvaluationSet, InteractionDataset
from tfmi.data.loading import load_dataset
from tfmi.data.pipeline import training_batches
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.systems import load_config
from tfmi.models.training_step import create_variables

SMALL = ["data.embedded.users=60", "data.embedded.items=60", "data.split.min_user_events=2"]
Batch = dict[str, tf.Tensor]


@pytest.fixture(scope="module")
def dataset() -> InteractionDataset:
    return load_dataset(load_config(system="pimirec", settings=SMALL).data)


def without_times(dataset: InteractionDataset) -> InteractionDataset:
    def bare(examples: EvaluationSet) -> EvaluationSet:
        return dataclasses.replace(examples, histories=dataclasses.replace(examples.histories, timestamps=None))

    train = dataclasses.replace(dataset.train.in_memory(), timestamps=None)
    return dataclasses.replace(dataset, train=train, valid=bare(dataset.valid), test=bare(dataset.test))


def model_and_batch(dataset: InteractionDataset) -> tuple[InterestRetrieval, Batch]:
    model = build_model(load_config(system="pimirec", settings=SMALL), dataset)
    batches = training_batches(dataset.train, history_length=20, min_history=1, batch_size=32, seed=1, profiles=dataset.profiles)
    batch = next(iter(batches))
    create_variables(model, batch)
    return model, batch


@pytest.mark.slow
def test_times_reach_the_interests_as_intervals_and_are_asked_for_in_serving(dataset: InteractionDataset) -> None:
    model, batch = model_and_batch(dataset)
    assert model.requested_inputs == ("timestamps",)
    users = UserInputs.of_batch(batch)
    assert users.timestamps is not None
    expected, _ = model.user_interests(users)
    real = users.history >= 2
    later = users._replace(timestamps=tf.where(real, users.timestamps + 86_400.0 * 365, 0.0))
    np.testing.assert_allclose(model.user_interests(later)[0], expected, atol=1e-6)
    apart = users._replace(timestamps=tf.where(real, users.timestamps * 3.0, 0.0))
    assert np.abs(model.user_interests(apart)[0] - expected).max() > 1e-5
    with pytest.raises(DataError, match="trained with timestamps, which the histories to recommend for lack"):
        model.user_interests(users._replace(timestamps=None))
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    gradient = tape.gradient(loss, model.extractor.interval_encoding.embeddings)
    assert np.abs(tf.convert_to_tensor(gradient)).max() > 0


@pytest.mark.slow
def test_without_times_it_trains_and_answers_from_the_order_alone(dataset: InteractionDataset) -> None:
    model, batch = model_and_batch(without_times(dataset))
    assert model.requested_inputs == ()
    assert "timestamps" not in batch
    interests, active = model.user_interests(UserInputs.of_batch(batch))
    assert np.isfinite(interests).all()
    assert active.numpy().all()
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    encoding = model.extractor.interval_encoding
    *blocks, unused = tape.gradient(loss, [*(block.input_kernel for block in model.extractor.star_blocks), encoding.embeddings])
    assert all(np.abs(gradient).max() > 0 for gradient in blocks)
    assert unused is None
