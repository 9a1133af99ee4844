"""Votes: what a heuristic model knows of a user's items, added to the scores of a trained one.

Shapes: B users, L history length, C candidates.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import tensorflow as tf

from tfmi.data.dataset import PADDING_INDEX, Sequences
from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.arguments import require_above, require_at_least
from tfmi.models.heuristics.heuristic import HEURISTICS


class Votes(NamedTuple):
    """Who is voted for.

    Attributes:
        items: int32 [B, C], distinct, most votes first; 0 pads.
        votes: float32 [B, C], above 0; 0 at padding.
    """

    items: tf.Tensor
    votes: tf.Tensor


class CountedVotes(ConfiguredLayer):
    r"""The best candidates of a heuristic model, each with its share of the best one's score::

        votes(i) = weight (c_i / max over j of c_j)^exponent,  c the heuristic model's scores above 0          [B, C]
        score(i) = max over k of v_k . e_i + votes(i)

    A model of d dimensions smooths over what it has seen; counts know single pairs, whatever their number. Both err, on different users:
    their sum is better than either. The votes are added when a model answers, in validation, evaluation and export alike, and not while it
    learns: every training target has been counted beside its own history, so that training would learn to trust the counts alone.
    ``weight`` is on the scale of scores (at most 1 where ``normalize`` makes them cosines) and is to be chosen on validation users.

    Source: no paper; this project's own. The counts are item-KNN's by default (Sarwar et al., WWW 2001).

    Args:
        heuristic: The heuristic model, ``{"name": ..., parameter: value, ...}``; None takes item-KNN.
        weight: Of the votes, above 0.
        exponent: Above 0; below 1 candidates that are far behind the best one are heard, too.
        candidates: C; items beyond the best so many get no votes.
        history_length: L, of which the heuristic model looks at all.

    Raises:
        ConfigError: ``heuristic`` is none.
        ValueError: Another argument is out of its range.
    """

    def __init__(
        self,
        heuristic: dict[str, Any] | None = None,
        *,
        weight: float = 1.0,
        exponent: float = 0.5,
        candidates: int = 1000,
        history_length: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_above(0, weight=weight, exponent=exponent)
        require_at_least(1, candidates=candidates, history_length=history_length)
        spec = heuristic or {"name": "item_knn"}
        # As text: of an attribute Keras would wrap the dictionaries, and the caller's with them.
        self._described = json.dumps(spec)
        self.counts = HEURISTICS.build(spec, "model.votes.heuristic")

    @property
    def heuristic(self) -> dict[str, Any]:
        """The heuristic model's description, plain."""
        described: dict[str, Any] = json.loads(self._described)
        return described

    def adapt(self, sequences: Sequences, num_rows: int) -> None:
        """Count the training sequences; see ``AdaptsToSequences``."""
        self.counts.fit(sequences, num_rows, self.history_length)

    def call(self, history: tf.Tensor) -> Votes:
        """Vote.

        Args:
            history: int32 [B, L] item indices, oldest to newest; 0 pads.
        """
        items, scores = self.counts.top_k(history, self.candidates)  # best first
        counted = scores > 0.0
        shares = tf.math.divide_no_nan(scores, scores[:, :1])
        return Votes(tf.where(counted, items, PADDING_INDEX), tf.where(counted, self.weight * shares**self.exponent, 0.0))
