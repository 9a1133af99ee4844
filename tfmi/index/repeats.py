"""Two parts of one answer: what a search finds, and the items of the user's own history, which have scores of their own.

Shapes: B users, C candidates, L history length.
"""

from __future__ import annotations

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import is_among
from tfmi.index.merging import MISSING_SCORE, NO_INTEREST, Candidates, merge_distinct
from tfmi.models.recommender import OwnItems


def merge_repeats(found: Candidates, own: OwnItems) -> Candidates:
    """Put a user's own items in the places that their own scores give them.

    Args:
        found: What a search found, own items included: their scores there do not count.
        own: The user's items.

    Returns:
        ``Candidates`` with C + L columns.
    """
    new_scores = tf.where(is_among(found.items, own.without_inner_products()), MISSING_SCORE, found.scores)
    scored = (own.items >= FIRST_INDEX) & (own.scores > MISSING_SCORE)
    items = tf.concat([found.items, tf.where(scored, own.items, PADDING_INDEX)], axis=1)
    scores = tf.concat([new_scores, tf.where(scored, own.scores, MISSING_SCORE)], axis=1)
    interests = tf.concat([found.interests, tf.where(scored, own.interests, NO_INTEREST)], axis=1)
    return merge_distinct(Candidates(items, scores, interests))
