"""A training step that would read all of a table in parts is found before it is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.layers.common.tables import lookup
from tfmi.training.distribution.parameter_server import refuse_whole_tables


class Parts:
    """A table in two parts, as parameter servers hold one."""

    name, shape = "items", (4, 2)

    def __init__(self) -> None:
        self.variables = [tf.Variable(tf.ones([2, 2])), tf.Variable(tf.ones([2, 2]))]


def update(table: Parts) -> tf.Tensor:
    """Look rows up and write some, of each part."""
    for part in table.variables:
        part.scatter_update(tf.IndexedSlices(tf.zeros([1, 2]), tf.constant([0])))
    return tf.add_n([lookup(part, tf.constant([1])) for part in table.variables])


def read(table: Parts) -> tf.Tensor:
    return tf.concat([tf.convert_to_tensor(part) for part in table.variables], axis=0)


def step_of(table: Parts, body: Callable[[Parts], tf.Tensor]) -> tf.types.experimental.ConcreteFunction:
    return tf.function(lambda: body(table), autograph=False).get_concrete_function()


def test_rows_may_be_read_and_written() -> None:
    table = Parts()
    refuse_whole_tables(step_of(table, update), [table, tf.Variable(1.0)])


def test_what_reads_the_whole_table_is_named() -> None:
    table = Parts()
    with pytest.raises(ConfigError, match=r"'items', 4 x 2, in parts.*ReadVariableOp.*sampled_softmax"):
        refuse_whole_tables(step_of(table, read), [table])


def test_a_table_that_is_whole_may_be_read() -> None:
    table = Parts()
    refuse_whole_tables(step_of(table, read), list(table.variables))
