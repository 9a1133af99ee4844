"""Steps that workers take each at its own pace, on tables that parameter servers hold in parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.core.errors import ConfigError, TrainingError
from tfmi.models.training_step import Batch
from tfmi.training.distribution.twin import TwinPlan, copy_state, training_state
from tfmi.training.steps import BatchStream

# What a step may do with a table that is in parts: look rows up and write rows. Whatever else reads it moves all of it.
_BY_ROWS = ("ResourceGather", "ResourceGatherNd", "ResourceScatter")
# Seconds between two looks at how far the workers are.
_LOOK = 0.5


class ParameterServerSteps:
    """Steps under ``ParameterServerStrategy``: asynchronous, each on one whole batch. A ``StepRunner``.

    The chief makes the batches and hands them out one by one, so that every example comes once per epoch: a batch that was with a worker
    which dies is given to another one. Tables are cut by rows over the parameter servers, and so are the optimizer's moments beside them.

    Args:
        strategy: The strategy, of which the chief's process is the coordinator.
        plan: Makes the twin.
        model: The model whose weights are taken over and brought back.

    Raises:
        ConfigError: A step reads a whole table that is in parts, as a softmax over the catalogue does.
    """

    stops_within_rounds = True

    def __init__(self, strategy: tf.distribute.ParameterServerStrategy, plan: TwinPlan, model: tf.keras.Model) -> None:
        self._strategy = strategy
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        with strategy.scope():
            self._twin = plan.make()
        self._of_twin, self._of_model = training_state(self._twin), training_state(model)
        self._step = tf.function(self._replica_step, autograph=False, reduce_retracing=True)
        refuse_whole_tables(self._step.get_concrete_function(plan.batch), self._of_twin)

    def load(self) -> None:
        """See ``StepRunner``."""
        copy_state(self._of_model, self._of_twin)

    def run(self, batches: BatchStream, first_step: int, steps: int, callbacks: Sequence[tf.keras.callbacks.Callback]) -> dict[str, float]:
        """See ``StepRunner``. Callbacks hear of steps when they are seen to be done, several at once."""
        for callback in callbacks:
            callback.set_model(self._twin)
            callback.on_epoch_begin(0)
        self._twin.stop_training = False
        self._twin.reset_metrics()
        before = int(self._twin.optimizer.iterations.numpy())
        try:
            self._hand_out(batches, first_step, steps, before, callbacks)
            self._coordinator.join()
        except tf.errors.UnavailableError as error:
            raise TrainingError(
                f"a parameter server is gone ({str(error).splitlines()[0]}), and with it the weights since the last validation; start the "
                "cluster again with --resume, which goes on from there"
            ) from None
        self._tell(before, steps, callbacks)
        copy_state(self._of_twin, self._of_model)
        return self._losses()

    def close(self) -> None:
        """See ``StepRunner``."""
        self._coordinator.join()

    def _hand_out(
        self, batches: BatchStream, first_step: int, steps: int, before: int, callbacks: Sequence[tf.keras.callbacks.Callback]
    ) -> None:
        looked = time.monotonic()
        for batch in batches.from_step(first_step).take(steps):
            self._coordinator.schedule(self._step, args=(batch,))  # waits while the queue is full
            if time.monotonic() - looked > _LOOK:
                self._tell(before, steps, callbacks)
                looked = time.monotonic()
            if self._twin.stop_training:
                return

    def _tell(self, before: int, steps: int, callbacks: Sequence[tf.keras.callbacks.Callback]) -> None:
        done = min(int(self._twin.optimizer.iterations.numpy()) - before, steps)
        if done:
            losses = self._losses()
            for callback in callbacks:
                callback.on_train_batch_end(done - 1, losses)

    def _losses(self) -> dict[str, float]:
        return {metric.name: float(metric.result()) for metric in self._twin.metrics}

    def _replica_step(self, batch: Batch) -> None:
        self._strategy.run(self._train, args=(batch,))

    def _train(self, batch: Batch) -> None:
        self._twin.train_step(batch)


def refuse_whole_tables(step: tf.types.experimental.ConcreteFunction, state: Sequence[Any]) -> None:
    """Raise ``ConfigError`` if a training step reads a table that is in parts otherwise than by rows.

    Args:
        step: The traced step.
        state: ``training_state`` of its model.
    """
    shards = {id(shard.handle): table for table in state if hasattr(table, "variables") for shard in table.variables}
    inside = {id(inner): shards[id(outer)] for outer, inner in step.graph.captures if id(outer) in shards}
    for operation in step.graph.get_operations():
        if operation.type.startswith(_BY_ROWS) or operation.type in ("NoOp", "Identity"):
            continue
        for tensor in operation.inputs:
            table = inside.get(id(tensor))
            if table is not None:
                raise ConfigError(
                    f"training.strategy: parameter_server keeps {table.name!r}, {' x '.join(map(str, table.shape))}, in parts, and a step "
                    f"of this model would read all of it ({operation.type} in {operation.name!r}), as a softmax over the whole catalogue "
                    "and a propagation between items do. Take a sampled objective (model.objective: {name: sampled_softmax}), leave "
                    "model.item_tower.propagation out, or train with multi_worker"
                )
