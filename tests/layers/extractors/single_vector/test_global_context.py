"""GCE-GNN: what its interest is made of, from the training data to a served model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.test_metrics import ragged
from tests.export.fake_recommenders import make_catalogue
from tfmi.data.loading import load_dataset
from tfmi.export import export_savedmodel
from tfmi.export.exported_model import ExportedModel
from tfmi.layers.extractors.single_vector.global_context import GlobalContextInterest
from tfmi.layers.graph.global_graph import near_items
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.systems import load_config

NUM_ROWS, WIDTH = 9, 4
CLICKS = tf.constant([[2, 3, 2, 5, 0], [7, 0, 0, 0, 0]])


class Table:
    """Vectors by index."""

    def __init__(self, scale: float = 1.0) -> None:
        self.values = scale * tf.random.stateless_normal([NUM_ROWS, WIDTH], [3, 4])

    def embed(self, item_indices: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return tf.gather(self.values, item_indices)


def test_the_interest_is_soft_attention_over_messages_along_both_graphs() -> None:
    layer, table = GlobalContextInterest(NUM_ROWS, neighbours=3), Table()
    layer.adapt(ragged([[2, 3, 4], [5, 6], [2, 5]]), NUM_ROWS)
    history = table.embed(CLICKS) * tf.cast(CLICKS > 0, tf.float32)[..., None]
    output = layer(history, CLICKS > 0, history_indices=CLICKS, items=table)
    session = layer.in_session(history, CLICKS > 0, CLICKS)
    rows = []
    for row, length in enumerate((4, 1)):
        clicks = history[row, :length]
        mean = tf.repeat(tf.reduce_mean(clicks, axis=0, keepdims=True), length, axis=0)
        received = layer.in_all_sessions(clicks, CLICKS[row, :length], mean, table)
        rows.append(tf.pad(received, [[0, 5 - length], [0, 0]]))
    expected, beta = layer.attention(session + tf.stack(rows), CLICKS > 0)
    np.testing.assert_allclose(output.interests[:, 0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output.internals["attention"][:, 0], beta, rtol=1e-5, atol=1e-6)


def test_what_neighbours_are_like_matters_only_where_there_are_some() -> None:
    layer = GlobalContextInterest(NUM_ROWS)
    layer.adapt(ragged([[2, 3, 4], [5, 6], [7]]), NUM_ROWS)
    history = tf.random.stateless_normal([2, 5, WIDTH], [5, 6])
    plain, scaled = (layer(history, CLICKS > 0, history_indices=CLICKS, items=Table(scale)).interests.numpy() for scale in (1, 3))
    assert not np.allclose(plain[0], scaled[0])
    np.testing.assert_array_equal(plain[1], scaled[1])


@pytest.mark.slow
def test_a_built_system_knows_the_training_data_alone_and_serves_what_it_knows(tmp_path: Path) -> None:
    overrides = {
        "data": {"embedded": {"users": 60, "items": 30}, "history_length": 8},
        "model": {"dimension": 4, "user_tower": {"profile_features": []}},
        "index": {"kind": "exact"},
        "export": {"num_results": 5},
    }
    config = load_config(system="gce_gnn", overrides=overrides)
    dataset = load_dataset(config.data)
    model = build_model(config, dataset)
    near, times = near_items(dataset.train.in_memory(), dataset.catalogue.num_rows, 3, 12)
    np.testing.assert_array_equal(model.extractor.in_all_sessions.near, near)
    np.testing.assert_array_equal(model.extractor.in_all_sessions.times, times)
    history = tf.constant([[3, 4, 3, 0, 0, 0, 0, 0]])
    assert np.isfinite(model.compute_loss({"history": history, "target": tf.constant([5])}, training=True))
    # Export replays its requests on the saved files and compares the answers.
    catalogue = make_catalogue(dataset.catalogue.num_rows - 2)
    folder = export_savedmodel(model, catalogue, tmp_path / "gce", export=config.export, index=config.index)
    ids = catalogue.vocabulary.ids
    answer = ExportedModel(folder).predict("serving_default", {"history": np.array([[ids[1], ids[2], ids[1], *[""] * 5]])})
    interests, _ = model.user_interests(UserInputs(history))
    scores = interests.numpy()[0, 0] @ model.item_vectors().numpy()[2:].T
    np.testing.assert_allclose(answer["scores"][0], np.sort(scores)[::-1][:5], rtol=1e-4)
