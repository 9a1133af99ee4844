"""What to answer to users of whom no known item is known: the catalogue's most popular items."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.index.base import pad_candidates
from tfmi.index.filters import ItemFilter
from tfmi.index.merging import NO_INTEREST, Candidates
from tfmi.index.row_by_row import row_by_row


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

    def replace(self, candidates: Candidates, cold: tf.Tensor, allowed: ItemFilter | None = None) -> Candidates:
        """Give the users in ``cold`` bool [B] the most popular items instead of their ``candidates`` [B, C].

        With a filter they get the most popular of the ``allowed`` items.
        """
        # Hardly a request has such users.
        return Candidates(*tf.cond(tf.reduce_any(cold), lambda: self._replaced(candidates, cold, allowed), lambda: candidates))

    def _replaced(self, candidates: Candidates, cold: tf.Tensor, allowed: ItemFilter | None) -> Candidates:
        if allowed is None:
            return self._with_most_popular(candidates, cold)
        return Candidates(
            *tf.cond(
                tf.reduce_any(cold & allowed.restricts),
                lambda: self._with_allowed(candidates, cold, allowed),
                lambda: self._with_most_popular(candidates, cold),
            )
        )

    def _with_allowed(self, candidates: Candidates, cold: tf.Tensor, allowed: ItemFilter) -> Candidates:
        width = tf.shape(candidates.items)[1]

        def most_popular(user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            fits = tf.gather(allowed.everywhere(user), self._items)
            places = tf.where(fits)[:, 0][:width]
            found = Candidates(
                tf.gather(self._items, places)[None], tf.gather(self._scores, places)[None], tf.fill([1, tf.size(places)], NO_INTEREST)
            )
            return tuple(values[0] for values in pad_candidates(found, width))

        def own(user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return tuple(values[user] for values in candidates)

        outputs = [tf.TensorSpec([None], field.dtype) for field in candidates]
        users = tf.range(tf.shape(cold)[0])
        return Candidates(*row_by_row(lambda user: tf.cond(cold[user], lambda: most_popular(user), lambda: own(user)), [users], outputs))

    def _with_most_popular(self, candidates: Candidates, cold: tf.Tensor) -> Candidates:
        width = tf.shape(candidates.items)[1]
        items, scores = self._items[None, :width], self._scores[None, :width]
        popular = pad_candidates(Candidates(items, scores, tf.fill(tf.shape(items), NO_INTEREST)), width)
        return Candidates(*(tf.where(cold[:, None], instead, own) for instead, own in zip(popular, candidates, strict=True)))
