"""Label-aware attention and max-sim."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import READOUTS, InterestOutput, Readout
from tfmi.layers.readouts.label_aware_attention import LabelAwareAttention
from tfmi.layers.readouts.max_sim import MaxSim
from tfmi.layers.readouts.sampled_interest import SampledInterest
from tfmi.layers.readouts.weighted_mixture import WeightedMixture


def weights_for(scores: list[float], active: list[bool] | None = None, **arguments: Any) -> np.ndarray:
    """The attention's weights for given scores: interests are unit vectors, so the target holds the scores and the query the weights."""
    active = active or [True] * len(scores)
    query = LabelAwareAttention(**arguments)(tf.eye(len(scores))[None], tf.constant([active]), tf.constant([scores]))
    return query.numpy()[0]


@pytest.mark.parametrize(("power", "expected"), [(1.0, [0.268941, 0.731059]), (2.0, [0.047426, 0.952574]), (3.0, [0.000911, 0.999089])])
def test_golden_values(power: float, expected: list[float]) -> None:
    np.testing.assert_allclose(weights_for([1.0, 2.0], power=power), expected, atol=1e-6)


def test_power_zero_is_the_mean_of_the_active_interests() -> None:
    for mode in ("pow", "scale"):
        np.testing.assert_allclose(weights_for([5.0, -3.0, 9.0], [True, True, False], power=0.0, mode=mode), [0.5, 0.5, 0.0])


