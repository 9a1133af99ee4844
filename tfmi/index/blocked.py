"""The exact best k of a catalogue that is scored block by block, so that memory is bounded however large it is."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# 64 MB of float32 scores at a time: large enough for efficient matrix products, small beside a catalogue's vectors.
SCORES_PER_BLOCK = 2**24
# However many queries come at once, shorter blocks than this would cost more in overhead than they save in memory.
SMALLEST_BLOCK = 4096


def block_length(num_queries: tf.Tensor, scores_per_block: int = SCORES_PER_BLOCK) -> tf.Tensor:
    """int32 scalar: how many items to score at once for ``num_queries`` queries."""
    return tf.maximum(scores_per_block // tf.maximum(num_queries, 1), SMALLEST_BLOCK)


def blocked_top_k(
    score_block: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], num_items: int, k: tf.Tensor | int, items_per_block: tf.Tensor
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
        scores, positions = tf.math.top_k(score_block(start, stop), tf.minimum(k, stop - start))
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
