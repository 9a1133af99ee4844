"""Adam whose step costs as much as the rows that a batch touches, and its learning-rate schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from tfmi.config import OptimizerConfig
from tfmi.core.errors import ConfigError

Schedule: TypeAlias = tf.keras.optimizers.schedules.LearningRateSchedule


@tf.keras.utils.register_keras_serializable(package="tfmi")
class RowSparseAdam(tf.keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015) that updates only the touched rows of a weight whose gradient is ``tf.IndexedSlices``.

    Keras' Adam decays both moments of *every* row at every step, so that a step over an embedding table costs as much as the table is
    long. Here a row that a batch does not touch keeps its weight and both moments, bit for bit:

        for the rows r of the gradient, each once, g_r summed over duplicates:
        m_r <- m_r + (1 - beta_1) (g_r - m_r);  v_r <- v_r + (1 - beta_2) (g_r^2 - v_r)
        w_r <- w_r - learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m_r / (sqrt(v_r) + epsilon)

    t is the optimizer's step, the same for every row. Where every row is touched at every step, and for dense gradients, this is Keras'
    Adam. A row touched for the first time late in training moves by (1 - beta_1) / sqrt(1 - beta_2) learning rates (3.2 by
    default), as it does in Keras' Adam, where the remaining momentum would then carry it on for some ten steps more.

    Clipping sees each row once, with its duplicates summed: clipping the summands, as Keras does, is clipping another gradient.

    ``weight_decay`` is decoupled, as in AdamW (Loshchilov & Hutter 2019): before its step a weight shrinks by ``learning_rate
    weight_decay`` of itself. Of a row-sparse gradient the rows that it touches shrink, and no others: a table's rows then shrink as often
    as they learn. Biases and gains, weights of one axis, do not shrink.

    Averaging of weights is refused, since it touches every row. XLA stays off: the number of touched rows changes from
    batch to batch, and with it the shapes to compile for.

    Args:
        learning_rate: A number or a ``LearningRateSchedule``.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
        clipnorm: Clip each weight's gradient to this norm.
        clipvalue: Clip each gradient entry to this size.
        global_clipnorm: Clip the norm of all gradients together.
        weight_decay: At least 0; None and 0 are none.
        name: Name of the optimizer's variables.
        **kwargs: What ``get_config`` of the base class writes besides.

    Raises:
        ValueError: ``weight_decay`` is negative, or ``use_ema`` is asked for.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        weight_decay: float | None = None,
        name: str = "RowSparseAdam",
        **kwargs: Any,
    ) -> None:
        if weight_decay is not None and weight_decay < 0:
            raise ValueError(f"weight_decay: expected a number of at least 0, got {weight_decay}")
        if kwargs.pop("use_ema", False):
            raise ValueError("RowSparseAdam has no use_ema: averaging would touch every row of every table at every step")
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            weight_decay=None,
            name=name,
            **{**kwargs, "jit_compile": False},
        )
        # The base class, told of it, would walk over every row of every table.
        self.row_weight_decay = weight_decay or None

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Apply one gradient to one weight; rows of an ``IndexedSlices`` must be distinct, as ``apply_gradients`` makes them."""
        self._decay(gradient, variable)
        position = self._index_dict[self._var_key(variable)]
        first_moment, second_moment = self._momentums[position], self._velocities[position]
        if not isinstance(gradient, tf.IndexedSlices):
            self._update_all(gradient, variable, first_moment, second_moment)
            return
        rows, values = gradient.indices, gradient.values  # [R], [R, ...]
        # The order of operations is that of Keras' dense step, so that the results are equal and not merely close.
        first = _move_rows(first_moment, rows, values, 1 - self.beta_1)
        second = _move_rows(second_moment, rows, tf.square(values), 1 - self.beta_2)
        change = (first * self._step_size(variable.dtype)) / (tf.sqrt(second) + self.epsilon)
        # Assigning rows is a copy of memory; TensorFlow's scatter_sub takes three times as long as both halves of this.
        variable.scatter_update(tf.IndexedSlices(tf.gather(variable, rows) - change, rows))

    def _decay(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        if self.row_weight_decay is None or variable.shape.rank < 2:
            return
        kept = 1.0 - tf.cast(self.learning_rate, variable.dtype) * self.row_weight_decay
        if isinstance(gradient, tf.IndexedSlices):
            rows = gradient.indices
            variable.scatter_update(tf.IndexedSlices(tf.gather(variable, rows) * kept, rows))
        else:
            variable.assign(variable * kept)

    def _update_all(self, gradient: tf.Tensor, variable: tf.Variable, first_moment: tf.Variable, second_moment: tf.Variable) -> None:
        """TensorFlow's own kernel: one pass over weight, gradient and moments, where Keras' operations make ten."""
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first_moment.handle,
            v=second_moment.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(self.learning_rate, variable.dtype),
            beta1=tf.cast(self.beta_1, variable.dtype),
            beta2=tf.cast(self.beta_2, variable.dtype),
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=gradient,
        )

    def _step_size(self, dtype: tf.DType) -> tf.Tensor:
        """The learning rate with both bias corrections."""
        step = tf.cast(self.iterations + 1, dtype)
        first_bias = 1 - tf.pow(tf.cast(self.beta_1, dtype), step)
        second_bias = 1 - tf.pow(tf.cast(self.beta_2, dtype), step)
        return tf.cast(self.learning_rate, dtype) * tf.sqrt(second_bias) / first_bias

    def _clip_gradients(self, grads: Sequence[tf.Tensor | tf.IndexedSlices]) -> list[tf.Tensor | tf.IndexedSlices]:
        """Sum duplicate rows, then clip: the base class does it the other way round, which clips by a norm that is not the gradient's."""
        summed = super()._deduplicate_sparse_grad(grads)
        clipped: list[tf.Tensor | tf.IndexedSlices] = super()._clip_gradients(summed)
        return clipped

    def _deduplicate_sparse_grad(self, grads: list[tf.Tensor | tf.IndexedSlices]) -> list[tf.Tensor | tf.IndexedSlices]:
        """Nothing left to do after ``_clip_gradients``, which the base class always calls first."""
        return grads

    def get_config(self) -> dict[str, Any]:
        """Everything that the constructor takes."""
        config: dict[str, Any] = super().get_config()
        for name in ("amsgrad", "weight_decay", "use_ema", "jit_compile"):
            config.pop(name, None)
        return {**config, "weight_decay": self.row_weight_decay}


