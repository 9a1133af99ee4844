"""A model with message passing among items: losses see the current weights, requests see what was computed for the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import make_catalogue
from tfmi.config import ExportConfig, IndexConfig, RunConfig
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import InteractionDataset, Sequences
from tfmi.data.loading import load_dataset
from tfmi.export import export_savedmodel
from tfmi.export.exported_model import ExportedModel
from tfmi.layers.base import EXTRACTORS, READOUTS
from tfmi.layers.graph.hypergraph import HypergraphPropagation
from tfmi.layers.graph.propagation import ItemPropagation
from tfmi.losses.base import OBJECTIVES, BatchContext, Regularizer
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.systems import load_config
from tfmi.models.towers import ItemTower, UserTower
from tfmi.training.optimizers import RowSparseAdam

NUM_ROWS, LENGTH, DIMENSION = 12, 5, 4


class NextItem(ItemPropagation):
    """Every item takes the vector of the next one, twice as long."""

    def adapt(self, sequences: Sequences, num_rows: int) -> None:
        raise AssertionError("adapted where no data is")

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        return 2.0 * tf.roll(vectors, -1, axis=0)


@pytest.fixture
def tower() -> ItemTower:
    return ItemTower(NUM_ROWS, DIMENSION, propagation=NextItem())


def make_model(tower: ItemTower, **options: Any) -> InterestRetrieval:
    return InterestRetrieval(
        item_tower=tower,
        user_tower=UserTower(DIMENSION),
        extractor=EXTRACTORS.build({"name": "mean_pooling"}, "extractor"),
        readout=READOUTS.build({"name": "label_aware"}, "readout"),
        objective=OBJECTIVES.build({"name": "full_softmax"}, "objective"),
        history_length=LENGTH,
        **{"normalize": False, "regularizers": {}, **options},
    )


BATCH = {"history": tf.constant([[2, 3, 0, 0, 0], [5, 6, 7, 5, 0]]), "target": tf.constant([4, 9])}


def test_lookups_come_from_the_current_weights_within_and_from_the_last_refresh_elsewhere(tower: ItemTower) -> None:
    (table,) = tower.trainable_weights
    assert np.isnan(tower(tf.constant([3]))).all()
    tower.refresh()
    before = 2 * table.numpy()
    table.assign_add(tf.ones_like(table))
    with tower.propagated():
        np.testing.assert_allclose(tower(tf.constant([[3, 5]])), 2 * table.numpy()[[[4, 6]]])
    np.testing.assert_allclose(tower(tf.constant([3, 5])), before[[4, 6]])
    tower.refresh()
    np.testing.assert_allclose(tower(tf.constant([3, 5])), 2 * table.numpy()[[4, 6]])


def test_without_propagation_nothing_is_kept() -> None:
    tower = ItemTower(NUM_ROWS, DIMENSION)
    tower.refresh()
    assert len(tower.weights) == 1


def test_a_loss_propagates_once_and_trains_through_it(tower: ItemTower, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    propagate = NextItem.call

    def counted(self: NextItem, vectors: tf.Tensor) -> tf.Tensor:
        calls.append(1)
        return propagate(self, vectors)

    monkeypatch.setattr(NextItem, "call", counted)
    model = make_model(tower)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(BATCH, training=True)
    assert len(calls) == 1
    # Score by score: the mean of the history's propagated vectors with every propagated vector.
    vectors = np.roll(tower.trainable_weights[0].numpy(), -1, axis=0) * 2
    users = np.stack([vectors[[2, 3]].mean(axis=0), vectors[[5, 6, 7, 5]].mean(axis=0)])
    logits = users @ vectors[2:].T
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[[0, 1], [2, 7]])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    gradient = tf.convert_to_tensor(tape.gradient(loss, tower.trainable_weights[0])).numpy()
    assert (gradient[:2] != 0).any(axis=1).tolist() == [True, False]  # the last item has a message from row 0
    assert (gradient[3:] != 0).any(axis=1).all()


def test_regularizers_see_vectors_before_and_after_propagation(tower: ItemTower) -> None:
    seen: list[BatchContext] = []

    class Nosy(Regularizer):
        def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
            seen.append(context)
            return tf.constant(0.0)

    make_model(tower, regularizers={"nosy": Nosy()}).compute_loss(BATCH)
    table = tower.trainable_weights[0].numpy()
    assert seen[0].unpropagated is not None
    np.testing.assert_allclose(seen[0].unpropagated[1, :4], table[[5, 6, 7, 5]])
    np.testing.assert_allclose(seen[0].history[1, :4], 2 * table[[6, 7, 8, 6]])
    np.testing.assert_array_equal(seen[0].unpropagated[0, 2:], np.zeros([3, DIMENSION]))


@pytest.mark.slow
def test_served_scores_are_those_that_were_trained(tower: ItemTower) -> None:
    model = make_model(tower)
    model.compile(optimizer=RowSparseAdam(0.05))
    model.fit(tf.data.Dataset.from_tensors(BATCH).repeat(), steps_per_epoch=10, verbose=0)
    vectors = model.item_vectors().numpy()
    interests, _ = model.user_interests(UserInputs(BATCH["history"]))
    logits = interests.numpy()[:, 0] @ vectors[2:].T
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(BATCH["target"] - 2, logits)
    np.testing.assert_allclose(model.compute_loss(BATCH), np.mean(losses), rtol=1e-5)


@pytest.mark.slow
def test_an_exported_model_looks_propagated_vectors_up_and_leaves_the_raw_ones_behind(tower: ItemTower, tmp_path: Path) -> None:
    model, catalogue = make_model(tower), make_catalogue(NUM_ROWS - 2)
    folder = export_savedmodel(
        model, catalogue, tmp_path / "propagated", export=ExportConfig(num_results=5), index=IndexConfig(kind="exact")
    )
    history = np.array([[*catalogue.vocabulary.ids[:2], "", "", ""]])
    answer = ExportedModel(folder).predict("serving_default", {"history": history})
    vectors = model.item_vectors().numpy()
    scores = vectors @ vectors[[2, 3]].mean(axis=0)
    np.testing.assert_allclose(answer["scores"][0], np.sort(scores[2:])[::-1][:5], rtol=1e-5)
    tables = [name for name, shape in tf.train.list_variables(str(folder / "variables" / "variables")) if shape == [NUM_ROWS, DIMENSION]]
    assert len(tables) == 2  # the index, and the propagated vectors


def embedded(**model: Any) -> tuple[RunConfig, InteractionDataset]:
    settings = {"data": {"embedded": {"users": 60, "items": 30}}, "model": {"dimension": 4, **model}}
    config = load_config(system="youtube_dnn", overrides=settings)
    return config, load_dataset(config.data)


def test_building_a_model_adapts_its_propagation_to_the_training_data() -> None:
    config, dataset = embedded(item_tower={"propagation": {"name": "hypergraph", "layers": 2, "edges": "sequences"}})
    model = build_model(config, dataset)
    vectors = model.item_vectors()
    assert vectors.shape == (dataset.catalogue.num_rows, 4)
    assert np.isfinite(vectors).all()
    sequences = dataset.train.in_memory()
    propagation = model.item_tower.propagation
    assert isinstance(propagation, HypergraphPropagation)
    places = propagation._places.numpy()
    first, second = sequences.row(0)[:2]
    assert (places == [first, second]).all(axis=1).any()


def test_an_unknown_propagation_is_refused_when_the_configuration_is_read() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'hypergraph'"):
        embedded(item_tower={"propagation": {"name": "hypergraf"}})