@pytest.mark.parametrize("arguments", [{}, {"power": math.inf}, {"power": 100.0}, {"power": math.inf, "mode": "scale"}])
def test_hard_attention_picks_the_best_active_interest(arguments: dict[str, Any]) -> None:
    np.testing.assert_array_equal(weights_for([-0.1, 0.3, -2.0], **arguments), [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(weights_for([-5.0, -1.0, 9.0], [True, True, False], **arguments), [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(weights_for([2.0, 1.0, 2.0], **arguments), [1.0, 0.0, 0.0])  # ties go to the lowest index


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0, 20.0, 99.0])
def test_negative_scores_keep_their_order_and_stay_numbers(power: float) -> None:
    weights = weights_for([0.5, -1.0, 2.0], power=power)
    assert np.isfinite(weights).all()
    assert weights[2] > weights[0] >= weights[1]
    np.testing.assert_allclose(weights.sum(), 1.0, atol=1e-6)


@pytest.mark.parametrize("scores", [[-10.0, -12.0, 0.0], [1e4, 2e4, 0.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("power", [0.5, 20.0, 99.0])
def test_weights_stay_on_active_interests_for_extreme_scores(scores: list[float], power: float) -> None:
    weights = weights_for(scores, [True, True, False], power=power)
    assert weights[2] == 0
    np.testing.assert_allclose(weights.sum(), 1.0, atol=1e-6)


def test_scale_multiplies_the_scores() -> None:
    np.testing.assert_allclose(weights_for([1.0, 1.2], power=10.0, mode="scale"), weights_for([10.0, 12.0], power=1.0), atol=1e-5)
    soft = weights_for([0.10, 0.11], power=100.0, mode="scale")  # a temperature, however high, stays soft
    np.testing.assert_allclose(soft[1], 1 / (1 + np.exp(-1)), atol=1e-4)


def test_hard_attention_sends_gradients_to_the_chosen_interest_only() -> None:
    interests, target = tf.constant([[[1.0, 0.0], [0.0, 1.0]]]), tf.constant([[0.2, 0.7]])
    with tf.GradientTape() as tape:
        tape.watch([interests, target])
        query = LabelAwareAttention()(interests, tf.constant([[True, True]]), target)
    to_interests, to_target = tape.gradient(query, [interests, target])
    np.testing.assert_array_equal(tf.convert_to_tensor(to_interests), [[[0.0, 0.0], [1.0, 1.0]]])
    assert to_target is None


@pytest.mark.parametrize("power", [0.0, 0.5, 2.0, 99.0])
def test_soft_attention_has_finite_gradients(power: float) -> None:
    interests, target = tf.constant([[[1e-9, 0.0], [-3.0, 1.0], [0.0, 0.0]]]), tf.constant([[1.0, -2.0]])
    with tf.GradientTape() as tape:
        tape.watch([interests, target])
        query = LabelAwareAttention(power)(interests, tf.constant([[True, True, False]]), target)
    for gradient in tape.gradient(query, [interests, target], unconnected_gradients="zero"):
        assert np.isfinite(gradient.numpy()).all()


def test_max_sim_answers_with_every_active_interest() -> None:
    interests = tf.constant([[[-1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]])
    queries = MaxSim()(interests, tf.constant([[True, True, False]]), tf.constant([[1.0, 1.0]]))
    np.testing.assert_array_equal(queries, [[[-1.0, 2.0], [3.0, 4.0], [-1.0, 2.0]]])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "spec", [{"name": "label_aware"}, {"name": "label_aware", "power": 2.0}, {"name": "max_sim"}, {"name": "mixture"}], ids=str
)
def test_mixed_precision(spec: dict[str, Any], policy: str) -> None:
    interests = tf.constant([[[60.0, 0.0], [30.0, 40.0]]])
    arguments = (tf.constant([[True, True]]), tf.constant([[700.0, 800.0]]))
    expected = READOUTS.build(spec, "readout")(interests, *arguments)
    mixed = type(READOUTS.build(spec, "readout")).from_config({**READOUTS.build(spec, "readout").get_config(), "dtype": policy})
    queries = mixed(interests, *arguments)  # scores of 53,000 to 4e9 after squaring do not fit into float16
    assert queries.dtype == tf.as_dtype(policy.removeprefix("mixed_"))
    np.testing.assert_allclose(tf.cast(queries, tf.float32), expected, rtol=1e-2)


@pytest.mark.parametrize("name", READOUTS.names())
def test_configuration_and_compilation(name: str) -> None:
    layer = READOUTS.build({"name": name}, "readout")
    copy = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    assert copy.get_config() == layer.get_config()
    inputs = (tf.random.normal([3, 4, 5]), tf.sequence_mask([1, 2, 4], 4), tf.random.normal([3, 5]))
    signature = [tf.TensorSpec([None, 4, 5]), tf.TensorSpec([None, 4], tf.bool), tf.TensorSpec([None, 5])]

    def answer(readout: Readout, interests: tf.Tensor, active: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        internals = dict.fromkeys(readout.NEEDED_INTERNALS, interests[:, 1])
        output = InterestOutput(interests, active, interests, internals)
        return readout(interests, active, target, **({"output": output} if readout.wants_output() else {}))

    compiled = tf.function(lambda *inputs: answer(copy, *inputs), input_signature=signature, autograph=False)
    np.testing.assert_allclose(compiled(*inputs), answer(layer, *inputs), atol=1e-6)


def test_a_power_in_a_recipe_may_be_written_without_a_point() -> None:
    assert READOUTS.build({"name": "label_aware", "power": 2}, "readout").power == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"power": -1.0}, "power: expected a number of at least 0"),
        ({"power": float("nan")}, "power: expected a number of at least 0"),
        ({"mode": "power"}, "mode: expected one of 'pow', 'scale'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelAwareAttention(**arguments)


class TestSampledInterest:
    interests = tf.constant([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]] * 4000)
    active = tf.constant([[True, True, False]] * 4000)
    target = tf.constant([[0.2, 0.1]] * 4000)

    def drawn(self, readout: SampledInterest) -> np.ndarray:
        """The share of each interest among the queries."""
        queries = readout(self.interests, self.active, self.target).numpy()
        return np.array([(queries == each).all(axis=1).mean() for each in self.interests.numpy()[0]])

    def test_draws_follow_the_softmax_of_the_scores_over_active_interests(self) -> None:
        expected = np.exp([2.0, 1.0]) / np.exp([2.0, 1.0]).sum()
        np.testing.assert_allclose(self.drawn(SampledInterest(0.1)), [*expected, 0.0], atol=0.03)
        np.testing.assert_array_equal(self.drawn(SampledInterest(1e-3)), [1.0, 0.0, 0.0])

    def test_what_was_used_more_is_drawn_less_if_balance_is_asked_for(self) -> None:
        readout = SampledInterest(0.1, balance=1.0, usage_rate=1.0)
        first = self.drawn(readout)
        np.testing.assert_allclose(readout.shares.numpy(), first, atol=1e-6)
        odds = np.exp(1.0) / (first[0] / first[1])
        np.testing.assert_allclose(self.drawn(readout)[0], odds / (1 + odds), atol=0.03)

    def test_gradients_reach_the_drawn_interest_only_and_equal_seeds_draw_alike(self) -> None:
        with tf.GradientTape() as tape:
            tape.watch([self.interests, self.target])
            query = SampledInterest(seed=4)(self.interests, self.active, self.target)
        to_interests, to_target = tape.gradient(query, [self.interests, self.target])
        assert to_target is None
        touched = (tf.convert_to_tensor(to_interests).numpy() != 0).all(axis=2)
        assert (touched.sum(axis=1) == 1).all()
        np.testing.assert_array_equal(SampledInterest(seed=4)(self.interests, self.active, self.target), query)

    @pytest.mark.parametrize("arguments", [{"temperature": 0.0}, {"balance": -1.0}, {"usage_rate": 0.0}, {"usage_rate": 1.5}])
    def test_impossible_arguments_are_refused(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(arguments))):
            SampledInterest(**arguments)


class TestWeightedMixture:
    interests = tf.constant(np.random.default_rng(0).normal(size=[3, 4, 8]), tf.float32)
    active = tf.constant([[True] * 4, [True, True, False, False], [True, False, False, False]])

    def output(self) -> InterestOutput:
        return InterestOutput(self.interests, self.active, tf.zeros([3, 4, 5]), {})

    def test_starts_as_the_plain_mixture(self) -> None:
        np.testing.assert_allclose(WeightedMixture()(self.interests, self.active, self.interests[:, 0]), self.interests, rtol=1e-6)

    def test_training_and_serving_weigh_alike_by_the_formula(self) -> None:
        readout = WeightedMixture(5)
        readout.build(self.interests.shape)
        rng = np.random.default_rng(1)
        kernel, bias, weights = values = [rng.normal(size=weight.shape) for weight in readout.get_weights()]
        readout.set_weights(values)
        trained = readout(self.interests, self.active, self.interests[:, 0]).numpy()
        served, active = readout.serve(self.interests, self.active, self.output())
        np.testing.assert_array_equal(served, trained)
        np.testing.assert_array_equal(active, self.active)
        for user, each in enumerate(self.interests.numpy()):
            mean = each[self.active.numpy()[user]].mean(axis=0)
            for interest in range(4):
                logit = np.tanh(np.concatenate([each[interest], mean]) @ kernel + bias) @ weights
                np.testing.assert_allclose(trained[user, interest], 2 / (1 + np.exp(-logit)) * each[interest], rtol=1e-4)

    def test_weights_learn(self) -> None:
        readout = WeightedMixture()
        readout(self.interests, self.active, self.interests[:, 0])
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(readout(self.interests, self.active, self.interests[:, 0]) ** 2)
        assert np.abs(tape.gradient(total, readout.weights_kernel)).max() > 0
        assert readout.serves_interests
