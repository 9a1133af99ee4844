"""The same users' recommendations under several strengths of diversity, chosen as the served graph chooses.

Shapes: B users, n results, U users of an evaluation set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, EvaluationSet, UserProfiles
from tfmi.data.pipeline import evaluation_batches
from tfmi.data.splitting.slicing import whole_rows
from tfmi.evaluation.full_catalogue import CatalogueRanker, RecommendedItems, excluded_items
from tfmi.index.exact import ExactIndex
from tfmi.index.selection import most_distinct_items, select
from tfmi.index.sources import candidate_source
from tfmi.models.recommender import Retriever, UserInputs, VectorRecommender


class DiverseRanker:
    """Ranks users' best candidates, found by exact search, with ComiRec's greedy rule.

    Args:
        recommender: A trained model.
        categories: int32 [num_rows] category of each item index, 0 unknown.
        n: Items per user.
        pool: How many candidates compete for the n places where diversity is asked for: ``export.diversity_pool`` times n in a servable.
        quota_exponent: As for ``CatalogueRanker``; places are allotted where no diversity is asked for.

    Raises:
        ConfigError: The recommender does not know shares by which to allot places.
    """

    def __init__(self, recommender: Retriever, categories: np.ndarray, *, n: int, pool: int, quota_exponent: float | None = None) -> None:
        self.recommender, self.n, self._pool = recommender, n, pool
        self._num_items = recommender.num_rows - FIRST_INDEX
        self._categories = tf.constant(categories, tf.int32)
        self._allotting = None if quota_exponent is None else CatalogueRanker(recommender, quota_exponent)
        index = ExactIndex(recommender.item_vectors()) if isinstance(recommender, VectorRecommender) else None
        self._source = candidate_source(recommender, index, n)

    def rank(
        self,
        examples: EvaluationSet,
        diversities: Sequence[float],
        *,
        batch_size: int,
        exclude_history: bool = False,
        profiles: UserProfiles | None = None,
        on_progress: Callable[[int], object] = lambda users: None,
    ) -> list[RecommendedItems]:
        """The lists of every user under each λ; searched once, chosen from again and again.

        Args:
            examples: The users.
            diversities: The λs.
            batch_size: Users at a time.
            exclude_history: Leave out every item of a user's whole history.
            profiles: Features of the users, for models trained with any.
            on_progress: Called with the number of users of each batch that is done.
        """
        batches = evaluation_batches(examples, history_length=self.recommender.history_length, batch_size=batch_size, profiles=profiles)
        # With the dataset's own specification the last, smaller batch needs no second trace.
        answer = tf.function(self._answer, autograph=False).get_concrete_function(
            UserInputs.of_batch(batches.element_spec),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([len(diversities)], tf.float32),
        )
        strengths = tf.constant(diversities, tf.float32)
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for batch in batches:
            rows = batch["row"].numpy()
            left_out = whole_rows(examples.histories, rows)
            excluded = excluded_items(left_out, exclude_history)
            items, scores = answer(UserInputs.of_batch(batch), tf.constant(excluded, tf.int32), strengths)
            parts.append((items.numpy(), scores.numpy()))
            on_progress(len(rows))
        items, scores = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))  # [λs, U, n]
        lists = [RecommendedItems(*found) for found in zip(items, scores, strict=True)]
        if self._allotting is None or all(strength > 0 for strength in diversities):
            return lists
        plain = self._allotting.rank(examples, self.n, batch_size=batch_size, exclude_history=exclude_history, profiles=profiles)
        return [found if strength > 0 else plain for strength, found in zip(diversities, lists, strict=True)]

    def _answer(self, inputs: UserInputs, excluded: tf.Tensor, strengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Items and scores [λs, B, n]."""
        k = tf.minimum(self._pool + most_distinct_items(excluded), self._num_items)
        found = select(self._source.candidates(inputs, k), self._pool, excluded)
        rows = tf.shape(found.items)[0]
        lists = [
            select(found, self.n, diversity=tf.fill([rows], strength), categories=self._categories) for strength in tf.unstack(strengths)
        ]
        return tf.stack([each.items for each in lists]), tf.stack([each.scores for each in lists])


def diversities_by_scale(ranked: RecommendedItems) -> list[float]:
    """λs that suit the scale of a model's scores: 0, and thirteen from a 256th to a quarter of the spread of a list, in steps of √2.

    The spread is the median over users of the best score minus the last of the list. At a 256th of it few items change places; at a
    quarter the fifth item of a category pays as much as the whole list spans, which is about the most that λ can do.

    Args:
        ranked: Users' lists without diversity.

    Raises:
        ValueError: No user's scores differ: no λ above 0 is better than another.
    """
    scores = np.where(ranked.items >= FIRST_INDEX, ranked.scores, np.nan)
    usable = scores[np.isfinite(scores).sum(axis=1) > 1].astype(np.float64)
    spread = float(np.median(np.nanmax(usable, axis=1) - np.nanmin(usable, axis=1))) if len(usable) else 0.0
    if not spread > 0:
        raise ValueError("expected lists whose scores differ, so that they have a scale; give the strengths of diversity by hand")
    return [0.0, *(float(f"{spread * 2.0 ** (half_steps / 2 - 8):.2g}") for half_steps in range(13))]
