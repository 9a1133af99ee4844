"""Row-sparse Adam against Keras' Adam, and the learning-rate schedules of a configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.config import OptimizerConfig
from tfmi.core.errors import ConfigError
from tfmi.training.optimizers import LinearWarmUp, RowSparseAdam, build_optimizer, learning_rate_schedule

ROWS, WIDTH = 6, 3


def table(seed: int = 0, rows: int = ROWS) -> tf.Variable:
    return tf.Variable(np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32), name="table")


def slices(rows: Sequence[int], seed: int = 0, scale: float = 1.0) -> tf.IndexedSlices:
    values = np.random.default_rng(seed).normal(size=(len(rows), WIDTH)) * scale
    return tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows), tf.constant([ROWS, WIDTH]))


def moments(optimizer: RowSparseAdam) -> list[np.ndarray]:
    return [variable.numpy() for variable in [*optimizer._momentums, *optimizer._velocities]]


def train(optimizer: tf.keras.optimizers.Optimizer, weight: tf.Variable, gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> np.ndarray:
    for gradient in gradients:
        optimizer.apply_gradients([(gradient, weight)])
    result: np.ndarray = weight.numpy()
    return result


def test_dense_gradients_are_adam() -> None:
    ours, theirs = table(), table()
    gradients = [tf.convert_to_tensor(slices(range(ROWS), seed)) for seed in range(20)]
    expected = train(tf.keras.optimizers.Adam(0.01), theirs, gradients)
    first, second = RowSparseAdam(0.01), tf.keras.optimizers.Adam(0.01)
    np.testing.assert_allclose(train(first, ours, gradients), expected, rtol=1e-5)
    train(second, table(), gradients)
    for ours_moment, expected_moment in zip(moments(first), moments(second), strict=True):
        # The kernel takes 1 - beta_2 in float32.
        np.testing.assert_allclose(ours_moment, expected_moment, rtol=5e-5)


@pytest.mark.parametrize("options", [{}, {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3}, {"clipvalue": 0.3}])
def test_touching_every_row_at_every_step_is_adam(options: dict[str, Any]) -> None:
    ours, theirs = table(), table()
    orders = [np.random.default_rng(seed).permutation(ROWS) for seed in range(20)]
    gradients = [slices(list(order), seed) for seed, order in enumerate(orders)]
    dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
    expected = train(tf.keras.optimizers.Adam(0.01, **options), theirs, dense)
    np.testing.assert_allclose(train(RowSparseAdam(0.01, **options), ours, gradients), expected, rtol=1e-6)


def test_duplicate_rows_are_summed_before_anything_is_squared() -> None:
    split, summed = table(), table()
    duplicates = slices([4, 1, 4, 4, 1], seed=3)
    values = duplicates.values.numpy()
    once = tf.IndexedSlices(np.stack([values[[0, 2, 3]].sum(axis=0), values[[1, 4]].sum(axis=0)]), [4, 1], [ROWS, WIDTH])
    first, second = RowSparseAdam(0.1), RowSparseAdam(0.1)
    np.testing.assert_allclose(train(first, split, [duplicates] * 3), train(second, summed, [once] * 3), rtol=1e-5)
    for ours, expected in zip(moments(first), moments(second), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-9)


def test_untouched_rows_keep_weight_and_moments_bit_for_bit() -> None:
    weight, optimizer = table(), RowSparseAdam(0.1)
    train(optimizer, weight, [slices(range(ROWS))])
    before = [weight.numpy(), *moments(optimizer)]
    train(optimizer, weight, [slices([1, 4], seed) for seed in range(5)])
    for old, new in zip(before, [weight.numpy(), *moments(optimizer)], strict=True):
        np.testing.assert_array_equal(np.delete(new, [1, 4], axis=0), np.delete(old, [1, 4], axis=0))
        assert np.all(new[[1, 4]] != old[[1, 4]])


def test_rows_follow_the_documented_recurrence() -> None:
    """NumPy reference in float64: moments move when touched, the bias corrections count the optimizer's steps."""
    weight, optimizer = table(), RowSparseAdam(0.05)
    expected = weight.numpy().astype(np.float64)
    first, second = np.zeros_like(expected), np.zeros_like(expected)
    for step in range(1, 31):
        touched = list(np.random.default_rng(step).choice(ROWS, size=2, replace=False))
        gradient = slices(touched, seed=step)
        values = gradient.values.numpy().astype(np.float64)
        first[touched] += 0.1 * (values - first[touched])
        second[touched] += 0.001 * (values**2 - second[touched])
        size = 0.05 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        expected[touched] -= size * first[touched] / (np.sqrt(second[touched]) + 1e-7)
        train(optimizer, weight, [gradient])
    np.testing.assert_allclose(weight, expected, rtol=1e-4)


