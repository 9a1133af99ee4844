"""From a configuration and a dataset of users and tags to a model."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import Feature
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.layers.common.fields import FieldEmbedding
from tfmi.layers.user_encoders.tag_tower import TagTower
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS
from tfmi.losses.tasks.task_losses import TASK_LOSSES
from tfmi.models.towers import select_features
from tfmi.models.user_tags.user_tag_model import UserTagModel


def build_user_tag_model(config: RunConfig, dataset: TagDataset) -> UserTagModel:
    """A model for the dataset's fields, tags and tasks. Sets the global random seed, from which initial weights come.

    Raises:
        ConfigError: A component's parameters, a field's name or a combination is wrong.
    """
    tf.keras.utils.set_random_seed(config.seed)
    user_tags = config.model.user_tags
    fields = select_features(user_tags.fields, dataset.states.fields, "model.user_tags.fields")
    if not fields:
        raise ConfigError("model.user_tags.fields: expected at least one of the data's fields: " + ", ".join(dataset.states.fields))
    of_tags = [name for name in dataset.tag_fields if name in fields]
    sizes = {"dimension": user_tags.dimension, "num_tasks": len(dataset.task_names)}
    try:
        return UserTagModel(
            field_embedding=_field_embedding(config, fields, of_tags),
            user_encoder=USER_ENCODERS.build({**user_tags.encoder, **sizes}, "model.user_tags.encoder", seed=config.seed + 1000),
            tag_tower=TagTower(
                dataset.tags.num_rows,
                user_tags.dimension,
                len(dataset.task_names),
                hidden=user_tags.tag_hidden,
                networks=user_tags.tag_networks,
                embedding_dimension=user_tags.tag_dimension,
                initializer_deviation=user_tags.initializer_deviation,
                seed=config.seed + 2000,
            ),
            loss=TASK_LOSSES.build(user_tags.task_loss, "model.user_tags.task_loss"),
            task_names=dataset.task_names,
            tag_reduce=user_tags.tag_reduce,
            scoring=user_tags.scoring,
            initial_scale=user_tags.initial_scale,
            global_bias=user_tags.global_bias,
            per_tag_labels=user_tags.per_tag_labels,
            tag_dropout_to_one=user_tags.tag_dropout_to_one,
            shared_tag_field=_shared_tag_field(config, of_tags),
            seed=config.seed + 3000,
        )
    except ValueError as error:
        raise ConfigError(f"model.user_tags: {error}") from None


def _field_embedding(config: RunConfig, fields: Mapping[str, Feature], of_tags: list[str]) -> FieldEmbedding:
    user_tags = config.model.user_tags
    return FieldEmbedding(
        fields,
        user_tags.field_dimension or user_tags.dimension,
        initializer_deviation=user_tags.initializer_deviation,
        shared_tables=[of_tags] if user_tags.share_field_tables and len(of_tags) > 1 else [],
    )


def _shared_tag_field(config: RunConfig, of_tags: list[str]) -> str | None:
    if not config.model.user_tags.share_tag_table:
        return None
    if not of_tags:
        raise ConfigError("model.user_tags.share_tag_table: no field of users holds tags")
    return of_tags[0]
