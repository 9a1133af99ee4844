"""Items for objectives to work on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tfmi.losses.base import CatalogueTable


class ItemTable:
    """An ``ItemSpace`` of one trainable table, row r being item r; remembers which items it was asked to embed.

    Args:
        num_items: Real items.
        dimension: d.
        seed: Seed of the table.
        shows_table: Say so, as a tower of ids alone does.
        normalize: Vectors have unit length.
    """

    def __init__(self, num_items: int, dimension: int = 8, seed: int = 0, *, shows_table: bool = False, normalize: bool = False) -> None:
        self.num_rows = num_items + 2
        values = np.random.default_rng(seed).normal(size=(self.num_rows, dimension)).astype(np.float32)
        values[:2] = np.nan  # padding and unknown: whoever touches them spoils the loss
        self.table = tf.Variable(values)
        self._shows_table, self._normalize = shows_table, normalize

    def embed(self, item_indices: tf.Tensor) -> tf.Tensor:
        vectors = tf.gather(self.table, item_indices)
        return tf.math.l2_normalize(vectors, axis=-1) if self._normalize else vectors

    def embed_catalogue(self) -> tf.Tensor:
        return self.embed(tf.range(2, self.num_rows))

    def catalogue_table(self) -> CatalogueTable | None:
        return CatalogueTable(tf.convert_to_tensor(self.table), 2, self._normalize) if self._shows_table else None


@pytest.fixture
def item_table() -> Callable[..., ItemTable]:
    return ItemTable


@pytest.fixture
def random_queries() -> Callable[..., tf.Variable]:
    def make(*shape: int, seed: int = 1) -> tf.Variable:
        return tf.Variable(np.random.default_rng(seed).normal(size=shape).astype(np.float32))

    return make


def full_softmax_losses(queries: np.ndarray, targets: np.ndarray, table: np.ndarray) -> np.ndarray:
    """float64 reference: ``-s_t + log sum_j exp(s_j)`` over rows 2 and up of ``table``; the best interest's score for [B, K, d]."""
    queries, items = np.asarray(queries, np.float64), np.asarray(table, np.float64)[2:]
    scores = np.einsum("bkd,cd->bkc", queries if queries.ndim == 3 else queries[:, None], items).max(axis=1)
    largest = scores.max(axis=1)
    log_partition = np.log(np.exp(scores - largest[:, None]).sum(axis=1)) + largest
    return log_partition - scores[np.arange(len(targets)), np.asarray(targets) - 2]


@pytest.fixture
def reference_losses() -> Callable[..., np.ndarray]:
    return full_softmax_losses
