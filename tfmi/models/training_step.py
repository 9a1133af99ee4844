"""What the models have in common in training, and what is done to all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfmi.core.errors import ConfigError
from tfmi.layers.common.randomness import RandomStream

Batch = Mapping[str, Any]

NO_KERAS_FILE = (
    "a Keras file cannot hold this model, which was made for its data: keep it with save(folder) of tfmi.Recommender, Ranker or TagModel "
    "and read it with tfmi.load(folder), publish it with export(folder), or keep the weights alone with model.save_weights(file)"
)


class KerasFileError(ConfigError, NotImplementedError):
    """A model was to be written as a Keras file. To Keras it is not implemented, so that a SavedModel of what holds a model works."""


class TrainedByLoss(tfrs.Model):
    """Base of the models that plain ``fit`` trains by ``compute_loss(inputs, training)``, a float32 scalar.

    Unlike TFRS's own step, this one reports means over the epoch and scales the loss under mixed_float16. Subclasses that report parts
    of the loss update ``part_trackers`` in ``compute_loss``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loss_tracker = tf.keras.metrics.Mean(name="loss")
        self._step: Callable[[Batch], dict[str, tf.Tensor]] = self._take_step

    def compile(self, *arguments: Any, **options: Any) -> None:
        """As Keras, but that a loop of several steps (``steps_per_execution``) traces the step once, and not once more for its outputs."""
        super().compile(*arguments, **options)
        self._step = self._take_step
        several = (options.get("steps_per_execution") or 1) > 1
        with self.distribute_strategy.scope():
            replicated = tf.distribute.has_strategy()  # replicas do not meet inside a function of their own
        if several and not self.run_eagerly and not replicated:
            # Not the function itself, which Keras would write into checkpoints.
            self._step = functools.partial(tf.function(self._take_step, autograph=False))

    def save(self, *arguments: Any, **options: Any) -> None:
        """Refused, as every other way to a Keras file of the whole model: it could be written, and not be read again.

        Weights alone are another matter: ``save_weights`` and ``load_weights`` work as for every Keras model.

        Raises:
            ConfigError: Always; says what to call instead.
        """
        del arguments, options
        raise KerasFileError(NO_KERAS_FILE)

    def get_config(self) -> dict[str, Any]:
        """Refused: what a model is made of depends on its data, which no Keras file holds; see ``save``."""
        raise KerasFileError(NO_KERAS_FILE)

    @property
    def part_trackers(self) -> list[tf.keras.metrics.Mean]:
        """Running means of parts of the loss, reported by their names; none by default."""
        return []

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """The running means that ``fit`` resets at every epoch: the total loss, and the parts of it."""
        return [self._loss_tracker, *self.part_trackers]

    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One step on a batch."""
        return self._step(inputs)

    def _take_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            # Keras layers may add losses of their own (kernel regularisers).
            loss = tf.add_n(
                [self.compute_loss(inputs, training=True), *(tf.cast(tf.reduce_sum(value), tf.float32) for value in self.losses)]
            )
            scales = isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
            # Replicas that step together add up their gradients, and a batch's loss is the mean of their parts'.
            shared = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.get_scaled_loss(shared) if scales else shared
        gradients = tape.gradient(scaled, self.trainable_variables)
        if scales:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        pairs = [(g, v) for g, v in zip(gradients, self.trainable_variables, strict=True) if g is not None]
        self.optimizer.apply_gradients(pairs)
        return self._report(loss)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """The loss of a held-out batch."""
        return self._report(self.compute_loss(inputs, training=False))

    def _report(self, loss: tf.Tensor) -> dict[str, tf.Tensor]:
        self._loss_tracker.update_state(loss)
        return {metric.name: metric.result() for metric in self.metrics}


def create_variables(model: tf.keras.Model, batch: Batch) -> None:
    """Create every variable of the model by computing the loss of one batch, without counting as training; begin its random streams."""
    model.compute_loss(batch, training=False)
    for part in model.submodules:
        if isinstance(part, RandomStream):
            part.begin()
    model.built = True


def free_optimizer(model: tf.keras.Model) -> None:
    """Give back the memory of the optimizer's state, twice that of the weights. The model cannot be trained any further, only used.

    The variables are emptied where they are: compiled steps refer to them for as long as the model lives.
    """
    optimizer = model.optimizer
    variables = optimizer.variables() if callable(optimizer.variables) else optimizer.variables
    for variable in variables:
        tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tf.zeros([0], variable.dtype))


def count_parameters(model: tf.keras.Model) -> int:
    """The number of trainable numbers."""
    return int(sum(variable.shape.num_elements() for variable in model.trainable_variables))
