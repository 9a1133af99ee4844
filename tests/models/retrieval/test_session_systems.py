"""Session systems as their recipes put them together: what they learn, and that what is served is what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import make_catalogue
from tfmi.config import ExportConfig
from tfmi.data.loading import load_dataset
from tfmi.export.retrieval.retrieval_signatures import RetrievalSignatures
from tfmi.index.exact import ExactIndex
from tfmi.layers.base import EXTRACTORS, READOUTS
from tfmi.losses.base import OBJECTIVES
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.systems import SYSTEMS, load_config
from tfmi.models.towers import ItemTower, UserTower
from tfmi.training.optimizers import RowSparseAdam

SESSION_SYSTEMS = ["fpmc", "gc_san", "mtaw", "narm", "nextitnet", "sr_gnn", "stamp"]
NUM_ITEMS, LENGTH, WIDTH = 30, 6, 16


def model_of(system: str, objective: str | None = None) -> InterestRetrieval:
    """A small model of the recipe."""
    tf.keras.utils.set_random_seed(3)
    recipe = SYSTEMS[system].recipe["model"]
    given = {"num_rows": NUM_ITEMS + 2} if "num_rows" in EXTRACTORS.parameters(recipe["extractor"]["name"]) else {}
    return InterestRetrieval(
        item_tower=ItemTower(NUM_ITEMS + 2, WIDTH),
        user_tower=UserTower(WIDTH),
        extractor=EXTRACTORS.build({**recipe["extractor"], **given}, "extractor"),
        readout=READOUTS.build(recipe["readout"], "readout"),
        objective=OBJECTIVES.build({"name": objective} if objective else recipe["objective"], "objective"),
        regularizers={},
        history_length=LENGTH,
        normalize=recipe["normalize"],
        temperature=recipe["temperature"],
        history_dropout=recipe["history_dropout"],
    )


def cycle(direction: int) -> dict[str, tf.Tensor]:
    """Sessions that walk around a circle of all items, of 1 to 6 clicks, and the item after the last."""
    random = np.random.default_rng(0)
    newest = np.tile(np.arange(NUM_ITEMS), 3)
    counts = random.integers(1, LENGTH + 1, len(newest))
    ages = counts[:, None] - 1 - np.arange(LENGTH)
    history = np.where(ages >= 0, 2 + (newest[:, None] - direction * ages) % NUM_ITEMS, 0)
    target = 2 + (newest + direction) % NUM_ITEMS
    return {"history": tf.constant(history, tf.int32), "target": tf.constant(target, tf.int32)}


def best_items(model: InterestRetrieval, history: tf.Tensor) -> np.ndarray:
    interests, _ = model.user_interests(UserInputs(history))
    scores = interests.numpy()[:, 0] @ model.item_vectors().numpy().T
    return scores[:, 2:].argmax(axis=1) + 2


@pytest.mark.slow
@pytest.mark.parametrize(("system", "objective", "steps"), [("fpmc", None, 100), ("fpmc", "bpr", 400), ("mtaw", None, 150)])
def test_a_directed_cycle_is_learned_in_its_direction(system: str, objective: str | None, steps: int) -> None:
    batch = cycle(1)
    model = model_of(system, objective)
    model.compile(optimizer=RowSparseAdam(0.02))
    model.fit(tf.data.Dataset.from_tensors(batch).repeat(), steps_per_epoch=steps, verbose=0)
    hits = best_items(model, batch["history"]) == batch["target"].numpy()
    assert hits.mean() > 0.95


@pytest.mark.parametrize("system", SESSION_SYSTEMS)
def test_unknown_items_anywhere_change_nothing(system: str) -> None:
    model = model_of(system)
    clean, _ = model.user_interests(UserInputs(tf.constant([[5, 9, 5, 4, 0, 0]])))
    messy, _ = model.user_interests(UserInputs(tf.constant([[1, 5, 9, 5, 1, 4]])))
    np.testing.assert_allclose(clean, messy, atol=1e-6)
    assert np.abs(clean).max() > 0


@pytest.mark.slow
def test_a_servable_knows_which_items_a_history_holds(tmp_path: Path) -> None:
    model = model_of("sr_gnn")
    history = tf.constant([[5, 9, 5, 4, 0, 0], [7, 0, 0, 0, 0, 0]])
    names = tf.constant(["", "", *(f"item-{number}" for number in range(NUM_ITEMS))])
    expected = tf.gather(names, best_items(model, history))
    RetrievalSignatures(model, ExactIndex(model.item_vectors()), make_catalogue(NUM_ITEMS), ExportConfig(num_results=5), {}).save(tmp_path)
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    answers = served(history=tf.gather(names, history))
    np.testing.assert_array_equal(answers["item_ids"][:, 0], expected)
    messy = served(history=tf.constant([["gone", "item-3", "item-7", "", "item-3", "item-2"], ["", "item-5", "", "", "", "gone"]]))
    np.testing.assert_array_equal(messy["item_ids"], answers["item_ids"])


def test_fpmc_is_built_with_a_row_for_each_item_of_the_catalogue() -> None:
    config = load_config(
        system="fpmc", settings=["data.embedded.users=60", "data.embedded.items=60", "data.split.min_user_events=2", "model.dimension=8"]
    )
    dataset = load_dataset(config.data)
    assert build_model(config, dataset).extractor.num_rows == dataset.catalogue.num_rows
