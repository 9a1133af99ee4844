"""What a loaded dataset is: plain NumPy arrays with the meaning of every index written down.

Item indices: 0 is padding, 1 stands for every unknown item, real items start at 2 in the vocabulary's order (most frequent in the
training part first). The same holds for every categorical feature's value indices. Arrays "per item row" have ``len(vocabulary) + 2``
rows, so that an item index is a row number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

PADDING_INDEX = 0
UNKNOWN_INDEX = 1
FIRST_INDEX = 2


class Vocabulary:
    """An ordered set of non-empty strings with stable indices: 0 padding, 1 unknown, then the strings from index 2 on.

    Args:
        ids: The distinct, non-empty strings in index order.

    Raises:
        ValueError: An empty or repeated string.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids: list[str] = [str(i) for i in ids]
        self._index = {identifier: row for row, identifier in enumerate(self.ids, start=FIRST_INDEX)}
        if len(self._index) != len(self.ids):
            raise ValueError("a vocabulary's strings must be distinct")
        if "" in self._index:
            raise ValueError("a vocabulary cannot hold the empty string, which stands for padding")

    def __len__(self) -> int:
        """The number of real strings, without padding and unknown."""
        return len(self.ids)

    @property
    def num_rows(self) -> int:
        """The number of indices in use, padding and unknown included: ``len(self) + 2``."""
        return len(self.ids) + FIRST_INDEX

    def index(self, identifier: str) -> int:
        """The index of one string; 0 for the empty string, 1 for an unknown one."""
        return PADDING_INDEX if identifier == "" else self._index.get(identifier, UNKNOWN_INDEX)

    def indices(self, identifiers: Iterable[str]) -> np.ndarray:
        """int32 indices of many strings."""
        return np.fromiter((self.index(i) for i in identifiers), dtype=np.int32)

    def identifier(self, index: int) -> str:
        """The string at an index; "" for padding and unknown."""
        return self.ids[index - FIRST_INDEX] if index >= FIRST_INDEX else ""


@dataclass(frozen=True)
class CategoricalFeature:
    """One value per row. ``values`` int32 [rows]: indices into ``vocabulary``, 0 where the row has no value."""

    vocabulary: Vocabulary
    values: np.ndarray


@dataclass(frozen=True)
class MultiValuedFeature:
    """Several weighted values per row. ``values`` int32 [rows, width], 0 pads; ``weights`` float32 [rows, width], 0 at padding."""

    vocabulary: Vocabulary
    values: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class NumericFeature:
    """One number per row, raw. ``values`` float32 [rows], NaN where missing; ``mean`` and ``deviation`` standardise it."""

    values: np.ndarray
    mean: float
    deviation: float


@dataclass(frozen=True)
class VectorFeature:
    """One vector per row, such as an embedding of a text or picture.

    ``values`` float32 [rows, width], raw, NaN in rows that have none; divided by ``scale`` they have the mean length 1.
    """

    values: np.ndarray
    scale: float


Feature = CategoricalFeature | MultiValuedFeature | NumericFeature
# What only items have.
ItemFeature = Feature | VectorFeature


@dataclass(frozen=True)
class Catalogue:
    """The items: identity, features per item row, and what people read.

    Attributes:
        vocabulary: Item ids, most frequent in the training part first.
        features: By name. "category" and "brand" are categorical, "tags" is multi-valued; numbers keep their column's name.
        titles: One string per item row ("" at rows 0 and 1), or None if the data has none.
        counts: int64 [rows]: occurrences in the training part; 0 at rows 0 and 1.
        num_candidates: The first so many items of the vocabulary can be recommended; the others are only understood in histories. None:
            all can be.
        without_id: bool [rows]: items that training has not seen, so that nothing but their features says what they are; None: no item.
    """

    vocabulary: Vocabulary
    features: Mapping[str, ItemFeature]
    titles: Sequence[str] | None
    counts: np.ndarray
    num_candidates: int | None = None
    without_id: np.ndarray | None = None

    @property
    def num_rows(self) -> int:
        """Rows of an item table: real items plus padding and unknown."""
        return self.vocabulary.num_rows

    @property
    def candidate_rows(self) -> int:
        """Rows of an item table up to the last item that can be recommended, padding and unknown included."""
        return self.num_rows if self.num_candidates is None else self.num_candidates + FIRST_INDEX

    def category_indices(self) -> np.ndarray | None:
        """int32 [rows] category of each item row (0 unknown), or None without a "category" feature."""
        category = self.features.get("category")
        return category.values if isinstance(category, CategoricalFeature) else None


