"""What a ranker makes of what retrieval finds, measured on the same users as retrieval alone.

Everything is exact: the whole catalogue is ranked, and the best of it, the pool, is put in the ranker's order, as a servable of two stages
does within its index's recall.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.config import EvaluationConfig
from tfmi.data.dataset import Catalogue, EvaluationSet, UserProfiles
from tfmi.data.pipeline import evaluation_batches
from tfmi.evaluation.full_catalogue import CatalogueEvaluator, CatalogueRanker, RecommendedItems
from tfmi.evaluation.metrics import ranking_metrics
from tfmi.index.merging import Candidates
from tfmi.index.sources import rank_candidates
from tfmi.models.recommender import Reranker, Retriever, UserInputs


class TwoStageRanker:
    """Ranks the whole catalogue with a recommender, and its best items again with a ranker.

    Args:
        recommender: Finds the pool.
        ranker: Orders it.
        pool: Items per user that are ranked again; a catalogue of fewer is ranked again as a whole.
        retrieval_weight: How much of the recommender's score is added to the ranker's.
        quota_exponent: See ``CatalogueRanker``; the places that are allotted are those of the pool.

    Raises:
        ConfigError: The recommender does not know shares by which to allot places.
    """

    def __init__(
        self, recommender: Retriever, ranker: Reranker, pool: int, *, retrieval_weight: float = 0.0, quota_exponent: float | None = None
    ) -> None:
        self.pool = min(pool, len(ranker.vocabulary))
        self.retrieval_weight = retrieval_weight
        self._retrieval = CatalogueRanker(recommender, quota_exponent)
        self._ranker = ranker
        self._order = tf.function(self._ordered, autograph=False)

    def retrieve(
        self, examples: EvaluationSet, *, batch_size: int, exclude_history: bool = False, profiles: UserProfiles | None = None
    ) -> RecommendedItems:
        """Everybody's pool, in the recommender's order; arguments as for ``CatalogueRanker.rank``."""
        return self._retrieval.rank(examples, self.pool, batch_size=batch_size, exclude_history=exclude_history, profiles=profiles)

    def order(
        self, found: RecommendedItems, examples: EvaluationSet, *, batch_size: int, profiles: UserProfiles | None = None
    ) -> RecommendedItems:
        """What ``retrieve`` ``found`` for these users, in the ranker's order and with its scores."""
        batches = evaluation_batches(examples, history_length=self._ranker.history_length, batch_size=batch_size, profiles=profiles)
        # With the dataset's own specification the last, smaller batch needs no second trace.
        specs = (tf.TensorSpec([None, self.pool], tf.int32), tf.TensorSpec([None, self.pool], tf.float32))
        order = self._order.get_concrete_function(UserInputs.of_batch(batches.element_spec), *specs)
        answers = []
        for batch in batches:
            rows = batch["row"].numpy()
            items, scores = tf.constant(found.items[rows], tf.int32), tf.constant(found.scores[rows], tf.float32)
            answers.append(order(UserInputs.of_batch(batch), items, scores))
        if not answers:
            return found
        return RecommendedItems(*(np.concatenate([part[place].numpy() for part in answers]) for place in (0, 1)))

    def _ordered(self, inputs: UserInputs, items: tf.Tensor, scores: tf.Tensor) -> Candidates:
        unknown = tf.zeros_like(items)  # which interest found what
        return rank_candidates(self._ranker.score, inputs, Candidates(items, scores, unknown), self.retrieval_weight)


