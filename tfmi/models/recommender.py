"""What evaluation, indexing and export ask of a model: one of two shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import tensorflow as tf


@runtime_checkable
class VectorRecommender(Protocol):
    """A model whose score is the largest inner product between a user's interests and the item's vector."""

    history_length: int
    num_rows: int

    def user_interests(self, history: tf.Tensor, profile: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Interests float32 [B, K, d] and which are active, bool [B, K], for item indices int32 [B, L] and profile features.

        Padding (0) and unknown items (1) may stand anywhere in ``history``; they are dropped before anything is computed. ``profile``
        maps a feature's name to its indices or numbers, row by row; empty for models without profile.
        """

    def item_vectors(self) -> tf.Tensor:
        """Item vectors float32 [num_rows, d]; rows 0 and 1 (padding, unknown) hold no item."""


@runtime_checkable
class DirectRecommender(Protocol):
    """A model that ranks by itself, such as one that counts."""

    history_length: int
    num_rows: int

    def top_k(self, history: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The exact best ``k`` items int32 [B, k] and scores float32 [B, k], best first; missing ones are 0 and -inf."""

    def similar_items(self, items: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The best ``k`` neighbours int32 [B, k] and scores [B, k] of items int32 [B], themselves left out; missing ones 0 and -inf."""


Recommender = VectorRecommender | DirectRecommender
