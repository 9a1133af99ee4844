"""Which items an interest stands for, and means over them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.losses.batch_contexts import ITEM_COUNTS, WIDTH, make_context, random_context
from tfmi.layers.base import EXTRACTORS
from tfmi.losses.base import BatchContext
from tfmi.losses.regularizers.interest_items import interest_items, mean_over_items, raw_interests


def members_of(weights: list[list[float]], threshold: float | None = None, counts: list[int] | None = None) -> list[list[bool]]:
    attention = np.array([weights])
    context = make_context(np.ones([1, len(weights), 2]), np.ones([1, attention.shape[2], 2]), attention, counts=counts)
    return interest_items(context, threshold)[0].numpy().tolist()


def test_members_have_more_than_their_share() -> None:
    assert members_of([[0.5, 0.26, 0.24], [0.32, 0.34, 0.34]]) == [[True, False, False], [False, True, True]]


def test_the_share_is_that_of_real_items() -> None:
    assert members_of([[0.4, 0.6, 0.0, 0.0]], counts=[2]) == [[False, True, False, False]]


def test_a_threshold_replaces_the_share() -> None:
    assert members_of([[0.5, 0.3, 0.2]], threshold=0.25) == [[True, True, False]]
    assert members_of([[0.5, 0.3, 0.2]], threshold=0.5) == [[False] * 3]


def test_padding_is_never_a_member() -> None:
    context = random_context(weights=np.ones([len(ITEM_COUNTS), 3, 5]))  # weights at padding, which no extractor should give
    assert not np.logical_and(interest_items(context, 0.0), ~context.mask[:, None, :]).any()


def test_a_single_item_is_no_member_of_any_interest() -> None:
    assert members_of([[1.0, 0.0], [1.0, 0.0]], counts=[1]) == [[False, False], [False, False]]


@pytest.mark.parametrize("length", [3, 7, 10, 19, 49])
def test_uniform_attention_has_no_members_whatever_its_rounding(length: int) -> None:
    for rounding in (1.0, np.nextafter(np.float32(1), np.float32(2))):
        share = float(tf.nn.softmax(tf.zeros([length]))[0]) * float(rounding)
        assert members_of([[share] * length]) == [[False] * length]


def test_inactive_interests_have_no_members() -> None:
    active = np.array([[True, False]])
    context = make_context(np.ones([1, 2, 2]), np.ones([1, 2, 2]), np.array([[[0.9, 0.1], [0.9, 0.1]]]), active=active)
    assert interest_items(context, None)[0].numpy().tolist() == [[True, False], [False, False]]


def test_routing_weights_count_by_their_share_of_the_interest() -> None:
    # Item 1 flows mostly into interest 0, but is not most of it; item 0 is half of what interest 1 gets.
    assert members_of([[0.5, 0.6, 0.9], [0.5, 0.4, 0.1]]) == [[False, False, True], [True, True, False]]


class EqualItems:
    """Items that all have one vector."""

    def embed(self, item_indices: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return tf.ones([*item_indices.shape, WIDTH])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTRACTORS.names())
def test_every_extractor_has_raw_interests_and_members(name: str) -> None:
    tf.keras.utils.set_random_seed(1)
    context = random_context()
    offered = {
        "profile": tf.ones([len(ITEM_COUNTS), 2]),
        "timestamps": tf.zeros(context.mask.shape, tf.float64),
        "history_indices": tf.where(context.mask, 2 + tf.range(context.mask.shape[1]), 0),
        "items": EqualItems(),
    }
    given = {"num_rows": 2 + context.mask.shape[1]} if "num_rows" in EXTRACTORS.parameters(name) else {}
    extractor = EXTRACTORS.build({"name": name, **given}, "extractor")
    output = extractor(context.history, context.mask, **{key: offered[key] for key in extractor.requested_inputs()})
    context = context._replace(output=output)
    assert raw_interests(output).shape == output.interests.shape
    members = interest_items(context, None).numpy()
    assert members.shape == output.weights.shape
    assert not members[3:].any()  # one item, none


def test_raw_interests_are_those_before_an_extractors_own_transform() -> None:
    output = random_context().output
    np.testing.assert_array_equal(raw_interests(output), output.interests)
    before = output.interests + 1.0
    np.testing.assert_array_equal(raw_interests(output._replace(internals={"raw_interests": before})), before)


def test_means() -> None:
    losses = tf.constant([[[1.0, 2.0, np.inf], [4.0, np.nan, 6.0]]])
    members = tf.constant([[[True, True, False], [False, False, True]]])
    assert float(mean_over_items(losses, members, "items")) == pytest.approx(3.0)
    assert float(mean_over_items(losses, members, "cells")) == pytest.approx(1.5)
    assert float(mean_over_items(losses, tf.zeros_like(members), "items")) == 0.0


def test_no_gradient_passes_through_membership() -> None:
    context = random_context()

    def loss(weights: tf.Tensor) -> tf.Tensor:
        changed: BatchContext = context._replace(output=context.output._replace(weights=weights))
        return tf.reduce_sum(tf.cast(interest_items(changed, None), tf.float32))

    with tf.GradientTape() as tape:
        tape.watch(context.output.weights)
        value = loss(context.output.weights)
    assert float(value) > 0
    assert tape.gradient(value, context.output.weights) is None
