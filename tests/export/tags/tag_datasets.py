"""A small dataset of users and tags, and exports of models of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.user_tags.user_tag_models import NUM_CITIES, NUM_TAGS, make_model
from tfmi.config import ExportConfig, IndexConfig
from tfmi.data.dataset import CategoricalFeature, Feature, MultiValuedFeature, NumericFeature, Sequences, Vocabulary
from tfmi.data.tags.tag_dataset import TagDataset, TagEvaluation, TagRows, TagUsers, UserStates
from tfmi.export import ExportedModel
from tfmi.export.tags.export_user_tags import export_user_tags
from tfmi.models.user_tags.user_tag_model import UserTagModel

NUM_USERS, WIDTH, NUM_RESULTS, EXCLUSION_WIDTH, AUDIENCE = 20, 3, 5, 4, 6
NOBODY = NUM_USERS - 1
MEAN_AGE, DEVIATION = 40.0, 10.0


@dataclass(frozen=True)
class ExportedTags:
    """A published model beside the one in memory."""

    model: UserTagModel
    dataset: TagDataset
    folder: Path
    saved: ExportedModel


def make_tag_dataset(num_tags: int = NUM_TAGS, seed: int = 5) -> TagDataset:
    """State s is user s as known at the end; of the last one nothing is known. Some values are unknown to training."""
    rng = np.random.default_rng(seed)
    tags = Vocabulary([f"tag {i}" for i in range(num_tags)])
    liked = np.stack([rng.permutation(num_tags)[:WIDTH] + 2 for _ in range(NUM_USERS)]).astype(np.int32)
    liked[np.arange(WIDTH) >= rng.integers(1, WIDTH + 1, [NUM_USERS, 1])] = 0
    liked[3, 0], liked[NOBODY] = 1, 0
    city = rng.integers(2, NUM_CITIES + 2, NUM_USERS).astype(np.int32)
    city[[4, NOBODY]] = 0
    age = rng.normal(MEAN_AGE, DEVIATION, NUM_USERS).astype(np.float32)
    age[[5, NOBODY]] = np.nan
    fields: dict[str, Feature] = {
        "age": NumericFeature(age, mean=MEAN_AGE, deviation=DEVIATION),
        "city": CategoricalFeature(Vocabulary([f"city {i}" for i in range(NUM_CITIES)]), city),
        "liked": MultiValuedFeature(tags, liked, (rng.uniform(0.5, 2, liked.shape) * (liked > 0)).astype(np.float32)),
    }
    states = np.arange(NUM_USERS, dtype=np.int32)
    counts = rng.permutation(np.arange(2 * tags.num_rows).reshape(2, -1), axis=1)
    counts[:, :2] = 0
    none = Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32), None, None, np.zeros(0, np.int32))
    evaluation = TagEvaluation(np.zeros(0, np.int32), [none, none], [np.zeros(0, bool)] * 2, [none, none])
    rows = TagRows(states, liked, np.zeros([NUM_USERS, 2], np.float32), np.ones([NUM_USERS, 2], np.float32), states, np.zeros(NUM_USERS))
    return TagDataset(
        name="toy",
        tags=tags,
        tag_counts=counts.astype(np.int64),
        task_names=("click", "buy"),
        states=UserStates(fields, states, np.full(NUM_USERS, np.inf)),
        tag_fields=("liked",),
        train=rows,
        valid=rows,
        test=rows,
        valid_tags=evaluation,
        test_tags=evaluation,
        users=TagUsers([f"user {i}" for i in range(NUM_USERS)], states),
    )


def export_tags(
    encoder: dict[str, Any], directory: Path, kind: str, *, widths: dict[str, Any] | None = None, **options: Any
) -> ExportedTags:
    """Export a model with random weights; biases are not 0."""
    model, dataset = make_model(encoder, **options), make_tag_dataset()
    if model._biases is not None:
        model._biases.assign([0.3, -0.7])
    sizes = {"num_results": NUM_RESULTS, "exclusion_width": EXCLUSION_WIDTH, "audience_size": AUDIENCE, "warmup_batch_sizes": [1, 3]}
    folder = export_user_tags(
        model,
        dataset,
        directory,
        export=ExportConfig.model_validate({**sizes, **(widths or {})}),
        index=IndexConfig.model_validate({"kind": kind}),
        metadata={"system": "toy"},
    )
    return ExportedTags(model, dataset, folder, ExportedModel(folder))
