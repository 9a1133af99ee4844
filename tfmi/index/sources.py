"""Candidates for users and neighbours of items, whatever kind of model they come from."""

from __future__ import annotations

import tensorflow as tf

from tfmi.data.structures import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import MISSING_SCORE, InterestIndex
from tfmi.index.merging import NO_INTEREST, Candidates, merge_interests
from tfmi.index.selection import select
from tfmi.models.recommender import DirectRecommender, UserInputs, VectorRecommender


class CandidateSource(tf.Module):
    """Where a servable's candidates come from. Traceable by ``tf.function``, for any batch size."""

    def candidates(self, inputs: UserInputs, k: tf.Tensor | int) -> Candidates:
        """Candidates of users.

        Args:
            inputs: The users.
            k: Results per interest; after exclusions, a selection of n needs k of at least n and the number of exclusions.

        Returns:
            ``Candidates`` with at least k columns.
        """
        raise NotImplementedError

    def similar(self, items: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """The best ``k`` neighbours [B, k] of item indices int32 [B], themselves left out; none for padding and unknown items."""
        raise NotImplementedError


class InterestCandidates(CandidateSource):
    """The best items of each interest, found by one search of all users' interests together.

    Args:
        recommender: Makes interests of histories.
        index: Built from the recommender's item vectors.
    """

    def __init__(self, recommender: VectorRecommender, index: InterestIndex) -> None:
        super().__init__()
        self.recommender = recommender
        self.index = index

    def candidates(self, inputs: UserInputs, k: tf.Tensor | int) -> Candidates:
        """See ``CandidateSource.candidates``; C = K * k."""
        interests, active = self.recommender.user_interests(inputs)  # [B, K, d], [B, K]
        batch, num_interests = tf.shape(interests)[0], tf.shape(interests)[1]
        queries = tf.reshape(interests, [batch * num_interests, self.index.dimension])  # [B * K, d]
        scores, items = self.index.search(queries, k)
        answers = [batch, num_interests, k]
        return merge_interests(tf.reshape(scores, answers), tf.reshape(items, answers), active)

    def similar(self, items: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """See ``CandidateSource.similar``; neighbours by the inner product of item vectors."""
        scores, neighbours = self.index.search(self.index.vectors(items), k + 1)
        known = items >= FIRST_INDEX
        found = _as_candidates(neighbours, tf.where(known[:, None], scores, MISSING_SCORE))
        return select(found, k, exclude=items[:, None])


class DirectCandidates(CandidateSource):
    """The answers of a model that ranks by itself; they count as found by interest 0."""

    def __init__(self, recommender: DirectRecommender) -> None:
        super().__init__()
        self.recommender = recommender

    def candidates(self, inputs: UserInputs, k: tf.Tensor | int) -> Candidates:
        """See ``CandidateSource.candidates``; C = k. Such models look at histories alone."""
        return _as_candidates(*self.recommender.top_k(inputs.history, k))

    def similar(self, items: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """See ``CandidateSource.similar``."""
        neighbours, scores = self.recommender.similar_items(items, k)
        known = items >= FIRST_INDEX
        return _as_candidates(neighbours, tf.where(known[:, None], scores, MISSING_SCORE))


def _as_candidates(items: tf.Tensor, scores: tf.Tensor) -> Candidates:
    found = (items >= FIRST_INDEX) & (scores > MISSING_SCORE)
    interests = tf.where(found, 0, NO_INTEREST)
    return Candidates(tf.where(found, items, PADDING_INDEX), tf.where(found, scores, MISSING_SCORE), interests)
