"""SINE's extractor against its published properties, the specification's golden values and an independent implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import InterestOutput
from tfmi.layers.extractors.multi_interest.sparse_interests import SparseInterests

BATCH, LENGTH, WIDTH, INTERESTS, POOL = 4, 7, 5, 3, 9
LENGTHS = np.array([7, 3, 1, 0])


def random_inputs() -> tuple[tf.Tensor, tf.Tensor]:
    """Items and mask of four histories of 0 to 7 items."""
    items = np.random.default_rng(0).normal(size=[BATCH, LENGTH, WIDTH]).astype(np.float32)
    return tf.constant(items), tf.constant(np.arange(LENGTH) < LENGTHS[:, None])


def built(num_interests: int = INTERESTS, num_prototypes: int = POOL, **arguments: Any) -> SparseInterests:
    """A layer whose norms have gains and biases away from 1 and 0."""
    tf.keras.utils.set_random_seed(2)
    layer = SparseInterests(num_interests, num_prototypes=num_prototypes, **arguments)
    layer.build((None, LENGTH, WIDTH))
    for variable in layer.trainable_variables:
        if "gamma" in variable.name or "beta" in variable.name:
            variable.assign_add(tf.random.normal(variable.shape, stddev=0.3))
    return layer


def softmax(logits: np.ndarray, axis: int = -1) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def layer_norm(vectors: np.ndarray, norm: tf.keras.layers.LayerNormalization) -> np.ndarray:
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12) * norm.gamma.numpy()
    return scaled if norm.beta is None else scaled + norm.beta.numpy()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def reference(layer: SparseInterests, items: np.ndarray) -> dict[str, np.ndarray]:
    """The paper's equations, one after the other, for one user of n items in float64."""

    def values(name: str) -> np.ndarray:
        return getattr(layer, name).numpy().astype(np.float64)

    items, pool, num_interests = items.astype(np.float64), values("prototypes"), layer.num_interests
    user = softmax((np.tanh(items @ values("activation_kernel")) @ values("activation_vector"))[:, 0]) @ items
    scores = pool @ user
    indices = np.argsort(-scores, kind="stable")[:num_interests]
    concepts = pool[indices] / (1 + np.exp(-scores[indices]))[:, None]
    if layer.assignment == "layernorm":
        logits = layer_norm(items @ values("item_kernel"), layer.item_norm) @ layer_norm(concepts, layer.concept_norm).T
    else:
        logits = unit(items) @ unit(pool[indices]).T / layer.assign_temperature
    assignment = softmax(logits, axis=1)  # [n, K]
    positions = np.zeros_like(items)
    if layer.positions != "none":
        positions = values("position_embeddings")[: len(items)][:: 1 if layer.positions == "oldest" else -1]
    attention = np.zeros_like(assignment)
    for k, kernel in enumerate(np.split(values("slot_kernels"), num_interests, axis=1)):
        attention[:, k] = softmax(np.tanh((items + positions) @ kernel) @ values("slot_vectors")[k])
    interests = layer_norm((assignment * attention).T @ items, layer.interest_norm)
    intentions = assignment @ concepts + (items if layer.residual_items else 0)
    kernel = values("item_kernel" if layer.tie_w3 else "intention_kernel")
    current = softmax((np.tanh(intentions @ kernel) @ values("intention_vector"))[:, 0]) @ intentions
    return {
        "interests": interests,
        "weights": (assignment * attention).T,
        "prototype_indices": indices,
        "assignment": assignment.T,
        "attention": attention.T,
        "current_intention": layer_norm(current, layer.intention_norm),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"assignment": "cosine", "assign_temperature": 0.2},
        {"positions": "newest", "tie_w3": True},
        {"positions": "none", "residual_items": True, "small_initial_gains": True},
        {"num_interests": 1},
    ],
    ids=str,
)
def test_equals_the_equations_written_out(arguments: dict[str, Any]) -> None:
    items, mask = random_inputs()
    layer = built(**arguments)
    output = layer(items, mask)
    for user, length in enumerate(LENGTHS[:3]):
        expected = reference(layer, items.numpy()[user, :length])
        for name, value in expected.items():
            got = (output.internals.get(name) if name in output.internals else getattr(output, name))[user].numpy()
            got = got[:, :length] if name in ("weights", "assignment", "attention") else got
            np.testing.assert_allclose(got, value, atol=2e-5, err_msg=f"{name} of user {user}")


