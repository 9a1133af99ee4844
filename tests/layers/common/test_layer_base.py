"""The parts that layers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_type

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import (
    MASKED_LOGIT,
    ConfiguredLayer,
    RealItems,
    masked_softmax,
    num_real_items,
    repeat_first_where_inactive,
    squash,
    unit_length,
    variable_name,
    zero_at_padding,
    zero_padding,
)
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.positions import items_after
from tfmi.layers.common.slots import first_slots, num_slots


@pytest.mark.parametrize(("vector", "expected"), [([3.0, 4.0], [0.576923, 0.769231]), ([0.3, 0.4], [0.12, 0.16]), ([0.0, 0.0], [0.0, 0.0])])
def test_squash_golden_values(vector: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(squash(tf.constant(vector)), expected, atol=1e-6)


def test_squash_has_finite_gradients_and_norms_below_one() -> None:
    vectors = tf.constant([[0.0, 0.0], [1e-8, 0.0], [30.0, 40.0]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        squashed = squash(vectors)
    assert np.isfinite(tape.gradient(squashed, vectors).numpy()).all()
    assert (np.linalg.norm(squashed, axis=-1) < 1).all()


def test_masked_softmax_matches_a_softmax_of_the_kept_cells() -> None:
    logits = tf.constant([[1.0, 5.0, 2.0], [0.0, 0.0, 0.0]])
    weights = masked_softmax(logits, tf.constant([[True, False, True], [False, False, False]])).numpy()
    kept = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
    np.testing.assert_allclose(weights[0, [0, 2]], kept, atol=1e-6)
    assert weights[0, 1] == 0
    assert (weights[1] == 0).all()


def test_masked_softmax_leaves_half_precision() -> None:
    weights = masked_softmax(tf.constant([[6e4, -6e4]], tf.float16), tf.constant([[False, True]]))
    assert weights.dtype == tf.float32
    np.testing.assert_array_equal(weights, [[0.0, 1.0]])
    assert np.exp(np.float32(MASKED_LOGIT)) == 0


def test_zero_padding_removes_what_is_not_a_number() -> None:
    history = tf.constant([[[1.0], [np.nan]], [[np.inf], [2.0]]])
    np.testing.assert_array_equal(zero_padding(history, tf.constant([[True, False], [False, True]])), [[[1.0], [0.0]], [[0.0], [2.0]]])


def test_only_what_is_known_to_be_zero_at_padding_is_taken_as_it_is() -> None:
    mask = tf.constant([[True, False]])
    known, other = tf.constant([[[1.0], [0.0]]]), tf.constant([[[1.0], [7.0]]])
    with zero_at_padding(known):
        assert zero_padding(known, mask) is known
        np.testing.assert_array_equal(zero_padding(other, mask), known)
    assert zero_padding(known, mask) is not known


@pytest.mark.parametrize("traced", [False, True])
def test_unit_length_is_l2_normalize_with_its_gradient(traced: bool) -> None:
    random = np.random.default_rng(0)
    vectors = tf.constant(
        np.concatenate([random.normal(size=(5, 3, 4)), 1e-8 * random.normal(size=(2, 3, 4)), np.zeros((1, 3, 4))]), tf.float32
    )
    weights = tf.constant(random.normal(size=vectors.shape), tf.float32)

    def both(normalize: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as outer:
            outer.watch(vectors)
            with tf.GradientTape() as tape:
                tape.watch(vectors)
                units = normalize(vectors)
                total = tf.reduce_sum(units * weights)
            first = tape.gradient(total, vectors)
            curved = tf.reduce_sum(first[:5] * weights[:5])
        return units, first, outer.gradient(curved, vectors)[:5]

    def compare() -> list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        return [both(unit_length), both(lambda values: tf.math.l2_normalize(values, axis=-1))]

    ours, theirs = tf.function(compare, autograph=False)() if traced else compare()
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_unit_length_of_half_precision() -> None:
    vectors = tf.constant([[1e-4, 0.0]], tf.float16)
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        units = unit_length(vectors)
    np.testing.assert_allclose(units, [[1.0, 0.0]], atol=1e-3)
    assert tape.gradient(units, vectors).dtype == units.dtype == tf.float16


@pytest.mark.parametrize("mask", [[[True, False, True], [False, False, False]], [[True, True], [True, True]], [[False], [False]]])
def test_real_items_come_back_to_their_places_and_gradients_with_them(mask: list[list[bool]]) -> None:
    real = RealItems(tf.constant(mask))
    history = tf.constant(np.random.default_rng(0).normal(size=(*np.shape(mask), 2)), tf.float32)
    rows = real.rows(history)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        spread = real.spread(rows)
        total = tf.reduce_sum(spread * history)
    np.testing.assert_array_equal(spread, zero_padding(history, real.mask))
    np.testing.assert_array_equal(tape.gradient(total, rows), rows)


def test_repeat_first_where_inactive_hides_inactive_rows_from_a_maximum() -> None:
    repeated = repeat_first_where_inactive(tf.constant([[[-3.0], [0.0]]]), tf.constant([[True, False]]))
    np.testing.assert_array_equal(repeated, [[[-3.0], [-3.0]]])


def test_positions_count_real_items() -> None:
    mask = tf.constant([[True, True, True, False], [False, True, False, True], [False] * 4])
    np.testing.assert_array_equal(num_real_items(mask), [3, 2, 0])
    after = items_after(mask).numpy()
    assert after[0, :3].tolist() == [2, 1, 0]
    assert after[1, [1, 3]].tolist() == [1, 0]


def test_slots_take_the_longest_history() -> None:
    assert num_slots((None, 5, 3), None) == 5
    assert num_slots(tf.TensorShape([None, 5, 3]), 8) == 8
    assert num_slots((None, None, 3), 8) == 8
    with pytest.raises(ValueError, match="max_length: required"):
        num_slots((None, None, 3), None)
    with pytest.raises(ValueError, match="9 positions, but max_length is 8"):
        num_slots((None, 9, 3), 8)


def test_first_slots_checks_lengths_that_only_the_run_knows() -> None:
    slots = tf.reshape(tf.range(8.0), [4, 2])
    compiled = tf.function(lambda history: first_slots(slots, history), input_signature=[tf.TensorSpec([None, None, 3])], autograph=False)
    np.testing.assert_array_equal(compiled(tf.zeros([1, 2, 3])), slots[:2])
    np.testing.assert_array_equal(compiled(tf.zeros([1, 4, 3])), slots)
    with pytest.raises(tf.errors.InvalidArgumentError, match="longer than the 4 positions"):
        compiled(tf.zeros([1, 5, 3]))


def test_arguments_out_of_range_are_named() -> None:
    require_at_least(1, iterations=1, max_length=None)
    require_choice(("a", "b"), mode="a")
    with pytest.raises(ValueError, match="iterations: expected a number of at least 1, got 0"):
        require_at_least(1, num_interests=2, iterations=0)
    with pytest.raises(ValueError, match=r"power: .* got nan"):
        require_at_least(0, power=float("nan"))
    with pytest.raises(ValueError, match="mode: expected one of 'a', 'b', got 'c'"):
        require_choice(("a", "b"), mode="c")


@pytest.mark.parametrize("name", ["âge_slope", "home region", "_private", "plain_name", "a/b"])
def test_variables_are_called_what_a_saved_model_takes(name: str) -> None:
    with tf.Graph().as_default(), tf.name_scope(variable_name(name)):
        pass
    assert variable_name("plain_name") == "plain_name"


class _Stretched(ConfiguredLayer):
    def __init__(self, length: int, *, steps: Sequence[int] = (1, 2), label: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = tuple(steps)
        self.total = self.length * len(self.steps)


class _Halved(_Stretched):
    def __init__(self, length: int = 8, *, rate: float = 0.5, **kwargs: Any) -> None:
        super().__init__(length // 2, steps=[3], **kwargs)

    @property
    def rate(self) -> float:
        return 0.25


def test_constructor_arguments_are_attributes_by_the_time_that_the_constructor_goes_on() -> None:
    layer = _Stretched(3, steps=[4, 5, 6], name="stretched")
    assert (layer.length, layer.steps, layer.label, layer.total) == (3, (4, 5, 6), None, 9)
    assert_type(layer.length, int)  # the type checker knows what the constructor does not write down (tfmi.mypy)
    assert_type(layer.label, str | None)
    assert_type(layer.steps, tuple[int, ...])
    config = layer.get_config()
    assert [config[name] for name in ("name", "length", "steps", "label")] == ["stretched", 3, (4, 5, 6), None]
    assert _Stretched.from_config(config).get_config() == config


def test_a_subclass_keeps_its_own_arguments_and_records_its_base_class_arguments_too() -> None:
    layer = _Halved(10, name="halved")
    assert layer.length == 10
    assert layer.steps == (3,)
    assert layer.rate == 0.25, "a property of an argument's name is left alone"
    config = layer.get_config()
    assert (config["length"], config["rate"]) == (10, 0.25)
    assert "steps" not in config


def test_a_wrong_argument_is_a_type_error_that_names_it() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'length'"):
        _Stretched()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'lenght'"):
        _Stretched(1, lenght=2)
