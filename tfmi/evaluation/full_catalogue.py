"""Rank the whole catalogue for every user of an evaluation set, exactly, and measure the ranking.

The protocol is that of whatever made the ``EvaluationSet``: ComiRec's (Cen et al., KDD 2020, experimental setup) and
leave-one-out differ in their splits, not here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmi.config import EvaluationConfig
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, Catalogue, EvaluationSet, Sequences, UserProfiles
from tfmi.data.pipeline import evaluation_batches
from tfmi.data.splitting.slicing import whole_rows
from tfmi.evaluation.metrics import per_user_metrics, ranking_metrics
from tfmi.evaluation.slices import sliced_metrics
from tfmi.index.base import finish_answer
from tfmi.index.blocked import block_length, blocked_top_k
from tfmi.index.exact import search_exactly
from tfmi.index.merging import MISSING_SCORE, Candidates
from tfmi.index.quotas import allot_interests
from tfmi.index.repeats import merge_repeats
from tfmi.index.selection import most_distinct_items, select
from tfmi.models.recommender import (
    DirectRecommender,
    Retriever,
    SharingRecommender,
    UserInputs,
    VectorRecommender,
    check_allotment,
    knows_repeats,
)


class RecommendedItems(NamedTuple):
    """The best items of each user, best first: ``items`` int32 [U, n], 0 where missing; ``scores`` float32 [U, n], -inf where missing."""

    items: np.ndarray
    scores: np.ndarray


class CatalogueRanker:
    """Ranks the whole catalogue with one recommender; compiled once, however often its weights change in between.

    Args:
        recommender: What to rank with.
        quota_exponent: Allot the places of a list to interests by their usage raised to this, as ``index.integration`` does in
            serving; that needs a ``SharingRecommender``. None ranks every item by its best interest. A ``DirectRecommender`` ranks itself.

    Raises:
        ConfigError: The recommender does not know shares by which to allot places.
    """

    def __init__(self, recommender: Retriever, quota_exponent: float | None = None) -> None:
        self.recommender = recommender
        if not isinstance(recommender, VectorRecommender):
            self._rank = tf.function(functools.partial(_rank_directly, recommender), autograph=False)
            self._item_vectors = lambda: tf.zeros([0, 0])
            return
        check_allotment(recommender, quota_exponent)
        if quota_exponent is None:
            self._rank = tf.function(functools.partial(_rank_by_vectors, recommender), autograph=False)
        else:
            self._rank = tf.function(_ranking_by_quotas(recommender, quota_exponent), autograph=False)  # type: ignore[arg-type]
        self._item_vectors = tf.function(recommender.item_vectors, autograph=False)

    def rank(
        self, examples: EvaluationSet, n: int, *, batch_size: int, exclude_history: bool = False, profiles: UserProfiles | None = None
    ) -> RecommendedItems:
        """The exact best ``n`` items of every user.

        Args:
            examples: The users; what a model sees of their histories is the newest ``history_length`` items.
            n: Items per user.
            batch_size: Users at a time.
            exclude_history: Leave out every item of a user's whole history.
            profiles: Features of the users that ``examples.histories.users`` names, for models trained with any.
        """
        batches = evaluation_batches(examples, history_length=self.recommender.history_length, batch_size=batch_size, profiles=profiles)
        spec = batches.element_spec
        item_vectors = self._item_vectors()
        count = tf.TensorSpec([], tf.int32)
        # With the dataset's own specification the last, smaller batch needs no second trace.
        excluded = tf.TensorSpec([None, None], tf.int32)
        rank = self._rank.get_concrete_function(UserInputs.of_batch(spec), tf.TensorSpec([None, None]), count, excluded)
        answers: list[RecommendedItems] = []
        for batch in batches:
            histories = whole_rows(examples.histories, batch["row"].numpy())
            left_out = excluded_items(histories, exclude_history)
            chosen = rank(UserInputs.of_batch(batch), item_vectors, tf.constant(n), tf.constant(left_out, tf.int32))
            answers.append(RecommendedItems(chosen.items.numpy(), chosen.scores.numpy()))
        if not answers:
            return RecommendedItems(np.zeros([0, n], np.int32), np.zeros([0, n], np.float32))
        return RecommendedItems(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))


def excluded_items(histories: Sequences, exclude_history: bool) -> np.ndarray:
    """int32 [rows, E]: what lists for these histories leave out, 0 pads: what the user has turned down and, if asked for, the history."""
    own = histories.padded(int(histories.lengths().max(initial=0)) if exclude_history else 0)
    if histories.negatives is None:
        return own
    return np.concatenate([own, np.maximum(histories.negatives, PADDING_INDEX).astype(np.int32)], axis=1)


class CatalogueEvaluator:
    """Measures one recommender again and again, as in training.

    Args:
        recommender: What to measure, with the weights it has at each call.
        catalogue: The items; their categories, if any, are for diversity.
        config: Cutoffs and options.
        quota_exponent: See ``CatalogueRanker``; the places that are allotted are those of the longest cutoff.
    """

    def __init__(self, recommender: Retriever, catalogue: Catalogue, config: EvaluationConfig, quota_exponent: float | None = None) -> None:
        self.config = config
        self._catalogue = catalogue
        self._ranker = CatalogueRanker(recommender, quota_exponent)

    def evaluate(self, examples: EvaluationSet, profiles: UserProfiles | None = None) -> dict[str, float]:
        """The metrics of ``ranking_metrics``.

        Raises:
            DataError: No user has a target.
        """
        return self.measure(self.rank(examples, profiles), examples)

    def rank(
        self, examples: EvaluationSet, profiles: UserProfiles | None = None, *, exclude_history: bool | None = None
    ) -> RecommendedItems:
        """Everybody's list, as long as the largest cutoff, for any of the measures; ``exclude_history`` other than configured if given."""
        config = self.config
        return self._ranker.rank(
            examples,
            max(config.cutoffs),
            batch_size=config.batch_size,
            exclude_history=config.leaves_out_history if exclude_history is None else exclude_history,
            profiles=profiles,
        )

    def measure(self, recommended: RecommendedItems, examples: EvaluationSet) -> dict[str, float]:
        """The metrics of ``ranking_metrics`` of lists that ``rank`` made for these users; see ``evaluate``."""
        config = self.config
        return ranking_metrics(
            recommended.items,
            examples.targets,
            cutoffs=config.cutoffs,
            num_rows=self._catalogue.num_rows,
            categories=self._catalogue.category_indices(),
            ndcg_ideal=config.ndcg_ideal,
        )

    def measure_each(self, recommended: RecommendedItems, examples: EvaluationSet) -> dict[str, np.ndarray]:
        """The metrics of ``per_user_metrics`` of the same lists, of the users that have a target, in order."""
        config = self.config
        per_user = per_user_metrics(recommended.items, examples.targets, config.cutoffs, config.ndcg_ideal)
        has_target = examples.targets.lengths() > 0
        return {name: values[has_target] for name, values in per_user.items()}

    def measure_slices(self, recommended: RecommendedItems, examples: EvaluationSet) -> dict[str, dict[str, float]]:
        """The metrics of ``sliced_metrics`` of the same lists."""
        config = self.config
        return sliced_metrics(recommended.items, examples, self._catalogue, cutoffs=config.cutoffs, ndcg_ideal=config.ndcg_ideal)