@pytest.mark.parametrize("gradient_scale", [0.01, 100.0])
def test_bias_correction_makes_the_first_step_one_learning_rate_long(gradient_scale: float) -> None:
    weight = table()
    before = weight.numpy()
    gradient = slices([2], scale=gradient_scale)
    after = train(RowSparseAdam(0.05, epsilon=1e-12), weight, [gradient])
    np.testing.assert_allclose(after[2] - before[2], -0.05 * np.sign(gradient.values[0]), rtol=1e-4)


def test_late_first_touch_moves_as_far_as_documented() -> None:
    weight, optimizer = table(), RowSparseAdam(0.05, epsilon=1e-12)
    for _ in range(20):
        train(optimizer, weight, [slices([0])])
    optimizer.iterations.assign(100_000)
    before = weight.numpy()
    after = train(optimizer, weight, [slices([2])])
    np.testing.assert_allclose(np.abs(after[2] - before[2]), 0.05 * 0.1 / np.sqrt(0.001), rtol=1e-3)


@pytest.mark.parametrize("option", ["global_clipnorm", "clipnorm"])
def test_clipping_takes_the_norm_of_the_summed_rows(option: str) -> None:
    """Opposite duplicates cancel: the true norm is 0.5, that of the summands 5; nothing may be clipped at 1."""
    values = tf.constant([[3.0, 0.0, 0.0], [-2.7, 0.0, 0.4]])
    duplicates = tf.IndexedSlices(values, tf.constant([2, 2]), tf.constant([ROWS, WIDTH]))
    # epsilon dwarfs the root of the second moment: the step is then proportional to the gradient, and shows a wrong scale.
    limit: dict[str, Any] = {option: 1.0}
    clipped, free = RowSparseAdam(0.1, epsilon=1e3, **limit), RowSparseAdam(0.1, epsilon=1e3)
    ours, expected = table(), table()
    np.testing.assert_array_equal(train(clipped, ours, [duplicates]), train(free, expected, [duplicates]))
    np.testing.assert_array_equal(moments(clipped)[0], moments(free)[0])


def test_global_norm_runs_over_dense_and_sparse_gradients_together() -> None:
    weight, bias, optimizer = table(), tf.Variable(tf.zeros([2])), RowSparseAdam(0.1, global_clipnorm=2.5)
    rows = tf.IndexedSlices(tf.constant([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]), tf.constant([5, 5]), tf.constant([ROWS, WIDTH]))
    optimizer.apply_gradients([(rows, weight), (tf.constant([0.0, 4.0]), bias)])  # norms 3 and 4, together 5
    np.testing.assert_allclose(optimizer._momentums[0][5], [0.1 * 1.5, 0.0, 0.0], rtol=1e-5)
    np.testing.assert_allclose(optimizer._momentums[1], [0.0, 0.1 * 2.0], rtol=1e-5)


def small_model() -> tf.keras.Model:
    inputs = tf.keras.Input([3], dtype=tf.int32)
    vectors = tf.keras.layers.Flatten()(tf.keras.layers.Embedding(50, 4)(inputs))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(vectors))
    for seed, weight in enumerate(model.trainable_variables):
        weight.assign(np.random.default_rng(seed).normal(size=weight.shape))
    return model


