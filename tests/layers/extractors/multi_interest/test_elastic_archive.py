"""Octopus' elastic archive against its published properties and an independent implementation."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import InterestOutput
from tfmi.layers.extractors.multi_interest.elastic_archive import ElasticArchive, OrthonormalRows
from tfmi.layers.readouts.label_aware_attention import LabelAwareAttention

BATCH, LENGTH, WIDTH, CHANNELS = 5, 9, 6, 4
ITEM_COUNTS = np.array([9, 5, 2, 1, 0])


def random_inputs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Items and mask of five histories of 0 to 9 items."""
    items = np.random.default_rng(seed).normal(size=[BATCH, LENGTH, WIDTH]).astype(np.float32)
    return items, np.arange(LENGTH) < ITEM_COUNTS[:, None]


def built(num_channels: int = CHANNELS, width: int = WIDTH, **arguments: Any) -> ElasticArchive:
    """A layer whose channels have different lengths and are not orthogonal."""
    layer = ElasticArchive(num_channels, **arguments)
    layer.build((None, LENGTH, width))
    random = np.random.default_rng(2)
    layer.channels.assign(random.normal(size=(num_channels, width)) * random.uniform(0.3, 3.0, size=(num_channels, 1)))
    return layer


def extract(layer: ElasticArchive, items: np.ndarray, mask: np.ndarray) -> InterestOutput:
    return layer(tf.constant(items), tf.constant(mask))


def cosines(items: np.ndarray, channels: np.ndarray) -> np.ndarray:
    return items @ channels.T / np.linalg.norm(items, axis=1, keepdims=True) / np.linalg.norm(channels, axis=1)


