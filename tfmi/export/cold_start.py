"""What to answer to users of whom no known item is known: the catalogue's most popular items."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import MISSING_SCORE, pad_columns
from tfmi.index.merging import NO_INTEREST, Candidates


class ColdStart(tf.Module):
    """Every real item by falling number of training events; its score is its share of them. No interest found these items: -1.

    Args:
        counts: int [num_rows] training events of each item index.
    """

    def __init__(self, counts: np.ndarray) -> None:
        super().__init__()
        real = np.asarray(counts, dtype=np.float64)[FIRST_INDEX:]
        order = np.argsort(-real, kind="stable")
        shares = real[order] / max(real.sum(), 1.0)
        self._items = tf.Variable((order + FIRST_INDEX).astype(np.int32), trainable=False, name="popular_items")
        self._scores = tf.Variable(shares.astype(np.float32), trainable=False, name="popular_scores")

    def replace(self, candidates: Candidates, cold: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """Give the users in ``cold`` bool [B] at least the ``k`` most popular items instead of their ``candidates`` [B, C]."""
        width = tf.maximum(tf.shape(candidates.items)[1], k)
        popular = Candidates(self._items[None, :width], self._scores[None, :width], tf.fill([1, tf.size(self._items[:width])], NO_INTEREST))
        paddings = Candidates(PADDING_INDEX, MISSING_SCORE, NO_INTEREST)
        return Candidates(
            *(
                tf.where(cold[:, None], pad_columns(instead, width, padding), pad_columns(own, width, padding))
                for instead, own, padding in zip(popular, candidates, paddings, strict=True)
            )
        )
