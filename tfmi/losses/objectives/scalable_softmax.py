"""SCE: softmax against the items that are hard for a query, found in buckets along random directions."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.layers.base import MASKED_LOGIT
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.randomness import RandomStream
from tfmi.losses.base import OBJECTIVES, Contrast, ItemSpace, Objective, target_logits


@OBJECTIVES.register("scalable_softmax")
class ScalableSoftmax(Objective):
    r"""The target against the items of its query's buckets: most of a full softmax's gradient at a share of its scores.

    A softmax over the catalogue is mostly made of the few items with large scores. Queries and items that lie far along the same
    direction have large scores, so a bucket is a direction, the queries furthest along it and the items furthest along it::

        directions = W X                          W normal noise [M, B], X the queries [B, d]: mixtures of queries
        bucket m   = the b_x queries and the b_y items with the largest products with direction m
        log_negatives of a query = max over its buckets m of log sum over the bucket's items j, without the target, of exp(s_j)

    with M = b_x = sqrt(``coverage`` B), so that a query is in ``coverage`` buckets on average. Exact: the target's score, and the scores
    of the items compared. Not exact: items outside of the buckets are taken as impossible; of a query's several buckets the one with the
    largest loss counts, as in the paper; and a query in no bucket teaches nothing in this step. Scores in memory are M b_x b_y =
    ``coverage`` B b_y instead of B N; choosing buckets costs M products with the catalogue instead of B.

    Queries of several interests, [B, K, d], enter buckets by the interest that is best for the target, and items count by their best one.

    Paper: Mezentsev et al., "Scalable Cross-Entropy Loss for Sequential Recommendations with Large Item Catalogs", RecSys 2024. It
    averages over the queries in buckets; here, as for all objectives, the mean is over the batch.

    Args:
        coverage: Buckets per query on average, above 0.
        bucket_items: b_y.
        seed: Seed of the directions; their ``RandomStream`` is part of a checkpoint.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, coverage: float = 2.0, bucket_items: int = 256, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        require_at_least(1, bucket_items=bucket_items)
        if coverage <= 0:
            raise ValueError(f"coverage: expected a number above 0, got {coverage}")
        self.stream = RandomStream(seed, purpose="bucket directions")

    # The interests of a user would be in different buckets.
    COMPARES_ALL_ALIKE = False

    def contrast(
        self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, left_out: tf.Tensor | None = None, training: bool | None = None
    ) -> Contrast:
        """See ``Objective``. Draws new directions at every call."""
        target_vectors = tf.cast(items.embed(targets), queries.dtype)
        in_buckets, in_items = self._buckets(_one_each(queries, target_vectors), items)  # [M, b_x], [M, b_y]
        vectors = tf.cast(items.embed(in_items + FIRST_INDEX), queries.dtype)  # [M, b_y, d]
        members = tf.gather(queries, in_buckets)  # [M, b_x, d] or [M, b_x, K, d]
        if queries.shape.rank == 2:
            scores = tf.matmul(members, vectors, transpose_b=True)  # [M, b_x, b_y]
        else:
            scores = tf.reduce_max(tf.einsum("mxkd,myd->mxky", members, vectors), axis=2)
        others = targets[:, None] if left_out is None else tf.concat([targets[:, None], left_out], axis=1)  # [B, E]
        is_other = tf.gather(others, in_buckets)[..., None] == (in_items + FIRST_INDEX)[:, None, None, :]  # [M, b_x, E, b_y]
        scores = tf.where(tf.reduce_any(is_other, axis=2), MASKED_LOGIT, tf.cast(scores, tf.float32))
        of_bucket = tf.reduce_logsumexp(scores, axis=2)  # [M, b_x]
        largest = tf.math.unsorted_segment_max(tf.reshape(of_bucket, [-1]), tf.reshape(in_buckets, [-1]), tf.shape(targets)[0])
        return Contrast(target_logits(queries, target_vectors), tf.maximum(largest, MASKED_LOGIT))

    def _buckets(self, queries: tf.Tensor, items: ItemSpace) -> tuple[tf.Tensor, tf.Tensor]:
        """int32 [M, b_x] and [M, b_y]: which ``queries`` [B, d] and which catalogue rows are in each bucket."""
        queries = tf.stop_gradient(tf.cast(queries, tf.float32))
        catalogue = tf.stop_gradient(tf.cast(items.embed_catalogue(), tf.float32))  # [N, d]
        number = tf.shape(queries)[0]
        count = tf.cast(tf.math.ceil(tf.sqrt(self.coverage * tf.cast(number, tf.float32))), tf.int32)
        directions = tf.matmul(self.stream.normal([count, number]), queries)  # [M, d]
        nearest = tf.math.top_k(tf.matmul(directions, queries, transpose_b=True), tf.minimum(count, number), sorted=False).indices
        kept = min(self.bucket_items, items.num_rows - FIRST_INDEX)
        return nearest, tf.math.top_k(tf.matmul(directions, catalogue, transpose_b=True), kept, sorted=False).indices


def _one_each(queries: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """[B, d]: the query, or of several the one that is best for the target."""
    if queries.shape.rank == 2:
        return queries
    best = tf.argmax(tf.einsum("bkd,bd->bk", queries, targets), axis=1)
    return tf.gather(queries, best, batch_dims=1)
