"""Users of like history lengths together, so that layers that compare all positions with all do not mostly compare padding."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfmi.layers.base import RealItems, num_real_items


class LengthGroups:
    """The users of a batch in groups of equal size, by the length of their histories; each group is padded to its own longest only.

    Most sessions are short and a few are long: padded together, a batch has many times more pairs of positions than pairs of items.

    Args:
        mask: bool [B, L], True at real items, which come first; B is known.
        count: Number of groups, at most B.
    """

    def __init__(self, mask: tf.Tensor, count: int) -> None:
        batch_size = mask.shape[0]
        lengths = num_real_items(mask)
        order = tf.argsort(lengths)  # [B]
        sorted_mask = tf.gather(mask, order)
        # One gather for all groups: the gradient of each by itself would be as large as all histories.
        places = tf.where(sorted_mask)  # [R, 2], one user after the other
        self._sources = tf.stack([tf.gather(tf.cast(order, tf.int64), places[:, 0]), places[:, 1]], axis=1)
        self._sizes = [batch_size * (number + 1) // count - batch_size * number // count for number in range(count)]
        # Of what is known of the R real items in the order of the batch, and back.
        row_numbers = tf.tensor_scatter_nd_update(
            tf.zeros_like(mask, tf.int32), tf.where(mask), tf.range(tf.math.count_nonzero(mask, dtype=tf.int32))
        )
        self._order = tf.gather_nd(row_numbers, self._sources)  # [R]
        groups = zip(tf.split(sorted_mask, self._sizes), tf.split(tf.gather(lengths, order), self._sizes), strict=True)
        # Even empty histories have a place, so that no layer meets a tensor without any.
        self.masks = [group[:, : tf.maximum(tf.reduce_max(of_group), 1)] for group, of_group in groups]  # each [b, l]
        self._users, self._ranks = order, tf.argsort(order)

    def histories(self, history: tf.Tensor) -> list[tf.Tensor]:
        """``history`` [B, L, d] of each group, [b, l, d], 0 at padding."""
        return self._spread(tf.gather_nd(history, self._sources))

    def spread_rows(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """What ``rows`` [R, d] say of the batch's real items, one user after the other, as histories of each group, [b, l, d]."""
        return self._spread(tf.gather(rows, self._order))

    def joined_rows(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """[R, d]: what is known of each group's real items, of its histories [b, l, d], in the order of the batch."""
        rows = [RealItems(mask).rows(part) for mask, part in zip(self.masks, parts, strict=True)]
        return tf.gather(tf.concat(rows, axis=0), tf.math.invert_permutation(self._order))

    def _spread(self, rows: tf.Tensor) -> list[tf.Tensor]:
        counts = tf.stack([tf.reduce_sum(num_real_items(mask)) for mask in self.masks])
        return [RealItems(mask).spread(part) for mask, part in zip(self.masks, tf.split(rows, counts, num=len(self.masks)), strict=True)]

    def split(self, values: tf.Tensor) -> list[tf.Tensor]:
        """``values`` [B, ...] of each group's users, [b, ...]."""
        return tf.split(tf.gather(values, self._users), self._sizes)

    def joined(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        """[B, ...]: what was made of the groups, [b, ...] each, in the order of the batch."""
        return tf.gather(tf.concat(parts, axis=0), self._ranks)