def recommend(
    recommender: Retriever,
    examples: EvaluationSet,
    n: int,
    *,
    batch_size: int,
    exclude_history: bool = False,
    profiles: UserProfiles | None = None,
) -> RecommendedItems:
    """The exact best ``n`` items of every user, once; see ``CatalogueRanker.rank``."""
    return CatalogueRanker(recommender).rank(examples, n, batch_size=batch_size, exclude_history=exclude_history, profiles=profiles)


def evaluate(
    recommender: Retriever,
    examples: EvaluationSet,
    catalogue: Catalogue,
    config: EvaluationConfig,
    profiles: UserProfiles | None = None,
) -> dict[str, float]:
    """The metrics of ``ranking_metrics``, once; see ``CatalogueEvaluator`` to measure the same recommender repeatedly."""
    return CatalogueEvaluator(recommender, catalogue, config).evaluate(examples, profiles)


def _rank_by_vectors(
    recommender: VectorRecommender, inputs: UserInputs, item_vectors: tf.Tensor, n: tf.Tensor, excluded: tf.Tensor
) -> Candidates:
    """The best ``n`` items but for ``excluded`` [B, E], by the best inner product of an active interest with ``item_vectors``."""
    own = None
    if knows_repeats(recommender):
        interests, active, own = recommender.interests_with_repeats(inputs)
    else:
        interests, active = recommender.user_interests(inputs)  # [B, K, d], [B, K]
    # Inactive interests repeat an active one, which leaves a maximum over K as it is.
    first_active = tf.gather(interests, tf.argmax(tf.cast(active, tf.int32), axis=1), batch_dims=1)  # [B, d]
    queries = tf.unstack(tf.where(active[..., None], interests, first_active[:, None, :]), axis=1)

    def score_block(start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
        block = item_vectors[FIRST_INDEX + start : FIRST_INDEX + stop]  # [block, d]
        # A running maximum holds two [B, block] tables of scores instead of K.
        best = tf.matmul(queries[0], block, transpose_b=True)
        for query in queries[1:]:
            best = tf.maximum(best, tf.matmul(query, block, transpose_b=True))
        return best

    k = _depth(recommender, n, excluded if own is None else tf.concat([excluded, own.without_inner_products()], axis=1))
    num_items = recommender.num_rows - FIRST_INDEX
    scores, positions = blocked_top_k(score_block, num_items, k, block_length(tf.shape(inputs.history)[0]))
    scores = tf.where(tf.reduce_any(active, axis=1)[:, None], scores, MISSING_SCORE)
    scores, items = finish_answer(scores, positions, k)
    if own is None:
        return _best_of(scores, items, n, excluded)
    return select(merge_repeats(Candidates(items, scores, tf.zeros_like(items)), own), n, excluded)


def _ranking_by_quotas(recommender: SharingRecommender, exponent: float) -> Callable[..., Candidates]:
    """Rank like ``_rank_by_vectors``, but give each interest its quota of its best items; see ``allot_interests``."""

    def rank(inputs: UserInputs, item_vectors: tf.Tensor, n: tf.Tensor, excluded: tf.Tensor) -> Candidates:
        interests, active, shares = recommender.interests_with_shares(inputs)  # [B, K, d], [B, K], [B, K]
        batch, (_, num_interests, dimension) = tf.shape(interests)[0], interests.shape
        k = _depth(recommender, n, excluded)
        queries = tf.reshape(interests, [batch * num_interests, dimension])
        found = search_exactly(queries, item_vectors, recommender.num_rows - FIRST_INDEX, k)
        scores, items = (tf.ensure_shape(tf.reshape(each, [batch, num_interests, k]), [None, num_interests, None]) for each in found)
        return select(allot_interests(scores, items, active, shares, n, exponent=exponent, exclude=excluded), n)

    return rank


def _rank_directly(
    recommender: DirectRecommender, inputs: UserInputs, item_vectors: tf.Tensor, n: tf.Tensor, excluded: tf.Tensor
) -> Candidates:
    """``n`` items but for ``excluded`` [B, E] as the recommender ranks them; item vectors are for the other kind."""
    del item_vectors
    items, scores = recommender.top_k(inputs.history, _depth(recommender, n, excluded))
    return _best_of(scores, items, n, excluded)


def _depth(recommender: Retriever, n: tf.Tensor, excluded: tf.Tensor) -> tf.Tensor:
    """How many of the best items are certain to hold ``n`` that are not excluded, if the catalogue has as many."""
    return tf.minimum(n + most_distinct_items(excluded), recommender.num_rows - FIRST_INDEX)


def _best_of(scores: tf.Tensor, items: tf.Tensor, n: tf.Tensor, excluded: tf.Tensor) -> Candidates:
    """The first ``n`` of a ranking [B, k] that are not excluded, padded if there are fewer."""
    return select(Candidates(items, scores, tf.zeros_like(items)), n, excluded)
