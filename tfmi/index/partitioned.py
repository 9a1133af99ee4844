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
from tfmi.index.base import InterestIndex, as_array, check_item_vectors, gather_rows
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
        partitions_to_search: How many are scored for one interest. A user's K interests share sqrt(K) times as many, those whose centres
            have the largest inner products with any of them: the more interests, the fewer items of each are in an answer.
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
        # Every operation costs microseconds for each user: what can be done for all of them at once is done here.
        usable = active & tf.reduce_all(tf.math.is_finite(interests), axis=-1)  # [B, K]
        directions = tf.where(usable[..., None], interests, 0.0)
        penalties = tf.where(usable, 0.0, MISSING_SCORE)[..., None]  # [B, K, 1]
        width = k if isinstance(k, int) else None
        outputs = [tf.TensorSpec([width], dtype) for dtype in (tf.int32, tf.float32, tf.int32)]
        items, scores, by = row_by_row(
            lambda own, penalty: self._search_user(own, penalty, k), (directions, penalties), outputs, quick=True
        )
        found = scores > MISSING_SCORE
        return Candidates(tf.where(found, items, PADDING_INDEX), scores, tf.where(found, by, NO_INTEREST))

    def _search_user(self, interests: tf.Tensor, penalties: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Items, scores and interests [k] of one user's interests [K, d]; penalties [K, 1] are -inf where there is none, else 0.

        Of what is missing only the score, -inf, has a meaning.
        """
        begins, ends = self._nearest_partitions(interests, penalties, k)
        rows = tf.raw_ops.RaggedRange(starts=begins, limits=ends, deltas=1).rt_dense_values  # [S]
        scores = tf.matmul(interests, gather_rows(self._vectors, rows), transpose_b=True) + penalties  # [K, S]
        # k that are missing stand behind them, so that there are k in any case.
        best, places = tf.math.top_k(tf.concat([tf.reduce_max(scores, axis=0), tf.fill([k], MISSING_SCORE)], axis=0), k)
        places = tf.minimum(places, tf.size(rows) - 1)
        items = tf.gather(self._items, tf.gather(rows, places))
        return items, best, tf.argmax(tf.gather(scores, places, axis=1), axis=0, output_type=tf.int32)

    def _nearest_partitions(self, interests: tf.Tensor, penalties: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """Where the partitions to search begin and end, int32 [U] each."""
        similarity = tf.matmul(interests, self._centres, transpose_b=True) + penalties  # [K, P]
        _, chosen = tf.math.top_k(tf.reduce_max(similarity, axis=0), self._partitions_of_user(interests, k), sorted=False)
        starts = self._starts.read_value()
        return tf.gather(starts, chosen), tf.gather(starts, chosen + 1)

    def _partitions_of_user(self, interests: tf.Tensor, k: tf.Tensor | int) -> tf.Tensor | int:
        """U: enough for all interests of [K, d], and for k results; a number where both are known."""
        per_result = SEARCHED_ITEMS_PER_RESULT * self.num_partitions / self.num_items
        if isinstance(k, int) and interests.shape[0] is not None:
            for_interests = math.ceil(self._searched * math.sqrt(interests.shape[0]))
            return min(max(for_interests, math.ceil(k * per_result)), self.num_partitions)
        number = tf.cast(tf.shape(interests)[0], tf.float32)
        wanted = tf.maximum(self._searched * tf.sqrt(number), tf.cast(k, tf.float32) * per_result)
        return tf.minimum(tf.cast(tf.math.ceil(wanted), tf.int32), self.num_partitions)

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
