"""Allotted candidates: each interest brings in as many items as its share of a user's consumption allows.

Scores of different interests need not be comparable. Where a recommender estimates how often each interest is used, its places in the
answer can be given out by that instead of by score (Liu et al., "Octopus: Comprehensive and Elastic User Representation for the
Generation of Recommendation Candidates", SIGIR 2020, candidates integration: allotted; the rounding and the treatment of duplicates are
this package's).

Shapes: B users, K interests, k results per interest, C = K * k candidates, E exclusions, n results.
"""

from __future__ import annotations

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import is_among
from tfmi.index.merging import MISSING_SCORE, Candidates, best_candidates, merge_interests


def quotas(shares: tf.Tensor, active: tf.Tensor, n: tf.Tensor | int, exponent: float = 1.0) -> tf.Tensor:
    """Divide ``n`` places among the active interests in proportion to ``shares ** exponent``, by the largest remainder.

    Every interest gets the whole number below its due; the places left go to the largest fractions cut off, ties to the larger share,
    then to the lower interest. A larger share never gets fewer places.

    Args:
        shares: float [B, K], at least 0; only their proportions matter.
        active: bool [B, K]; inactive interests get nothing.
        n: Places per user, one number or int32 [B, 1].
        exponent: At least 0. 0 divides equally among the active interests, whatever their shares; a large one favours the largest.

    Returns:
        int32 [B, K], summing to n in every row that has an active interest.
    """
    order = _by_falling_share(shares, active)  # [B, K]
    ordered_active = tf.gather(active, order, batch_dims=1)
    shares = tf.where(ordered_active, tf.cast(tf.gather(shares, order, batch_dims=1), tf.float64), 0.0)  # [B, K], falling
    largest = shares[:, :1]
    # Relative to the largest share no power of it can vanish. Shares that are all 0 are equal ones.
    powers = tf.pow(tf.where(largest > 0.0, shares / tf.where(largest > 0.0, largest, 1.0), 1.0), exponent)
    powers = tf.where(ordered_active, powers, 0.0)
    due = tf.cast(n, tf.float64) * tf.math.divide_no_nan(powers, tf.reduce_sum(powers, axis=1, keepdims=True))  # [B, K]
    whole = tf.floor(due)
    left = n - tf.reduce_sum(tf.cast(whole, tf.int32), axis=1, keepdims=True)  # [B, 1], below the number of active interests
    fractions = tf.where(ordered_active, due - whole, -1.0)
    place = _inverse(tf.argsort(fractions, axis=1, direction="DESCENDING", stable=True))  # [B, K]
    ordered_quotas = tf.cast(whole, tf.int32) + tf.cast((place < left) & ordered_active, tf.int32)
    return tf.gather(ordered_quotas, _inverse(order), batch_dims=1)


def allot_interests(
    scores: tf.Tensor,
    items: tf.Tensor,
    active: tf.Tensor,
    shares: tf.Tensor,
    n: tf.Tensor | int,
    *,
    exponent: float = 1.0,
    exclude: tf.Tensor | None = None,
) -> Candidates:
    """Choose ``n`` items among what K interests found, each interest its quota of them.

    By falling share, each interest takes its best items that nobody before it has taken, as many as its quota. Where some come to less
    than their quotas, the places left go to the best of the other items by score, whoever found them.

    Args:
        scores: float32 [B, K, k], each interest's by falling score; -inf and NaN mark missing results. K is static.
        items: int32 [B, K, k] item indices; below 2 marks missing results.
        active: bool [B, K]; inactive interests contribute nothing.
        shares: float [B, K], see ``quotas``.
        n: Items per user, one number or int32 [B, 1]. With k of at least n and the number of exclusions, no quota is short of items that
            its interest could have.
        exponent: See ``quotas``.
        exclude: int32 [B, E] item indices that nobody may take; 0 pads.

    Returns:
        ``Candidates`` with C = K * k columns, of which up to n are not missing. An item's interest is the one that took it, and its score
        that interest's.
    """
    batch, num_interests, per_interest = tf.unstack(tf.shape(items))
    width = num_interests * per_interest
    flat_items = tf.reshape(items, [batch, width])  # [B, C]
    available = active[:, :, None] & (items >= FIRST_INDEX) & (scores > MISSING_SCORE)  # NaN > -inf is False
    if exclude is not None:
        available &= ~tf.reshape(is_among(flat_items, exclude), tf.shape(items))
    most = n if isinstance(n, int) else tf.reduce_max(tf.concat([tf.reshape(n, [-1]), [0]], axis=0))
    taken, taken_items = _take(items, available, quotas(shares, active, n, exponent), _by_falling_share(shares, active), most)
    # Whoever else found a taken item lets go of it, so that merging leaves it with the interest that took it.
    held_by_another = tf.reshape(is_among(flat_items, taken_items), tf.shape(items)) & ~taken
    merged = merge_interests(tf.where(available & ~held_by_another, scores, MISSING_SCORE), items, active)
    is_taken = is_among(merged.items, taken_items)  # [B, C]
    is_other = ~is_taken & (merged.items >= FIRST_INDEX)
    left = n - tf.reduce_sum(tf.cast(taken_items >= FIRST_INDEX, tf.int32), axis=1, keepdims=True)  # [B, 1]
    kept = is_taken | (is_other & (tf.cumsum(tf.cast(is_other, tf.int32), axis=1) <= left))
    return best_candidates(merged, width, tf.where(kept, merged.scores, MISSING_SCORE))


def _take(items: tf.Tensor, available: tf.Tensor, allotted: tf.Tensor, order: tf.Tensor, n: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
    """Let the interests, in the given ``order`` [B, K], each take its first available items, as many as it is ``allotted`` [B, K].

    Returns:
        Which items are taken, and by whom, bool [B, K, k]; the taken items int32 [B, n], 0 where there are fewer.
    """
    ordered_items, ordered_available, ordered_quotas = (tf.gather(each, order, batch_dims=1) for each in (items, available, allotted))
    taken_items = tf.zeros([tf.shape(items)[0], n], tf.int32)
    taken = []
    for k in range(items.shape[1]):
        own = ordered_items[:, k]  # [B, k]
        free = ordered_available[:, k] & ~is_among(own, taken_items)
        takes = free & (tf.cumsum(tf.cast(free, tf.int32), axis=1) <= ordered_quotas[:, k : k + 1])
        taken.append(takes)
        taken_items, _ = tf.math.top_k(tf.concat([taken_items, tf.where(takes, own, PADDING_INDEX)], axis=1), n)
    return tf.gather(tf.stack(taken, axis=1), _inverse(order), batch_dims=1), taken_items


def _by_falling_share(shares: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """int32 [B, K]: the interests by falling share, ties by rising index, inactive ones last."""
    return tf.argsort(tf.where(active, tf.cast(shares, tf.float32), -1.0), axis=1, direction="DESCENDING", stable=True)


def _inverse(order: tf.Tensor) -> tf.Tensor:
    """The inverse of each row's permutation."""
    return tf.argsort(order, axis=1)
