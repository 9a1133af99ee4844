"""Indexes by name."""

from __future__ import annotations

import inspect
import logging

import numpy as np
import tensorflow as tf

from tfmi.core.errors import nearest
from tfmi.core.free_memory import free_memory
from tfmi.index.auto import EXACT_UP_TO, scann_build_bytes
from tfmi.index.base import InterestIndex
from tfmi.index.exact import ExactIndex
from tfmi.index.partitioned import PartitionedIndex
from tfmi.index.scann import ScannIndex, has_scann

log = logging.getLogger(__name__)

INDEX_KINDS: tuple[str, ...] = (ExactIndex.kind, ScannIndex.kind, PartitionedIndex.kind)


def resolve_kind(kind: str, num_items: int, dimension: int, server: str) -> str:
    """The kind of index to build where ``kind`` may be ``auto``.

    ``auto`` is exact where that takes about half a millisecond (``EXACT_UP_TO``), else ScaNN, or partitioned for a stock server and where
    ScaNN is missing here. Where memory is too short for what ScaNN's build takes, it is partitioned, too, and the log says so: the system
    would end the process half way.
    """
    if kind == "auto":
        if num_items * dimension <= EXACT_UP_TO:
            return ExactIndex.kind
        kind = PartitionedIndex.kind if server == "stock" or not has_scann() else ScannIndex.kind
    if kind == ScannIndex.kind:
        needed, free = scann_build_bytes(num_items, dimension), free_memory()
        if free is not None and needed > free:
            log.warning(
                "index.kind: partitioned instead of scann, whose build for %s items of width %d takes about %.1f GB where %.1f GB are free",
                f"{num_items:,}",
                dimension,
                needed / 1e9,
                free / 1e9,
            )
            return PartitionedIndex.kind
    return kind


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
