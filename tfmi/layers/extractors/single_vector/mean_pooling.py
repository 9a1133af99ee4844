"""One interest: the mean of the history, optionally weighted by recency."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, zero_padding
from tfmi.layers.common.positions import items_after, not_newer
from tfmi.layers.sequence_encoders.sequence_encoder import EncodedSequence, every_state


@EXTRACTORS.register("mean_pooling")
class MeanPooling(InterestExtractor):
    r"""The mean of a history's items, the pooling of YouTube's candidate generation network, as a single interest::

        u = (sum over l of decay^age[l] * e[l]) / (sum over l of decay^age[l])        [B, 1, d]

    where the newest item has age 0. A decay of 1 is the plain mean. An empty history gives 0. ``internals`` is empty.

    Paper: Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016, section 3.2.

    Example:
        >>> MeanPooling()(tf.constant([[[1.0], [3.0]]]), tf.constant([[True, True]])).interests.numpy().tolist()
        [[[2.0]]]

    Args:
        recency_decay: Weight of an item relative to the one after it, above 0 and at most 1.

    Raises:
        ValueError: ``recency_decay`` is out of its range.
    """

    num_interests = 1

    def __init__(self, recency_decay: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < recency_decay <= 1:
            raise ValueError(f"recency_decay: expected a number above 0 and at most 1, got {recency_decay}")

    @property
    def why_weights_are_constant(self) -> str:
        """They follow from the positions."""
        return "they are fixed by the items' ages; take an extractor that learns its weights, such as self_attentive"

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, every_item: bool = False) -> InterestOutput:
        """Pool a history.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Changes nothing here.
            every_item: Return the interest after every item.

        Returns:
            One interest, [B, 1, d], or [B, L, 1, d].
        """
        if every_item:
            return every_state(self._after_every_item(history, mask))
        shares = tf.cast(mask, tf.float32)  # [B, L]
        if self.recency_decay < 1:
            shares *= tf.pow(self.recency_decay, tf.cast(items_after(mask), tf.float32))
        weights = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=1, keepdims=True))[:, None, :]  # [B, 1, L]
        interests = tf.matmul(weights, tf.cast(zero_padding(history, mask), tf.float32))  # [B, 1, d]
        active = tf.ones([tf.shape(mask)[0], 1], tf.bool)
        return InterestOutput(tf.cast(interests, self.compute_dtype), active, weights, {})

    def _after_every_item(self, history: tf.Tensor, mask: tf.Tensor) -> EncodedSequence:
        """The means of all items up to each."""
        after = tf.cast(items_after(mask), tf.float32)
        ages = tf.maximum(after[:, None, :] - after[:, :, None], 0.0)  # [B, L, L]
        shares = tf.where(mask[:, None, :] & not_newer(mask), tf.pow(self.recency_decay, ages), 0.0)
        weights = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=2, keepdims=True))
        means = tf.matmul(weights, tf.cast(zero_padding(history, mask), tf.float32))
        return EncodedSequence(tf.cast(means, self.compute_dtype), weights)
