"""UMI's routing and refinement against their properties and an independent implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import InterestOutput
from tfmi.layers.extractors.multi_interest.capsule_routing import CapsuleRouting
from tfmi.layers.extractors.multi_interest.user_aware_routing import UserAwareRouting

BATCH, LENGTH, WIDTH, INTERESTS, FIELDS = 4, 7, 6, 3, [2, 1, 2]
PROFILE = sum(FIELDS)


def random_inputs() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Items, mask, profile and initial logits of histories of 0 to 7 items."""
    random = np.random.default_rng(0)
    items = random.normal(size=[BATCH, LENGTH, WIDTH])
    mask = np.arange(LENGTH) < np.array([7, 3, 1, 0])[:, None]
    profile, logits = random.normal(size=[BATCH, PROFILE]), random.normal(size=[BATCH, INTERESTS, LENGTH])
    return tf.constant(items, tf.float32), tf.constant(mask), tf.constant(profile, tf.float32), tf.constant(logits, tf.float32)


def built(fields: list[int] | None = None, **arguments: Any) -> UserAwareRouting:
    tf.keras.utils.set_random_seed(2)
    layer = UserAwareRouting(INTERESTS, profile_fields=FIELDS if fields is None else fields, **arguments)
    layer.build((None, LENGTH, WIDTH))
    layer.gate_bias.assign(tf.random.normal(layer.gate_bias.shape))
    layer.gate_output_bias.assign([0.3])
    return layer


