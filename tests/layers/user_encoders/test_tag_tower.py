"""Tag vectors per task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.user_encoders.tag_tower import TagTower

TAGS = tf.constant([[2, 3], [4, 0]])


def test_without_a_network_a_tag_is_its_embedding() -> None:
    tower = TagTower(6, 4, 2)
    np.testing.assert_array_equal(tower(TAGS, task=1), tf.gather(tower.table, TAGS))


@pytest.mark.parametrize(("networks", "alike"), [("per_task", False), ("shared", True)])
def test_tasks_have_networks_of_their_own_or_one(networks: Any, alike: bool) -> None:
    tower = TagTower(6, 4, 2, hidden=[5], networks=networks, embedding_dimension=3, initializer_deviation=1.0)
    first, second = tower(TAGS, task=0), tower(TAGS, task=1)
    assert first.shape == [2, 2, 4]
    assert np.allclose(first, second) == alike


def test_a_table_can_be_another_layers() -> None:
    table = tf.Variable(tf.random.stateless_normal([6, 4], seed=[1, 2]))
    tower = TagTower(6, 4)
    tower.share_table(table)
    np.testing.assert_array_equal(tower(TAGS), tf.gather(table, TAGS))
    assert [weight is table for weight in tower.trainable_variables] == [True]
    with pytest.raises(ValueError, match=r"needs the shape \(7, 4\), got \(6, 4\)"):
        TagTower(7, 4).share_table(table)


def test_configuration_survives() -> None:
    tower = TagTower(6, 4, 2, hidden=[5], networks="shared", dropout=0.1)
    tower(TAGS)
    copy = TagTower.from_config(tower.get_config())
    copy(TAGS)
    copy.set_weights(tower.get_weights())
    assert copy.get_config() == tower.get_config()
    np.testing.assert_array_equal(copy(TAGS), tower(TAGS))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"embedding_dimension": 3}, "embedding_dimension: without a network"),
        ({"networks": "own"}, "networks"),
        ({"num_rows": 2}, "num_rows"),
    ],
)
def test_impossible_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TagTower(**{"num_rows": 6, "dimension": 4, **parameters})