def test_gives_what_it_promises() -> None:
    output = built()(*random_inputs())
    assert set(output.internals) == set(SparseInterests.INTERNALS)
    np.testing.assert_array_equal(output.internals["prototypes"], built().prototypes)
    assert output.active.numpy().all()


def activation_example() -> SparseInterests:
    """A layer with the specification's pool, to which a single item is the user."""
    layer = SparseInterests(2, num_prototypes=4)
    layer.build((None, 1, 2))
    layer.prototypes.assign([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.5, 0.5]])
    return layer


def test_golden_activation() -> None:
    indices, prototypes, concepts = activation_example()._activate(tf.constant([[[2.0, 1.0]]]), tf.constant([[True]]))
    np.testing.assert_array_equal(indices, [[0, 3]])
    np.testing.assert_array_equal(prototypes, [[[1.0, 0.0], [0.5, 0.5]]])
    np.testing.assert_allclose(concepts, [[[0.880797, 0.0], [0.408787, 0.408787]]], atol=1e-6)


def test_ties_go_to_the_lowest_prototype() -> None:
    layer = activation_example()
    indices, _, _ = layer._activate(tf.constant([[[1.0, 1.0]]]), tf.constant([[True]]))
    np.testing.assert_array_equal(indices, [[0, 1]])
    layer.prototypes.assign(tf.ones([4, 2]))
    np.testing.assert_array_equal(layer._activate(tf.constant([[[1.0, 1.0]]]), tf.constant([[True]]))[0], [[0, 1]])


def test_a_larger_score_opens_the_gate_of_a_selected_prototype() -> None:
    layer = activation_example()
    norms = []
    for scale in (0.5, 1.0, 2.0):
        indices, _, concepts = layer._activate(tf.constant([[[2.0, 1.0]]]) * scale, tf.constant([[True]]))
        np.testing.assert_array_equal(indices, [[0, 3]])
        norms.append(tf.norm(concepts[0], axis=-1).numpy())
    assert (np.diff(norms, axis=0) > 0).all()


def everything(output: InterestOutput) -> tf.Tensor:
    """A number on which every trained part has an influence; a sum of normalised vectors would not depend on what is normalised."""
    return tf.reduce_sum(tf.sin(output.interests)) + tf.reduce_sum(tf.sin(output.internals["current_intention"]))


@pytest.mark.parametrize("assignment", ["layernorm", "cosine"])
def test_exactly_k_prototypes_are_activated_and_the_others_get_no_gradient(assignment: str) -> None:
    items, mask = random_inputs()
    layer = built(assignment=assignment)
    with tf.GradientTape() as tape:
        output = layer(items, mask)
        loss = everything(output)
    indices = output.internals["prototype_indices"].numpy()
    assert all(len(set(row)) == INTERESTS for row in indices)
    activated = sorted(set(indices[:3].ravel()))  # the last user has no history
    assert len(activated) < POOL
    gradient = np.abs(tf.convert_to_tensor(tape.gradient(loss, layer.prototypes)).numpy()).max(axis=1)
    assert (gradient[activated] > 0).all()
    assert (np.delete(gradient, activated) == 0).all()


