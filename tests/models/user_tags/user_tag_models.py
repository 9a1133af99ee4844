"""Small user-tag models for tests."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import CategoricalFeature, Feature, MultiValuedFeature, NumericFeature, Vocabulary
from tfmi.layers.common.fields import FieldEmbedding
from tfmi.layers.user_encoders.tag_tower import TagTower
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS
from tfmi.losses.tasks.task_losses import TASK_LOSSES
from tfmi.models.user_tags.user_tag_model import UserTagModel

DIMENSION, NUM_TAGS, NUM_CITIES = 6, 12, 5
BODY: dict[str, Any] = {"name": "mlp", "hidden": [8]}
UTPM: dict[str, Any] = {"name": "attention_fusion", "hidden": [8]}
KERNELS: dict[str, Any] = {"name": "virtual_kernel", "num_experts": 5, "body": {"name": "deepfm", "hidden": [8]}, "kernel_deviation": 1.0}
TWO_TOWER: dict[str, Any] = {"name": "two_tower", "body": BODY}


def _small(name: str) -> dict[str, Any]:
    """A small encoder of that name."""
    sizes = {"body": BODY, "hidden": [8]}
    return {"name": name, **{size: value for size, value in sizes.items() if size in USER_ENCODERS.parameters(name)}}


# Every one that is registered.
_CHOSEN = {spec["name"]: spec for spec in (UTPM, KERNELS, TWO_TOWER)}
ENCODERS: list[dict[str, Any]] = [_CHOSEN.get(name) or _small(name) for name in USER_ENCODERS.names()]


def tag_vocabulary() -> Vocabulary:
    return Vocabulary([f"tag {i}" for i in range(NUM_TAGS)])


def features(num_cities: int = NUM_CITIES) -> dict[str, Feature]:
    nothing, weights = np.zeros([1, 1], np.int32), np.zeros([1, 1], np.float32)
    return {
        "age": NumericFeature(np.zeros(1, np.float32), mean=0.0, deviation=1.0),
        "city": CategoricalFeature(Vocabulary([f"city {i}" for i in range(num_cities)]), nothing[0]),
        "liked": MultiValuedFeature(tag_vocabulary(), nothing, weights),
    }


def make_model(
    encoder: dict[str, Any],
    num_tasks: int = 2,
    *,
    tower: dict[str, Any] | None = None,
    loss: dict[str, Any] | None = None,
    num_cities: int = NUM_CITIES,
    seed: int = 3,
    **options: Any,
) -> UserTagModel:
    """A model whose weights are made."""
    tf.keras.utils.set_random_seed(seed)
    sizes: dict[str, Any] = {"dimension": DIMENSION, "num_tasks": num_tasks}
    model = UserTagModel(
        field_embedding=FieldEmbedding(features(num_cities), DIMENSION, initializer_deviation=0.5),
        user_encoder=USER_ENCODERS.build({**sizes, **encoder}, "user_encoder"),
        tag_tower=TagTower(NUM_TAGS + 2, **sizes, **{"initializer_deviation": 0.5, **(tower or {})}),
        loss=TASK_LOSSES.build(loss or {"name": "independent"}, "loss"),
        task_names=["click", "buy", "share"][:num_tasks],
        **options,
    )
    model.compute_loss(make_batch(num_tasks=num_tasks))
    return model


def shared_model(encoder: dict[str, Any], **options: Any) -> UserTagModel:
    """A model of these arguments, made once in this process: for tests that leave its weights as they are."""
    return _shared_model(json.dumps([encoder, options]))


@functools.cache
def _shared_model(arguments: str) -> UserTagModel:
    encoder, options = json.loads(arguments)
    return make_model(encoder, **options)


def make_batch(rows: int = 8, num_tasks: int = 2, num_tags: int = 4, seed: int = 0) -> dict[str, Any]:
    """A batch whose last row has no field but the average age, and no tag."""
    rng = np.random.default_rng(seed)

    def bags(width: int) -> np.ndarray:
        drawn = np.stack([rng.permutation(NUM_TAGS)[:width] + 2 for _ in range(rows)])
        there = np.arange(width) < rng.integers(1, width + 1, [rows, 1])
        there[-1] = False
        return (drawn * there).astype(np.int32)

    liked, city = bags(3), rng.integers(2, NUM_CITIES + 2, rows).astype(np.int32)
    city[-1] = 0
    fields = {
        "age": tf.constant(np.where(np.arange(rows) < rows - 1, rng.normal(size=rows), 0), tf.float32),
        "city": tf.constant(city),
        "liked": tf.constant(liked),
        "liked_weights": tf.constant(rng.uniform(0.5, 2, liked.shape) * (liked > 0), tf.float32),
    }
    labels = rng.integers(0, 2, [rows, num_tasks])
    return {
        "fields": fields,
        "tags": tf.constant(bags(num_tags)),
        "labels": tf.constant(labels, tf.float32),
        "weights": tf.ones([rows, num_tasks]),
    }
