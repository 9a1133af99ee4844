"""SINE as a whole: what its likelihood teaches, what its one vector depends on; and its variants as configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS, READOUTS
from tfmi.losses.base import OBJECTIVES, REGULARIZERS
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval, unit_length
from tfmi.models.systems import SYSTEMS, load_config
from tfmi.models.towers import ItemTower, UserTower

NUM_ROWS, LENGTH, WIDTH, POOL = 42, 6, 8, 12
RECIPE = SYSTEMS["sine"].recipe["model"]


def sine_model(covariance: float | None = None, **extractor: Any) -> InterestRetrieval:
    """A small model of the recipe with a pool of 12."""
    tf.keras.utils.set_random_seed(3)
    regularizers = {} if covariance is None else {"covariance": {"name": "concept_covariance", "weight": covariance}}
    model = InterestRetrieval(
        item_tower=ItemTower(NUM_ROWS, WIDTH),
        user_tower=UserTower(WIDTH),
        extractor=EXTRACTORS.build({**RECIPE["extractor"], "num_prototypes": POOL, **extractor}, "extractor"),
        readout=READOUTS.build(RECIPE["readout"], "readout"),
        objective=OBJECTIVES.build({"name": "full_softmax"}, "objective"),
        regularizers={name: REGULARIZERS.build(spec, name) for name, spec in regularizers.items()},
        history_length=LENGTH,
        temperature=0.1,
    )
    model.compute_loss(batch(LENGTH))
    return model


def batch(count: int, rows: int = 8) -> dict[str, tf.Tensor]:
    """Histories of so many items, all different."""
    random = np.random.default_rng(0)
    history = np.zeros([rows, LENGTH], np.int32)
    for row in history:
        row[:count] = random.permutation(np.arange(2, NUM_ROWS))[:count]
    return {"history": tf.constant(history), "target": tf.constant(random.integers(2, NUM_ROWS, rows), tf.int32)}


def vector(model: InterestRetrieval, history: tf.Tensor) -> np.ndarray:
    """The one vector [B, d] that a user is searched with."""
    served, active = model.user_interests(UserInputs(history))
    assert served.shape[1] == active.shape[1] == 1
    return served[:, 0].numpy()


def prototype_gradients(model: InterestRetrieval, inputs: dict[str, tf.Tensor]) -> np.ndarray:
    with tf.GradientTape() as tape:
        loss = model.compute_loss(inputs, training=True)
    return np.abs(tf.convert_to_tensor(tape.gradient(loss, model.extractor.prototypes)).numpy()).max(axis=1)


def test_the_likelihood_moves_activated_prototypes_alone_and_the_covariance_all() -> None:
    inputs = batch(LENGTH, rows=2)
    model = sine_model()
    activated = np.unique(model.extract(inputs["history"])[0].internals["prototype_indices"])
    assert len(activated) < POOL
    gradient = prototype_gradients(model, inputs)
    assert (gradient[activated] > 0).all()
    assert (np.delete(gradient, activated) == 0).all()
    assert (prototype_gradients(sine_model(covariance=0.5), inputs) > 0).all()


def test_the_likelihood_teaches_which_prototypes_to_activate() -> None:
    model = sine_model()
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch(LENGTH), training=True)
    for gradient in tape.gradient(loss, [model.extractor.activation_kernel, model.extractor.activation_vector]):
        assert np.abs(gradient.numpy()).max() > 1e-7


def test_padding_does_not_change_the_vector() -> None:
    model, history = sine_model(), batch(4)["history"]
    np.testing.assert_allclose(vector(model, history[:, :4]), vector(model, history), atol=1e-6)


@pytest.mark.parametrize(("positions", "same"), [("none", True), ("oldest", False), ("newest", False)])
def test_only_positions_make_the_vector_depend_on_the_order(positions: str, same: bool) -> None:
    model, history = sine_model(positions=positions), batch(LENGTH)["history"]
    assert np.allclose(vector(model, history[:, ::-1]), vector(model, history), atol=1e-5) == same


def test_the_vector_of_a_single_item_is_each_of_its_interests() -> None:
    model, history = sine_model(), batch(1)["history"]
    _, interests, items = model.extract(history)
    expected = unit_length(model.extractor.interest_norm(items[:, :1]))[:, 0].numpy()
    for interest in np.moveaxis(interests.numpy(), 1, 0):
        np.testing.assert_allclose(interest, expected, atol=1e-5)
    np.testing.assert_allclose(vector(model, history), expected, atol=1e-5)


def test_sine_with_label_aware_attention_is_a_configuration_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "sine_label.yaml"
    path.write_text(
        "system: sine_label\n"
        "model:\n"
        "  extractor: {name: sparse_interests, num_interests: 4, num_prototypes: 50, assignment: cosine}\n"
        "  readout: {name: label_aware, power: 2}\n"
        "  regularizers: {apart: {name: interest_cosine, weight: 0.05}}\n",
        encoding="utf-8",
    )
    assert load_config(path).system == "sine_label"
    # The named system may change its readout, too.
    changed = load_config(system="sine", settings=["model.readout={name: label_aware}"])
    assert changed.model.readout == {"name": "label_aware"}


@pytest.mark.parametrize(
    ("system", "setting", "message"),
    [
        ("mind", "model.readout={name: predicted_intention}", "PredictedIntention needs current_intention"),
        ("mind", "model.regularizers={pool: {name: concept_covariance}}", "ConceptCovariance needs prototypes"),
        ("youtube_dnn", "model.regularizers={apart: {name: interest_cosine}}", "InterestCosine compares the interests of a user"),
        ("sine", "model.extractor.num_prototypes=3", r"model\.extractor: num_prototypes: expected at least num_interests, 4"),
    ],
)
def test_combinations_that_cannot_work_are_refused_before_any_data_is_read(system: str, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(system=system, settings=[setting])
