"""The signature ``rank`` alone: a ranker without a retriever in front of it, asked in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfmi.data.dataset import UserProfiles
from tfmi.export.graph_checks import require_columns, require_rows
from tfmi.export.lookup import ItemVocabulary
from tfmi.export.profile_inputs import ProfileInputs
from tfmi.export.saving import Signatures, Tensors
from tfmi.models.recommender import Reranker


def rank_candidates_by_id(
    score: Callable[..., tf.Tensor],
    history_length: int,
    items: ItemVocabulary,
    profile_inputs: ProfileInputs,
    *,
    history: tf.Tensor,
    candidates: tf.Tensor,
    given: Tensors,
) -> Tensors:
    """``scores`` float32 [B, C] of ``candidates`` string [B, C] for users with ``history`` string [B, L] and profile inputs ``given``, by
    the ``score`` of a ``Reranker`` that reads histories of ``history_length``."""
    history = require_columns(history, "history", history_length)
    rows = tf.shape(history)[0]
    candidates = require_rows(require_columns(candidates, "candidates"), "candidates", rows)
    profile = profile_inputs.encode(given, rows)
    return {"scores": score(items.indices(history), profile, items.indices(candidates))}


class RankSignature(Signatures):
    """Scores of candidates by their ids.

    Args:
        ranker: The model.
        profiles: The users' features, if it reads any.
    """

    def __init__(self, ranker: Reranker, profiles: UserProfiles | None) -> None:
        features: Mapping[str, Any] = {} if profiles is None else profiles.features
        self._ranker = ranker
        self._items = ItemVocabulary(ranker.vocabulary)
        self.profile_inputs = ProfileInputs({name: features[name] for name in sorted(ranker.profile_features)})
        inputs = {
            "history": tf.TensorSpec([None, ranker.history_length], tf.string, name="history"),
            **self.profile_inputs.specs(),
            "candidates": tf.TensorSpec([None, None], tf.string, name="candidates"),
        }
        super().__init__({"rank": (self._rank, inputs)}, resources=[self._items, self.profile_inputs])

    def describe(self, *, outputs: bool = True) -> dict[str, Any]:
        """What the metadata of an export would say of it."""
        return {
            **super().describe(outputs=outputs),
            "widths": {"history_length": self._ranker.history_length},
            "profile_inputs": self.profile_inputs.describe(),
        }

    def _rank(self, history: tf.Tensor, candidates: tf.Tensor, **given: tf.Tensor) -> Tensors:
        ranker, known = self._ranker, (self._items, self.profile_inputs)
        return rank_candidates_by_id(ranker.score, ranker.history_length, *known, history=history, candidates=candidates, given=given)
