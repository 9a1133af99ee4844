"""A profile that the extractor reads: its fields, and who joins it to the interests."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.data.dataset import InteractionDataset
from tfmi.data.loading import load_dataset
from tfmi.data.pipeline import training_batches
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.systems import load_config
from tfmi.models.training_step import create_variables

SMALL = ["data.embedded.users=60", "data.embedded.items=60", "data.split.min_user_events=2"]


@pytest.fixture(scope="module")
def dataset() -> InteractionDataset:
    return load_dataset(load_config(system="umi", settings=SMALL).data)


def test_umi_gets_the_widths_of_the_profile_fields_and_joins_the_profile_itself(dataset: InteractionDataset) -> None:
    config = load_config(system="umi", settings=[*SMALL, "model.user_tower.profile_dimension=5"])
    model = build_model(config, dataset)
    assert model.profile_encoder is not None
    assert model.profile_features == ["age_band", "region"]
    assert model.extractor.profile_fields == (5, 5)
    assert not model.user_tower.joins_profile
    batches = training_batches(dataset.train, history_length=20, min_history=1, batch_size=32, seed=1, profiles=dataset.profiles)
    batch = next(iter(batches))
    create_variables(model, batch)
    assert model.user_tower.trainable_weights == []
    users = UserInputs.of_batch(batch)
    known, _ = model.user_interests(users)
    unknown, _ = model.user_interests(users._replace(profile=model.profile_encoder.unknown(len(known))))
    assert np.abs(known - unknown).max() > 1e-4
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    for gradient in tape.gradient(loss, model.profile_encoder.trainable_variables):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0


def test_without_profile_features_umi_reads_the_history_alone(dataset: InteractionDataset) -> None:
    model = build_model(load_config(system="umi", settings=[*SMALL, "model.user_tower.profile_features=[]"]), dataset)
    assert model.profile_features == []
    assert model.extractor.profile_fields == ()
    batch = next(iter(training_batches(dataset.train, history_length=20, min_history=1, batch_size=32, seed=1)))
    create_variables(model, batch)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.name
    interests, active = model.user_interests(UserInputs.of_batch(batch))
    assert np.isfinite(interests).all()
    assert active.numpy().all()


def test_a_profile_that_nobody_reads_is_refused(dataset: InteractionDataset) -> None:
    config = load_config(system="mind", settings=[*SMALL, "model.user_tower.join_profile=false"])
    with pytest.raises(ConfigError, match=r"join_profile: false, but this extractor does not read the profile"):
        build_model(config, dataset)
