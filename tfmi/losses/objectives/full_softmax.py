"""Softmax over every item of the catalogue, in memory that is bounded whatever its size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.layers.base import MASKED_LOGIT
from tfmi.losses.base import OBJECTIVES, CatalogueTable, Contrast, ItemSpace, Objective, candidate_logits, target_logits

DEFAULT_BLOCK_ROWS = 512
# Scores of a batch that are kept for the backward pass rather than computed twice: 256 MB of float32.
KEPT_SCORES = 2**26
# Kept scores are made in tiles of this many, 1 MB: what is done to a tile then finds it in the processor's cache.
_TILE_SCORES = 2**18
# Tiles begin at multiples of so many of the table's rows, which TensorFlow reads where they are instead of copying them.
_ROW_MULTIPLE = 16
# With all scores within this bound, exp of them and sums of it over any catalogue stay normal float32 numbers without a shift.
_SAFE_BOUND = 40.0
# Of tf.math.l2_normalize.
_SQUARED_NORM_FLOOR = 1e-12

Gradient = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def _interest_scores(queries: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    """float32 scores [B, C] or, of every interest, [B, K, C]."""
    if queries.shape.rank == 2:
        return candidate_logits(queries, block)
    return tf.cast(tf.einsum("bkd,cd->bkc", queries, block), tf.float32)


def _masked(scores: tf.Tensor, left_out: tf.Tensor, start: tf.Tensor | int) -> tf.Tensor:
    """``scores`` [B, C] of the catalogue rows from ``start`` on, with ``MASKED_LOGIT`` at the rows ``left_out`` int [B, E]."""
    return _replaced(scores, left_out, start, MASKED_LOGIT)


def _replaced(values: tf.Tensor, left_out: tf.Tensor, start: tf.Tensor | int, replacement: float) -> tf.Tensor:
    """``values`` [B, C] of the catalogue rows from ``start`` on, with ``replacement`` at the rows ``left_out`` int [B, E]."""
    columns = left_out - start
    cells = tf.where((columns >= 0) & (columns < tf.shape(values)[1]))  # [M, 2]
    places = tf.stack([cells[:, 0], tf.cast(tf.gather_nd(columns, cells), tf.int64)], axis=1)
    return tf.tensor_scatter_nd_update(values, places, tf.fill([tf.shape(places)[0]], tf.constant(replacement, values.dtype)))


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


def _greatest_norm(table: CatalogueTable) -> tf.Tensor:
    """The length of the longest vector that scores are made of."""
    if table.normalize:
        return tf.constant(1.0)
    return tf.sqrt(tf.reduce_max(tf.reduce_sum(tf.square(table.vectors[table.first_row :]), axis=1)))


class _Tiles:
    """A table cut into tiles of rows, such that a batch's scores of one tile stay in the processor's cache.

    Args:
        table: The catalogue.
        batch_size: Scores per row.
    """

    def __init__(self, table: CatalogueTable, batch_size: tf.Tensor) -> None:
        self._table = table
        num_rows = tf.shape(table.vectors)[0]
        self._rows = tf.maximum(_TILE_SCORES // batch_size // _ROW_MULTIPLE, 1) * _ROW_MULTIPLE
        self.count = (num_rows + self._rows - 1) // self._rows

    def start(self, number: tf.Tensor) -> tf.Tensor:
        """The first catalogue row of a tile."""
        return tf.maximum(number * self._rows - self._table.first_row, 0)

    def vectors(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A tile's vectors [C, d] as scores take them, and what their rows were multiplied with, [C, 1]."""
        first = tf.where(number == 0, self._table.first_row, number * self._rows)
        rows = self._table.vectors[first : (number + 1) * self._rows]  # the last tile ends with the table
        if not self._table.normalize:
            return rows, tf.ones([tf.shape(rows)[0], 1])
        lengths = tf.reduce_sum(tf.square(rows), axis=1, keepdims=True)
        factors = tf.math.rsqrt(tf.maximum(lengths, _SQUARED_NORM_FLOOR))
        return rows * factors, factors

    def through_normalization(self, by_vectors: tf.Tensor, vectors: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
        """The gradient by a tile's rows of the table, from that by its vectors."""
        if not self._table.normalize:
            return by_vectors
        along = tf.reduce_sum(by_vectors * vectors, axis=1, keepdims=True)
        # Below the floor the factor is a constant.
        along = tf.where(factors < _SQUARED_NORM_FLOOR**-0.5, along, 0.0)
        return (by_vectors - along * vectors) * factors

    def loop(self, body: Callable[..., Any], *state: Any) -> Any:
        """Run ``body(number, *state) -> state`` over all tiles, one at a time; returns the state."""
        (_, *state) = tf.while_loop(
            lambda number, *_: number < self.count,
            lambda number, *state: (number + 1, *body(number, *state)),
            (tf.constant(0), *state),
            parallel_iterations=1,  # two tiles at once would push each other out of the cache
        )
        return state


def _transposed_product(exponentials: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
    """[C, d]: a tile's ``exponentials`` [B, C], transposed, times ``queries`` [B, d]."""
    if queries.shape[0] is None or queries.shape[0] < 2 * queries.shape[1]:
        return tf.matmul(exponentials, queries, transpose_a=True)
    # Reading the larger factor as it lies in memory is faster by more than it costs to transpose the result.
    return tf.transpose(tf.matmul(queries, exponentials, transpose_a=True))


def _greatest_scores(tiles: _Tiles, queries: tf.Tensor, left_out: tf.Tensor) -> tf.Tensor:
    """[B]: the largest score of those that count."""

    def larger(number: tf.Tensor, greatest: tf.Tensor) -> tuple[tf.Tensor]:
        scores = tf.matmul(queries, tiles.vectors(number)[0], transpose_b=True)
        return (tf.maximum(greatest, tf.reduce_max(_masked(scores, left_out, tiles.start(number)), axis=1)),)

    return tiles.loop(larger, tf.fill([tf.shape(queries)[0]], MASKED_LOGIT))[0]


def kept_log_partition(queries: tf.Tensor, table: CatalogueTable, left_out: tf.Tensor) -> tf.Tensor:
    """``log sum_j exp(s_j)`` over the catalogue, float32 [B], keeping exp(s) for the backward pass.

    Three matrix products and one pass of exp, what the arithmetic needs, on tiles of the catalogue that stay in the processor's cache.
    Normalisation is done and undone there, too. The product that gives the queries' gradient is made on the way forwards, while a tile's
    exponentials are at hand: their sum, which is all that it lacks, is but a factor.

    Args:
        queries: float32 [B, d].
        table: float32.
        left_out: int32 [B, E], catalogue rows that do not count.
    """

    @tf.custom_gradient
    def compute(queries: tf.Tensor, vectors: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        tiles = _Tiles(table._replace(vectors=vectors), tf.shape(queries)[0])
        bounds = tf.norm(queries, axis=1) * _greatest_norm(table)
        safe = tf.reduce_all(bounds < _SAFE_BOUND)
        shifts = tf.cond(safe, lambda: tf.zeros_like(bounds), lambda: _greatest_scores(tiles, queries, left_out))

        def forward(number: tf.Tensor, total: tf.Tensor, weighted: tf.Tensor, *kept: tf.TensorArray) -> tuple[Any, ...]:
            tile, factors = tiles.vectors(number)  # [C, d], [C, 1]
            scores = tf.matmul(queries, tile, transpose_b=True)
            shifted = tf.cond(safe, partial(tf.identity, scores), partial(tf.subtract, scores, shifts[:, None]))
            exponentials = _replaced(tf.exp(shifted), left_out, tiles.start(number), 0.0)  # [B, C]
            total += tf.reduce_sum(exponentials, axis=1)
            weighted += tf.matmul(exponentials, tile)
            return total, weighted, *(array.write(number, value) for array, value in zip(kept, (exponentials, tile, factors), strict=True))

        width = vectors.shape[1]
        arrays = [
            tf.TensorArray(tf.float32, size=tiles.count, infer_shape=False, element_shape=shape)
            for shape in ([queries.shape[0], None], [None, width], [None, 1])
        ]
        total, weighted, *kept = tiles.loop(forward, tf.zeros_like(bounds), tf.zeros_like(queries), *arrays)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Dividing what the products give is less work than dividing the exponentials.
            scale = tf.math.divide_no_nan(upstream, total)[:, None]  # [B, 1]
            scaled_queries = queries * scale

            def backward(number: tf.Tensor, by_row: tf.TensorArray) -> tuple[tf.TensorArray]:
                exponentials, tile, factors = (array.read(number) for array in kept)
                by_tile = _transposed_product(exponentials, scaled_queries)  # [C, d]
                # Rows before the catalogue's take the place of tile 0.
                return (by_row.write(number + 1, tiles.through_normalization(by_tile, tile, factors)),)

            by_row = tf.TensorArray(tf.float32, size=tiles.count + 1, infer_shape=False, element_shape=[None, width])
            (by_row,) = tiles.loop(backward, by_row.write(0, tf.zeros([table.first_row, width])))
            return weighted * scale, by_row.concat()

        return tf.where(total > 0, tf.math.log(total) + shifts, MASKED_LOGIT), gradient

    log_partition: tf.Tensor = compute(queries, table.vectors)
    return log_partition


def log_partition(queries: tf.Tensor, table: CatalogueTable, left_out: tf.Tensor, block_rows: int = DEFAULT_BLOCK_ROWS) -> tf.Tensor:
    """``log sum_j exp(s_j)`` over the catalogue, float32 [B], in memory that is bounded whatever its size.

    Args:
        queries: [B, d], or [B, K, d] where s_j is the best interest's score.
        table: The catalogue.
        left_out: int32 [B, E], catalogue rows that do not count. ``MASKED_LOGIT`` or less results where none does.
        block_rows: Catalogue rows per block where scores are not kept: where there are too many, where each is one of K, whose passes over
            memory cost more than computing them again, and in half precision, where exp would keep three digits.
    """

    def kept() -> tf.Tensor:
        return kept_log_partition(queries, table, left_out)

    def blocked() -> tf.Tensor:
        return blocked_log_partition(queries, table.catalogue(), left_out, block_rows)

    if queries.shape.rank != 2 or queries.dtype != tf.float32:
        return blocked()
    if queries.shape[0] is not None and table.vectors.shape[0] is not None:
        return kept() if queries.shape[0] * table.vectors.shape[0] <= KEPT_SCORES else blocked()
    return tf.cond(tf.shape(queries, tf.int64)[0] * tf.shape(table.vectors, tf.int64)[0] <= KEPT_SCORES, kept, blocked)


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
    rows = targets - FIRST_INDEX
    table = items.catalogue_table()
    if table is None or not queries.dtype == table.vectors.dtype == tf.float32:
        catalogue = tf.cast(items.embed_catalogue(), queries.dtype)  # [N, d]
        table, target_vectors = CatalogueTable(catalogue), tf.gather(catalogue, rows)
    else:
        target_vectors = items.embed(targets)
    positive = target_logits(queries, target_vectors)
    # Padding stands before row 0, where there is nothing to leave out.
    others = rows[:, None] if left_out is None else tf.concat([rows[:, None], left_out - FIRST_INDEX], axis=1)
    return Contrast(
        positive,
        log_partition(queries, table, others, block_rows),
        negatives=lambda: _masked(candidate_logits(queries, table.catalogue()), others, 0),
    )


@OBJECTIVES.register("full_softmax")
class FullSoftmax(Objective):
    """The target against all other real items; with cross-entropy the loss is ``-s_t + log sum_j exp(s_j)``.

    Scores are float32. Those of one query each, [B, d], are kept for the backward pass if they are at most ``KEPT_SCORES``, and are made
    straight from the item table, in tiles that stay in the processor's cache, where item vectors are its rows. Otherwise they
    exist only for ``block_rows`` items at a time, so that memory is B x K x block_rows whatever the catalogue, and the backward pass
    computes them a second time (a third more arithmetic).

    With ``label_smoothing`` a small share e of the target's weight is spread over the catalogue, so that the loss is
    ``-(1 - e) s_t - e mean_j s_j + log sum_j exp(s_j)``. The mean of scores is that with the mean item vector; for the scores of several
    interests all of them have to be made, [B, N].

    Paper of the smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.

    Args:
        block_rows: Items scored at a time where scores are not kept. The default keeps a block of them in the processor's cache.
        label_smoothing: e, at least 0 and below 1.

    Raises:
        ValueError: ``block_rows`` below 1, or ``label_smoothing`` out of its range.
    """

    COMPARES_EVERY_ITEM = True

    def __init__(self, block_rows: int = DEFAULT_BLOCK_ROWS, label_smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if block_rows < 1:
            raise ValueError(f"block_rows must be at least 1, got {block_rows}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: expected a number of at least 0 and below 1, got {label_smoothing}")

    @property
    def why_no_softmax(self) -> str | None:
        """With smoothed labels every item is a little right."""
        return "with label_smoothing gives every item a share of the label" if self.label_smoothing else None

    def contrast(
        self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, left_out: tf.Tensor | None = None, training: bool | None = None
    ) -> Contrast:
        """See ``Objective``."""
        contrast = full_softmax_contrast(queries, targets, items, left_out, self.block_rows)
        if not self.label_smoothing:
            return contrast
        catalogue = tf.cast(items.embed_catalogue(), queries.dtype)  # [N, d]
        if queries.shape.rank == 2:
            mean = tf.linalg.matvec(tf.cast(queries, tf.float32), tf.reduce_mean(tf.cast(catalogue, tf.float32), axis=0))
        else:
            mean = tf.reduce_mean(candidate_logits(queries, catalogue), axis=1)
        return contrast._replace(own_loss=contrast.cross_entropy() + self.label_smoothing * (contrast.positive - mean))
