"""An index searches further until a stated recall is met, with what it has; what was set by hand stays."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tensorflow as tf

from tests.index.test_scann_index import DIMENSION, clustered_vectors
from tfmi.index.build import build_index
from tfmi.index.exact import ExactIndex
from tfmi.index.recall import RecallProbe
from tfmi.index.widening import widen_search

# Vectors without clusters, which no choice from the catalogue's size alone fits.
VECTORS = np.random.default_rng(3).normal(size=(3_002, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module")
def probe() -> RecallProbe:
    queries = np.random.default_rng(4).normal(size=(64, DIMENSION)).astype(np.float32)
    return RecallProbe(ExactIndex(VECTORS), queries, 20)


def test_the_search_widens_until_the_target_is_met(probe: RecallProbe) -> None:
    index = build_index("scann", VECTORS, leaves=100)
    index.set_search({"leaves_to_search": 3})
    widening = widen_search(index, probe, 0.97)
    assert widening.first < 0.7
    assert widening.recall == probe.recall(index) >= 0.97
    described = widening.describe()["target_recall"]
    assert described["met"]
    first, now = described["widened"]["leaves_to_search"]
    assert first == 3 < now == index.parameters()["leaves_to_search"]


def test_a_target_that_is_met_changes_nothing(probe: RecallProbe) -> None:
    index = build_index("scann", VECTORS, leaves=100)
    before = index.parameters()
    first = probe.recall(index)
    assert widen_search(index, probe, first).describe() == {"target_recall": {"value": first, "met": True}}
    assert widen_search(index, probe, None).describe() == {}
    assert index.parameters() == before


def test_what_is_set_by_hand_stays_and_the_warning_names_it(probe: RecallProbe, caplog: pytest.LogCaptureFixture) -> None:
    index = build_index("scann", VECTORS, leaves=100, leaves_to_search=2)
    with caplog.at_level(logging.WARNING):
        widening = widen_search(index, probe, 0.97)
    assert not widening.is_met
    assert index.parameters()["leaves_to_search"] == 2
    assert "less than index.target_recall (0.97): raise or leave out index.leaves_to_search" in caplog.text


def test_exact_search_and_brute_force_have_nothing_to_widen() -> None:
    for index in (ExactIndex(VECTORS), build_index("scann", clustered_vectors(30))):
        assert not index.is_approximate
        assert index.wider_searches() == index.settings_by_hand() == []
    with pytest.raises(ValueError, match="no parameters"):
        ExactIndex(VECTORS).set_search({"leaves_to_search": 3})


def test_everything_is_searched_before_a_target_is_given_up(probe: RecallProbe) -> None:
    index = build_index("scann", VECTORS, leaves=100)
    assert widen_search(index, probe, 1.0).recall == pytest.approx(1.0, abs=1e-3)
    _, items = index.search(tf.constant(VECTORS[2:4]), 5)
    assert (items.numpy() > 0).all()
