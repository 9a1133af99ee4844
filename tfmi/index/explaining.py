"""Where a user's interests come from, and what each of them finds by itself.

Shapes: B users, L history length, E exclusions, K interests, n results of an interest, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.index.filters import ItemFilter
from tfmi.index.merging import MISSING_SCORE, Candidates, first_of_each
from tfmi.index.selection import most_distinct_items, select
from tfmi.index.sources import InterestCandidates, RepeatingCandidates
from tfmi.models.recommender import ExplainableRecommender, UserInputs
from tfmi.models.shared_trace import SharedTrace


class Explained(NamedTuple):
    """The interests of users.

    Attributes:
        weights: float32 [B, K, L]: how much of each item of a history went into each interest.
        items: int32 [B, K, n] item indices by falling score, 0 where missing.
        scores: float32 [B, K, n], -inf where missing.
        active: bool [B, K]: which interests there are; none for users of whom no item is known.
    """

    weights: tf.Tensor
    items: tf.Tensor
    scores: tf.Tensor
    active: tf.Tensor


class ExplainedInterests:
    """Explains the interests by which a source finds its candidates; both then share one trace of the model.

    Args:
        recommender: Makes interests of histories, and knows of what.
        source: Finds what is near to them.
    """

    def __init__(self, recommender: ExplainableRecommender, source: InterestCandidates) -> None:
        self._source = source
        self._interests_with_weights = SharedTrace(recommender.interests_with_weights)
        # The same interests: where they alone are read, TensorFlow drops the weights from the graph that it runs.
        source.user_interests = lambda users: self._interests_with_weights(users)[:2]

    def explain(
        self,
        users: UserInputs,
        n: tf.Tensor | int,
        exclude: tf.Tensor | None = None,
        allowed: ItemFilter | None = None,
        places: tf.Tensor | None = None,
    ) -> Explained:
        """Explain interests.

        Args:
            users: Their histories, and what else is known of them.
            n: Results per interest.
            exclude: int32 [B, E] items that no interest may find. Of a recommender that scores a user's own items by a rule of their own,
                these are left out, too: no interest finds them.
            allowed: Which items they may find; None: all.
            places: int32 [B], results per interest of each user, at most n; None: n.
        """
        if isinstance(self._source, RepeatingCandidates):
            apart = self._source.interests_with_repeats(users)[2].without_inner_products()
            exclude = apart if exclude is None else tf.concat([exclude, apart], axis=1)
        interests, active, weights = self._interests_with_weights(users)
        known = tf.reduce_any(users.history >= FIRST_INDEX, axis=1)
        active = active & known[:, None]
        excluded = 0 if exclude is None else most_distinct_items(exclude)
        depth = tf.minimum(n + excluded, self._source.index.num_items)
        scores, items = self._source.search_each(interests, active, depth, allowed)
        # A row for each interest, which is then an answer like any other.
        batch, count = tf.shape(interests)[0], interests.shape[1]
        rows = batch * count
        scores = tf.where(active[:, :, None], scores, MISSING_SCORE)
        numbers = tf.broadcast_to(tf.range(count)[None, :, None], tf.shape(items))
        found = Candidates(*(tf.reshape(values, [rows, depth]) for values in (items, scores, numbers)))
        excluded_of_each = None if exclude is None else tf.repeat(exclude, count, axis=0)
        chosen = first_of_each(select(found, n, excluded_of_each), None if places is None else tf.repeat(places, count))
        width = n if isinstance(n, int) else tf.shape(chosen.items)[1]
        each = [batch, count, width]
        return Explained(weights, tf.reshape(chosen.items, each), tf.reshape(chosen.scores, each), active)