@pytest.mark.parametrize("arguments", [{}, {"assignment": "cosine"}, {"tie_w3": True, "positions": "newest"}], ids=str)
def test_every_weight_learns_the_choice_of_prototypes_included(arguments: dict[str, Any]) -> None:
    items, mask = random_inputs()
    layer = built(**arguments)
    with tf.GradientTape() as tape:
        loss = everything(layer(items, mask))
    for variable, gradient in zip(layer.trainable_variables, tape.gradient(loss, layer.trainable_variables), strict=True):
        assert gradient is not None, variable.name
        assert np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 1e-6, variable.name


def test_the_choice_of_prototypes_learns_by_way_of_the_current_intention() -> None:
    items, mask = random_inputs()
    layer = built()
    with tf.GradientTape(persistent=True) as tape:
        output = layer(items, mask)
        of_interests = tf.reduce_sum(tf.sin(output.interests))
        of_intention = tf.reduce_sum(tf.sin(output.internals["current_intention"]))
    for variable in (layer.activation_kernel, layer.activation_vector):
        strong, weak = (np.abs(tape.gradient(loss, variable).numpy()).max() for loss in (of_intention, of_interests))
        assert strong > 1e-3
        assert weak < 1e-3 * strong  # LN2 removes the gate


def test_distributions_sum_to_one_and_are_exactly_zero_at_padding() -> None:
    items, mask = random_inputs()
    output = built()(items, mask)
    assignment, attention = output.internals["assignment"].numpy(), output.internals["attention"].numpy()
    at_items = mask.numpy()
    np.testing.assert_allclose(assignment.sum(axis=1)[at_items], 1.0, atol=1e-6)
    np.testing.assert_allclose(attention.sum(axis=2)[LENGTHS > 0], 1.0, atol=1e-6)
    for distribution in (assignment, attention):
        assert (distribution.transpose(0, 2, 1)[~at_items] == 0).all()
    np.testing.assert_array_equal(output.weights, assignment * attention)


@pytest.mark.parametrize("residual_items", [False, True])
def test_padding_changes_nothing_in_the_current_intention(residual_items: bool) -> None:
    items, mask = random_inputs()
    layer = built(residual_items=residual_items)
    whole = layer(items, mask).internals["current_intention"]
    short = layer(items[:, :3], mask[:, :3]).internals["current_intention"]
    np.testing.assert_allclose(short[1:3], whole[1:3], atol=1e-6)
    dirty = layer(tf.where(mask[..., None], items, np.nan), mask).internals["current_intention"]
    np.testing.assert_array_equal(dirty, whole)


@pytest.mark.parametrize(("positions", "same"), [("none", True), ("oldest", False), ("newest", False)])
def test_without_positions_the_history_is_a_set(positions: str, same: bool) -> None:
    items, mask = random_inputs()
    order = np.random.default_rng(1).permutation(LENGTH)
    layer = built(positions=positions)
    output, shuffled = layer(items, mask), layer(tf.gather(items, order, axis=1), mask)
    assert np.allclose(shuffled.interests[0], output.interests[0], atol=1e-5) == same
    # Positions decide about the attention only.
    np.testing.assert_allclose(shuffled.internals["current_intention"][0], output.internals["current_intention"][0], atol=1e-5)


def test_interests_of_a_single_item_are_that_item_normalised() -> None:
    items, mask = random_inputs()
    layer = built()
    interests = layer(items, mask).interests[2].numpy()
    np.testing.assert_allclose(interests, np.tile(layer_norm(items.numpy()[2, 0], layer.interest_norm), [INTERESTS, 1]), atol=1e-5)


def test_an_interest_to_which_nothing_is_assigned_keeps_its_direction() -> None:
    """Two gains of 20 make every item's assignment a choice: what is not chosen has a weight of exactly 0 in float32."""
    items, mask = random_inputs()
    layer = built()
    layer.item_norm.gamma.assign(20.0 * tf.ones([WIDTH]))
    layer.concept_norm.gamma.assign(20.0 * tf.ones([WIDTH]))
    output = layer(items, mask)
    assert (tf.reduce_sum(output.weights, axis=2).numpy()[:3] == 0).any()
    spread = np.std(output.interests.numpy()[:3], axis=-1)
    assert (spread > 0.1).all()


