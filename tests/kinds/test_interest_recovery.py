"""A trained model finds the interests that the generator gave its users: several of them, and more than one vector can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfmi.data.dataset import FIRST_INDEX, InteractionDataset
from tfmi.data.loading import load_dataset
from tfmi.data.pipeline import evaluation_batches
from tfmi.kinds.retrieval import InterestsKind
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.systems import load_config
from tfmi.training.run_folder import RunFolder
from tfmi.training.trainer import Trainer

NEAREST = 20
LARGE_SHARE = 0.2


def _train(num_interests: int, path: Path) -> tuple[InterestRetrieval, InteractionDataset]:
    config = load_config(
        settings=[
            "data.embedded.users=1200",
            "data.embedded.items=500",
            f"model.extractor.num_interests={num_interests}",
            "training.max_steps=400",
            "training.evaluate_every=100",
            "training.tensorboard=false",
        ]
    )
    dataset = load_dataset(config.data)
    model = build_model(config, dataset)
    Trainer(model, InterestsKind().task(model, dataset, config), config, RunFolder(path)).train()
    return model, dataset


def _found_interests(model: InterestRetrieval, dataset: InteractionDataset) -> list[set[int]]:
    """Per test user, the true interest that most of the items nearest to each active vector belong to."""
    batches = evaluation_batches(dataset.test, history_length=model.history_length, batch_size=len(dataset.test), profiles=dataset.profiles)
    vectors, active = model.user_interests(UserInputs.of_batch(next(iter(batches))))
    scores = np.einsum("bkd,nd->bkn", vectors.numpy(), model.item_vectors().numpy()[FIRST_INDEX:])
    nearest = np.argsort(-scores, axis=-1)[..., :NEAREST] + FIRST_INDEX
    interests = dataset.truth["item_interests"][nearest]  # [B, K, NEAREST]
    return [
        {int(np.bincount(row).argmax()) for row, is_active in zip(user, flags, strict=True) if is_active}
        for user, flags in zip(interests, active.numpy(), strict=True)
    ]


def _recovered(found: list[set[int]], shown: list[set[int]]) -> float:
    """The mean share of the interests that a user's history shows that were found."""
    return float(np.mean([len(a & b) / len(b) for a, b in zip(found, shown, strict=True)]))


@pytest.mark.slow
def test_several_interests_of_a_user_are_recovered(tmp_path: Path) -> None:
    several, dataset = _train(4, tmp_path / "several")
    one, _ = _train(1, tmp_path / "one")
    histories = dataset.test.histories.padded(several.history_length)
    num_interests = len(dataset.truth["interest_names"])
    shares = [np.bincount(dataset.truth["item_interests"][row[row >= FIRST_INDEX]], minlength=num_interests) for row in histories]
    large = [set(np.flatnonzero(counts >= LARGE_SHARE * counts.sum()).tolist()) for counts in shares]
    # Users with two or more large interests and enough items for as many vectors.
    chosen = [row for row, interests in enumerate(large) if len(interests) >= 2 and shares[row].sum() >= 8]
    assert len(chosen) > 30
    shown = [large[row] for row in chosen]
    found, found_by_one = ([_found_interests(model, dataset)[row] for row in chosen] for model in (several, one))
    assert _recovered(found, shown) > 0.6
    assert _recovered(found, shown) > 1.25 * _recovered(found_by_one, shown)
    assert _recovered(found, shown) > 2 * _recovered(found, shown[1:] + shown[:1])
