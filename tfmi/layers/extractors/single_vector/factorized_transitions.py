"""FPMC: one interest, what follows the newest item."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.layers.attention.click_attention import single_interest
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.sequence_encoders.sequence_encoder import EncodedSequence, every_state, newest_item


@EXTRACTORS.register("factorized_transitions")
class FactorizedTransitions(InterestExtractor):
    r"""The newest item's row of a table of its own, as a single interest: the factorised Markov chain of FPMC::

        u = F[i[n]]                                                        [B, 1, d]
        score(j) = <u, e[j]>

    F says what an item leads to, the item vectors what an item follows. Transitions have a direction, so the two are not one table, and
    the history's item vectors are not read. An empty history gives 0. ``weights`` is 1 at the newest item; ``internals`` is empty.

    The paper adds a user's own preferences, <U[user], V[j]>. Here users are known by their histories and the term is left out, as it has
    to be for anonymous sessions; where users have a profile, the user tower joins it to u.

    Paper: Rendle et al., "Factorizing Personalized Markov Chains for Next-Basket Recommendation", WWW 2010 (FPMC), for baskets of one
    item.

    Example:
        >>> clicks = tf.constant([[4, 7, 0]])
        >>> FactorizedTransitions(num_rows=9)(tf.ones([1, 3, 8]), clicks > 0, history_indices=clicks).interests.shape
        TensorShape([1, 1, 8])

    Args:
        num_rows: Rows of F, as many as of the item table. The model gives its own; needed when the layer is built.

    Raises:
        ValueError: ``num_rows`` below 1, or unknown when the layer is built.
    """

    num_interests = 1

    def __init__(self, num_rows: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_rows=num_rows)

    @property
    def why_weights_are_constant(self) -> str:
        """There is nothing to weigh."""
        return "they are 1 at the newest item, the only one that counts; take an extractor that weights its items, such as self_attentive"

    def build(self, input_shape: Any) -> None:
        """Create F [num_rows, d]."""
        if self.num_rows is None:
            raise ValueError("num_rows: required, because the layer has a row for each item")
        dimension = int(input_shape[-1])
        noise = tf.keras.initializers.RandomNormal(stddev=dimension**-0.5)
        self.transitions = self.add_weight("transitions", [self.num_rows, dimension], initializer=noise, experimental_autocast=False)
        super().build(input_shape)

    def call(
        self, history: tf.Tensor, mask: tf.Tensor, history_indices: tf.Tensor, training: bool | None = None, every_item: bool = False
    ) -> InterestOutput:
        """Look up what follows.

        Args:
            history: [B, L, d] item vectors, which are not read.
            mask: bool [B, L], True at real items.
            history_indices: int32 [B, L], which items these are.
            training: Changes nothing here.
            every_item: Return the interest after every item.

        Returns:
            One interest, [B, 1, d], or [B, L, 1, d].
        """
        if every_item:
            follow = tf.cast(tf.gather(self.transitions, history_indices), self.compute_dtype)  # [B, L, d]
            return every_state(EncodedSequence(follow, tf.linalg.diag(tf.cast(mask, tf.float32))))
        newest = newest_item(mask)  # [B, 1, L]
        indices = tf.reduce_sum(tf.cast(newest[:, 0], history_indices.dtype) * history_indices, axis=1)  # [B]
        follows = tf.cast(tf.gather(self.transitions, indices), self.compute_dtype)  # [B, d]
        interests, active = single_interest(follows, mask)
        return InterestOutput(interests, active, newest, {})
