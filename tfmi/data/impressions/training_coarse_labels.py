"""The coarse labels of training rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfmi.core.errors import ConfigError, nearest
from tfmi.data.dataset import CategoricalFeature
from tfmi.data.impressions.coarse_labels import pseudo_coarse_labels, shuffled_within_users
from tfmi.data.impressions.impression_dataset import RankingDataset


def coarse_feature_names(dataset: RankingDataset, wanted: Sequence[str] | str, path: str) -> tuple[str, ...]:
    """The coarse features to learn from: ``wanted``, or with "auto" every categorical feature of the catalogue.

    Raises:
        ConfigError: One of ``wanted`` is not a categorical feature of the catalogue, or "auto" finds none; the message names ``path``.
    """
    able = sorted(_groupings(dataset))
    if wanted == "auto":
        if not able:
            raise ConfigError(f"{path}: the catalogue of {dataset.name!r} has no feature with one value per item, such as a category")
        return tuple(able)
    for name in wanted:
        if name not in able:
            raise ConfigError(
                f"{path}: the catalogue of {dataset.name!r} has no feature {name!r} with one value per item{nearest(name, able)}; "
                f"it has: {', '.join(able) or 'none'}"
            )
    return tuple(wanted)


def training_coarse_labels(dataset: RankingDataset, features: Sequence[str], *, shuffle_seed: int | None = None) -> np.ndarray:
    """The coarse labels of the rows that train, from these rows alone.

    Args:
        dataset: Already split.
        features: C categorical features of the catalogue.
        shuffle_seed: Permute each feature's labels among the rows of each user, for an ablation; None does not.

    Returns:
        float32 [n, C], row by row as ``dataset.train``.
    """
    rows, able = dataset.train, _groupings(dataset)
    columns = []
    for position, name in enumerate(features):
        labels = pseudo_coarse_labels(rows.users, rows.labels, able[name][rows.items])
        columns.append(labels if shuffle_seed is None else shuffled_within_users(rows.users, labels, shuffle_seed + position))
    return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), dtype=np.float32)


def _groupings(dataset: RankingDataset) -> dict[str, np.ndarray]:
    """int32 [item rows] of each categorical feature of the catalogue."""
    return {name: feature.values for name, feature in dataset.catalogue.features.items() if isinstance(feature, CategoricalFeature)}