def reference_archive(layer: ElasticArchive, items: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The paper's equations for one user of n items in float64: each kept channel's vector [d] and weights [n]."""
    items, channels = items.astype(np.float64), layer.channels.numpy().astype(np.float64)
    scores = (cosines(items, channels) if layer.attention == "cosine" else items @ channels.T) / layer.temperature
    assigned = (cosines(items, channels) if layer.assignment_normalize else scores).argmax(axis=1)
    groups = []
    for channel in sorted(set(assigned.tolist())):
        members = np.flatnonzero(assigned == channel)
        attention = np.exp(scores[members, channel]) / np.exp(scores[members, channel]).sum()
        weights = np.zeros(len(items))
        weights[members] = attention
        groups.append((channel, len(members), (attention * scores[members, channel]).sum(), weights))
    kept = sorted(groups, key=lambda group: (-group[1], -group[2], group[0]))[: layer.max_channels]
    return {channel: (weights @ items, weights) for channel, _, _, weights in sorted(kept, key=lambda group: group[0])}


VARIANTS: list[dict[str, Any]] = [
    {},
    {"max_channels": 2},
    {"max_channels": 1},
    {"num_channels": 30, "max_channels": 3},
    {"attention": "cosine", "temperature": 0.1},
    {"assignment_normalize": True, "temperature": 2.0},
    {"assignment_grad": "straight_through"},
]


@pytest.mark.parametrize("arguments", VARIANTS)
def test_equals_the_equations_written_out(arguments: dict[str, Any]) -> None:
    layer = built(**arguments)
    for seed in range(3):
        items, mask = random_inputs(seed)
        output = extract(layer, items, mask)
        for user, length in enumerate(ITEM_COUNTS[:-1]):
            expected = reference_archive(layer, items[user, :length])
            found = output.internals["channels"][user].numpy()
            assert found[: len(expected)].tolist() == list(expected)
            assert (found[len(expected) :] == -1).all()
            assert output.active[user].numpy().sum() == len(expected)
            for k, (interest, weights) in enumerate(expected.values()):
                np.testing.assert_allclose(output.interests[user, k], interest, atol=1e-5)
                np.testing.assert_allclose(output.weights[user, k, :length], weights, atol=1e-5)


def test_every_item_belongs_to_one_channel_and_weights_sum_to_1_in_each_active_one() -> None:
    items, mask = random_inputs()
    output = extract(built(), items, mask)
    weights, active = output.weights.numpy(), output.active.numpy()
    np.testing.assert_array_equal((weights > 0).sum(axis=1), mask)  # no cap is reached: every real item is somewhere, once
    np.testing.assert_allclose(weights.sum(axis=2)[:-1], active[:-1], atol=1e-6)
    assert (weights[~active] == 0).all()
    assert (active.sum(axis=1) <= np.maximum(ITEM_COUNTS, 1)).all()
    np.testing.assert_array_equal(output.internals["assignment"].numpy() >= 0, mask)
    assert active[0].sum() > 1


def test_an_item_changes_its_own_channel_only() -> None:
    """Purity (Liu et al., SIGIR 2020)."""
    items, mask = random_inputs()
    layer = built()
    before = extract(layer, items, mask)
    items[0, 3] *= 1.1  # a positive factor leaves the assignment
    after = extract(layer, items, mask)
    np.testing.assert_array_equal(after.internals["assignment"], before.internals["assignment"])
    own = (before.internals["channels"][0] == before.internals["assignment"][0, 3]).numpy()
    changed = (after.interests[0] != before.interests[0]).numpy().any(axis=1)
    np.testing.assert_array_equal(changed, own)
    assert own.sum() == 1


def test_histories_are_sets() -> None:
    items, mask = random_inputs()
    order = np.random.default_rng(1).permutation(LENGTH)
    layer = built(max_channels=3)
    expected, output = extract(layer, items, mask), extract(layer, items[:, order], mask[:, order])
    np.testing.assert_allclose(output.interests, expected.interests, atol=1e-6)
    np.testing.assert_array_equal(output.internals["channels"], expected.internals["channels"])
    np.testing.assert_allclose(output.weights, expected.weights.numpy()[:, :, order], atol=1e-6)


def test_permuting_channels_permutes_interests() -> None:
    items, mask = random_inputs()
    layer = built()
    before = extract(layer, items, mask)
    order = np.array([2, 0, 3, 1])
    layer.channels.assign(layer.channels.numpy()[order])
    after = extract(layer, items, mask)
    for user in range(BATCH - 1):
        renamed = order[after.internals["channels"][user].numpy()]  # at -1, too, but these are not looked at
        for k in np.flatnonzero(after.active[user]):
            (former,) = np.flatnonzero(before.internals["channels"][user].numpy() == renamed[k])
            np.testing.assert_allclose(after.interests[user, k], before.interests[user, former], atol=1e-6)


def test_an_empty_history_has_one_interest_of_zeros_and_no_channel() -> None:
    output = extract(built(), *random_inputs())
    assert output.active[-1].numpy().tolist() == [True, False, False, False]
    assert (output.internals["channels"][-1].numpy() == -1).all()
    assert not output.interests[-1].numpy().any()


def test_one_item_is_its_own_interest() -> None:
    items, mask = random_inputs()
    output = extract(built(), items, mask)
    np.testing.assert_allclose(output.interests[3, 0], items[3, 0], atol=1e-6)
    assert output.active[3].numpy().sum() == 1


def test_one_channel_is_one_attentive_mean_of_all_items() -> None:
    items, mask = random_inputs()
    layer = built(num_channels=1)
    assert layer.num_interests == 1
    output = extract(layer, items, mask)
    scores = items[0] @ layer.channels.numpy()[0]
    np.testing.assert_allclose(output.interests[0, 0], np.exp(scores) @ items[0] / np.exp(scores).sum(), atol=1e-5)


@pytest.mark.parametrize(
    ("items", "kept"),
    [
        # Axis-parallel channels. One interest: the channel with more items, however strong the other.
        ([[1, 0, 0], [1, 0, 0], [0, 9, 0]], 0),
        ([[9, 0, 0], [0, 1, 0], [0, 1, 0]], 1),
        # Equally many: the larger attended score; then the lower channel.
        ([[1, 0, 0], [0, 2, 0]], 1),
        ([[0, 0, 2], [0, 2, 0]], 1),
        # 2 and 2 attend to 2; 3 and 0.5 attend to nearly 3.
        ([[2, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0.5, 0]], 1),
    ],
)
def test_the_cap_keeps_the_channels_with_most_items(items: list[list[float]], kept: int) -> None:
    layer = ElasticArchive(3, max_channels=1)
    layer.build((None, None, 3))
    layer.channels.assign(np.eye(3))
    output = layer(tf.constant([items], tf.float32), tf.ones([1, len(items)], tf.bool))
    assert output.internals["channels"].numpy().tolist() == [[kept]]


def test_without_a_cap_nothing_is_lost_and_with_one_the_rest_is_as_before() -> None:
    items, mask = random_inputs()
    free, capped = extract(built(30, max_channels=LENGTH), items, mask), extract(built(30, max_channels=2), items, mask)
    assert free.active.numpy()[0].sum() > 2
    for user in range(BATCH - 1):
        for k in np.flatnonzero(capped.active[user]):
            (same,) = np.flatnonzero(free.internals["channels"][user].numpy() == capped.internals["channels"][user].numpy()[k])
            np.testing.assert_allclose(capped.interests[user, k], free.interests[user, same], atol=1e-6)


def test_only_the_chosen_channel_gets_a_gradient_from_the_match_with_a_target() -> None:
    items, mask = random_inputs()
    items, mask = items[:1], mask[:1]
    layer = built()
    history = tf.constant(items)
    target = tf.constant(np.random.default_rng(5).normal(size=(1, WIDTH)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(history)
        output = layer(history, tf.constant(mask))
        query = LabelAwareAttention()(output.interests, output.active, target)
        loss = tf.reduce_sum(query * target)
    item_gradient, channel_gradient = tape.gradient(loss, [history, layer.channels])
    scores = np.where(output.active[0], output.interests[0].numpy() @ target[0].numpy(), -np.inf)
    chosen = output.internals["channels"][0, int(scores.argmax())].numpy()
    members = output.internals["assignment"][0].numpy() == chosen
    np.testing.assert_array_equal((item_gradient.numpy()[0] != 0).any(axis=1), members)
    assert members.sum() > 1  # else its channel would learn nothing
    np.testing.assert_array_equal((channel_gradient.numpy() != 0).any(axis=1), np.arange(CHANNELS) == chosen)


def test_the_readout_never_chooses_an_inactive_channel_and_ties_go_to_the_lowest_one() -> None:
    layer = ElasticArchive(3, max_channels=3)
    layer.build((None, None, 3))
    layer.channels.assign(np.eye(3))
    history = tf.constant([[[0.0, 0, 1], [1, 0, 0]]])
    output = layer(history, tf.ones([1, 2], tf.bool))
    against_everything, tied = tf.constant([[-1.0, 0, -2]]), tf.constant([[1.0, 0, 1]])
    # The inactive interest of zeros would score 0, more than any active one.
    np.testing.assert_array_equal(LabelAwareAttention()(output.interests, output.active, against_everything), [[1, 0, 0]])
    np.testing.assert_array_equal(LabelAwareAttention()(output.interests, output.active, tied), [[1, 0, 0]])


def test_a_single_item_group_teaches_its_channel_only_through_the_straight_through_gradient() -> None:
    for grad, learns in [("none", False), ("straight_through", True)]:
        layer = built(assignment_grad=grad)
        with tf.GradientTape() as tape:
            interests = layer(tf.ones([1, 1, WIDTH]), tf.ones([1, 1], tf.bool)).interests
            loss = tf.reduce_sum(interests)
        gradient = tf.convert_to_tensor(tape.gradient(loss, layer.channels)).numpy()
        assert bool((gradient != 0).any()) == learns


def test_the_straight_through_gradient_is_that_of_the_probability() -> None:
    layer = built(num_channels=2, assignment_grad="straight_through")
    item = np.random.default_rng(3).normal(size=WIDTH).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant(item[None, None]), tf.ones([1, 1], tf.bool)).interests)
    gradient = tape.gradient(loss, layer.channels)
    scores = layer.channels.numpy() @ item
    probability = np.exp(scores - scores.max())
    probability /= probability.sum()
    best = scores.argmax()
    # d p_best / d h_m = p_best (1[m = best] - p_m) x; the attention of a single item is constant.
    expected = probability[best] * (np.eye(2)[best] - probability)[:, None] * item * item.sum()
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_normalised_assignment_ignores_the_length_of_channels() -> None:
    items, mask = random_inputs()
    for normalize, same in [(True, True), (False, False)]:
        layer = built(assignment_normalize=normalize)
        before = extract(layer, items, mask).internals["assignment"].numpy()
        layer.channels.assign(layer.channels.numpy() * np.array([[100.0], [1], [1], [1]]))
        assert np.array_equal(extract(layer, items, mask).internals["assignment"], before) == same


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 8), (8, 8), (64, 64)])
def test_up_to_as_many_channels_as_dimensions_start_orthonormal(rows: int, columns: int) -> None:
    values = OrthonormalRows()([rows, columns]).numpy()
    np.testing.assert_allclose(values @ values.T, np.eye(rows), atol=1e-5)


def test_more_channels_start_as_different_orthonormal_blocks_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        layer = ElasticArchive(10)
        layer.build((None, None, 4))
    assert "10 channels cannot all be orthogonal in 4 dimensions" in caplog.text
    blocks = [layer.channels.numpy()[start : start + 4] for start in (0, 4, 8)]
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(len(block)), atol=1e-5)
    assert np.abs(blocks[0] - blocks[1]).max() > 0.1
    caplog.clear()
    ElasticArchive(4).build((None, None, 4))
    assert not caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_channels": 0}, "num_channels: expected a number of at least 1, got 0"),
        ({"max_channels": 0}, "max_channels: .* at least 1"),
        ({"attention": "dot"}, "attention: expected one of 'inner_product', 'cosine'"),
        ({"assignment_grad": "soft"}, "assignment_grad: expected one of"),
        ({"temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
        ({"attention": "cosine", "assignment_normalize": True}, "assignment_normalize: expected False with attention 'cosine'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ElasticArchive(**arguments)