# From the ranker alone to hardly more than retrieval's own order; a retriever's unit vectors differ by tenths, logits by ones.
RETRIEVAL_WEIGHTS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def choose_retrieval_weight(
    recommender: Retriever,
    ranker: Reranker,
    examples: EvaluationSet,
    catalogue: Catalogue,
    config: EvaluationConfig,
    *,
    pool: int,
    profiles: UserProfiles | None = None,
    quota_exponent: float | None = None,
) -> float:
    """The weight of retrieval's score with the best NDCG, at the largest cutoff, on ``examples``, which should not be those that are
    reported. Arguments as for ``two_stage_metrics``."""
    stages = TwoStageRanker(recommender, ranker, pool, quota_exponent=quota_exponent)
    found = stages.retrieve(examples, batch_size=config.batch_size, exclude_history=config.leaves_out_history, profiles=profiles)
    # The ranker's logits once; every weight then reorders them.
    ranked = stages.order(found, examples, batch_size=config.batch_size, profiles=profiles)
    logits = np.take_along_axis(ranked.scores, _places(ranked.items, found.items), axis=1)
    cutoff = max(config.cutoffs)

    def quality(weight: float) -> float:
        with np.errstate(invalid="ignore"):  # missing places are -inf in both
            scores = np.where(np.isfinite(found.scores), logits + weight * found.scores, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")
        best = _as_long_as(
            RecommendedItems(np.take_along_axis(found.items, order, axis=1), np.take_along_axis(scores, order, axis=1)), cutoff
        )
        metrics = ranking_metrics(best.items, examples.targets, cutoffs=[cutoff], num_rows=catalogue.num_rows, ndcg_ideal=config.ndcg_ideal)
        return metrics[f"ndcg@{cutoff}"]

    return max(RETRIEVAL_WEIGHTS, key=quality)


def _places(ordered: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where in each row of ``ordered`` the items of the same row of ``wanted``, a permutation of it, stand."""
    by_item = np.argsort(ordered, axis=1, kind="stable")
    ranks = np.argsort(np.argsort(wanted, axis=1, kind="stable"), axis=1, kind="stable")
    return np.take_along_axis(by_item, ranks, axis=1)


def two_stage_metrics(
    recommender: Retriever,
    ranker: Reranker,
    examples: EvaluationSet,
    catalogue: Catalogue,
    config: EvaluationConfig,
    *,
    pool: int,
    retrieval_weight: float = 0.0,
    profiles: UserProfiles | None = None,
    quota_exponent: float | None = None,
) -> dict[str, dict[str, float]]:
    """Measure retrieval alone and retrieve-then-rank on the same held-out items.

    Args:
        recommender: The first stage.
        ranker: The second.
        examples: The users, what is known of them and what they took next.
        catalogue: The items, of both stages.
        config: Cutoffs and options.
        pool: Items per user that the ranker ranks.
        retrieval_weight: How much of the recommender's score is added to the ranker's.
        profiles: Features of the users, for stages that read any.
        quota_exponent: See ``CatalogueRanker``.

    Returns:
        ``retrieval`` and ``ranked``: the metrics of ``ranking_metrics`` of either; ``pool``: its ``size``, and its ``recall``, which no
        order of it can exceed.

    Raises:
        DataError: No user has a target.
    """
    stages = TwoStageRanker(recommender, ranker, pool, retrieval_weight=retrieval_weight, quota_exponent=quota_exponent)
    found = stages.retrieve(examples, batch_size=config.batch_size, exclude_history=config.leaves_out_history, profiles=profiles)
    ranked = stages.order(found, examples, batch_size=config.batch_size, profiles=profiles)
    alone = CatalogueEvaluator(recommender, catalogue, config, quota_exponent)
    recall = ranking_metrics(found.items, examples.targets, cutoffs=[stages.pool], num_rows=catalogue.num_rows)[f"recall@{stages.pool}"]
    return {
        "retrieval": alone.evaluate(examples, profiles),
        "ranked": alone.measure(_as_long_as(ranked, max(config.cutoffs)), examples),
        "pool": {"size": float(stages.pool), "recall": recall},
    }


def _as_long_as(recommended: RecommendedItems, n: int) -> RecommendedItems:
    """The first ``n`` places, padded if there are fewer."""
    missing = [(0, 0), (0, max(0, n - recommended.items.shape[1]))]
    return RecommendedItems(np.pad(recommended.items[:, :n], missing), np.pad(recommended.scores[:, :n], missing, constant_values=-np.inf))