def small_data() -> tf.data.Dataset:
    random = np.random.default_rng(0)
    inputs, outputs = random.integers(0, 50, (64, 3)), random.normal(size=(64, 1)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((inputs, outputs)).batch(8)


@pytest.mark.slow
@pytest.mark.parametrize("scheduled", [False, True])
def test_restored_run_continues_bit_for_bit(scheduled: bool, tmp_path: Path) -> None:
    config = OptimizerConfig(schedule="cosine", warmup_steps=5, clip_norm=0.5) if scheduled else OptimizerConfig()

    def compiled() -> tf.keras.Model:
        model = small_model()
        model.compile(build_optimizer(config, total_steps=32), loss="mse")
        return model

    whole, half, restored = compiled(), compiled(), compiled()
    whole.fit(small_data(), epochs=4, verbose=0, shuffle=False)
    half.fit(small_data(), epochs=2, verbose=0, shuffle=False)
    path = tf.train.Checkpoint(model=half, optimizer=half.optimizer).save(str(tmp_path / "checkpoint"))
    restored.optimizer.build(restored.trainable_variables)
    tf.train.Checkpoint(model=restored, optimizer=restored.optimizer).restore(path).assert_consumed()
    restored.fit(small_data(), epochs=2, verbose=0, shuffle=False)
    assert int(restored.optimizer.iterations) == 32
    for ours, expected in zip(restored.trainable_variables, whole.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_trains_under_mixed_precision(policy: str) -> None:
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = small_model()
        model.compile(RowSparseAdam(0.05), loss="mse")
        losses = model.fit(small_data(), epochs=10, verbose=0).history["loss"]
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert losses[-1] < 0.7 * losses[0]
    optimizer = model.optimizer
    if policy == "mixed_float16":
        assert isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
        optimizer = optimizer.inner_optimizer
    assert isinstance(optimizer, RowSparseAdam)
    assert {variable.dtype for variable in optimizer._momentums} == {tf.float32}


def test_loss_scaling_leaves_the_result_and_skips_steps_that_overflow() -> None:
    scaled, plain = table(), table()
    optimizer = tf.keras.mixed_precision.LossScaleOptimizer(RowSparseAdam(0.1), dynamic=True, initial_scale=1024.0)
    rows = slices([3, 3, 1])
    for _ in range(3):
        times_scale = tf.IndexedSlices(rows.values * 1024.0, rows.indices, rows.dense_shape)
        optimizer.apply_gradients([(optimizer.get_unscaled_gradients([times_scale])[0], scaled)])
    expected = train(RowSparseAdam(0.1), plain, [rows] * 3)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    before = scaled.numpy()
    optimizer.apply_gradients([(tf.IndexedSlices(rows.values * np.inf, rows.indices, rows.dense_shape), scaled)])
    np.testing.assert_array_equal(scaled, before)


def test_configuration_round_trip() -> None:
    schedule = LinearWarmUp(tf.keras.optimizers.schedules.CosineDecay(0.1, 30), 4)
    optimizer = RowSparseAdam(schedule, beta_1=0.8, beta_2=0.95, epsilon=1e-4, global_clipnorm=2.0, name="mine")
    config = tf.keras.optimizers.serialize(optimizer)
    copy = tf.keras.optimizers.deserialize(config)
    assert isinstance(copy, RowSparseAdam)
    assert copy.get_config() == optimizer.get_config()
    assert (copy.beta_1, copy.beta_2, copy.epsilon, copy.global_clipnorm, copy.name) == (0.8, 0.95, 1e-4, 2.0, "mine")
    assert isinstance(copy._learning_rate, LinearWarmUp)
    ours, theirs = table(), table()
    np.testing.assert_array_equal(train(copy, ours, [slices([1])] * 3), train(optimizer, theirs, [slices([1])] * 3))


def test_model_with_this_optimizer_is_saved_and_loaded(tmp_path: Path) -> None:
    model = small_model()
    model.compile(RowSparseAdam(LinearWarmUp(0.05, 3)), loss="mse")
    model.fit(small_data(), epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    for ours, expected in zip(moments(loaded.optimizer), moments(model.optimizer), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(("option", "value"), [("use_ema", True)])
def test_what_would_touch_every_row_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"no {option}: .*every row"):
        RowSparseAdam(**{option: value})


def test_zero_weight_decay_does_not_walk_over_the_rows() -> None:
    assert RowSparseAdam(weight_decay=0.0).weight_decay is None
    assert RowSparseAdam(weight_decay=0.1).weight_decay is None


def test_weight_decay_is_that_of_adamw_where_every_row_is_touched() -> None:
    gradients = [slices(range(ROWS), seed) for seed in range(10)]
    dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
    expected = train(tf.keras.optimizers.AdamW(0.01, weight_decay=0.3), table(), dense)
    for given in (gradients, dense):
        np.testing.assert_allclose(train(RowSparseAdam(0.01, weight_decay=0.3), table(), given), expected, rtol=1e-5)
    assert not np.allclose(train(RowSparseAdam(0.01), table(), dense), expected, rtol=1e-3)


def test_weight_decay_leaves_untouched_rows_and_biases_alone() -> None:
    weight, before = table(), table().numpy()
    after = train(RowSparseAdam(0.01, weight_decay=0.3), weight, [slices([4, 1, 4]), slices([1])])
    np.testing.assert_array_equal(after[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
    once = [slices([4, 1, 4])]
    plain, decayed = (train(RowSparseAdam(0.01, weight_decay=decay), table(), once) for decay in (0.0, 0.3))
    np.testing.assert_allclose(decayed[[1, 4]], plain[[1, 4]] - 0.003 * before[[1, 4]], atol=1e-6)
    biases = [train(RowSparseAdam(0.01, weight_decay=decay), tf.Variable([1.0, 2.0]), [tf.constant([0.5, -0.5])]) for decay in (0.0, 0.3)]
    np.testing.assert_array_equal(biases[0], biases[1])


def test_weight_decay_is_configured_and_serialized() -> None:
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.1), total_steps=10)
    assert optimizer.get_config()["weight_decay"] == 0.1
    assert RowSparseAdam.from_config(optimizer.get_config()).row_weight_decay == 0.1
    with pytest.raises(ValueError, match="weight_decay: expected a number of at least 0"):
        RowSparseAdam(weight_decay=-0.1)


@pytest.mark.slow
def test_step_cost_does_not_depend_on_the_number_of_rows() -> None:
    def seconds_per_step(rows: int) -> float:
        weight, optimizer = tf.Variable(tf.ones([rows, 32])), RowSparseAdam(global_clipnorm=1.0)

        @tf.function(autograph=False)
        def step(touched: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(tf.gather(weight, touched)))
            optimizer.apply_gradients([(tape.gradient(loss, weight), weight)])

        batches = [tf.random.stateless_uniform([2000], [seed, 0], 0, rows, tf.int32) for seed in range(40)]
        times = []
        for batch in [*batches, *batches]:
            start = time.perf_counter()
            step(batch)
            times.append(time.perf_counter() - start)
        return float(np.quantile(times[len(batches) :], 0.25))

    # 100 times the rows; a dense update would take some 50 times as long, caches alone make it about twice.
    assert seconds_per_step(1_000_000) < 8 * seconds_per_step(10_000)


def rates(config: OptimizerConfig, total_steps: int, steps: Sequence[int]) -> list[float]:
    schedule: Callable[[int], tf.Tensor] | float = learning_rate_schedule(config, total_steps)
    return [schedule if isinstance(schedule, float) else float(schedule(step)) for step in steps]


def test_constant_rate_is_a_plain_number() -> None:
    assert learning_rate_schedule(OptimizerConfig(learning_rate=0.3), 100) == 0.3


def test_warm_up_rises_linearly_from_zero_and_stays() -> None:
    config = OptimizerConfig(learning_rate=0.4, warmup_steps=4)
    np.testing.assert_allclose(rates(config, 100, [0, 1, 2, 4, 5, 99]), [0.0, 0.1, 0.2, 0.4, 0.4, 0.4], rtol=1e-6)


@pytest.mark.parametrize("decay_steps", [None, 20])
def test_cosine_reaches_its_floor(decay_steps: int | None) -> None:
    config = OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_steps=10, decay_steps=decay_steps, decay_rate=0.1)
    total_steps = 30 if decay_steps is None else 1000
    np.testing.assert_allclose(rates(config, total_steps, [5, 10, 20, 30, 40]), [0.5, 1.0, 0.55, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize("decay_steps", [None, 10])
def test_exponential_falls_by_its_rate(decay_steps: int | None) -> None:
    config = OptimizerConfig(learning_rate=1.0, schedule="exponential", decay_steps=decay_steps, decay_rate=0.5)
    np.testing.assert_allclose(rates(config, 10, [0, 5, 10, 20]), [1.0, 0.5**0.5, 0.5, 0.25], rtol=1e-5)


def test_warm_up_longer_than_the_training_is_refused() -> None:
    config = OptimizerConfig(schedule="cosine", warmup_steps=50)
    with pytest.raises(ConfigError, match=r"optimizer\.warmup_steps: 50 steps .* nothing of 50 .*optimizer\.decay_steps"):
        learning_rate_schedule(config, 50)


def test_optimizer_uses_the_schedule_and_every_setting() -> None:
    config = OptimizerConfig(learning_rate=0.4, warmup_steps=4, clip_norm=3.0, beta_1=0.8, beta_2=0.9, epsilon=1e-5)
    optimizer = build_optimizer(config, 100)
    weight, used = table(), []
    for _ in range(3):
        train(optimizer, weight, [slices([1])])
        used.append(float(optimizer.learning_rate))
    np.testing.assert_allclose(used, [0.0, 0.1, 0.2], rtol=1e-6)
    assert (optimizer.global_clipnorm, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon) == (3.0, 0.8, 0.9, 1e-5)
