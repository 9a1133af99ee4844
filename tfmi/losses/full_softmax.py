"""Softmax over every item of the catalogue, in memory that is bounded whatever its size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfmi.data.structures import FIRST_INDEX
from tfmi.layers.base import MASKED_LOGIT
from tfmi.losses.base import OBJECTIVES, Contrast, ItemSpace, Objective, candidate_logits, target_logits

DEFAULT_BLOCK_ROWS = 512
# Scores of a batch that are kept for the backward pass rather than computed twice: 256 MB of float32.
KEPT_SCORES = 2**26
# Rows of kept scores that one product makes: the passes over them then find most of them in the processor's cache.
_ROWS_AT_A_TIME = 256
# With all scores within this bound, exp(score - bound) stays a normal float32, and no pass has to look for each row's maximum.
_SAFE_BOUND = 40.0


def _interest_scores(queries: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """float32 scores [B, C] or, of every interest, [B, K, C]."""
    if queries.shape.rank == 2:
        return candidate_logits(queries, block)
    return tf.cast(tf.einsum("bkd,cd->bkc", queries, block), tf.float32)


def _masked(scores: tf.Tensor, left_out: tf.Tensor, start: tf.Tensor | int = 0) -> tf.Tensor:
    """``scores`` [B, C] of the catalogue rows from ``start`` on, with ``MASKED_LOGIT`` at the rows ``left_out`` int [B, E]."""
    columns = left_out - start
    cells = tf.where((columns >= 0) & (columns < tf.shape(scores)[1]))  # [M, 2]
    places = tf.stack([cells[:, 0], tf.cast(tf.gather_nd(columns, cells), tf.int64)], axis=1)
    return tf.tensor_scatter_nd_update(scores, places, tf.fill([tf.shape(places)[0]], tf.constant(MASKED_LOGIT, scores.dtype)))


def _score_gradient(
    queries: tf.Tensor, block: tf.Tensor, left_out: tf.Tensor, start: tf.Tensor, *, log_partition: tf.Tensor, upstream: tf.Tensor
) -> tf.Tensor:
    """Gradient of ``upstream . log_partition`` by each of ``_interest_scores``: the softmax share, given to the best interest (K > 1)."""
    scores = _interest_scores(queries, block)
    if queries.shape.rank == 2:
        return tf.exp(_masked(scores, left_out, start) - log_partition[:, None]) * upstream[:, None]  # [B, C]
    best = tf.reduce_max(scores, axis=1)  # [B, C]
    share = tf.exp(_masked(best, left_out, start) - log_partition[:, None]) * upstream[:, None]
    # Equal interests share the gradient equally, as that of tf.reduce_max does.
    winners = tf.cast(scores == best[:, None, :], tf.float32)  # [B, K, C]
    return winners * (share / tf.reduce_sum(winners, axis=1))[:, None, :]


def _add_log_exp(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """log(exp(first) + exp(second)), where ``first`` may be -inf and ``second`` is finite."""
    larger = tf.maximum(first, second)
    return larger + tf.math.log(tf.exp(first - larger) + tf.exp(second - larger))


def _shifts(queries: tf.Tensor, catalogue: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """[B] to subtract from the rows of ``scores`` [B, N] before exp: a bound on them by Cauchy and Schwarz, or else their maximum."""
    bounds = tf.norm(queries, axis=-1) * tf.reduce_max(tf.norm(catalogue, axis=-1))
    return tf.cond(tf.reduce_all(bounds < _SAFE_BOUND), lambda: bounds, lambda: tf.reduce_max(scores, axis=1))


def kept_log_partition(queries: tf.Tensor, catalogue: tf.Tensor, left_out: tf.Tensor) -> tf.Tensor:
    """``log sum_j exp(s_j)`` over catalogue rows, float32 [B], keeping exp(s) for the backward pass.

    Three matrix products and one pass of exp: what the arithmetic needs.

    Args:
        queries: float32 [B, d].
        catalogue: [N, d].
        left_out: int32 [B, E], rows that do not count.
    """

    @tf.custom_gradient
    def compute(queries: tf.Tensor, catalogue: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        scores = _masked(tf.matmul(queries, catalogue, transpose_b=True), left_out)  # [B, N]
        shifts = _shifts(queries, catalogue, scores)
        exponentials = tf.exp(scores - shifts[:, None])
        total = tf.reduce_sum(exponentials, axis=1)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Dividing what the products give is less work than dividing the exponentials.
            scale = tf.math.divide_no_nan(upstream, total)[:, None]  # [B, 1]
            return tf.matmul(exponentials, catalogue) * scale, tf.matmul(exponentials, queries * scale, transpose_a=True)

        return tf.where(total > 0, tf.math.log(total) + shifts, MASKED_LOGIT), gradient

    log_partition: tf.Tensor = compute(queries, tf.cast(catalogue, queries.dtype))
    return log_partition


def log_partition(queries: tf.Tensor, catalogue: tf.Tensor, left_out: tf.Tensor, block_rows: int = DEFAULT_BLOCK_ROWS) -> tf.Tensor:
    """``log sum_j exp(s_j)`` over catalogue rows, float32 [B], in memory that is bounded whatever the catalogue.

    Args:
        queries: [B, d], or [B, K, d] where s_j is the best interest's score.
        catalogue: [N, d].
        left_out: int32 [B, E], rows that do not count. ``MASKED_LOGIT`` or less results where none does.
        block_rows: Catalogue rows per block where scores are not kept: where there are too many, where each is one of K, whose passes over
            memory cost more than computing them again, and in half precision, where exp would keep three digits.
    """

    def kept() -> tf.Tensor:
        if queries.shape[0] is None or queries.shape[0] <= _ROWS_AT_A_TIME:
            return kept_log_partition(queries, catalogue, left_out)
        sizes = [min(_ROWS_AT_A_TIME, queries.shape[0] - start) for start in range(0, queries.shape[0], _ROWS_AT_A_TIME)]
        parts = zip(tf.split(queries, sizes), tf.split(left_out, sizes), strict=True)
        return tf.concat([kept_log_partition(rows, catalogue, others) for rows, others in parts], axis=0)

    def blocked() -> tf.Tensor:
        return blocked_log_partition(queries, catalogue, left_out, block_rows)

    if queries.shape.rank != 2 or queries.dtype != tf.float32:
        return blocked()
    if queries.shape[0] is not None and catalogue.shape[0] is not None:
        return kept() if queries.shape[0] * catalogue.shape[0] <= KEPT_SCORES else blocked()
    return tf.cond(tf.shape(queries, tf.int64)[0] * tf.shape(catalogue, tf.int64)[0] <= KEPT_SCORES, kept, blocked)


def blocked_log_partition(queries: tf.Tensor, catalogue: tf.Tensor, left_out: tf.Tensor, block_rows: int) -> tf.Tensor:
    """``log sum_j exp(s_j)`` over catalogue rows, float32 [B], computed block by block, forward and backward.

    Only one block of scores exists at a time, in either direction: the backward pass computes them again instead of keeping them.

    Args:
        queries: [B, d], or [B, K, d] where s_j is the best interest's score.
        catalogue: [N, d].
        left_out: int32 [B, E], rows that do not count.
        block_rows: Catalogue rows per block.
    """

    @tf.custom_gradient
    def compute(queries: tf.Tensor, catalogue: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        num_rows = tf.shape(catalogue)[0]
        num_blocks = (num_rows + block_rows - 1) // block_rows

        def block_at(number: tf.Tensor) -> tf.Tensor:
            return catalogue[number * block_rows : tf.minimum((number + 1) * block_rows, num_rows)]

        def forward(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scores = _masked(candidate_logits(queries, block_at(number)), left_out, number * block_rows)
            return number + 1, _add_log_exp(total, tf.reduce_logsumexp(scores, axis=1))

        start = tf.fill([tf.shape(queries)[0]], -float("inf"))
        _, log_partition = tf.while_loop(lambda number, _: number < num_blocks, forward, [0, start])

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            def backward(number: tf.Tensor, by_query: tf.Tensor, by_block: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
                block = block_at(number)
                by_score = _score_gradient(queries, block, left_out, number * block_rows, log_partition=log_partition, upstream=upstream)
                by_score = tf.cast(by_score, queries.dtype)
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


def full_softmax_contrast(
    queries: tf.Tensor,
    targets: tf.Tensor,
    items: ItemSpace,
    left_out: tf.Tensor | None = None,
    block_rows: int = DEFAULT_BLOCK_ROWS,
) -> Contrast:
    """Each target against all other real items; arguments as in ``Objective``."""
    catalogue = tf.cast(items.embed_catalogue(), queries.dtype)  # [N, d]
    rows = targets - FIRST_INDEX
    positive = target_logits(queries, tf.gather(catalogue, rows))
    # Padding stands before row 0, where there is nothing to leave out.
    others = rows[:, None] if left_out is None else tf.concat([rows[:, None], left_out - FIRST_INDEX], axis=1)
    return Contrast(positive, log_partition(queries, catalogue, others, block_rows))


@OBJECTIVES.register("full_softmax")
class FullSoftmax(Objective):
    """The target against all other real items; with cross-entropy the loss is ``-s_t + log sum_j exp(s_j)``.

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

    def contrast(
        self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, left_out: tf.Tensor | None = None, training: bool | None = None
    ) -> Contrast:
        """See ``Objective``."""
        return full_softmax_contrast(queries, targets, items, left_out, self.block_rows)