def test_small_vectors_are_normalised_like_large_ones() -> None:
    items, mask = random_inputs()
    layer = built(positions="none")
    layer.prototypes.assign(layer.prototypes * 1e-4)
    layer.activation_kernel.assign(tf.zeros([WIDTH, WIDTH]))
    layer.slot_vectors.assign(tf.zeros([INTERESTS, WIDTH]))
    output, small = layer(items, mask), layer(items * 0.1, mask)
    np.testing.assert_allclose(small.interests[:3], output.interests[:3], atol=1e-3)
    assert np.std(small.internals["current_intention"].numpy()[:3], axis=-1).min() > 0.1


def test_small_initial_gains_shrink_the_logits_of_the_assignment() -> None:
    for small, gain in [(True, WIDTH**-0.25), (False, 1.0)]:
        layer = SparseInterests(small_initial_gains=small)
        layer.build((None, LENGTH, WIDTH))
        for norm, expected in [
            (layer.item_norm, gain),
            (layer.concept_norm, gain),
            (layer.interest_norm, 1.0),
            (layer.intention_norm, 1.0),
        ]:
            np.testing.assert_allclose(norm.gamma, expected, rtol=1e-6)


@pytest.mark.parametrize("num_interests", [1, POOL])
def test_pools_that_are_all_alike_or_all_activated(num_interests: int) -> None:
    items, mask = random_inputs()
    layer = built(num_interests)
    layer.prototypes.assign(tf.ones_like(layer.prototypes) * [1.0, 2.0, 3.0, 4.0, 5.0])
    with tf.GradientTape() as tape:
        output = layer(items, mask)
        loss = everything(output)
    assert np.isfinite(output.interests.numpy()).all()
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.isfinite(tf.convert_to_tensor(gradient).numpy()).all()
    np.testing.assert_allclose(tf.reduce_sum(output.internals["assignment"], axis=1)[0], 1.0, atol=1e-5)
    np.testing.assert_allclose(output.internals["assignment"][0], 1.0 / num_interests, atol=1e-5)


def test_weights_are_those_of_the_options() -> None:
    names = {variable.name.split(":")[0].split("/")[-1] for variable in built(assignment="cosine", positions="none").weights}
    assert "item_kernel" not in names
    assert "position_embeddings" not in names
    assert built(tie_w3=True).count_params() == built().count_params() - WIDTH**2
    assert built(max_length=30).position_embeddings.shape == [30, WIDTH]
    kernel = built().slot_kernels.numpy()
    assert len(np.unique(kernel)) == kernel.size  # every rank has a matrix of its own


def test_the_activation_is_float32_whatever_the_policy() -> None:
    items, mask = random_inputs()
    layer = SparseInterests(2, num_prototypes=POOL, dtype="mixed_float16")
    output = layer(items, mask)
    assert output.interests.dtype == tf.float16
    for name in ("prototypes", "assignment", "attention", "current_intention"):
        assert output.internals[name].dtype == tf.float32, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_interests": 0}, "num_interests: expected a number of at least 1, got 0"),
        ({"num_prototypes": 3}, "num_prototypes: expected at least num_interests, 4, to choose from, got 3"),
        ({"assignment": "dot"}, "assignment: expected one of 'layernorm', 'cosine'"),
        ({"assign_temperature": 0.0}, "assign_temperature: expected a number above 0"),
        ({"positions": "latest"}, "positions: expected one of 'oldest', 'newest', 'none'"),
        ({"assignment": "cosine", "tie_w3": True}, "tie_w3: assignment 'cosine' has no W3 to share"),
        ({"assignment": "cosine", "small_initial_gains": True}, "small_initial_gains: assignment 'cosine' has no LN1 and LN2"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseInterests(**arguments)
