"""What several traced functions have in common is traced once, and called as it is outside of them."""

from __future__ import annotations

import tensorflow as tf

from tfmi.models.recommender import UserInputs
from tfmi.models.shared_trace import SharedTrace


class Newest:
    """A function of users that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.factor = tf.Variable(2.0)

    def __call__(self, users: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
        self.calls += 1
        return self.factor * tf.cast(users.history[:, 0], tf.float32), users.profile["age"]


def _asked(newest: SharedTrace, width: int | None) -> tf.types.experimental.ConcreteFunction:
    function = tf.function(lambda history, age: newest(UserInputs(history, {"age": age})), autograph=False)
    return function.get_concrete_function(tf.TensorSpec([None, width], tf.int32), tf.TensorSpec([None], tf.float32))


def test_functions_that_call_it_share_one_trace() -> None:
    counting = Newest()
    newest = SharedTrace(counting)
    first, second = _asked(newest, 3), _asked(newest, 3)
    assert counting.calls == 1
    for function in (first, second):
        doubled, age = function(tf.constant([[4, 5, 6], [7, 8, 9]]), tf.constant([30.0, 40.0]))
        assert doubled.numpy().tolist() == [8.0, 14.0]
        assert age.numpy().tolist() == [30.0, 40.0]
        assert [variable is counting.factor for variable in function.graph.variables] == [True]


def test_any_number_of_shapes_is_two_traces() -> None:
    counting = Newest()
    newest = SharedTrace(counting)
    functions = [_asked(newest, width) for width in (1, 2, 3, None)]
    assert counting.calls == 2
    assert functions[-1](tf.constant([[4, 5, 6, 7]]), tf.constant([1.0]))[0].numpy().tolist() == [8.0]


def test_outside_of_a_trace_nothing_is_traced() -> None:
    counting = Newest()
    newest = SharedTrace(counting)
    for value in (1, 2, 3):
        assert newest(UserInputs(tf.fill([value, value], value), {"age": tf.ones([value])}))[0].numpy().tolist() == [2.0 * value] * value
    assert counting.calls == 3