def _move_rows(moment: tf.Variable, rows: tf.Tensor, towards: tf.Tensor, share: float) -> tf.Tensor:
    """Move the ``rows`` of a moment by ``share`` of the way ``towards`` new values, in place, and return them."""
    current = tf.gather(moment, rows)
    moved = current + (towards - current) * share
    moment.scatter_update(tf.IndexedSlices(moved, rows))
    return moved


@tf.keras.utils.register_keras_serializable(package="tfmi")
class LinearWarmUp(Schedule):
    """Rise linearly from 0 over the first steps, then follow another schedule that counts from there.

    Args:
        afterwards: A number, or a schedule of the steps after the warm-up.
        warmup_steps: Steps until ``afterwards`` begins.

    Raises:
        ValueError: ``warmup_steps`` below 1.
    """

    def __init__(self, afterwards: float | Schedule, warmup_steps: int) -> None:
        super().__init__()
        if warmup_steps < 1:
            raise ValueError(f"warmup_steps must be at least 1, got {warmup_steps}")
        self.afterwards = afterwards
        self.warmup_steps = warmup_steps

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The learning rate of a step, counted from 0."""
        step = tf.convert_to_tensor(step)
        elapsed = tf.maximum(step - self.warmup_steps, 0)
        peak = self.afterwards(elapsed) if callable(self.afterwards) else tf.constant(self.afterwards)
        return peak * tf.minimum(tf.cast(step, peak.dtype) / self.warmup_steps, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Both constructor arguments."""
        afterwards = self.afterwards
        if callable(afterwards):
            afterwards = tf.keras.optimizers.schedules.serialize(afterwards)
        return {"afterwards": afterwards, "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LinearWarmUp:
        """The inverse of ``get_config``."""
        afterwards = config["afterwards"]
        if isinstance(afterwards, dict):
            afterwards = tf.keras.optimizers.schedules.deserialize(afterwards)
        return cls(afterwards, config["warmup_steps"])


def learning_rate_schedule(config: OptimizerConfig, total_steps: int) -> float | Schedule:
    """The learning rate that a configuration describes: a number if it never changes, otherwise a schedule.

    Decay begins after the warm-up. Without ``decay_steps`` it lasts until ``total_steps``: a cosine ends at its floor there, an
    exponential has fallen by ``decay_rate`` there.

    Args:
        config: The optimizer's section of a run's configuration.
        total_steps: Steps that the training is to last.

    Raises:
        ConfigError: The warm-up leaves no step to decay in.
    """
    rate: float | Schedule = config.learning_rate
    if config.schedule != "constant":
        decay_steps = config.decay_steps or total_steps - config.warmup_steps
        if decay_steps < 1:
            raise ConfigError(
                f"optimizer.warmup_steps: {config.warmup_steps} steps of warm-up leave nothing of {total_steps} training steps for the "
                f"{config.schedule} decay; lower it, or set optimizer.decay_steps"
            )
        if config.schedule == "cosine":
            rate = tf.keras.optimizers.schedules.CosineDecay(config.learning_rate, decay_steps, alpha=config.decay_rate)
        else:
            rate = tf.keras.optimizers.schedules.ExponentialDecay(config.learning_rate, decay_steps, config.decay_rate)
    return LinearWarmUp(rate, config.warmup_steps) if config.warmup_steps else rate


def build_optimizer(config: OptimizerConfig, total_steps: int) -> RowSparseAdam:
    """The optimizer that a configuration describes. Raises ``ConfigError`` as ``learning_rate_schedule`` does."""
    return RowSparseAdam(
        learning_rate=learning_rate_schedule(config, total_steps),
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.epsilon,
        global_clipnorm=config.clip_norm,
        weight_decay=config.weight_decay,
    )
