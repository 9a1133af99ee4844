"""The routing picture shows what the model does with each user's own history and profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import Catalogue, CategoricalFeature, EvaluationSet, Sequences, UserProfiles, Vocabulary
from tfmi.evaluation.routing import routing_of_users
from tfmi.layers.base import InterestOutput
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.plots.training_plots import plot_routing


class _Model:
    """Keeps what it is asked about."""

    history_length = 4

    def extract(
        self, history: tf.Tensor, profile: Mapping[str, tf.Tensor] | None, timestamps: tf.Tensor | None, training: bool
    ) -> tuple[InterestOutput, None, None]:
        del timestamps
        assert not training
        self.history, self.profile = history.numpy(), profile
        rows = history.shape[0]
        return InterestOutput(tf.zeros([rows, 2, 3]), tf.ones([rows, 2], tf.bool), tf.ones([rows, 2, 4]), {}), None, None


def _examples() -> EvaluationSet:
    # The users 5, 9 and 7 with one, three and two items.
    sequences = Sequences(
        offsets=np.array([0, 1, 4, 6]),
        items=np.array([2, 3, 4, 2, 4, 3], np.int32),
        timestamps=None,
        weights=None,
        users=np.array([5, 9, 7], np.int32),
    )
    return EvaluationSet(sequences, sequences)


def test_each_user_is_drawn_with_the_profile_of_that_user(tmp_path: Path) -> None:
    catalogue = Catalogue(Vocabulary(["a", "b", "c"]), {}, ["", "", "costs $5", "b", "c" * 50], np.zeros(5, np.int64))
    city = CategoricalFeature(Vocabulary([f"city {row}" for row in range(12)]), np.arange(10, dtype=np.int32))
    model = _Model()
    routing = routing_of_users(cast(InterestRetrieval, model), _examples(), profiles=UserProfiles([], {"city": city}), users=2)
    path = plot_routing(routing, catalogue, tmp_path / "routing.png")
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [(user.row, user.items.tolist(), user.weights.shape) for user in routing] == [(1, [3, 4, 2], (2, 3)), (2, [4, 3], (2, 2))]
    assert model.history.tolist() == [[3, 4, 2, 0], [4, 3, 0, 0]]
    assert model.profile is not None
    assert model.profile["city"].numpy().tolist() == [9, 7]
