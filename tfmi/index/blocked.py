"""The exact best k of a catalogue that is scored block by block, so that memory is bounded however large it is."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# 64 MB of float32 scores at a time: large enough for efficient matrix products, small beside a catalogue's vectors.
SCORES_PER_BLOCK = 2**24
# However many queries come at once, shorter blocks than this would cost more in overhead than they save in memory.
SMALLEST_BLOCK = 4096
# Neighbouring positions whose maximum stands for them all when the best k are sought; see ``_best_of_groups``.
GROUP_LENGTH = 16
# With fewer groups than this, scanning the members of the best k of them costs as much as scanning everything.
FEWEST_GROUPS_PER_RESULT = 3


def block_length(num_queries: tf.Tensor, scores_per_block: int = SCORES_PER_BLOCK) -> tf.Tensor:
    """int32 scalar: how many items to score at once for ``num_queries`` queries."""
    return tf.maximum(scores_per_block // tf.maximum(num_queries, 1), SMALLEST_BLOCK)


def blocked_top_k(
    score_block: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], num_items: tf.Tensor | int, k: tf.Tensor | int, items_per_block: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Best ``min(k, num_items)`` positions of each row.

    Args:
        score_block: ``score_block(start, stop)`` gives float32 [M, stop - start], the scores of positions ``start`` to ``stop - 1``.
        num_items: N, the number of positions.
        k: How many to keep.
        items_per_block: int32 scalar, positions to score at once.

    Returns:
        Scores float32 [M, min(k, N)] and positions int32 [M, min(k, N)], best first, ties by lower position.
    """

    def best_of_block(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        stop = tf.minimum(start + items_per_block, num_items)
        scores, positions = tf.cond(
            stop - start >= FEWEST_GROUPS_PER_RESULT * GROUP_LENGTH * k,
            lambda: _best_of_groups(score_block, start, stop, k),
            lambda: tuple(tf.math.top_k(score_block(start, stop), tf.minimum(k, stop - start))),
        )
        return stop, scores, positions + start

    def merge_next_block(start: tf.Tensor, scores: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        stop, block_scores, block_positions = best_of_block(start)
        # Earlier positions stand first, and top_k prefers the first of equals: ties stay in order of position.
        all_scores = tf.concat([scores, block_scores], axis=1)
        all_positions = tf.concat([positions, block_positions], axis=1)
        best_scores, order = tf.math.top_k(all_scores, tf.minimum(k, tf.shape(all_scores)[1]))
        return stop, best_scores, tf.gather(all_positions, order, batch_dims=1)

    first = best_of_block(tf.constant(0))
    _, scores, positions = tf.while_loop(
        lambda start, *_: start < num_items,
        merge_next_block,
        first,
        shape_invariants=(first[0].shape, tf.TensorShape([first[1].shape[0], None]), tf.TensorShape([first[2].shape[0], None])),
        parallel_iterations=1,  # more would hold several blocks at once
    )
    return scores, positions


def _best_of_groups(
    score_block: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], start: tf.Tensor, stop: tf.Tensor, k: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The best k of one block, exactly, without scanning all of it for them: three times as fast as ``tf.math.top_k`` on all scores.

    Whatever is among the best k lies in one of the k groups with the largest maxima: for any other group there are k groups that each
    hold something at least as good, and where it is equally good the chosen group comes first, as ties demand.

    Returns:
        Scores float32 [M, k] and positions int32 [M, k], counted from ``start``.
    """
    num_groups = (stop - start) // GROUP_LENGTH
    grouped_stop = start + num_groups * GROUP_LENGTH
    # The tail that fills no group is scored by itself: cutting it off the scores of all would copy them.
    tail_scores = score_block(grouped_stop, stop)  # [M, less than GROUP_LENGTH]
    scores = score_block(start, grouped_stop)
    scores = tf.reshape(scores, [tf.shape(scores)[0], num_groups, GROUP_LENGTH])
    _, groups = tf.math.top_k(tf.reduce_max(scores, axis=2), k, sorted=False)
    groups = tf.sort(groups, axis=1)  # [M, k] by position, so that ties stay in its order
    members = tf.gather(scores, groups, batch_dims=1)  # [M, k, GROUP_LENGTH]
    candidate_scores = tf.concat([tf.reshape(members, [tf.shape(members)[0], k * GROUP_LENGTH]), tail_scores], axis=1)
    best_scores, places = tf.math.top_k(candidate_scores, k)  # [M, k]
    of_group = tf.minimum(places // GROUP_LENGTH, k - 1)
    in_group = tf.gather(groups, of_group, batch_dims=1) * GROUP_LENGTH + places % GROUP_LENGTH
    in_tail = grouped_stop - start + places - k * GROUP_LENGTH
    return best_scores, tf.where(places < k * GROUP_LENGTH, in_group, in_tail)
