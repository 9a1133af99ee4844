"""Losses of several binary tasks at once, such as click and conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.core.registry import Registry
from tfmi.layers.base import ConfiguredLayer


class TaskLoss(ConfiguredLayer):
    """Base of the losses of A binary tasks.

    Subclasses implement ``call(logits, labels, weights)``, each float32 [B, A], returning float32 [A]: each task's share of the loss,
    which is their sum. A row of weight 0 counts nothing for that task, and its label may be anything finite.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Logits are float32 under any policy, and stay it.
        super().__init__(**{"autocast": False, **kwargs})

    def check(self, num_tasks: int) -> None:
        """Raise ``ValueError`` with the reason if this loss cannot work with ``num_tasks`` tasks."""

    def action_logits(self, logits: tf.Tensor) -> tf.Tensor:
        """float32 [B, A]: the log-odds that each action happens at all, whatever it depends on; by default ``logits`` themselves."""
        return logits


TASK_LOSSES: Registry[TaskLoss] = Registry("task loss", "tfmi.losses")


def weighted_mean_over_rows(losses: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Over the first axis: the sum of ``losses`` times ``weights``, by the sum of the weights, or by 1 where that is less."""
    return tf.reduce_sum(losses * weights, axis=0) / tf.maximum(tf.reduce_sum(weights, axis=0), 1.0)


@TASK_LOSSES.register("independent")
class IndependentTasks(TaskLoss):
    """Every task for itself: ``lambda_a`` times the weighted mean over rows of the binary cross-entropy, from logits.

    The mean divides by the sum of the weights, or by 1 where that is less: a batch in which a task hardly occurs moves it hardly.

    Args:
        task_weights: lambda_a of each task; None: 1.

    Raises:
        ValueError: A weight below 0.
    """

    def __init__(self, task_weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.task_weights = None if task_weights is None else tuple(task_weights)
        if any(not weight >= 0 for weight in self.task_weights or ()):
            raise ValueError(f"task_weights: expected numbers of at least 0, got {list(self.task_weights or ())}")

    def check(self, num_tasks: int) -> None:
        """There is one weight per task."""
        if self.task_weights is not None and len(self.task_weights) != num_tasks:
            raise ValueError(f"task_weights: expected one weight for each of {num_tasks} tasks, got {len(self.task_weights)}")

    def call(self, logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """float32 [A]."""
        losses = weighted_mean_over_rows(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), weights)
        return losses if self.task_weights is None else losses * tf.constant(self.task_weights, tf.float32)


@TASK_LOSSES.register("entire_space")
class EntireSpaceTasks(TaskLoss):
    r"""Two nested actions, such as click and then conversion, learned on all impressions::

        p_both = sigmoid(z_click) sigmoid(z_conversion)
        L      = BCE(y_click, sigmoid(z_click)) + BCE(y_click y_conversion, p_both)

    The second logit is that of conversion given a click, which is never compared with a label by itself: unclicked rows, of which nobody
    knows whether they would have converted, say something about the product. In log space, ``log(1 - p q)`` as the log of
    ``(1 - p) + p (1 - q)``, which neither overflows nor loses its gradient at the ends.

    A row's second term has the conversion's weight where there was a click; where there was none it is known not to have converted, so
    it has the click's. Conversion without click cannot occur: such a row counts as none.

    Paper: Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate", SIGIR 2018.
    """

    def check(self, num_tasks: int) -> None:
        """There are two tasks."""
        if num_tasks != 2:
            raise ValueError(f"an entire-space loss takes two nested tasks, such as click and conversion, got {num_tasks}")

    def call(self, logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """float32 [2]: the loss of clicks, and of clicks with conversion."""
        click, both = labels[:, 0], labels[:, 0] * labels[:, 1]
        log_both, log_not_both = log_product(logits)
        click_losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=click, logits=logits[:, 0])
        both_losses = -(both * log_both + (1.0 - both) * log_not_both)
        both_weights = tf.where(click > 0, weights[:, 1], weights[:, 0])
        return tf.stack([weighted_mean_over_rows(click_losses, weights[:, 0]), weighted_mean_over_rows(both_losses, both_weights)])

    def action_logits(self, logits: tf.Tensor) -> tf.Tensor:
        """The first, and that of both actions."""
        log_both, log_not_both = log_product(logits)
        return tf.stack([logits[:, 0], log_both - log_not_both], axis=1)


def log_product(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of two logits [B, 2], the log of the product of their sigmoids and of what it lacks to 1, each [B]."""
    log_first, log_second = tf.unstack(tf.math.log_sigmoid(logits), axis=1)
    log_not_first, log_not_second = tf.unstack(tf.math.log_sigmoid(-logits), axis=1)
    log_rest = tf.reduce_logsumexp(tf.stack([log_not_first, log_first + log_not_second], axis=1), axis=1)
    return log_first + log_second, log_rest
