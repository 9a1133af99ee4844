"""Diagnostics of experts on gates that are known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.user_tags.user_tag_models import DIMENSION, KERNELS, NUM_TAGS, make_model
from tfmi.evaluation.tag_diagnostics import expert_shares, gate_entropy, kernel_cosines, tag_gates
from tfmi.models.user_tags.user_tag_model import UserTagModel


def model_of(kernels: np.ndarray, table: np.ndarray) -> UserTagModel:
    model = make_model(KERNELS)
    model.user_encoder.virtual_kernels.kernels.assign(kernels)
    model.tag_tower.table.assign(table)
    return model


def decided() -> UserTagModel:
    """Half of the tags are for expert 1, a quarter each for 3 and 4; padding and unknown for 2."""
    table = np.zeros([NUM_TAGS + 2, DIMENSION])
    for row in range(NUM_TAGS + 2):
        table[row, 2 if row < 2 else (1, 3, 1, 4)[row % 4]] = 1
    return model_of(100 * np.eye(5, DIMENSION), table)


def test_a_gate_that_cannot_tell_tags_apart_is_at_one() -> None:
    model = model_of(np.zeros([5, DIMENSION]), np.ones([NUM_TAGS + 2, DIMENSION]))
    assert gate_entropy(model, 0) == pytest.approx(1)
    assert expert_shares(model, 0) == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3})


def test_a_gate_that_decides_is_at_zero() -> None:
    model = decided()
    assert tag_gates(model, 1).shape == (NUM_TAGS, 4)
    assert gate_entropy(model, 1) == pytest.approx(0, abs=1e-5)
    assert expert_shares(model, 1) == pytest.approx({1: 0.5, 2: 0, 3: 0.25, 4: 0.25}, abs=1e-5)


def test_shares_follow_how_often_tags_occur() -> None:
    counts = np.full(NUM_TAGS + 2, 0.0)
    counts[:2], counts[2], counts[3] = 100, 1, 3  # tag 2 is for expert 1, tag 3 for expert 4
    assert expert_shares(decided(), 1, counts) == pytest.approx({1: 0.25, 2: 0, 3: 0, 4: 0.75}, abs=1e-5)


def test_a_single_expert_has_no_entropy() -> None:
    model = make_model({"name": "two_tower", "body": {"name": "mlp", "hidden": [4]}})
    assert np.isnan(gate_entropy(model, 0))
    assert expert_shares(model, 1) == pytest.approx({1: 1.0})


def test_kernels_that_have_collapsed_are_seen() -> None:
    kernels = np.eye(5, DIMENSION)
    kernels[1] = 3 * kernels[0]
    cosines = kernel_cosines(model_of(kernels, np.zeros([NUM_TAGS + 2, DIMENSION])).user_encoder)
    expected = np.eye(5)
    expected[0, 1] = expected[1, 0] = 1
    np.testing.assert_allclose(cosines, expected, atol=1e-6)