def extract(layer: UserAwareRouting, profile: tf.Tensor | None = None) -> InterestOutput:
    items, mask, random_profile, logits = random_inputs()
    return layer(items, mask, profile=random_profile if profile is None else profile, initial_logits=logits)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def reference(layer: UserAwareRouting, items: np.ndarray, profile: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
    """The published equations for one user of n items, in float64 and with every prediction W[k] e[l] written out."""
    weights = {variable.name.split(":")[0]: variable.numpy().astype(np.float64) for variable in layer.variables}
    joined = np.concatenate([items, np.tile(profile, [len(items), 1])], axis=1)
    first = np.concatenate([weights["gate_item_kernel"], weights["gate_profile_kernel"]])
    hidden = np.maximum(joined @ first + weights["gate_bias"], 0)
    gate = sigmoid(hidden @ weights["gate_output_kernel"] + weights["gate_output_bias"])[:, 0]
    predictions = np.stack([items @ matrix for matrix in weights["transformations"]])  # [K, n, d]
    for iteration in range(layer.iterations):
        coupling = np.exp(logits) / np.exp(logits).sum(axis=0)
        sums = np.einsum("kl,l,kld->kd", coupling, gate, predictions)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        capsules = norms**2 / (1 + norms**2) * sums / norms
        if iteration < layer.iterations - 1:
            agreement = np.einsum("kd,kld->kl", capsules, predictions)
            logits = agreement if layer.logit_update == "replace" else logits + agreement
    interests, field_gates = [], []
    for capsule in capsules:
        hidden = np.maximum(np.concatenate([profile, capsule]) @ weights["field_gate_kernel"], 0)
        field_gates.append(sigmoid(hidden @ weights["field_gate_output_kernel"]))
        starts = np.cumsum([0, *FIELDS])
        refined = [gate * profile[starts[field] : starts[field + 1]] for field, gate in enumerate(field_gates[-1])]
        hidden = np.maximum(np.concatenate([*refined, capsule]) @ weights["hidden_kernel"], 0)
        interests.append(hidden @ weights["output_kernel"] + (capsule if layer.residual else 0))
    stacked = {"interests": np.stack(interests), "field_gates": np.stack(field_gates)}
    return {**stacked, "capsules": capsules, "routing": coupling, "item_gate": gate}


@pytest.mark.parametrize("arguments", [{}, {"logit_update": "accumulate"}, {"residual": True, "iterations": 2}])
def test_equals_the_equations_written_out(arguments: dict[str, Any]) -> None:
    items, mask, profile, logits = (tensor.numpy() for tensor in random_inputs())
    layer = built(**arguments)
    output = extract(layer)
    for user in range(BATCH - 1):
        length = mask[user].sum()
        expected = reference(layer, items[user, :length].astype(float), profile[user].astype(float), logits[user, :, :length])
        np.testing.assert_allclose(output.interests[user], expected["interests"], atol=1e-5)
        np.testing.assert_allclose(output.internals["capsules"][user], expected["capsules"], atol=1e-5)
        np.testing.assert_allclose(output.internals["field_gates"][user], expected["field_gates"], atol=1e-5)
        np.testing.assert_allclose(output.internals["routing"][user, :, :length], expected["routing"], atol=1e-5)
        np.testing.assert_allclose(output.weights[user, :, :length], expected["routing"] * expected["item_gate"], atol=1e-5)


def test_weights_of_an_item_sum_to_its_gate() -> None:
    _, mask, _, _ = random_inputs()
    output = extract(built())
    gate = output.internals["item_gate"].numpy()
    assert ((gate > 0) & (gate < 1) == mask.numpy()).all()
    assert (gate[~mask.numpy()] == 0).all()
    assert np.ptp(gate[mask.numpy()]) > 0.1
    np.testing.assert_allclose(tf.reduce_sum(output.weights, axis=1), gate, atol=1e-6)


def test_open_gates_one_matrix_and_accumulated_logits_are_minds_routing() -> None:
    items, mask, _, logits = random_inputs()
    layer = built(logit_update="accumulate")
    layer.gate_output_bias.assign([1e3])
    mind = CapsuleRouting(INTERESTS, adaptive=False)
    mind.build((None, LENGTH, WIDTH))
    layer.transformations.assign(tf.repeat(mind.transformation[None], INTERESTS, axis=0))
    expected = mind(items, mask, initial_logits=logits)
    output = extract(layer)
    np.testing.assert_allclose(output.internals["capsules"], expected.interests, atol=1e-6)
    np.testing.assert_allclose(output.weights, expected.weights, atol=1e-6)
    replaced = extract(built()).internals["logits"]
    assert np.abs(replaced - extract(built(logit_update="accumulate")).internals["logits"]).max() > 0.1


def test_items_and_initial_logits_permuted_together_give_the_same_interests() -> None:
    items, mask, profile, logits = random_inputs()
    order = np.random.default_rng(1).permutation(LENGTH)
    layer = built()
    shuffled = layer(
        tf.gather(items, order, axis=1), tf.gather(mask, order, axis=1), profile=profile, initial_logits=tf.gather(logits, order, axis=2)
    )
    np.testing.assert_allclose(shuffled.interests, extract(layer).interests, atol=1e-6)


def test_the_profile_acts_through_both_gates_and_the_output() -> None:
    _, _, profile, _ = random_inputs()
    layer = built()
    first, second = extract(layer, profile), extract(layer, -profile)
    assert np.abs(first.interests - second.interests)[:3].max(axis=-1).min() > 1e-3
    assert np.abs(first.internals["capsules"] - second.internals["capsules"])[0].max() > 1e-3
    # Deaf item gate and constant field gates: only the refined profile, here half of it, is left.
    layer.gate_profile_kernel.assign(tf.zeros_like(layer.gate_profile_kernel))
    layer.field_gate_output_kernel.assign(tf.zeros_like(layer.field_gate_output_kernel))
    first, second = extract(layer, profile), extract(layer, -profile)
    np.testing.assert_array_equal(first.internals["capsules"], second.internals["capsules"])
    np.testing.assert_array_equal(first.internals["field_gates"], np.full([BATCH, INTERESTS, len(FIELDS)], 0.5))
    assert np.abs(first.interests - second.interests).max() > 1e-3
    layer.hidden_kernel.assign(tf.concat([tf.zeros([PROFILE, WIDTH // 2]), layer.hidden_kernel[PROFILE:]], axis=0))
    np.testing.assert_array_equal(extract(layer, profile).interests, extract(layer, -profile).interests)


@pytest.mark.parametrize("field", range(len(FIELDS)))
def test_a_field_has_one_gate_which_scales_it_as_a_whole(field: int) -> None:
    _, _, profile, _ = random_inputs()
    columns = np.repeat(np.arange(len(FIELDS)), FIELDS) == field
    layer = built()
    layer.gate_profile_kernel.assign(tf.zeros_like(layer.gate_profile_kernel))
    # Field gates that do not look at the profile: gates of 0.5 but for the one of this field, which is sigmoid(ln 3) = 0.75.
    capsule_rows = tf.concat([tf.zeros([PROFILE, layer.gate_dimension]), layer.field_gate_kernel[PROFILE:]], axis=0)
    layer.field_gate_kernel.assign(capsule_rows)
    plain = tf.zeros_like(layer.field_gate_output_kernel)
    layer.field_gate_output_kernel.assign(plain)
    scaled_profile = extract(layer, profile * tf.where(columns, 1.5, 1.0))
    positive = tf.one_hot(field, len(FIELDS))[None] * tf.ones_like(plain)
    layer.field_gate_output_kernel.assign(positive * 100.0)  # opens this field's gate for every capsule with a live hidden layer
    gates = extract(layer, profile).internals["field_gates"].numpy()
    alive = np.isclose(gates[..., field], 1.0)
    assert alive.any()
    assert np.isclose(np.delete(gates, field, axis=2), 0.5).all()
    doubled = extract(layer, profile * tf.where(columns, 0.75, 1.0))  # 1 x 0.75 = 0.5 x 1.5
    np.testing.assert_allclose(doubled.interests.numpy()[alive], scaled_profile.interests.numpy()[alive], atol=1e-5)


def test_no_gradient_passes_through_the_logits_and_the_earlier_iterations() -> None:
    items, mask, profile, logits = random_inputs()
    layer = built(logit_update="accumulate")
    sources = [layer.transformations, layer.gate_item_kernel, layer.gate_profile_kernel, items]
    with tf.GradientTape() as tape:
        tape.watch([items, logits])
        output = layer(items, mask, profile=profile, initial_logits=logits)
        loss = tf.reduce_sum(output.internals["capsules"] ** 3)
    gradients = tape.gradient(loss, [logits, *sources])
    assert gradients[0] is None
    # The last iteration alone, from the logits that the others led to, gives the same gradients.
    last = built(iterations=1)
    sources = [last.transformations, last.gate_item_kernel, last.gate_profile_kernel, items]
    with tf.GradientTape() as tape:
        tape.watch(items)
        alone = last(items, mask, profile=profile, initial_logits=output.internals["logits"])
        loss = tf.reduce_sum(alone.internals["capsules"] ** 3)
    np.testing.assert_allclose(alone.internals["capsules"], output.internals["capsules"], atol=1e-6)
    for gradient, expected in zip(gradients[1:], tape.gradient(loss, sources), strict=True):
        assert np.abs(expected).max() > 1e-4
        np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_sizes_are_those_of_the_published_code_where_nothing_else_is_asked_for() -> None:
    layer = UserAwareRouting(profile_fields=[8, 8, 8])
    layer.build((None, LENGTH, 32))
    shapes = {variable.name.split(":")[0]: tuple(variable.shape) for variable in layer.trainable_variables}
    assert shapes == {
        "gate_item_kernel": (32, 8),  # with the next one, the 8 hidden units of the item gate
        "gate_profile_kernel": (24, 8),
        "gate_bias": (8,),
        "gate_output_kernel": (8, 1),
        "gate_output_bias": (1,),
        "transformations": (3, 32, 32),
        "field_gate_kernel": (24 + 32, 8),
        "field_gate_output_kernel": (8, 3),  # one gate for each field, not for each of its columns
        "hidden_kernel": (24 + 32, 16),
        "output_kernel": (16, 32),
    }
    assert (layer.iterations, layer.logit_update, layer.residual) == (3, "replace", False)


def test_a_single_item_is_shared_by_all_capsules() -> None:
    output = extract(built())
    np.testing.assert_allclose(tf.reduce_sum(output.internals["routing"], axis=1)[2], [1.0, 0, 0, 0, 0, 0, 0], atol=1e-6)
    assert (output.internals["routing"].numpy()[2, :, 0] > 0).all()


def test_a_new_user_gets_interests_of_the_profile() -> None:
    _, _, profile, _ = random_inputs()
    layer = built()
    output = extract(layer)
    assert (output.internals["capsules"].numpy()[3] == 0).all()
    assert np.isfinite(output.interests).all()
    assert np.abs(output.interests[3]).max() > 1e-3
    assert np.abs(output.interests[3] - extract(layer, -profile).interests[3]).max() > 1e-3


def test_without_a_profile_the_history_alone_decides() -> None:
    items, mask, profile, logits = random_inputs()
    layer = built(fields=[])
    output = layer(items, mask, initial_logits=logits)
    assert "field_gates" not in output.internals
    assert not [variable.name for variable in layer.variables if "profile" in variable.name or "field" in variable.name]
    np.testing.assert_array_equal(layer(items, mask, profile=profile, initial_logits=logits).interests, output.interests)


def test_no_profile_means_that_nothing_is_known_of_the_user() -> None:
    items, mask, profile, logits = random_inputs()
    layer = built()
    np.testing.assert_array_equal(layer(items, mask, initial_logits=logits).interests, extract(layer, 0 * profile).interests)


def test_noise_is_redrawn_in_training_and_fixed_at_inference() -> None:
    items, mask, profile, _ = random_inputs()
    layer = built()
    inference = [layer(items, mask, profile=profile).interests.numpy() for _ in range(2)]
    np.testing.assert_array_equal(*inference)
    drawn = [layer(items, mask, profile=profile, training=True).interests.numpy() for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-4
    fixed = built(routing_init="fixed")
    np.testing.assert_array_equal(fixed(items, mask, profile=profile, training=True).interests, inference[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_interests": 0}, "num_interests: expected a number of at least 1, got 0"),
        ({"iterations": 0}, "iterations: .* at least 1"),
        ({"gate_dimension": 0}, "gate_dimension: .* at least 1"),
        ({"hidden_dimension": 0}, "hidden_dimension: .* at least 1"),
        ({"initializer_deviation": -1.0}, "initializer_deviation: .* at least 0"),
        ({"logit_update": "forget"}, "logit_update: expected one of 'replace', 'accumulate'"),
        ({"routing_init": "none"}, "routing_init: expected one of 'random', 'fixed'"),
        ({"profile_fields": [8, 0]}, r"profile_fields\[1\]: expected a number of at least 1, got 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UserAwareRouting(**arguments)


def test_a_profile_of_another_width_is_refused() -> None:
    items, mask, profile, _ = random_inputs()
    with pytest.raises(ValueError, match="profile_fields: they are 5 wide together, but the profile has 4 columns"):
        built()(items, mask, profile=profile[:, :4])
