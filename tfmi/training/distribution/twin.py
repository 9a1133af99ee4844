"""A model's twin inside of a strategy's scope: the same weights, laid out as the strategy wants them.

What trains under a strategy is a second model, which is made by the same function. The model itself stays in this process, plain: it is
what is validated, stored and exported, so that checkpoints are the same whatever has trained them. The price is a second copy of weights
and optimizer state on the chief, and copying them once per validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.layers.common.randomness import RandomStream
from tfmi.models.training_step import Batch
from tfmi.training.steps import ready_to_train


@dataclass(frozen=True)
class TwinPlan:
    """How to make a model like the one that is trained.

    Attributes:
        build: Makes the model.
        batch: Any batch, to create variables with.
        config: The run.
        total_steps: Steps that the training is to last.
    """

    build: Callable[[], tf.keras.Model]
    batch: Batch
    config: RunConfig
    total_steps: int

    def make(self) -> tf.keras.Model:
        """The model, compiled, with all its variables."""
        # Replicas in a loop inside the graph get out of step: one sends rows of the next step while another waits for those of this one.
        one_by_one = self.config.training.model_copy(update={"steps_per_execution": 1})
        config = self.config.model_copy(update={"training": one_by_one})
        return ready_to_train(self.build(), self.batch, config, self.total_steps)


def training_state(model: tf.keras.Model) -> list[Any]:
    """Whatever a training step reads or changes: weights, positions of random streams, and the optimizer's variables.

    Shards of one table are one entry, the whole table. The order is the same for two models that are made alike. Running means of the loss
    are left out.
    """
    reported = {id(variable) for metric in model.metrics for variable in metric.variables}
    weights = [variable for variable in model.variables if id(variable) not in reported]
    streams = [part.generator.state for part in model.submodules if isinstance(part, RandomStream)]
    return _whole([*weights, *streams, *_optimizer_variables(model.optimizer)])


def copy_state(source: Sequence[Any], target: Sequence[Any]) -> None:
    """Give every entry of one ``training_state`` the value of the other's.

    Raises:
        ValueError: The two are not of models that are made alike.
    """
    if [entry.shape for entry in source] != [entry.shape for entry in target]:
        raise ValueError("the two models have different variables")
    for of_source, of_target in zip(source, target, strict=True):
        of_target.assign(tf.convert_to_tensor(of_source))


def _optimizer_variables(optimizer: tf.keras.optimizers.Optimizer) -> list[Any]:
    variables = optimizer.variables
    return list(variables() if callable(variables) else variables)


def _whole(variables: Sequence[Any]) -> list[Any]:
    """The variables, each once, with the whole table in the place of its first shard."""
    whole: dict[int, Any] = {}
    for variable in variables:
        container = getattr(variable, "_sharded_container", None)
        table = variable if container is None else container()
        whole.setdefault(id(table), table)
    return list(whole.values())
