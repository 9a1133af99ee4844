"""What a version folder of a tag model says of its tags and of some users, for programs and people: no server reads it.

``assets.extra/tfmi_tags.parquet`` has a row for each tag, most frequent first: ``tag``, and ``events.<task>``, in how many training
positives of each task it occurs. ``assets.extra/tfmi_sample_profiles.parquet`` has some users as known at the end of the data: ``user_id``
and ``profile.<field>`` for each field that the model reads, as ``tfmi.export.item_details`` writes profiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tfmi.data.dataset import FIRST_INDEX, Feature
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.export.item_details import PROFILE, feature_columns, read_details, write_details

TAGS_PATH = Path("assets.extra") / "tfmi_tags.parquet"
SAMPLE_PROFILES_PATH = Path("assets.extra") / "tfmi_sample_profiles.parquet"
EVENTS = "events."


def write_tags(folder: Path, dataset: TagDataset, task_keys: Sequence[str]) -> None:
    """Write the table of tags into a version folder; ``task_keys`` is what the dataset's tasks are called in outputs."""
    columns = {"tag": pa.array(dataset.tags.ids, pa.large_string())}
    for key, counts in zip(task_keys, dataset.tag_counts, strict=True):
        columns[f"{EVENTS}{key}"] = pa.array(np.asarray(counts)[FIRST_INDEX:], pa.int64())
    write_details(folder / TAGS_PATH, columns)


def write_sample_profiles(folder: Path, dataset: TagDataset, features: Mapping[str, Feature], known: np.ndarray, most: int) -> None:
    """Write up to ``most`` users, drawn once and for all of the positions ``known`` in ``dataset.users``, into a version folder."""
    chosen = np.sort(np.random.default_rng(0).permutation(known)[:most])
    states = np.asarray(dataset.users.states)[chosen]
    columns = {"user_id": pa.array([dataset.users.ids[int(row)] for row in chosen], pa.string())}
    write_details(folder / SAMPLE_PROFILES_PATH, columns | feature_columns(features, states, PROFILE))


def read_tags(folder: str | Path) -> pa.Table:
    """The table of tags; raises ``ExportError`` where the folder has none."""
    return read_details(Path(folder), TAGS_PATH, "export.item_details: true")


def read_sample_profiles(folder: str | Path) -> pa.Table:
    """The table of users; raises ``ExportError`` where the folder has none."""
    return read_details(Path(folder), SAMPLE_PROFILES_PATH, "export.sample_users above 0")
