"""Items by their fields: missing ones are nothing, and histories are averaged over what their items have."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.data.dataset import Catalogue, CategoricalFeature, Feature, MultiValuedFeature, NumericFeature, Vocabulary
from tfmi.models.ranking.item_fields import ItemFields, ItemVectors

DIMENSION = 3


def make_catalogue() -> Catalogue:
    """Items 2 to 5: with everything, without tags, without price, with nothing but an id."""
    features: dict[str, Feature] = {
        "category": CategoricalFeature(Vocabulary(["x", "y"]), np.array([0, 0, 2, 3, 2, 0], np.int32)),
        "price": NumericFeature(np.array([np.nan, np.nan, 3.0, 1.0, np.nan, np.nan], np.float32), mean=2.0, deviation=0.5),
        "tags": MultiValuedFeature(
            Vocabulary(["red", "green"]),
            np.array([[0, 0], [0, 0], [2, 3], [0, 0], [3, 0], [0, 0]], np.int32),
            np.array([[0, 0], [0, 0], [1, 3], [0, 0], [2, 0], [0, 0]], np.float32),
        ),
    }
    return Catalogue(Vocabulary(["a", "b", "c", "d"]), features, None, np.array([0, 0, 9, 4, 1, 0]))


def _fields(**options: bool) -> ItemFields:
    catalogue = make_catalogue()
    return ItemFields(catalogue, DIMENSION, catalogue.features, **options)


def _weights(items: ItemFields, name: str) -> np.ndarray:
    return next(weight.numpy() for weight in items._embedding.weights if name in weight.name)


def test_fields_are_those_that_the_item_has() -> None:
    items = _fields()
    assert items.names == ("category", "item_id", "item_popularity", "price", "tags")
    assert items.width == 5 * DIMENSION
    vectors = items(tf.constant([[2, 3], [4, 5]]))
    assert vectors.fields.shape == (2, 2, 5, DIMENSION)
    assert vectors.first_order.shape == (2, 2, 5, 2)
    expected = [[[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], [[1, 1, 1, 0, 1], [0, 1, 1, 0, 0]]]
    np.testing.assert_array_equal(vectors.present, np.array(expected, bool))
    missing = ~vectors.present.numpy()
    assert (vectors.fields.numpy()[missing] == 0).all()
    assert (vectors.first_order.numpy()[missing] == 0).all()
    assert (vectors.fields.numpy()[~missing] != 0).all()
    tags = _weights(items, "tags")
    np.testing.assert_allclose(vectors.fields[0, 0, 4], (tags[2] + 3 * tags[3]) / 4, rtol=1e-5)
    slope, offset = _weights(items, "price_slope"), _weights(items, "price_offset")
    np.testing.assert_allclose(vectors.fields[0, 0, 3], 2 * slope + offset, rtol=1e-5)


def test_padding_and_unknown_items_are_nothing() -> None:
    for part in _fields()(tf.constant([0, 1])):
        assert not tf.cast(part, tf.bool).numpy().any()


def test_popularity_is_standardised_and_grows_with_the_logarithm_of_the_count() -> None:
    items = _fields(use_id=False)
    assert "item_id" not in items.names
    logarithms = np.log1p([9, 4, 1, 0])
    slope, offset = _weights(items, "item_popularity_slope"), _weights(items, "item_popularity_offset")
    popularity = items(tf.range(2, 6)).fields[:, items.names.index("item_popularity")]
    numbers = (logarithms - logarithms.mean()) / logarithms.std()
    np.testing.assert_allclose(popularity, numbers[:, None] * slope + offset, rtol=1e-4, atol=1e-6)


def test_histories_are_averaged_over_the_items_that_have_the_field() -> None:
    met = _fields()(tf.constant([[2, 4, 3, 0], [5, 0, 0, 0], [0, 0, 0, 0]]))
    mask = tf.constant([[True, True, True, False], [True, False, False, False], [False] * 4])
    averaged = met.averaged(mask)
    np.testing.assert_array_equal(averaged.present, np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0] * 5], bool))
    fields = met.fields.numpy()
    np.testing.assert_allclose(averaged.fields[0, 0], fields[0, :3, 0].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(averaged.fields[0, 4], fields[0, :2, 4].mean(axis=0), rtol=1e-5)  # two of them have tags
    np.testing.assert_allclose(averaged.fields[0, 3], fields[0, [0, 2], 3].mean(axis=0), rtol=1e-5)  # two others a price
    np.testing.assert_array_equal(averaged.fields[2], np.zeros((5, DIMENSION)))
    np.testing.assert_array_equal(averaged.first_order[2], np.zeros((5, 2)))


def test_positions_outside_of_the_mask_do_not_count() -> None:
    vectors = ItemVectors(tf.constant([[[[1.0]], [[np.nan]]]]), tf.constant([[[True], [True]]]), tf.ones([1, 2, 1, 2]))
    np.testing.assert_array_equal(vectors.averaged(tf.constant([[True, False]])).fields, [[[1.0]]])


def test_what_cannot_be_embedded_is_refused() -> None:
    catalogue = make_catalogue()
    with pytest.raises(ConfigError, match="nothing to embed"):
        ItemFields(catalogue, DIMENSION, {}, use_id=False, use_popularity=False)
    with pytest.raises(ConfigError, match="'item_id' has the name of a field"):
        ItemFields(catalogue, DIMENSION, {"item_id": catalogue.features["price"]})


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_first_order_weights(policy: str) -> None:
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        vectors = _fields()(tf.range(2, 6))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert vectors.first_order.dtype == tf.float32
    assert vectors.fields.dtype == tf.as_dtype(policy.removeprefix("mixed_"))
    assert np.isfinite(tf.cast(vectors.fields, tf.float32)).all()
