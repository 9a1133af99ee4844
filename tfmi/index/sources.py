"""Candidates for users and neighbours of items, whatever kind of model they come from."""

from __future__ import annotations

import abc

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import MISSING_SCORE, InterestIndex, pad_columns
from tfmi.index.merging import NO_INTEREST, Candidates, best_candidates, merge_interests
from tfmi.index.quotas import allot_interests
from tfmi.index.repeats import merge_repeats
from tfmi.index.selection import most_distinct_items, select
from tfmi.models.recommender import (
    DirectRecommender,
    Recommender,
    RepeatingRecommender,
    Reranker,
    SharingRecommender,
    UserInputs,
    VectorRecommender,
    check_allotment,
    knows_repeats,
)


class CandidateSource(tf.Module, abc.ABC):
    """Where a servable's candidates come from. Traceable by ``tf.function``, for any batch size."""

    @abc.abstractmethod
    def candidates(
        self, inputs: UserInputs, k: tf.Tensor | int, exclude: tf.Tensor | None = None, diversity: tf.Tensor | None = None
    ) -> Candidates:
        """Candidates of users.

        Args:
            inputs: The users.
            k: Results per interest; after exclusions, a selection of n needs k of at least n and the number of exclusions.
            exclude: int32 [B, E], what the selection will leave out, for sources that choose; candidates may still hold it.
            diversity: float32 [B], the λ of the selection, for sources that would not leave it a choice.

        Returns:
            ``Candidates`` with at least k columns.
        """

    @abc.abstractmethod
    def describe_integration(self) -> dict[str, str | float]:
        """How an answer is made of what several interests found, for reports."""

    @abc.abstractmethod
    def similar(self, items: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """The best ``k`` neighbours [B, k] of item indices int32 [B], themselves left out; none for padding and unknown items."""


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

    def candidates(
        self, inputs: UserInputs, k: tf.Tensor | int, exclude: tf.Tensor | None = None, diversity: tf.Tensor | None = None
    ) -> Candidates:
        """See ``CandidateSource.candidates``; C = K * k."""
        interests, active = self.recommender.user_interests(inputs)  # [B, K, d], [B, K]
        return merge_interests(*self._search(interests, k), active)

    def _search(self, interests: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and items [B, K, k] of what is nearest to each of the interests [B, K, d]."""
        batch, num_interests = tf.shape(interests)[0], tf.shape(interests)[1]
        queries = tf.reshape(interests, [batch * num_interests, self.index.dimension])  # [B * K, d]
        scores, items = self.index.search(queries, k)
        answers = [batch, num_interests, k]
        static = [None, interests.shape[1], None]
        return tf.ensure_shape(tf.reshape(scores, answers), static), tf.ensure_shape(tf.reshape(items, answers), static)

    def describe_integration(self) -> dict[str, str | float]:
        """See ``CandidateSource.describe_integration``."""
        return {"kind": "competitive"}

    def similar(self, items: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """See ``CandidateSource.similar``; neighbours by the inner product of item vectors."""
        scores, neighbours = self.index.search(self.index.vectors(items), k + 1)
        known = items >= FIRST_INDEX
        found = _as_candidates(neighbours, tf.where(known[:, None], scores, MISSING_SCORE))
        return select(found, k, exclude=items[:, None])


class RepeatingCandidates(InterestCandidates):
    """The best new items of each interest, and the items of the user's own history at their own scores.

    Args:
        recommender: Makes interests of histories, and scores users' own items.
        index: Built from the recommender's item vectors; it is searched for new items only.
    """

    recommender: RepeatingRecommender

    def candidates(
        self, inputs: UserInputs, k: tf.Tensor | int, exclude: tf.Tensor | None = None, diversity: tf.Tensor | None = None
    ) -> Candidates:
        """See ``CandidateSource.candidates``; C = K * (k + distinct own items) + L, capped by the catalogue."""
        interests, active, own = self.recommender.interests_with_repeats(inputs)
        depth = tf.minimum(k + most_distinct_items(own.items), self.index.num_items)
        return merge_repeats(merge_interests(*self._search(interests, depth), active), own)

    def describe_integration(self) -> dict[str, str | float]:
        """See ``CandidateSource.describe_integration``."""
        return {"kind": "competitive", "own_items": "scored by the model's repetition"}


class AllottedCandidates(InterestCandidates):
    """The best items of each interest, each interest its quota of an answer of ``num_results``; see ``allot_interests``.

    A user who asks for diversity gets the candidates of ``InterestCandidates`` instead: the rule that spreads an answer over categories
    needs more of them than fit into the answer.

    Args:
        recommender: Makes interests of histories, and knows their shares.
        index: Built from the recommender's item vectors.
        num_results: n, the places of an answer.
        exponent: Quotas are in proportion to the shares raised to it.
    """

    recommender: SharingRecommender

    def __init__(self, recommender: SharingRecommender, index: InterestIndex, num_results: int, exponent: float) -> None:
        super().__init__(recommender, index)
        self.num_results = num_results
        self.exponent = exponent

    def candidates(
        self, inputs: UserInputs, k: tf.Tensor | int, exclude: tf.Tensor | None = None, diversity: tf.Tensor | None = None
    ) -> Candidates:
        """See ``CandidateSource.candidates``; C = K * k, of which up to n are not missing unless diversity is asked for."""
        interests, active, shares = self.recommender.interests_with_shares(inputs)
        scores, items = self._search(interests, k)
        allotted = allot_interests(scores, items, active, shares, self.num_results, exponent=self.exponent, exclude=exclude)
        if diversity is None:
            return allotted
        pool = merge_interests(scores, items, active)
        diverse = diversity[:, None] > 0.0  # False for NaN
        return Candidates(*(tf.where(diverse, *fields) for fields in zip(pool, allotted, strict=True)))

    def describe_integration(self) -> dict[str, str | float]:
        """See ``CandidateSource.describe_integration``."""
        return {"kind": "allotted", "quota_exponent": self.exponent}


class DirectCandidates(CandidateSource):
    """The answers of a model that ranks by itself; they count as found by interest 0."""

    def __init__(self, recommender: DirectRecommender) -> None:
        super().__init__()
        self.recommender = recommender

    def candidates(
        self, inputs: UserInputs, k: tf.Tensor | int, exclude: tf.Tensor | None = None, diversity: tf.Tensor | None = None
    ) -> Candidates:
        """See ``CandidateSource.candidates``; C = k. Such models look at histories alone."""
        return _as_candidates(*self.recommender.top_k(inputs.history, k))

    def describe_integration(self) -> dict[str, str | float]:
        """See ``CandidateSource.describe_integration``."""
        return {"kind": "direct"}

    def similar(self, items: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """See ``CandidateSource.similar``."""
        neighbours, scores = self.recommender.similar_items(items, k)
        known = items >= FIRST_INDEX
        return _as_candidates(neighbours, tf.where(known[:, None], scores, MISSING_SCORE))


class RankedCandidates(CandidateSource):
    """The best of another source's candidates, in the order and with the scores of a model that ranks, or of both models together.

    A ranker that has learned from what was shown knows little of what nobody would have shown: retrieval's score, added to its logit with
    a weight, keeps such candidates down.

    Each user has a pool of ``size`` candidates, whoever else is in the batch: the source's best that are not excluded.

    Args:
        source: Where candidates come from.
        ranker: Scores them.
        size: Candidates per user that are ranked.
        retrieval_weight: How much of the source's score is added to the ranker's.
    """

    def __init__(self, source: CandidateSource, ranker: Reranker, size: int, retrieval_weight: float = 0.0) -> None:
        super().__init__()
        self.source, self.ranker, self.retrieval_weight = source, ranker, retrieval_weight
        self.size = min(size, len(ranker.vocabulary))

    def candidates(
        self, inputs: UserInputs, k: tf.Tensor | int, exclude: tf.Tensor | None = None, diversity: tf.Tensor | None = None
    ) -> Candidates:
        """See ``CandidateSource.candidates``; no more than ``size`` of them are not missing, and none is excluded.

        The pool is chosen without regard to diversity, which then has the whole of it to choose from.
        """
        excluded = 0 if exclude is None else most_distinct_items(exclude)
        depth = tf.minimum(self.size + excluded, len(self.ranker.vocabulary))
        pool = select(self.source.candidates(inputs, depth, exclude), self.size, exclude)
        ranked = rank_candidates(self.ranker, inputs, pool, self.retrieval_weight)
        width = tf.maximum(self.size, k)
        paddings = Candidates(PADDING_INDEX, MISSING_SCORE, NO_INTEREST)
        return Candidates(*(pad_columns(values, width, padding) for values, padding in zip(ranked, paddings, strict=True)))

    def describe_integration(self) -> dict[str, str | float]:
        """See ``CandidateSource.describe_integration``; how interests share the pool."""
        return self.source.describe_integration()

    def similar(self, items: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """See ``CandidateSource.similar``; a ranker has nothing to say to it."""
        return self.source.similar(items, k)


def rank_candidates(ranker: Reranker, inputs: UserInputs, candidates: Candidates, retrieval_weight: float = 0.0) -> Candidates:
    """``candidates`` [B, C] in the order of a ranker's scores plus their own times a weight, and with these; ties keep the order given."""
    scores = ranker.score(inputs.history, inputs.profile, candidates.items)  # -inf at missing ones
    if retrieval_weight:
        scores += retrieval_weight * candidates.scores
    # NaN would stand before everything else.
    scores = tf.where(scores > MISSING_SCORE, scores, MISSING_SCORE)
    return best_candidates(candidates._replace(scores=scores), tf.shape(scores)[1])


def candidate_source(
    recommender: Recommender, index: InterestIndex | None, num_results: int, quota_exponent: float | None = None
) -> CandidateSource:
    """The source that fits a recommender.

    Args:
        recommender: Of any kind.
        index: Built from its item vectors; None for a ``DirectRecommender``.
        num_results: n, the places of an answer.
        quota_exponent: Allot the places to interests by their usage raised to this; None lets interests compete by score.

    Raises:
        ConfigError: The recommender does not know shares by which to allot places, or has own items to give places to.
    """
    if isinstance(recommender, DirectRecommender) or index is None:
        return DirectCandidates(recommender)  # type: ignore[arg-type]
    check_allotment(recommender, quota_exponent)
    if quota_exponent is not None:
        return AllottedCandidates(recommender, index, num_results, quota_exponent)  # type: ignore[arg-type]
    return RepeatingCandidates(recommender, index) if knows_repeats(recommender) else InterestCandidates(recommender, index)


def _as_candidates(items: tf.Tensor, scores: tf.Tensor) -> Candidates:
    found = (items >= FIRST_INDEX) & (scores > MISSING_SCORE)
    interests = tf.where(found, 0, NO_INTEREST)
    return Candidates(tf.where(found, items, PADDING_INDEX), tf.where(found, scores, MISSING_SCORE), interests)
