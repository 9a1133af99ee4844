"""Indexes by name."""

from __future__ import annotations

import inspect

import numpy as np
import tensorflow as tf

from tfmi.core.errors import nearest
from tfmi.index.auto import EXACT_UP_TO
from tfmi.index.base import InterestIndex
from tfmi.index.exact import ExactIndex
from tfmi.index.partitioned import PartitionedIndex
from tfmi.index.scann import ScannIndex, has_scann

INDEX_KINDS: tuple[str, ...] = (ExactIndex.kind, ScannIndex.kind, PartitionedIndex.kind)


def resolve_kind(kind: str, num_items: int, dimension: int, server: str) -> str:
    """The kind of index to build where ``kind`` may be ``auto``.

    ``auto`` is exact where that takes about half a millisecond (``EXACT_UP_TO``), else ScaNN, or partitioned for a stock server and where
    ScaNN is missing here.
    """
    if kind != "auto":
        return kind
    if num_items * dimension <= EXACT_UP_TO:
        return ExactIndex.kind
    return PartitionedIndex.kind if server == "stock" or not has_scann() else ScannIndex.kind


def build_index(kind: str, item_vectors: np.ndarray | tf.Tensor, **parameters: int | None) -> InterestIndex:
    """Build an index of item vectors [num_rows, d].

    Args:
        kind: One of ``INDEX_KINDS``; ``resolve_kind`` chooses one.
        item_vectors: One row per item index; rows 0 and 1 are ignored.
        **parameters: Of ``ScannIndex`` and ``PartitionedIndex``. Each kind takes its own and ignores the others, so that one configuration
            serves all.

    Raises:
        ValueError: An unknown kind.
        IndexBuildError: The vectors cannot be used, or ScaNN is missing here.
    """
    if kind not in INDEX_KINDS:
        raise ValueError(f"unknown index {kind!r}{nearest(kind, INDEX_KINDS)}; available: {', '.join(INDEX_KINDS)}")
    if kind == ExactIndex.kind:
        return ExactIndex(item_vectors)
    maker = ScannIndex if kind == ScannIndex.kind else PartitionedIndex
    own = inspect.signature(maker).parameters
    return maker(item_vectors, **{name: value for name, value in parameters.items() if name in own})  # type: ignore[arg-type]
