"""Candidates for users and neighbours of items, whatever kind of model they come from."""

from __future__ import annotations

import abc
from collections.abc import Callable

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import InterestIndex, pad_candidates, pad_columns
from tfmi.index.filtered_search import WIDENING_FACTOR, search_filtered
from tfmi.index.filters import ItemFilter
from tfmi.index.merging import (
    MISSING_SCORE,
    NO_INTEREST,
    Candidates,
    best_candidates,
    best_of_interests,
    first_of_each,
    merge_interests,
)
from tfmi.index.quotas import allot_interests
from tfmi.index.repeats import merge_repeats
from tfmi.index.selection import most_distinct_items, select
from tfmi.models.recommender import (
    DirectRecommender,
    RepeatingRecommender,
    Reranker,
    Retriever,
    SharingRecommender,
    UserInputs,
    VectorRecommender,
    check_allotment,
    knows_repeats,
)
from tfmi.models.shared_trace import SharedTrace


class CandidateSource(tf.Module, abc.ABC):
    """Where a servable's candidates come from. Traceable by ``tf.function``, for any batch size.

    What models and indexes do is traced once for all signatures that ask a source: an index is to be set before it is given to one.
    """

    @abc.abstractmethod
    def candidates(
        self,
        inputs: UserInputs,
        k: tf.Tensor | int,
        exclude: tf.Tensor | None = None,
        diversity: tf.Tensor | None = None,
        *,
        allowed: ItemFilter | None = None,
        places: tf.Tensor | None = None,
    ) -> Candidates:
        """Candidates of users.

        Args:
            inputs: The users.
            k: Results per interest; after exclusions, a selection of n needs k of at least n and the number of exclusions.
            exclude: int32 [B, E], what the selection will leave out, for sources that choose; candidates may still hold it.
            diversity: float32 [B], the λ of the selection, for sources that would not leave it a choice.
            allowed: Which items candidates may be; None: all. A user has as many as there are, up to k.
            places: int32 [B], the places that each user's candidates compete for, for sources that choose; None: as many as they were made
                for.

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

    Attributes:
        user_interests: That of the recommender.
    """

    def __init__(self, recommender: VectorRecommender, index: InterestIndex) -> None:
        super().__init__()
        self.recommender = recommender
        self.index = index
        self.user_interests: Callable[[UserInputs], tuple[tf.Tensor, tf.Tensor]] = SharedTrace(recommender.user_interests)
        self._search_index, self._search_interests = SharedTrace(index.search), SharedTrace(index.search_interests)

    def candidates(
        self,
        inputs: UserInputs,
        k: tf.Tensor | int,
        exclude: tf.Tensor | None = None,
        diversity: tf.Tensor | None = None,
        *,
        allowed: ItemFilter | None = None,
        places: tf.Tensor | None = None,
    ) -> Candidates:
        """See ``CandidateSource.candidates``; C = k."""
        interests, active = self.user_interests(inputs)  # [B, K, d], [B, K]
        return self._search_together(interests, active, k, allowed)

    def _search_together(self, interests: tf.Tensor, active: tf.Tensor, k: tf.Tensor | int, allowed: ItemFilter | None) -> Candidates:
        """The best of all interests [B, K, d], ``Candidates`` [B, k]."""
        if allowed is None:
            return Candidates(*self._search_interests(interests, active, k))

        def among_allowed() -> Candidates:
            scores, items = search_filtered(self.index, allowed, interests, active, k, each=False)
            return best_of_interests(scores, items, active, k)

        unrestricted = lambda: self._search_interests(interests, active, k)  # noqa: E731 - a branch as short as this
        return Candidates(*tf.cond(tf.reduce_any(allowed.restricts), among_allowed, unrestricted))

    def search_each(
        self, interests: tf.Tensor, active: tf.Tensor, k: tf.Tensor | int, allowed: ItemFilter | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What is nearest to each interest by itself.

        Args:
            interests, active: float32 [B, K, d] and bool [B, K], as the recommender gives them.
            k: Results per interest.
            allowed: Which items they may be; None: all.

        Returns:
            Scores float32 and item indices int32 [B, K, k], best first, missing ones -inf and 0; whatever was found for an interest that is
            not active is for the caller to leave out.
        """
        if allowed is None:
            return self._search(interests, k)
        return tf.cond(
            tf.reduce_any(allowed.restricts),
            lambda: search_filtered(self.index, allowed, interests, active, k, each=True),
            lambda: self._search(interests, k),
        )

    def _search(self, interests: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        batch, num_interests = tf.shape(interests)[0], tf.shape(interests)[1]
        queries = tf.reshape(interests, [batch * num_interests, self.index.dimension])  # [B * K, d]
        scores, items = self._search_index(queries, k)
        answers = [batch, num_interests, k]
        static = [None, interests.shape[1], None]
        return tf.ensure_shape(tf.reshape(scores, answers), static), tf.ensure_shape(tf.reshape(items, answers), static)

    def describe_integration(self) -> dict[str, str | float]:
        """See ``CandidateSource.describe_integration``."""
        return {"kind": "competitive"}

    def similar(self, items: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """See ``CandidateSource.similar``; neighbours by the inner product of item vectors."""
        scores, neighbours = self._search_index(self.index.vectors(items), tf.convert_to_tensor(k + 1))
        known = items >= FIRST_INDEX
        found = _as_candidates(neighbours, tf.where(known[:, None], scores, MISSING_SCORE))
        return select(found, k, exclude=items[:, None])


class RepeatingCandidates(InterestCandidates):
    """The best new items of each interest, and at their own scores the items of the user's own history, or those that counts vote for.

    Args:
        recommender: Makes interests of histories, and scores some items apart.
        index: Built from the recommender's item vectors; what it finds of items that are scored apart does not count.
    """

    recommender: RepeatingRecommender

    def __init__(self, recommender: RepeatingRecommender, index: InterestIndex) -> None:
        super().__init__(recommender, index)
        self.interests_with_repeats = SharedTrace(recommender.interests_with_repeats)

    def candidates(
        self,
        inputs: UserInputs,
        k: tf.Tensor | int,
        exclude: tf.Tensor | None = None,
        diversity: tf.Tensor | None = None,
        *,
        allowed: ItemFilter | None = None,
        places: tf.Tensor | None = None,
    ) -> Candidates:
        """See ``CandidateSource.candidates``; C = k + distinct own items, capped by the catalogue, + L; without L where counts vote."""
        interests, active, own = self.interests_with_repeats(inputs)
        depth = tf.minimum(k + most_distinct_items(own.without_inner_products()), self.index.num_items)
        if allowed is not None:
            own = own._replace(scores=tf.where(allowed.among(own.items), own.scores, MISSING_SCORE))
        merged = merge_repeats(self._search_together(interests, active, depth, allowed), own)
        # Far more items may be voted for than anybody asks for.
        return merged if own.replaced is None else Candidates(*(values[:, :depth] for values in merged))

    def describe_integration(self) -> dict[str, str | float]:
        """See ``CandidateSource.describe_integration``."""
        return {"kind": "competitive", **self.recommender.apart}


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
        self._interests_with_shares = SharedTrace(recommender.interests_with_shares)

    def candidates(
        self,
        inputs: UserInputs,
        k: tf.Tensor | int,
        exclude: tf.Tensor | None = None,
        diversity: tf.Tensor | None = None,
        *,
        allowed: ItemFilter | None = None,
        places: tf.Tensor | None = None,
    ) -> Candidates:
        """See ``CandidateSource.candidates``; C = K * k, of which up to n are not missing unless diversity is asked for."""
        interests, active, shares = self._interests_with_shares(inputs)
        scores, items = self.search_each(interests, active, k, allowed)
        n = self.num_results if places is None else places[:, None]
        allotted = allot_interests(scores, items, active, shares, n, exponent=self.exponent, exclude=exclude)
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
        self._top_k = SharedTrace(recommender.top_k)

    def candidates(
        self,
        inputs: UserInputs,
        k: tf.Tensor | int,
        exclude: tf.Tensor | None = None,
        diversity: tf.Tensor | None = None,
        *,
        allowed: ItemFilter | None = None,
        places: tf.Tensor | None = None,
    ) -> Candidates:
        """See ``CandidateSource.candidates``; C = k. Such models look at histories alone."""
        if allowed is None:
            return _as_candidates(*self._top_k(inputs.history, k))
        return _as_candidates(*self._allowed(inputs.history, k, allowed))

    def _allowed(self, history: tf.Tensor, k: tf.Tensor | int, allowed: ItemFilter) -> tuple[tf.Tensor, tf.Tensor]:
        """Items and scores [B, k]: the best that fit of as many as it takes, at last of all items."""
        num_items = self.recommender.num_rows - FIRST_INDEX

        def search(depth: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            items, scores = self._top_k(history, depth)
            scores = tf.where(allowed.among(items), scores, MISSING_SCORE)
            found = tf.math.count_nonzero(scores > MISSING_SCORE, axis=1, dtype=tf.int32)
            scores, order = tf.math.top_k(pad_columns(scores, depth + k, MISSING_SCORE), k)
            items = tf.gather(pad_columns(items, depth + k, PADDING_INDEX), order, batch_dims=1)
            complete = tf.reduce_all(found >= k) | (depth >= num_items)
            return tf.minimum(WIDENING_FACTOR * depth, num_items), complete, items, scores

        depth = tf.minimum(WIDENING_FACTOR * k, num_items)
        shape = tf.TensorShape([None, k if isinstance(k, int) else None])
        _, _, items, scores = tf.while_loop(
            lambda depth, complete, *_: ~complete,
            search,
            search(depth),
            shape_invariants=(depth.shape, tf.TensorShape([]), shape, shape),
            parallel_iterations=1,
        )
        return items, scores

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

    Attributes:
        score: That of the ranker.
    """

    def __init__(self, source: CandidateSource, ranker: Reranker, size: int, retrieval_weight: float = 0.0) -> None:
        super().__init__()
        self.source, self.ranker, self.retrieval_weight = source, ranker, retrieval_weight
        self.score = SharedTrace(ranker.score)
        self.size = min(size, len(ranker.vocabulary))

    def candidates(
        self,
        inputs: UserInputs,
        k: tf.Tensor | int,
        exclude: tf.Tensor | None = None,
        diversity: tf.Tensor | None = None,
        *,
        allowed: ItemFilter | None = None,
        places: tf.Tensor | None = None,
    ) -> Candidates:
        """See ``CandidateSource.candidates``; no more than ``size`` of them are not missing, and none is excluded.

        The pool is chosen without regard to diversity, which then has the whole of it to choose from.
        """
        num_items = len(self.ranker.vocabulary)
        sizes = None if places is None else tf.minimum(places, num_items)
        size = self.size if sizes is None else tf.reduce_max(tf.concat([sizes, [1]], axis=0))
        excluded = 0 if exclude is None else most_distinct_items(exclude)
        depth = tf.minimum(size + excluded, num_items)
        found = self.source.candidates(inputs, depth, exclude, allowed=allowed, places=sizes)
        pool = first_of_each(select(found, size, exclude), sizes)
        ranked = rank_candidates(self.score, inputs, pool, self.retrieval_weight)
        width = tf.maximum(size, k)
        return pad_candidates(ranked, width)

    def describe_integration(self) -> dict[str, str | float]:
        """See ``CandidateSource.describe_integration``; how interests share the pool."""
        return self.source.describe_integration()

    def similar(self, items: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """See ``CandidateSource.similar``; a ranker has nothing to say to it."""
        return self.source.similar(items, k)


def rank_candidates(
    score: Callable[..., tf.Tensor], inputs: UserInputs, candidates: Candidates, retrieval_weight: float = 0.0
) -> Candidates:
    """``candidates`` [B, C] in the order of a ranker's scores (``Reranker.score``) plus their own times a weight, and with these; ties keep
    the order given."""
    scores = score(inputs.history, inputs.profile, candidates.items)  # -inf at missing ones
    if retrieval_weight:
        scores += retrieval_weight * candidates.scores
    # NaN would stand before everything else.
    scores = tf.where(scores > MISSING_SCORE, scores, MISSING_SCORE)
    return best_candidates(candidates._replace(scores=scores), tf.shape(scores)[1])


def candidate_source(
    recommender: Retriever, index: InterestIndex | None, num_results: int, quota_exponent: float | None = None
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
