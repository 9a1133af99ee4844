"""Which item of a history went into which interest, for some users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, EvaluationSet, UserProfiles
from tfmi.data.features import feature_arrays
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval, drop_unknown_items


@dataclass(frozen=True)
class Routing:
    """One user's history in the user's interests.

    Attributes:
        row: The user's row in the evaluation set.
        items: int32 [L] known items of the history, oldest first.
        weights: float32 [K, L]: how much of each item went into each active interest.
    """

    row: int
    items: np.ndarray
    weights: np.ndarray


def routing_of_users(
    model: InterestRetrieval, examples: EvaluationSet, *, profiles: UserProfiles | None = None, users: int = 4
) -> list[Routing]:
    """The routing of the ``users`` with the longest histories that a model sees; of equals the first. Users of whom nothing is known have
    none."""
    padded, times = examples.histories.padded(model.history_length), examples.histories.padded_timestamps(model.history_length)
    known = drop_unknown_items(UserInputs(tf.constant(padded), timestamps=None if times is None else tf.constant(times)))
    history = known.history.numpy()
    lengths = (history >= FIRST_INDEX).sum(axis=1)
    chosen = np.argsort(-lengths, kind="stable")[:users]
    chosen = chosen[lengths[chosen] > 0]
    if not len(chosen):
        return []
    profile = None
    if profiles is not None:
        rows = examples.histories.users[chosen]
        profile = {name: tf.constant(values[rows]) for name, values in feature_arrays(profiles.features).items()}
    timestamps = None if known.timestamps is None else tf.gather(known.timestamps, chosen)
    output, _, _ = model.extract(tf.constant(history[chosen]), profile, timestamps, training=False)
    weights, active = output.weights.numpy(), output.active.numpy().sum(axis=1)
    return [
        Routing(int(row), history[row][: lengths[row]], weights[place, : active[place], : lengths[row]]) for place, row in enumerate(chosen)
    ]
