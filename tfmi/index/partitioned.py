"""Approximate search in stock TensorFlow ops: only the items of the nearest partitions are scored, and these exactly.

Items are stored by partition, so that a partition is one run of neighbouring rows. For each user the partitions nearest to any of the
interests are chosen together, their rows are gathered once, and one product scores them for all interests.

Shapes: B users, K interests, M queries, d width, N items, P partitions, S items of the chosen partitions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.auto import WIDENING_STEP, choose_partitions
from tfmi.index.base import InterestIndex, as_array, check_item_vectors, gather_rows, pad_columns
from tfmi.index.merging import MISSING_SCORE, NO_INTEREST, Candidates
from tfmi.index.partitions import make_partitions
from tfmi.index.row_by_row import row_by_row

# However many results are asked for, the partitions searched for them hold about this many times as many items.
SEARCHED_ITEMS_PER_RESULT = 8


class PartitionedIndex(InterestIndex):
    """Searches the nearest partitions of k-means, in memory that does not grow with the batch: user after user.

    Args:
        item_vectors: [num_rows, d].
        partitions: P; None: from the catalogue's size, as ``partitions_to_search``.
        partitions_to_search: How many are scored for each interest. A user's interests share K times as many: those of them all whose
            centres have the largest inner products with any interest.
        training_iterations: Of k-means.

    Raises:
        IndexBuildError: See ``check_item_vectors``.
    """

    kind = "partitioned"

    def __init__(
        self,
        item_vectors: np.ndarray | tf.Tensor,
        *,
        partitions: int | None = None,
        partitions_to_search: int | None = None,
        training_iterations: int = 12,
    ) -> None:
        vectors = check_item_vectors(item_vectors)
        super().__init__(*vectors.shape)
        count, self._searched = choose_partitions(self.num_items, partitions, partitions_to_search)
        self._by_hand = [] if partitions_to_search is None else ["partitions_to_search"]
        self._iterations = training_iterations
        centres, order, starts = make_partitions(as_array(vectors)[FIRST_INDEX:], count, training_iterations)
        self.num_partitions = len(centres)
        self._searched = min(self._searched, self.num_partitions)
        places = np.empty(self.num_rows, np.int32)
        places[:FIRST_INDEX] = self.num_items  # the row of zeros at the end
        places[order + FIRST_INDEX] = np.arange(self.num_items)
        # A tensor, which the variable takes over; of an array it would make a copy.
        stored = tf.gather(vectors, np.append(order + FIRST_INDEX, PADDING_INDEX))
        self._centres = tf.Variable(centres, trainable=False, name="partition_centres")
        self._starts = tf.Variable(starts, trainable=False, name="partition_starts")
        self._vectors = tf.Variable(stored, trainable=False, name="item_vectors_by_partition")
        self._items = tf.Variable(order + FIRST_INDEX, trainable=False, name="items_by_partition")
        self._places = tf.Variable(places, trainable=False, name="places_of_items")

    @property
    def is_approximate(self) -> bool:
        """See ``InterestIndex.is_approximate``."""
        return self._searched < self.num_partitions

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``InterestIndex.search``; every query searches partitions of its own."""
        active = tf.ones([tf.shape(queries)[0], 1], tf.bool)
        found = self.search_interests(queries[:, None, :], active, k)
        return found.scores, found.items

    def search_interests(self, interests: tf.Tensor, active: tf.Tensor, k: tf.Tensor | int) -> Candidates:
        """See ``InterestIndex.search_interests``."""
        width = k if isinstance(k, int) else None
        outputs = [tf.TensorSpec([width], dtype) for dtype in (tf.int32, tf.float32, tf.int32)]
        return Candidates(*row_by_row(lambda user, wanted: self._search_user(user, wanted, k), (interests, active), outputs))

    def _search_user(self, interests: tf.Tensor, active: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Items, scores and interests [k] of one user's interests [K, d] of which some are active, bool [K]."""
        begins, sizes = self._nearest_partitions(interests, active, k)
        rows = tf.ragged.range(begins, begins + sizes).flat_values  # [S]
        vectors = gather_rows(self._vectors, rows)  # [S, d]
        scores = tf.matmul(interests, vectors, transpose_b=True)  # [K, S]
        scores = tf.where(active[:, None] & (scores > MISSING_SCORE), scores, MISSING_SCORE)  # NaN > -inf is False
        best, places = tf.math.top_k(tf.reduce_max(scores, axis=0), tf.minimum(k, tf.size(rows)))
        found = best > MISSING_SCORE
        items = tf.where(found, tf.gather(self._items, tf.gather(rows, places)), PADDING_INDEX)
        by = tf.argmax(tf.gather(scores, places, axis=1), axis=0, output_type=tf.int32)
        columns = ((items, PADDING_INDEX), (best, MISSING_SCORE), (tf.where(found, by, NO_INTEREST), NO_INTEREST))
        items, best, by = (pad_columns(values[None], k, padding)[0] for values, padding in columns)
        return items, best, by

    def _nearest_partitions(self, interests: tf.Tensor, active: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """Where the partitions to search begin, int32 [U], and how many items they hold, int32 [U]."""
        similarity = tf.matmul(interests, self._centres, transpose_b=True)  # [K, P]
        nearest = tf.reduce_max(tf.where(active[:, None], similarity, similarity.dtype.min), axis=0)  # [P]
        for_results = tf.math.ceil(tf.cast(k, tf.float32) * (SEARCHED_ITEMS_PER_RESULT * self.num_partitions / self.num_items))
        count = tf.maximum(self._searched * tf.shape(interests)[0], tf.cast(for_results, tf.int32))
        _, chosen = tf.math.top_k(nearest, tf.minimum(count, self.num_partitions), sorted=False)
        starts = self._starts.read_value()
        begins = tf.gather(starts, chosen)
        return begins, tf.gather(starts, chosen + 1) - begins

    def vectors(self, items: tf.Tensor) -> tf.Tensor:
        """See ``InterestIndex.vectors``."""
        return gather_rows(self._vectors, tf.gather(self._places, items))

    def parameters(self) -> dict[str, int | str]:
        """See ``InterestIndex.parameters``."""
        return {
            "kind": self.kind,
            "partitions": self.num_partitions,
            "partitions_to_search": self._searched,
            "training_iterations": self._iterations,
        }

    def wider_searches(self) -> list[dict[str, int]]:
        """See ``InterestIndex.wider_searches``: more partitions."""
        if self._by_hand or self._searched >= self.num_partitions:
            return []
        return [{"partitions_to_search": min(math.ceil(WIDENING_STEP * self._searched), self.num_partitions)}]

    def set_search(self, parameters: Mapping[str, int]) -> None:
        """See ``InterestIndex.set_search``."""
        self._searched = min(parameters["partitions_to_search"], self.num_partitions)

    def settings_by_hand(self) -> list[str]:
        """See ``InterestIndex.settings_by_hand``."""
        return self._by_hand
