"""Re4 as a whole: its backward flows work with any extractor, and leave nothing behind in what is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import make_catalogue
from tfmi.config import ExportConfig
from tfmi.core.errors import ConfigError
from tfmi.export.retrieval.retrieval_signatures import RetrievalSignatures
from tfmi.index.exact import ExactIndex
from tfmi.layers.base import EXTRACTORS, READOUTS
from tfmi.losses.base import OBJECTIVES, REGULARIZERS
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.systems import SYSTEMS
from tfmi.models.towers import ItemTower, UserTower
from tfmi.training.optimizers import RowSparseAdam

NUM_ROWS, LENGTH, WIDTH = 42, 6, 8
RECIPE = SYSTEMS["re4"].recipe["model"]


def re4_model(regularizers: dict[str, dict[str, Any]], extractor: dict[str, Any] | None = None) -> InterestRetrieval:
    """A small model of the recipe; equal calls give equal weights, whatever the regularisers."""
    tf.keras.backend.clear_session()  # Variables of equal models have equal names.
    tf.keras.utils.set_random_seed(3)
    model = InterestRetrieval(
        item_tower=ItemTower(NUM_ROWS, WIDTH),
        user_tower=UserTower(WIDTH),
        extractor=EXTRACTORS.build(extractor or RECIPE["extractor"], "extractor"),
        readout=READOUTS.build(RECIPE["readout"], "readout"),
        objective=OBJECTIVES.build({"name": "full_softmax"}, "objective"),
        regularizers={name: REGULARIZERS.build(spec, name) for name, spec in regularizers.items()},
        history_length=LENGTH,
        temperature=0.1,
    )
    model.compute_loss(batch())
    return model


def weighted(weight: float) -> dict[str, dict[str, Any]]:
    return {name: {**spec, "weight": weight} for name, spec in RECIPE["regularizers"].items()}


def batch(rows: int = 12) -> dict[str, tf.Tensor]:
    random = np.random.default_rng(0)
    counts = random.integers(0, LENGTH + 1, rows)
    history = random.integers(2, NUM_ROWS, (rows, LENGTH)) * (np.arange(LENGTH) < counts[:, None])
    return {"history": tf.constant(history, tf.int32), "target": tf.constant(random.integers(2, NUM_ROWS, rows), tf.int32)}


def gradients(model: InterestRetrieval) -> dict[str, np.ndarray]:
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch(), training=True)
    variables = model.trainable_variables
    values = tape.gradient(loss, variables, unconnected_gradients="zero")
    return {variable.name: tf.convert_to_tensor(value).numpy() for variable, value in zip(variables, values, strict=True)}


@pytest.mark.slow
def test_weights_of_zero_give_the_plain_models_gradients() -> None:
    plain, silent, loud = gradients(re4_model({})), gradients(re4_model(weighted(0.0))), gradients(re4_model(weighted(1.0)))
    for name, gradient in plain.items():
        np.testing.assert_array_equal(silent[name], gradient, err_msg=name)
    backward = silent.keys() - plain.keys()
    assert len(backward) == 5
    assert not any(silent[name].any() for name in backward)
    assert all(np.isfinite(gradient).all() for gradient in loud.values())
    changed = {name for name in plain if np.abs(loud[name] - plain[name]).max() > 1e-6}
    assert len(changed) == len(plain) - 2, changed  # all but the output transform, which the backward flows do not see


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTRACTORS.names())
def test_contrast_and_construction_work_with_every_extractor(name: str) -> None:
    spec = {"name": name, **({"num_rows": NUM_ROWS} if "num_rows" in EXTRACTORS.parameters(name) else {})}
    regularizers = {name: spec for name, spec in weighted(1.0).items() if spec["name"] != "re_attend"}
    try:
        model = re4_model(regularizers, spec)
    except ConfigError:
        pytest.skip("needs more than a history")
    found = gradients(model)
    assert all(np.isfinite(gradient).all() for gradient in found.values())


def test_routing_takes_all_three_where_its_gradients_are_on() -> None:
    routing = {"name": "capsule_routing", "stop_gradient_routing": False}
    assert all(np.isfinite(gradient).all() for gradient in gradients(re4_model(weighted(1.0), routing)).values())
    with pytest.raises(ConfigError, match=r"re_attend would have no effect.*stop_gradient_routing"):
        re4_model(weighted(1.0), {"name": "capsule_routing"})


@pytest.mark.slow
def test_fits_and_reports_every_flow() -> None:
    model = re4_model(weighted(0.1))
    model.compile(optimizer=RowSparseAdam(0.02))
    history = model.fit(tf.data.Dataset.from_tensors(batch()).repeat(), steps_per_epoch=15, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert all(history[name][1] > 0 for name in RECIPE["regularizers"])


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
def mixed_policy(request: pytest.FixtureRequest) -> Iterator[str]:
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf.keras.mixed_precision.set_global_policy("float32")


def test_mixed_precision_is_finite(mixed_policy: str) -> None:
    model = re4_model(weighted(0.1))
    assert np.isfinite(float(model.compute_loss(batch(), training=True)))
    assert all(np.isfinite(gradient).all() for gradient in gradients(model).values())
    assert all(variable.dtype == tf.float32 for variable in model.trainable_variables)


@pytest.mark.slow
def test_what_is_served_holds_no_variable_of_the_backward_flows_and_does_not_depend_on_them(tmp_path: Path) -> None:
    plain, trained = re4_model({}), re4_model(weighted(5.0))
    inputs = UserInputs(batch()["history"])
    np.testing.assert_array_equal(trained.user_interests(inputs)[0], plain.user_interests(inputs)[0])
    saved: list[list[tuple[int, ...]]] = []
    answers: list[dict[str, tf.Tensor]] = []
    catalogue = make_catalogue(NUM_ROWS - 2)
    history = tf.gather(tf.constant(["", "", *(f"item-{i}" for i in range(NUM_ROWS - 2))]), inputs.history)
    for model in (plain, trained):
        folder = tmp_path / str(len(saved))
        servable = RetrievalSignatures(model, ExactIndex(model.item_vectors()), catalogue, ExportConfig(num_results=5), {})
        servable.save(folder)
        saved.append(sorted(tuple(shape) for _, shape in tf.train.list_variables(str(folder / "variables" / "variables"))))
        answers.append(servable.signatures["serving_default"](history=history))
    assert saved[0] == saved[1]
    for name, answer in answers[0].items():
        np.testing.assert_array_equal(answers[1][name], answer, err_msg=name)
    assert tuple(trained.extractor.output_kernel.shape) in saved[1]
    assert tuple(trained.regularizers["construct"].upsample_kernel.shape) not in saved[1]
