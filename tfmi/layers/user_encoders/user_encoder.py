"""User encoders: from a user's fields to the vectors that tags are scored with, for one or several tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import tensorflow as tf

from tfmi.core.registry import Registry
from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.fields import FieldVectors


class FieldExplanation(NamedTuple):
    """What an encoder looked at, for explanations. Q is the number of things that look: queries or experts.

    Attributes:
        names: The F fields.
        value_weights: Per field, float32 [B, Q, M_f]: the share of each value in its field; 0 where there is none.
        field_weights: float32 [B, Q, F]: the share of each field; 0 where the user has none.
        by_expert: Whether each of the E experts looks for itself, in their order; otherwise all experts see what all queries look at.
    """

    names: tuple[str, ...]
    value_weights: tuple[tf.Tensor, ...]
    field_weights: tf.Tensor
    by_expert: bool = False


@runtime_checkable
class ExplainsFields(Protocol):
    """A user encoder that can say which fields and values it looked at."""

    def explain(self, fields: FieldVectors) -> FieldExplanation:
        """The attention to each value within its field, and to each field."""


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

    def __init__(self, dimension: int, num_tasks: int = 1, **kwargs: Any) -> None:
        # Embeddings come in the right type, and the weights of their values stay float32.
        super().__init__(**{"autocast": False, **kwargs})
        require_at_least(1, dimension=dimension, num_tasks=num_tasks)

    def experts_of(self, task: int) -> tuple[int, ...]:
        """S_a: which of the E vectors a task uses, in the order of its gate's weights. By default every task has one of its own."""
        return (task,)

    def gate(self, task: int, tags: tf.Tensor) -> tf.Tensor:
        """float32 [..., S]: how a task's experts are mixed for tags of vectors ``tags`` [..., d]; by default 1 for a single one."""
        if len(self.experts_of(task)) != 1:
            raise NotImplementedError(f"{type(self).__name__} has several experts for a task and must say how they are mixed")
        return tf.ones([*tf.unstack(tf.shape(tags)[:-1]), 1], tf.float32)


USER_ENCODERS: Registry[UserEncoder] = Registry("user encoder", "tfmi.layers")


def check_task_experts(task_experts: Sequence[Sequence[int]], num_tasks: int, num_experts: int) -> tuple[tuple[int, ...], ...]:
    """``task_experts`` as tuples; raises ``ValueError`` unless every task has some distinct experts from 0 to ``num_experts - 1``."""
    if len(task_experts) != num_tasks:
        raise ValueError(f"task_experts: expected one list of experts for each of {num_tasks} tasks, got {len(task_experts)}")
    for experts in task_experts:
        if not experts or len(set(experts)) != len(experts) or not all(0 <= expert < num_experts for expert in experts):
            raise ValueError(f"task_experts: expected distinct experts from 0 to {num_experts - 1} for a task, got {list(experts)}")
    return tuple(tuple(experts) for experts in task_experts)


def overlapping_experts(num_tasks: int, num_experts: int) -> tuple[tuple[int, ...], ...]:
    """Experts of each task such that neighbours share some, and every task keeps some to itself.

    The experts are divided, in order, into 2 A - 1 groups as equal as possible, the later ones larger: private to task 0, shared by tasks
    0 and 1, private to task 1, and so on. Of 5 experts, two tasks have 0, 1, 2 and 1, 2, 3, 4. One task has all.

    Raises:
        ValueError: There are fewer experts than groups.
    """
    groups = 2 * num_tasks - 1
    if num_experts < groups:
        raise ValueError(f"num_experts: expected at least {groups} for {num_tasks} tasks, or task_experts to say who uses which")
    smaller, larger_groups = divmod(num_experts, groups)
    sizes = [smaller + (group >= groups - larger_groups) for group in range(groups)]
    starts = [sum(sizes[:group]) for group in range(groups + 1)]
    return tuple(tuple(range(starts[max(2 * task - 1, 0)], starts[min(2 * task + 2, groups)])) for task in range(num_tasks))
