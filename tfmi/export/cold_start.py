"""What to answer to users of whom no known item is known: the catalogue's most popular items."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import pad_columns
from tfmi.index.filters import ItemFilter
from tfmi.index.merging import MISSING_SCORE, NO_INTEREST, Candidates
from tfmi.index.row_by_row import row_by_row

_PADDINGS = Candidates(PADDING_INDEX, MISSING_SCORE, NO_INTEREST)


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

    def replace(self, candidates: Candidates, cold: tf.Tensor, k: tf.Tensor | int, allowed: ItemFilter | None = None) -> Candidates:
        """Give the users in ``cold`` bool [B] at least the ``k`` most popular items instead of their ``candidates`` [B, C].

        With a filter they get the most popular of the ``allowed`` items.
        """
        if allowed is not None:
            return tf.cond(
                tf.reduce_any(cold & allowed.restricts),
                lambda: self._replace_with_allowed(candidates, cold, k, allowed),
                lambda: self._replace(candidates, cold, k),
            )
        return self._replace(candidates, cold, k)

    def _replace_with_allowed(self, candidates: Candidates, cold: tf.Tensor, k: tf.Tensor | int, allowed: ItemFilter) -> Candidates:
        width = tf.maximum(tf.shape(candidates.items)[1], k)

        def most_popular(user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            fits = tf.gather(allowed.everywhere(user), self._items)
            places = tf.where(fits)[:, 0][:width]
            found = (tf.gather(self._items, places), tf.gather(self._scores, places), tf.fill([tf.size(places)], NO_INTEREST))
            return tuple(pad_columns(values[None], width, padding)[0] for values, padding in zip(found, _PADDINGS, strict=True))

        def own(user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return tuple(pad_columns(field[user][None], width, padding)[0] for field, padding in zip(candidates, _PADDINGS, strict=True))

        outputs = [tf.TensorSpec([None], field.dtype) for field in candidates]
        users = tf.range(tf.shape(cold)[0])
        return Candidates(*row_by_row(lambda user: tf.cond(cold[user], lambda: most_popular(user), lambda: own(user)), [users], outputs))

    def _replace(self, candidates: Candidates, cold: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        width = tf.maximum(tf.shape(candidates.items)[1], k)
        popular = Candidates(self._items[None, :width], self._scores[None, :width], tf.fill([1, tf.size(self._items[:width])], NO_INTEREST))
        return Candidates(
            *(
                tf.where(cold[:, None], pad_columns(instead, width, padding), pad_columns(own, width, padding))
                for instead, own, padding in zip(popular, candidates, _PADDINGS, strict=True)
            )
        )
