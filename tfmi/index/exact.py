"""Exact search by matrix products, in stock TensorFlow ops."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.index.base import InterestIndex, check_item_vectors, finish_answer, gather_rows
from tfmi.index.blocked import SCORES_PER_BLOCK, block_length, blocked_top_k


def search_exactly(
    queries: tf.Tensor, item_vectors: tf.Tensor, num_items: int, k: tf.Tensor | int, scores_per_block: int = SCORES_PER_BLOCK
) -> tuple[tf.Tensor, tf.Tensor]:
    """``InterestIndex.search`` of ``queries`` [M, d] among all ``item_vectors`` [num_items + 2, d]."""

    def score_block(start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
        return tf.matmul(queries, item_vectors[FIRST_INDEX + start : FIRST_INDEX + stop], transpose_b=True)  # [M, stop - start]

    items_per_block = block_length(tf.shape(queries)[0], scores_per_block)
    return finish_answer(*blocked_top_k(score_block, num_items, k, items_per_block), k)


class ExactIndex(InterestIndex):
    """Scores every item, in blocks that bound the memory; ties go to the lower item index.

    Args:
        item_vectors: [num_rows, d].
        scores_per_block: Scores to hold at once.

    Raises:
        IndexBuildError: See ``check_item_vectors``.
    """

    kind = "exact"

    def __init__(self, item_vectors: np.ndarray | tf.Tensor, scores_per_block: int = SCORES_PER_BLOCK) -> None:
        vectors = check_item_vectors(item_vectors)
        super().__init__(*vectors.shape)
        self.scores_per_block = scores_per_block
        self._vectors = tf.Variable(vectors, trainable=False, name="item_vectors")

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``InterestIndex.search``."""
        return search_exactly(queries, self._vectors.read_value(), self.num_items, k, self.scores_per_block)

    def vectors(self, items: tf.Tensor) -> tf.Tensor:
        """See ``InterestIndex.vectors``."""
        return gather_rows(self._vectors, items)

    def parameters(self) -> dict[str, int | str]:
        """See ``InterestIndex.parameters``."""
        return {"kind": self.kind}


class ExactSearch:
    """Exact search among the vectors that another index holds: the truth to compare it with, without a copy of them.

    Args:
        index: Gives the vectors, in blocks.
    """

    def __init__(self, index: InterestIndex) -> None:
        self._index = index

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """As ``InterestIndex.search``."""

        def score_block(start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
            return tf.matmul(queries, self._index.vectors(tf.range(start + FIRST_INDEX, stop + FIRST_INDEX)), transpose_b=True)

        items_per_block = block_length(tf.shape(queries)[0])
        return finish_answer(*blocked_top_k(score_block, self._index.num_items, k, items_per_block), k)
