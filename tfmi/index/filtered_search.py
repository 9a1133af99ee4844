"""The best items among those that fit a filter, with any index.

Few that fit are scored exactly. Where many do, the index is searched for more than is wanted, in proportion to their share, and what does
not fit is dropped; where too little is left, it is searched further, and at last all that fit are scored exactly.

Shapes: B users, K interests, k results, d width, N items, F items that fit.
"""

from __future__ import annotations

import tensorflow as tf

from tfmi.data.dataset import PADDING_INDEX
from tfmi.index.base import InterestIndex, finish_answer
from tfmi.index.blocked import blocked_top_k
from tfmi.index.filters import ItemFilter
from tfmi.index.merging import MISSING_SCORE, best_of_interests
from tfmi.index.row_by_row import row_by_row

# Gathering and scoring so many vectors takes about as long as an approximate search for as many results as their share asks for.
SCANNED_ITEMS = 50_000
# An exact index looks at everything anyway: scanning this share of it costs no more.
SCANNED_SHARE_OF_EXACT = 0.5
# How many times the results that are wanted should be among what is found, by the share of items that fit.
RESERVE = 1.5
WIDENING_FACTOR = 4
# Beyond this share of the catalogue, scanning what fits costs less than searching further.
LARGEST_SEARCHED_SHARE = 0.02
# Vectors to gather at a time: 16 MB at a width of 64.
ITEMS_PER_BLOCK = 65_536


def search_filtered(
    index: InterestIndex, allowed: ItemFilter, interests: tf.Tensor, active: tf.Tensor, k: tf.Tensor | int, *, each: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Find the best items that fit, for every interest.

    Args:
        index: Of any kind.
        allowed: Which items fit.
        interests: float32 [B, K, d].
        active: bool [B, K].
        k: Results per interest.
        each: Whether every interest needs k results of its own, or only all of them together: what they miss is then worse than the k best
            of the user.

    Returns:
        Scores float32 [B, K, k] and item indices int32 [B, K, k], best first; missing ones are -inf and 0.
    """
    width = k if isinstance(k, int) else None
    answers = [tf.TensorSpec([interests.shape[1], width], dtype) for dtype in (tf.float32, tf.int32)]
    users = tf.range(tf.shape(interests)[0])
    scores, items = row_by_row(lambda *user: _search_user(index, allowed, *user, k=k, each=each), (users, interests, active), answers)
    return scores, items


def _search_user(
    index: InterestIndex, allowed: ItemFilter, user: tf.Tensor, interests: tf.Tensor, active: tf.Tensor, *, k: tf.Tensor | int, each: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores and items [K, k] of one user's interests [K, d]."""
    fits = allowed.everywhere(user)  # [N + 2]
    count = tf.math.count_nonzero(fits, dtype=tf.int32)
    wanted = tf.minimum(k, count)
    num_items = index.num_items
    scanned = SCANNED_ITEMS if index.is_approximate else max(SCANNED_ITEMS, int(SCANNED_SHARE_OF_EXACT * num_items))
    largest = int(LARGEST_SEARCHED_SHARE * num_items)
    shape = tf.TensorShape([interests.shape[0], k if isinstance(k, int) else None])

    def search(depth: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        found_scores, found_items = index.search(interests, depth)
        scores = tf.where(tf.gather(fits, found_items), found_scores, MISSING_SCORE)  # row 0, of missing results, never fits
        best, order = tf.math.top_k(tf.concat([scores, tf.fill([tf.shape(scores)[0], k], MISSING_SCORE)], axis=1), k)
        items = tf.gather(tf.pad(found_items, [[0, 0], [0, k]]), order, batch_dims=1)
        items = tf.where(best > MISSING_SCORE, items, PADDING_INDEX)
        worst_seen = found_scores[:, -1]  # whatever was not found scores at most this
        complete = _is_complete(best, items, active, worst_seen, wanted, each=each)
        return depth * WIDENING_FACTOR, complete, tf.ensure_shape(best, shape), tf.ensure_shape(items, shape)

    def scan() -> tuple[tf.Tensor, tf.Tensor]:
        fitting = tf.cast(tf.where(fits)[:, 0], tf.int32)  # [F]

        def score_block(start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
            return tf.matmul(interests, index.vectors(fitting[start:stop]), transpose_b=True)

        scores, places = blocked_top_k(score_block, count, k, tf.constant(ITEMS_PER_BLOCK))
        scores, places = finish_answer(scores, places, k)  # places from FIRST_INDEX on, 0 where there is none
        listed = tf.concat([tf.zeros([2], tf.int32), fitting], axis=0)
        return scores, tf.gather(listed, places)

    def approximate() -> tuple[tf.Tensor, tf.Tensor]:
        share = tf.cast(count, tf.float32) / num_items
        depth = tf.cast(tf.math.ceil(RESERVE * tf.cast(k, tf.float32) / share), tf.int32)
        nothing = tf.zeros([tf.shape(interests)[0], k])
        _, complete, scores, items = tf.while_loop(
            lambda depth, complete, *_: ~complete & (depth <= largest),
            search,
            (depth, tf.constant(False), nothing, tf.cast(nothing, tf.int32)),
            shape_invariants=(depth.shape, tf.TensorShape([]), shape, shape),
            parallel_iterations=1,
        )
        return tf.cond(complete, lambda: (scores, items), scan)

    scores, items = tf.cond(count <= scanned, scan, approximate)
    return scores, items


def _is_complete(
    scores: tf.Tensor, items: tf.Tensor, active: tf.Tensor, worst_seen: tf.Tensor, wanted: tf.Tensor, *, each: bool
) -> tf.Tensor:
    """bool []: whether nothing that was not found belongs to the answer.

    Args:
        scores: float32 [K, k] of what was found and fits.
        items: int32 [K, k].
        active: bool [K].
        worst_seen: float32 [K]: nothing that an interest has not found scores more than this.
        wanted: How many results there can be.
        each: See ``search_filtered``.
    """
    found = tf.math.count_nonzero(scores > MISSING_SCORE, axis=1, dtype=tf.int32)
    complete = (found >= wanted) | ~active
    if not each:
        merged = best_of_interests(scores[None], items[None], active[None], tf.shape(scores)[1]).scores[0]
        bar = tf.concat([merged, [MISSING_SCORE]], axis=0)[tf.maximum(wanted, 1) - 1]
        # An interest that found less than it was asked for has seen too little to tell.
        complete |= (worst_seen > MISSING_SCORE) & (worst_seen <= bar)
    return tf.reduce_all(complete)
