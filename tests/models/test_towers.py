"""Towers: features combine as described, missing values contribute nothing, profiles join every interest."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.data.dataset import CategoricalFeature, Feature, MultiValuedFeature, NumericFeature, VectorFeature, Vocabulary
from tfmi.layers.common.fields import weighted_mean
from tfmi.models.towers import ItemTower, ProfileEncoder, UserTower, select_features

NUM_ROWS = 6


def _features() -> dict[str, Feature]:
    colours = Vocabulary(["red", "green"])
    return {
        "category": CategoricalFeature(colours, np.array([0, 0, 2, 3, 0, 2], np.int32)),
        "tags": MultiValuedFeature(
            Vocabulary(["x", "y", "z"]),
            np.array([[0, 0], [0, 0], [2, 3], [4, 0], [0, 0], [2, 2]], np.int32),
            np.array([[0, 0], [0, 0], [1, 3], [0.5, 0], [0, 0], [1, 1]], np.float32),
        ),
        "price": NumericFeature(np.array([np.nan, np.nan, 1.0, 3.0, np.nan, 2.0], np.float32), mean=2.0, deviation=1.0),
    }


def _weights(tower: ItemTower, name: str) -> np.ndarray:
    return next(w.numpy() for w in tower.trainable_weights if f"/{name}_embeddings" in w.name or w.name.startswith(f"{name}_embeddings"))


def test_ids_alone_are_a_lookup_with_sparse_gradients() -> None:
    tower = ItemTower(NUM_ROWS, 4)
    indices = tf.constant([[2, 3], [5, 0]])
    with tf.GradientTape() as tape:
        vectors = tower(indices)
        loss = tf.reduce_sum(vectors**2)
    np.testing.assert_array_equal(vectors, _weights(tower, "item_id")[indices.numpy()])
    assert isinstance(tape.gradient(loss, tower.trainable_weights[0]), tf.IndexedSlices)


def test_mean_counts_only_the_features_that_an_item_has() -> None:
    tower = ItemTower(NUM_ROWS, 4, _features())
    ids, category, tags, price = (_weights(tower, name) for name in ("item_id", "category", "tags", "numbers"))
    vectors = tower(tf.constant([2, 3, 4])).numpy()
    expected_2 = (ids[2] + category[2] + (tags[2] + 3 * tags[3]) / 4 + (1.0 - 2.0) * price[0]) / 4
    expected_3 = (ids[3] + category[3] + tags[4] + (3.0 - 2.0) * price[0]) / 4
    expected_4 = ids[4] / 2  # no category, no tags; the missing price counts as the mean, which is 0
    np.testing.assert_allclose(vectors, [expected_2, expected_3, expected_4], rtol=1e-5, atol=1e-6)


def test_sum_and_concat() -> None:
    features = {"category": _features()["category"]}
    tower = ItemTower(NUM_ROWS, 4, features, combine="sum")
    np.testing.assert_allclose(tower(tf.constant([2]))[0], _weights(tower, "item_id")[2] + _weights(tower, "category")[2], rtol=1e-6)
    joined = ItemTower(NUM_ROWS, 4, features, combine="concat", hidden=[8])
    assert joined(tf.constant([[2, 3, 4]])).shape == (1, 3, 4)


def test_repeated_items_get_equal_vectors_and_summed_gradients() -> None:
    tower = ItemTower(NUM_ROWS, 4, _features())
    with tf.GradientTape() as tape:
        vectors = tower(tf.constant([[2, 5, 2]]))
        loss = tf.reduce_sum(vectors[:, 0] + vectors[:, 2])
    np.testing.assert_array_equal(vectors[0, 0], vectors[0, 2])
    table = next(w for w in tower.trainable_weights if "item_id" in w.name)
    gradient = tf.convert_to_tensor(tape.gradient(loss, table)).numpy()
    np.testing.assert_allclose(gradient[2], np.full(4, 2 / 4), rtol=1e-6)
    np.testing.assert_array_equal(gradient[5], np.zeros(4))


def test_nothing_to_embed_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to embed"):
        ItemTower(NUM_ROWS, 4, {}, use_id=False)


def test_features_alone_embed_unseen_items() -> None:
    tower = ItemTower(NUM_ROWS, 4, {"category": _features()["category"]}, use_id=False)
    vectors = tower(tf.constant([2, 5, 4])).numpy()
    np.testing.assert_array_equal(vectors[0], vectors[1])  # the same category
    np.testing.assert_array_equal(vectors[2], np.zeros(4))  # nothing known


class TestItemsWithoutId:
    def test_the_id_is_left_out_in_training_as_often_as_asked(self) -> None:
        tower = ItemTower(NUM_ROWS, 4, {"category": _features()["category"]}, id_dropout=0.25, seed=3)
        ids, category = _weights(tower, "item_id"), _weights(tower, "category")
        drawn = np.stack([tower(tf.constant([2]), training=True)[0] for _ in range(400)])
        left_out = np.isclose(drawn, category[2]).all(axis=1)
        assert left_out.mean() == pytest.approx(0.25, abs=0.07)
        np.testing.assert_allclose(drawn[~left_out], np.broadcast_to((ids[2] + category[2]) / 2, drawn[~left_out].shape), rtol=1e-5)
        np.testing.assert_allclose(tower(tf.constant([2]))[0], (ids[2] + category[2]) / 2, rtol=1e-6)
        for _ in range(20):
            np.testing.assert_allclose(tower(tf.constant([2]), training=True, with_ids=True)[0], (ids[2] + category[2]) / 2, rtol=1e-6)

    def test_an_item_of_which_nothing_else_is_known_keeps_it(self) -> None:
        tower = ItemTower(NUM_ROWS, 4, {"category": _features()["category"]}, id_dropout=0.9)
        for _ in range(20):
            np.testing.assert_array_equal(tower(tf.constant([4]), training=True)[0], _weights(tower, "item_id")[4])

    def test_items_that_training_has_not_seen_are_their_features(self) -> None:
        unseen = np.arange(NUM_ROWS) == 5
        tower = ItemTower(NUM_ROWS, 4, {"category": _features()["category"]}, without_id=unseen)
        np.testing.assert_allclose(tower(tf.constant([5]))[0], _weights(tower, "category")[2], rtol=1e-6)
        assert not np.allclose(tower(tf.constant([2]))[0], _weights(tower, "category")[2])

    def test_leaving_ids_out_needs_something_that_is_left(self) -> None:
        with pytest.raises(ConfigError, match="the catalogue has no features"):
            ItemTower(NUM_ROWS, 4, {}, id_dropout=0.1)


def test_vectors_are_scaled_projected_and_missing_where_there_are_none() -> None:
    vectors = np.array([[np.nan] * 3, [np.nan] * 3, [2, 0, 0], [0, 4, 0], [np.nan] * 3, [1, 1, 1]], np.float32)
    tower = ItemTower(NUM_ROWS, 4, {"text": VectorFeature(vectors, scale=2.0)})
    ids, kernel = _weights(tower, "item_id"), _weights(tower, "text_vectors")
    assert kernel.shape == (3, 4)
    np.testing.assert_allclose(tower(tf.constant([3]))[0], (ids[3] + 2 * kernel[1]) / 2, rtol=1e-5)
    np.testing.assert_allclose(tower(tf.constant([4]))[0], ids[4], rtol=1e-6)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tower(tf.constant([4, 3])))
    assert np.isfinite(tf.convert_to_tensor(tape.gradient(loss, tower.tables()["text"])).numpy()).all()


def test_checkpoint_round_trip(tmp_path: object) -> None:
    first, second = ItemTower(NUM_ROWS, 4, _features(), hidden=[5]), ItemTower(NUM_ROWS, 4, _features(), hidden=[5])
    indices = tf.range(NUM_ROWS)
    first(indices), second(indices)
    path = tf.train.Checkpoint(tower=first).write(f"{tmp_path}/tower")
    tf.train.Checkpoint(tower=second).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(first(indices), second(indices))


def test_weighted_mean_of_nothing_is_zero() -> None:
    mean = weighted_mean(tf.ones([2, 3, 4]), tf.constant([[0.0, 0.0, 0.0], [1.0, 0.0, 3.0]]))
    np.testing.assert_allclose(mean, [np.zeros(4), np.ones(4)])


def test_select_features_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'category'"):
        select_features(["categroy"], _features(), "model.item_tower.features")
    assert list(select_features("auto", _features(), "x")) == ["category", "tags", "price"]
    assert select_features([], _features(), "x") == {}


def test_profile_vector_is_the_concatenation_and_unknown_is_zero() -> None:
    encoder = ProfileEncoder(_features(), dimension=3)
    profile = {
        "category": tf.constant([2, 0]),
        "price": tf.constant([0.5, 0.0]),
        "tags": tf.constant([[2, 3], [0, 0]]),
        "tags_weights": tf.constant([[1.0, 1.0], [0.0, 0.0]]),
    }
    vector = encoder(profile).numpy()
    assert vector.shape == (2, 3 + 1 + 3)
    assert vector[0, 3] == 0.5
    np.testing.assert_array_equal(vector[1], np.zeros(7))
    np.testing.assert_array_equal(encoder(encoder.unknown(2)).numpy(), np.zeros((2, 7)))
    assert (encoder.feature_names, encoder.field_widths) == (["category", "price", "tags"], [3, 1, 3])


def test_user_tower_shares_layers_over_interests_and_joins_the_profile() -> None:
    interests = tf.random.stateless_normal([2, 3, 4], [1, 2])
    interests = tf.concat([interests, interests[:, :1]], axis=1)  # interest 3 repeats interest 0
    tower = UserTower(5, hidden=[6], joins_profile=True)
    users = tower(interests, tf.constant([[1.0, 0.0], [0.0, 1.0]]))
    assert users.shape == (2, 4, 5)
    np.testing.assert_allclose(users[:, 0], users[:, 3], rtol=1e-6)
    other = tower(interests, tf.constant([[0.0, 1.0], [0.0, 1.0]]))
    assert np.abs(users[0] - other[0]).min(axis=-1).max() > 0
    np.testing.assert_allclose(users[1], other[1], rtol=1e-6)


def test_user_tower_may_leave_the_profile_to_the_extractor() -> None:
    interests = tf.ones([1, 2, 4])
    assert UserTower(4)(interests, tf.ones([1, 3])) is interests


def test_user_tower_without_layers_is_the_identity() -> None:
    interests = tf.ones([1, 2, 4])
    assert UserTower(4)(interests) is interests
    assert UserTower(4).trainable_weights == []
