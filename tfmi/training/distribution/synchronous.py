"""Steps that several replicas take together: each computes the gradient of its part of a batch, and all apply the mean."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.training.distribution.twin import TwinPlan, copy_state, training_state
from tfmi.training.steps import BatchStream

_OVER = (-1, 0)


class SynchronousSteps:
    """Steps under ``MirroredStrategy`` or ``MultiWorkerMirroredStrategy``. A ``StepRunner``.

    A batch of the configuration's size is cut into equal parts, one for each replica. Of objectives that compare the targets of a batch
    with each other, each replica compares those of its part.

    Args:
        strategy: The strategy.
        plan: Makes the twin.
        model: The model whose weights are taken over and brought back; None in a process that only helps (``follow``).
        num_processes: How many processes train together.

    Raises:
        ConfigError: The batch cannot be cut into equal parts.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        plan: TwinPlan,
        model: tf.keras.Model | None,
        num_processes: int = 1,
    ) -> None:
        replicas, batch_size = strategy.num_replicas_in_sync, plan.config.training.batch_size
        if batch_size % replicas:
            raise ConfigError(
                f"training.batch_size: {batch_size} examples cannot be cut into {replicas} equal parts, one for each "
                f"replica; take a multiple of {replicas}"
            )
        self._strategy = strategy
        with strategy.scope():
            self._twin = plan.make()
        self._of_twin = training_state(self._twin)
        self._of_model = None if model is None else training_state(model)
        self._is_alone = not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        # All processes have to stop after the same step, and only the chief knows of a wish to stop.
        self.stops_within_rounds = self._is_alone
        self._replicas_each = max(1, replicas // num_processes)
        self._sum = tf.function(self._sum_over_processes, autograph=False)

    def load(self) -> None:
        """See ``StepRunner``: the weights reach the other processes, too."""
        if self._of_model is not None:
            copy_state(self._of_model, self._of_twin)
        if not self._is_alone:
            self._take_over_from_chief()

    def run(self, batches: BatchStream, first_step: int, steps: int, callbacks: Sequence[tf.keras.callbacks.Callback]) -> dict[str, float]:
        """See ``StepRunner``."""
        if not self._is_alone:
            self._agreed((first_step, steps))
        losses = self._run(batches, first_step, steps, callbacks)
        if self._of_model is not None:
            copy_state(self._of_twin, self._of_model)
        return losses

    def close(self) -> None:
        """See ``StepRunner``: sends the other processes home."""
        if not self._is_alone:
            self._agreed(_OVER)

    def follow(self, batches: BatchStream) -> None:
        """Take part in all steps that the chief asks for, until it is done."""
        self.load()
        while (asked := self._agreed(None)) != _OVER:
            self._run(batches, *asked, [])

    def _run(self, batches: BatchStream, first_step: int, steps: int, callbacks: Sequence[tf.keras.callbacks.Callback]) -> dict[str, float]:
        def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
            each = context.num_replicas_in_sync // context.num_input_pipelines
            first = context.input_pipeline_id * each
            parts = [batches.part(first + replica, context.num_replicas_in_sync).from_step(first_step) for replica in range(each)]
            # The strategy deals out what a pipeline gives in turns.
            return parts[0] if each == 1 else tf.data.Dataset.choose_from_datasets(parts, tf.data.Dataset.range(each).repeat())

        data = self._strategy.distribute_datasets_from_function(of_process)
        history = self._twin.fit(data, epochs=1, steps_per_epoch=steps, callbacks=list(callbacks), verbose=0)
        return {name: float(values[-1]) for name, values in history.history.items()}

    def _agreed(self, said: tuple[int, int] | None) -> tuple[int, int]:
        """What the chief says: first step and number of steps. Every process has to ask; the chief says it, all others say None."""
        first, steps = self._sum(tf.constant(said or (0, 0), tf.int64)).numpy().tolist()
        return first, steps

    def _take_over_from_chief(self) -> None:
        is_chief = self._of_model is not None
        for entry in self._of_twin:
            # Of what is no number there is nothing but constants, which every process has from its data.
            if entry.dtype.is_floating or entry.dtype.is_integer:
                value = tf.convert_to_tensor(entry)
                # Not a product with 0: a table that nobody has filled yet holds what is no number.
                entry.assign(self._sum(value if is_chief else tf.zeros_like(value)))

    def _sum_over_processes(self, value: tf.Tensor) -> tf.Tensor:
        return self._strategy.experimental_local_results(self._strategy.run(self._summed, args=(value,)))[0]

    def _summed(self, value: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        counts = tf.equal(context.replica_id_in_sync_group % self._replicas_each, 0)  # the first replica of each process
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(counts, value, tf.zeros_like(value)))
