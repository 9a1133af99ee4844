"""One list of candidates per user from the answers of K searches (Cen et al., KDD 2020, aggregation module).

Shapes: B users, K interests, k results per interest, C = K * k candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX

MISSING_SCORE = float("-inf")
NO_INTEREST = -1


class Candidates(NamedTuple):
    """Distinct items per user by falling score, ties by lower item index; missing ones stand at the end.

    Attributes:
        items: int32 [B, C] item indices, 0 where missing.
        scores: float32 [B, C], -inf where missing.
        interests: int32 [B, C]: which interest found the item, -1 where missing.
    """

    items: tf.Tensor
    scores: tf.Tensor
    interests: tf.Tensor


def merge_interests(scores: tf.Tensor, items: tf.Tensor, active: tf.Tensor) -> Candidates:
    """Merge what K interests found: each item once, with its best score (ties: the lower interest).

    Args:
        scores: float32 [B, K, k]; -inf and NaN mark missing results.
        items: int32 [B, K, k] item indices; below 2 marks missing results.
        active: bool [B, K]; inactive interests contribute nothing.

    Returns:
        ``Candidates`` with C = K * k columns.
    """
    shape = tf.shape(scores)
    batch, num_interests, per_interest = shape[0], shape[1], shape[2]
    width = num_interests * per_interest
    found = active[:, :, None] & (items >= FIRST_INDEX) & (scores > MISSING_SCORE)
    # tf.reshape with -1 cannot tell the width of an empty batch, so the width is spelled out everywhere.
    scores = tf.reshape(tf.where(found, scores, MISSING_SCORE), [batch, width])  # [B, C]
    items = tf.reshape(tf.where(found, items, PADDING_INDEX), [batch, width])
    interests = tf.broadcast_to(tf.range(num_interests)[None, :, None], shape)
    interests = tf.reshape(tf.where(found, interests, NO_INTEREST), [batch, width])

    return merge_distinct(Candidates(items, scores, interests))


def best_of_interests(scores: tf.Tensor, items: tf.Tensor, active: tf.Tensor, k: tf.Tensor | int) -> Candidates:
    """The first ``k`` of ``merge_interests``, in fewer operations, each of which costs microseconds of every request.

    Args:
        scores, items, active: See ``merge_interests``.
        k: At most C.

    Returns:
        ``Candidates`` [B, k]; ties go to the lower interest, then to what an interest found first.
    """
    shape = tf.shape(scores)
    batch, width = shape[0], shape[1] * shape[2]
    found = active[:, :, None] & (items >= FIRST_INDEX) & (scores > MISSING_SCORE)  # NaN > -inf is False
    scores = tf.reshape(tf.where(found, scores, MISSING_SCORE), [batch, width])
    scores, order = tf.math.top_k(scores, width)  # [B, C]; stable: the first of equals stays first
    items = tf.gather(tf.reshape(items, [batch, width]), order, batch_dims=1)
    # An item's first place in its row, by hashing: the number of each (row, item) against the place where that number appears first.
    pairs = tf.cast(items, tf.int64) * tf.cast(batch, tf.int64) + tf.range(tf.cast(batch, tf.int64))[:, None]
    _, numbers = tf.unique(tf.reshape(pairs, [batch * width]))
    places = tf.range(batch * width)
    first = tf.gather(tf.math.unsorted_segment_min(places, numbers, batch * width), numbers) == places
    scores, kept = tf.math.top_k(tf.where(tf.reshape(first, [batch, width]), scores, MISSING_SCORE), k)
    found = scores > MISSING_SCORE
    items = tf.where(found, tf.gather(items, kept, batch_dims=1), PADDING_INDEX)
    interests = tf.where(found, tf.gather(order, kept, batch_dims=1) // shape[2], NO_INTEREST)
    return Candidates(items, scores, interests)


def merge_distinct(candidates: Candidates) -> Candidates:
    """Put candidates [B, C] that stand in any order, with repeats, into that of ``Candidates``: each item once, with its best score.

    Of equal scores of an item the first one's interest is kept.
    """
    width = tf.shape(candidates.items)[1]
    _, by_item = tf.math.top_k(_item_then_score_key(candidates.items, candidates.scores), width)  # equal items side by side, best first
    items, scores, interests = (tf.gather(values, by_item, batch_dims=1) for values in candidates)
    repeated = tf.concat([tf.zeros([tf.shape(items)[0], 1], tf.bool), items[:, 1:] == items[:, :-1]], axis=1)
    distinct = Candidates(items, tf.where(repeated, MISSING_SCORE, scores), interests)
    return best_candidates(distinct, width)


def best_candidates(candidates: Candidates, n: tf.Tensor | int, values: tf.Tensor | None = None) -> Candidates:
    """The ``n`` <= C candidates of the largest ``values`` [B, C], by default their scores; ties keep the order given.

    Candidates with a value of -inf become missing ones.
    """
    values, order = tf.math.top_k(candidates.scores if values is None else values, n)  # stable: the first of equals stays first
    items, scores, interests = (tf.gather(field, order, batch_dims=1) for field in candidates)
    found = values > MISSING_SCORE
    return Candidates(
        tf.where(found, items, PADDING_INDEX), tf.where(found, scores, MISSING_SCORE), tf.where(found, interests, NO_INTEREST)
    )


def first_of_each(candidates: Candidates, counts: tf.Tensor | None) -> Candidates:
    """Of each row of ``candidates`` [B, C] the first ``counts`` int32 [B] only, the others missing; None: all."""
    if counts is None:
        return candidates
    kept = tf.range(tf.shape(candidates.items)[1]) < counts[:, None]
    return Candidates(
        tf.where(kept, candidates.items, PADDING_INDEX),
        tf.where(kept, candidates.scores, MISSING_SCORE),
        tf.where(kept, candidates.interests, NO_INTEREST),
    )


def _item_then_score_key(items: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """int64 keys whose falling order is: items rising, then scores falling.

    One integer sort then does the work of two float sorts. The bits of a float32, read as an integer, are in the order of the
    floats once those of negative ones (sign bit set) have their other bits turned round.
    """
    scores = scores + 0.0  # -0.0 becomes 0.0, its equal
    bits = tf.bitcast(scores, tf.int32)
    ordered = tf.bitwise.bitwise_xor(bits, tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 31), 0x7FFFFFFF))
    return tf.cast(-items, tf.int64) * 2**32 + tf.cast(ordered, tf.int64)
