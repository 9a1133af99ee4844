"""Softmax over every item of the catalogue, in memory that is bounded whatever its size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfmi.data.structures import FIRST_INDEX
from tfmi.losses.base import OBJECTIVES, ItemSpace, Objective, candidate_logits, target_logits

DEFAULT_BLOCK_ROWS = 512
# Scores of a batch that are kept for the backward pass rather than computed twice: 256 MB of float32.
KEPT_SCORES = 2**26
# With all scores within this bound, exp(score - bound) stays a normal float32, and no pass has to look for each row's maximum.
_SAFE_BOUND = 40.0


def _interest_scores(queries: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """float32 scores [B, C] or, of every interest, [B, K, C]."""
    if queries.shape.rank == 2:
        return candidate_logits(queries, block)
    return tf.cast(tf.einsum("bkd,cd->bkc", queries, block), tf.float32)


def _score_gradient(queries: tf.Tensor, block: tf.Tensor, log_partition: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """Gradient of ``upstream . log_partition`` by each of ``_interest_scores``: the softmax share, given to the best interest (K > 1)."""
    scores = _interest_scores(queries, block)
    if queries.shape.rank == 2:
        return tf.exp(scores - log_partition[:, None]) * upstream[:, None]  # [B, C]
    best = tf.reduce_max(scores, axis=1, keepdims=True)  # [B, 1, C]
    share = tf.exp(best - log_partition[:, None, None]) * upstream[:, None, None]
    # Equal interests share the gradient equally, as that of tf.reduce_max does.
    winners = tf.cast(scores == best, tf.float32)  # [B, K, C]
    return share * winners / tf.reduce_sum(winners, axis=1, keepdims=True)


def _add_log_exp(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """log(exp(first) + exp(second)), where ``first`` may be -inf and ``second`` is finite."""
    larger = tf.maximum(first, second)
    return larger + tf.math.log(tf.exp(first - larger) + tf.exp(second - larger))


def _shifts(queries: tf.Tensor, catalogue: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """[B] to subtract from the rows of ``scores`` [B, N] before exp: a bound on them by Cauchy and Schwarz, or else their maximum."""
    bounds = tf.norm(queries, axis=-1) * tf.reduce_max(tf.norm(catalogue, axis=-1))
    return tf.cond(tf.reduce_all(bounds < _SAFE_BOUND), lambda: bounds, lambda: tf.reduce_max(scores, axis=1))


def kept_log_partition(queries: tf.Tensor, catalogue: tf.Tensor) -> tf.Tensor:
    """``log sum_j exp(s_j)`` over all catalogue rows, float32 [B], keeping exp(s) for the backward pass.

    Three matrix products and one pass of exp: what the arithmetic needs.

    Args:
        queries: float32 [B, d].
        catalogue: [N, d].
    """

    @tf.custom_gradient
    def compute(queries: tf.Tensor, catalogue: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        scores = tf.matmul(queries, catalogue, transpose_b=True)  # [B, N]
        shifts = _shifts(queries, catalogue, scores)
        exponentials = tf.exp(scores - shifts[:, None])
        total = tf.reduce_sum(exponentials, axis=1)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scale = (upstream / total)[:, None]  # [B, 1]: dividing what the products give is less work than dividing the exponentials
            return tf.matmul(exponentials, catalogue) * scale, tf.matmul(exponentials, queries * scale, transpose_a=True)

        return tf.math.log(total) + shifts, gradient

    log_partition: tf.Tensor = compute(queries, tf.cast(catalogue, queries.dtype))
    return log_partition


def log_partition(queries: tf.Tensor, catalogue: tf.Tensor, block_rows: int = DEFAULT_BLOCK_ROWS) -> tf.Tensor:
    """``log sum_j exp(s_j)`` over all catalogue rows, float32 [B], in memory that is bounded whatever the catalogue.

    Args:
        queries: [B, d], or [B, K, d] where s_j is the best interest's score.
        catalogue: [N, d].
        block_rows: Catalogue rows per block where scores are not kept: where there are too many, where each is one of K, whose passes over
            memory cost more than computing them again, and in half precision, where exp would keep three digits.
    """
    if queries.shape.rank != 2 or queries.dtype != tf.float32:
        return blocked_log_partition(queries, catalogue, block_rows)

    def kept() -> tf.Tensor:
        return kept_log_partition(queries, catalogue)

    def blocked() -> tf.Tensor:
        return blocked_log_partition(queries, catalogue, block_rows)

    if queries.shape[0] is not None and catalogue.shape[0] is not None:
        return kept() if queries.shape[0] * catalogue.shape[0] <= KEPT_SCORES else blocked()
    return tf.cond(tf.shape(queries, tf.int64)[0] * tf.shape(catalogue, tf.int64)[0] <= KEPT_SCORES, kept, blocked)


def blocked_log_partition(queries: tf.Tensor, catalogue: tf.Tensor, block_rows: int) -> tf.Tensor:
    """``log sum_j exp(s_j)`` over all catalogue rows, float32 [B], computed block by block, forward and backward.

    Only one block of scores exists at a time, in either direction: the backward pass computes them again instead of keeping them.

    Args:
        queries: [B, d], or [B, K, d] where s_j is the best interest's score.
        catalogue: [N, d].
        block_rows: Catalogue rows per block.
    """

    @tf.custom_gradient
    def compute(queries: tf.Tensor, catalogue: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        num_rows = tf.shape(catalogue)[0]
        num_blocks = (num_rows + block_rows - 1) // block_rows

        def block_at(number: tf.Tensor) -> tf.Tensor:
            return catalogue[number * block_rows : tf.minimum((number + 1) * block_rows, num_rows)]

        def forward(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            block_total = tf.reduce_logsumexp(candidate_logits(queries, block_at(number)), axis=1)
            return number + 1, _add_log_exp(total, block_total)

        start = tf.fill([tf.shape(queries)[0]], -float("inf"))
        _, log_partition = tf.while_loop(lambda number, _: number < num_blocks, forward, [0, start])

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            def backward(number: tf.Tensor, by_query: tf.Tensor, by_block: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
                block = block_at(number)
                by_score = tf.cast(_score_gradient(queries, block, log_partition, upstream), queries.dtype)
                letters = "b" if queries.shape.rank == 2 else "bk"
                by_query += tf.cast(tf.einsum(f"{letters}c,cd->{letters}d", by_score, block), tf.float32)
                by_block = by_block.write(number, tf.einsum(f"{letters}c,{letters}d->cd", by_score, queries))
                return number + 1, by_query, by_block

            blocks = tf.TensorArray(queries.dtype, size=num_blocks, infer_shape=False, element_shape=[None, catalogue.shape[-1]])
            state = [0, tf.zeros(tf.shape(queries), tf.float32), blocks]
            _, by_query, by_block = tf.while_loop(lambda number, *_: number < num_blocks, backward, state)
            return tf.cast(by_query, queries.dtype), by_block.concat()

        return log_partition, gradient

    log_partition: tf.Tensor = compute(queries, tf.cast(catalogue, queries.dtype))
    return log_partition


def full_softmax_losses(queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, block_rows: int = DEFAULT_BLOCK_ROWS) -> tf.Tensor:
    """float32 [B]: the cross-entropy of each target among all real items; arguments as in ``Objective``."""
    catalogue = tf.cast(items.embed_catalogue(), queries.dtype)  # [N, d]
    positive = target_logits(queries, tf.gather(catalogue, targets - FIRST_INDEX))
    return log_partition(queries, catalogue, block_rows) - positive


@OBJECTIVES.register("full_softmax")
class FullSoftmax(Objective):
    """Cross-entropy of the target among all real items: ``-s_t + log sum_j exp(s_j)``.

    Scores are float32. Those of one query each, [B, d], are kept for the backward pass if they are at most ``KEPT_SCORES``. Otherwise they
    exist only for ``block_rows`` items at a time, so that memory is B x K x block_rows whatever the catalogue, and the backward pass
    computes them a second time (a third more arithmetic).

    Args:
        block_rows: Items scored at a time where scores are not kept. The default keeps a block of them in the processor's cache.

    Raises:
        ValueError: ``block_rows`` below 1.
    """

    def __init__(self, block_rows: int = DEFAULT_BLOCK_ROWS, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if block_rows < 1:
            raise ValueError(f"block_rows must be at least 1, got {block_rows}")
        self.block_rows = block_rows

    def call(self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, training: bool | None = None) -> tf.Tensor:
        """float32 [B] losses; see ``Objective``."""
        return full_softmax_losses(queries, targets, items, self.block_rows)
