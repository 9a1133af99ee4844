"""Indexes by name."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ConfigError, nearest
from tfmi.index.base import InterestIndex
from tfmi.index.exact import ExactIndex
from tfmi.index.scann import ScannIndex

INDEX_KINDS: tuple[str, ...] = (ExactIndex.kind, ScannIndex.kind)


def build_index(kind: str, item_vectors: np.ndarray | tf.Tensor, **parameters: int | None) -> InterestIndex:
    """Build an index of item vectors [num_rows, d].

    Args:
        kind: One of ``INDEX_KINDS``.
        item_vectors: One row per item index; rows 0 and 1 are ignored.
        **parameters: Of ``ScannIndex``. The exact index has none, and is built the same whatever they are, so that one configuration
            serves both.

    Raises:
        ConfigError: An unknown kind.
        IndexBuildError: The vectors cannot be used, or ScaNN is missing here.
    """
    if kind == ScannIndex.kind:
        return ScannIndex(item_vectors, **parameters)  # type: ignore[arg-type]
    if kind == ExactIndex.kind:
        return ExactIndex(item_vectors)
    raise ConfigError(f"index.kind: unknown index {kind!r}{nearest(kind, INDEX_KINDS)}; available: {', '.join(INDEX_KINDS)}")