@dataclass(frozen=True)
class Sequences:
    """Rows of items in time order (compressed sparse rows): row r is ``items[offsets[r]:offsets[r + 1]]``.

    Attributes:
        offsets: int64 [rows + 1], starting at 0.
        items: int32 [events] item indices, oldest first in each row.
        timestamps: float64 [events] seconds, or None if the data has only an order.
        weights: float32 [events], or None where every event weighs 1.
        users: int32 [rows]: the row of each sequence's user in ``UserProfiles``; ``arange`` without profiles.
        negatives: int32 [rows, M]: items that the user has turned down, the newest M; 0 and -1 pad; None if the data has none.
        negative_places: int64 [rows, M]: how many events of its row come before each of them.
    """

    offsets: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray | None
    weights: np.ndarray | None
    users: np.ndarray
    negatives: np.ndarray | None = None
    negative_places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_events(self) -> int:
        """The number of events."""
        return len(self.items)

    def in_memory(self) -> Sequences:
        """Itself: see ``StreamedSequences``, which training code may meet instead."""
        return self

    def row(self, index: int) -> np.ndarray:
        """The items of one row."""
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def lengths(self) -> np.ndarray:
        """int64 [rows] number of items in each row."""
        return np.diff(self.offsets)

    def select(self, chosen: np.ndarray) -> Sequences:
        """The rows for which ``chosen``, bool [rows], is True."""
        events = np.repeat(chosen, self.lengths())
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths()[chosen])])
        return Sequences(
            offsets,
            self.items[events],
            None if self.timestamps is None else self.timestamps[events],
            None if self.weights is None else self.weights[events],
            self.users[chosen],
            None if self.negatives is None else self.negatives[chosen],
            None if self.negative_places is None else self.negative_places[chosen],
        )

    def padded(self, length: int) -> np.ndarray:
        """int32 [rows, length]: the newest ``length`` items of each row, oldest to newest, right-padded with 0."""
        return self._padded(self.items, length).astype(np.int32)

    def padded_timestamps(self, length: int) -> np.ndarray | None:
        """float64 [rows, length]: the times of the items of ``padded(length)``, 0 at padding; None if the data has none."""
        return None if self.timestamps is None else self._padded(self.timestamps, length).astype(np.float64)

    def _padded(self, values: np.ndarray, length: int) -> np.ndarray:
        """The newest ``length`` of ``values`` [events] of each row, right-padded with 0."""
        kept = np.minimum(self.lengths(), length)
        columns = np.arange(length)
        positions = (self.offsets[1:] - kept)[:, None] + columns
        inside = columns < kept[:, None]
        if not len(values):
            return np.zeros((len(self), length))
        return np.where(inside, values[np.where(inside, positions, 0)], 0)


class StreamedSequences(Protocol):
    """Training sequences that stay on disk, for logs larger than memory (``tfmi.data.streaming.shard_reading``)."""

    def __len__(self) -> int:
        """The number of sequences."""

    @property
    def num_events(self) -> int:
        """The number of events."""

    def in_memory(self) -> Sequences:
        """All sequences, for what cannot stream."""

    def num_examples(self, min_history: int, window: int | None = None) -> int:
        """The number of targets with at least ``min_history`` items before them; of windows of so many targets, if ``window`` is given."""

    def training_batches(
        self, *, history_length: int, min_history: int, batch_size: int, seed: int, start_step: int = 0, every_target: bool = False
    ) -> Any:
        """An infinite ``tf.data.Dataset`` as ``tfmi.data.pipeline.training_batches`` makes it, profiles included."""

    def part_of_shards(self, index: int, count: int) -> StreamedSequences:
        """The sequences of every ``count``-th shard, from ``index`` on."""


@dataclass(frozen=True)
class EvaluationSet:
    """Users to test on: what is known of each (``histories``) and what they did afterwards (``targets``), row by row."""

    histories: Sequences
    targets: Sequences

    def __len__(self) -> int:
        return len(self.histories)


@dataclass(frozen=True)
class UserProfiles:
    """Users and their features per user row. Row 0 is the user of whom nothing is known; rows of ``user_ids`` align with the features."""

    user_ids: Sequence[str]
    features: Mapping[str, Feature]


@dataclass(frozen=True)
class InteractionDataset:
    """Everything that training, evaluation and export need.

    Attributes:
        name: Short name for reports.
        catalogue: The items.
        train: Sequences to learn from; every position with at least ``min_history`` items before it is a possible target.
        valid: For early stopping and for choosing hyper-parameters.
        test: Looked at once, at the end.
        profiles: User features, or None.
        report: Counts for ``metrics.json`` and the export's metadata: rows read, rejected by reason, users, items, events, ...
        truth: What a generator knows and a model does not (e.g. true interests), for tests; empty otherwise.
    """

    name: str
    catalogue: Catalogue
    train: Sequences | StreamedSequences
    valid: EvaluationSet
    test: EvaluationSet
    profiles: UserProfiles | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    truth: Mapping[str, Any] = field(default_factory=dict)
