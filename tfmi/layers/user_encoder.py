"""User encoders: from a user's fields to the vectors that tags are scored with, for one or several tasks."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer
from tfmi.registry import Registry


class UserEncoder(ConfiguredLayer):
    """Base of the user towers of models that score tags.

    A user is E vectors, the outputs of experts; each task scores tags with an ordered subset of them, mixed by weights that depend on
    the tag alone::

        score_a(u, t) = sum over k in S_a of  g_a,k(t) (E_k . t)

    which is linear in the concatenated vectors, so that one inner-product index answers with the model's own scores. An encoder with one
    vector per task has subsets of one expert and no gate.

    Subclasses implement ``call(fields, training=None)`` with ``fields`` a ``FieldVectors``, returning float [B, E, d].

    Args:
        dimension: d, the width of the vectors.
        num_tasks: A, the number of tasks.
    """

    def __init__(self, dimension: int, num_tasks: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dimension = dimension
        self.num_tasks = num_tasks

    def experts_of(self, task: int) -> tuple[int, ...]:
        """S_a: which of the E vectors a task uses, in the order of its gate's weights. By default every task has one of its own."""
        return (task,)

    def gate(self, task: int, tags: tf.Tensor) -> tf.Tensor:
        """float32 [..., S]: how a task's experts are mixed for tags of vectors ``tags`` [..., d]; by default 1 for a single one."""
        if len(self.experts_of(task)) != 1:
            raise NotImplementedError(f"{type(self).__name__} has several experts for a task and must say how they are mixed")
        return tf.ones([*tf.unstack(tf.shape(tags)[:-1]), 1], tf.float32)


USER_ENCODERS: Registry[UserEncoder] = Registry("user encoder", "tfmi.layers")
