"""Warm-up requests to models of tags."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfmi.config import ExportConfig
from tfmi.data.dataset import FIRST_INDEX, Feature
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.export.profile_inputs import profile_values
from tfmi.export.warmup import serialized_examples


class TagRequestMaker:
    """Makes believable requests, the same ones every time: users of the dataset, popular tags more often."""

    def __init__(self, dataset: TagDataset, features: Mapping[str, Feature], export: ExportConfig) -> None:
        self._random = np.random.default_rng(0)
        self._features, self._export = features, export
        self._states = np.asarray(dataset.users.states)
        self._names = np.array(dataset.tags.ids, dtype=object)
        counts = dataset.tag_counts.sum(axis=0)[FIRST_INDEX:] + 1.0
        self._shares = counts / counts.sum()

    def inputs(self, signature: str, rows: int) -> dict[str, np.ndarray]:
        """The inputs of a signature for so many rows."""
        if signature == "tag_users":
            return {"tags": self._tags(rows)}
        fields = profile_values(self._features, self._random.choice(self._states, size=rows))
        if signature == "recommend_tags":
            return {**fields, "exclude": self._padded(rows, self._export.exclusion_width)}
        if signature == "user_tags_examples":
            return {"examples": serialized_examples({**fields, "exclude": self._padded(rows, self._export.exclusion_width)})}
        if signature == "score_tags":
            return {**fields, "tags": self._padded(rows, self._export.num_results)}
        return {**fields, "tags": self._tags(rows)} if signature == "explain_tags" else fields

    def _tags(self, count: int) -> np.ndarray:
        return self._random.choice(self._names, size=count, p=self._shares)

    def _padded(self, rows: int, width: int) -> np.ndarray:
        table = np.full((rows, width), "", dtype=object)
        for row in table:
            length = int(self._random.integers(0, width, endpoint=True))
            row[:length] = self._tags(length)
        return table
