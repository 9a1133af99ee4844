"""Rank the whole catalogue for every user of an evaluation set, exactly, and measure the ranking.

The protocol is that of whatever made the ``EvaluationSet``: ComiRec's (Cen et al., KDD 2020, experimental setup) and
leave-one-out differ in their splits, not here.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmi.config import EvaluationConfig
from tfmi.data.pipeline import evaluation_batches
from tfmi.data.slicing import whole_rows
from tfmi.data.structures import FIRST_INDEX, PADDING_INDEX, Catalogue, EvaluationSet, Sequences, UserProfiles
from tfmi.evaluation.metrics import is_in_row, ranking_metrics
from tfmi.evaluation.slices import sliced_metrics
from tfmi.index.base import MISSING_SCORE, finish_answer
from tfmi.index.blocked import block_length, blocked_top_k
from tfmi.models.recommender import DirectRecommender, Recommender, UserInputs, VectorRecommender


class RecommendedItems(NamedTuple):
    """The best items of each user, best first: ``items`` int32 [U, n], 0 where missing; ``scores`` float32 [U, n], -inf where missing."""

    items: np.ndarray
    scores: np.ndarray


class CatalogueRanker:
    """Ranks the whole catalogue with one recommender; compiled once, however often its weights change in between."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        if isinstance(recommender, VectorRecommender):
            self._rank = tf.function(functools.partial(_rank_by_vectors, recommender))
            self._item_vectors = tf.function(recommender.item_vectors)
        else:
            self._rank = tf.function(functools.partial(_rank_directly, recommender))
            self._item_vectors = lambda: tf.zeros([0, 0])

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
        rank = self._rank.get_concrete_function(UserInputs.of_batch(spec), tf.TensorSpec([None, None]), count)
        answers: list[RecommendedItems] = []
        for batch in batches:
            left_out = whole_rows(examples.histories, batch["row"].numpy()) if exclude_history else None
            depth = n if left_out is None else n + int(left_out.lengths().max())
            depth = min(depth, self.recommender.num_rows - FIRST_INDEX)
            scores, items = rank(UserInputs.of_batch(batch), item_vectors, tf.constant(depth))
            answer = RecommendedItems(items.numpy(), scores.numpy())
            answers.append(_fit_width(answer if left_out is None else _without(answer, left_out), n))
        if not answers:
            return RecommendedItems(np.zeros([0, n], np.int32), np.zeros([0, n], np.float32))
        return RecommendedItems(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))


class CatalogueEvaluator:
    """Measures one recommender again and again, as in training.

    Args:
        recommender: What to measure, with the weights it has at each call.
        catalogue: The items; their categories, if any, are for diversity.
        config: Cutoffs and options.
    """

    def __init__(self, recommender: Recommender, catalogue: Catalogue, config: EvaluationConfig) -> None:
        self.config = config
        self._catalogue = catalogue
        self._ranker = CatalogueRanker(recommender)

    def evaluate(self, examples: EvaluationSet, profiles: UserProfiles | None = None) -> dict[str, float]:
        """The metrics of ``ranking_metrics``.

        Raises:
            DataError: No user has a target.
        """
        return self.measure(self.rank(examples, profiles), examples)

    def rank(self, examples: EvaluationSet, profiles: UserProfiles | None = None) -> RecommendedItems:
        """Everybody's list, as long as the largest cutoff, for any of the measures."""
        config = self.config
        return self._ranker.rank(
            examples,
            max(config.cutoffs),
            batch_size=config.batch_size,
            exclude_history=config.exclude_history,
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

    def measure_slices(self, recommended: RecommendedItems, examples: EvaluationSet) -> dict[str, dict[str, float]]:
        """The metrics of ``sliced_metrics`` of the same lists."""
        config = self.config
        return sliced_metrics(recommended.items, examples, self._catalogue, cutoffs=config.cutoffs, ndcg_ideal=config.ndcg_ideal)


def recommend(
    recommender: Recommender,
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
    recommender: Recommender,
    examples: EvaluationSet,
    catalogue: Catalogue,
    config: EvaluationConfig,
    profiles: UserProfiles | None = None,
) -> dict[str, float]:
    """The metrics of ``ranking_metrics``, once; see ``CatalogueEvaluator`` to measure the same recommender repeatedly."""
    return CatalogueEvaluator(recommender, catalogue, config).evaluate(examples, profiles)


def _rank_by_vectors(
    recommender: VectorRecommender, inputs: UserInputs, item_vectors: tf.Tensor, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores and items [B, k] by the best inner product of any active interest with ``item_vectors`` [num_rows, d]."""
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

    num_items = recommender.num_rows - FIRST_INDEX
    scores, positions = blocked_top_k(score_block, num_items, k, block_length(tf.shape(inputs.history)[0]))
    scores = tf.where(tf.reduce_any(active, axis=1)[:, None], scores, MISSING_SCORE)
    return finish_answer(scores, positions, k)


def _rank_directly(
    recommender: DirectRecommender, inputs: UserInputs, item_vectors: tf.Tensor, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores and items [B, k] as the recommender ranks them; item vectors are for the other kind."""
    del item_vectors
    items, scores = recommender.top_k(inputs.history, k)
    return scores, items


def _without(answer: RecommendedItems, histories: Sequences) -> RecommendedItems:
    """The answer [U, W] with the items of ``histories`` taken out, what is left moved up, and padding at the end."""
    left_out = is_in_row(answer.items, histories) | (answer.items < FIRST_INDEX)
    order = np.argsort(left_out, axis=1, kind="stable")
    left_out = np.take_along_axis(left_out, order, axis=1)
    items = np.where(left_out, PADDING_INDEX, np.take_along_axis(answer.items, order, axis=1))
    scores = np.where(left_out, np.float32(MISSING_SCORE), np.take_along_axis(answer.scores, order, axis=1))
    return RecommendedItems(items, scores)


def _fit_width(answer: RecommendedItems, n: int) -> RecommendedItems:
    """The first ``n`` columns, padded if there are fewer."""
    missing = max(0, n - answer.items.shape[1])
    items = np.pad(answer.items[:, :n], [(0, 0), (0, missing)], constant_values=PADDING_INDEX)
    scores = np.pad(answer.scores[:, :n], [(0, 0), (0, missing)], constant_values=MISSING_SCORE)
    return RecommendedItems(items, scores)
