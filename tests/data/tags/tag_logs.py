"""Small logs with tags, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmi.config import SplitConfig, TaggingConfig
from tfmi.data.dataset import MultiValuedFeature
from tfmi.data.reading.log import LogTables
from tfmi.data.tables import EventTable, ItemTable, UserTable
from tfmi.data.tags.tag_building import build_tag_dataset
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.data.tags.tag_tables import tag_log_from_tables

Event = tuple[str, str, float, float]  # user, item, time, weight
TAGS = {
    "a": [("rock", 1.0), ("old", 0.5)],
    "b": [("rock", 1.0)],
    "c": [("jazz", 1.0)],
    "d": [("jazz", 1.0), ("new", 1.0)],
    "e": [("rare", 1.0)],
    "f": [],
}
# Ten events: with shares of 0.2 the first six train, "t" 6 and 7 validate, 8 and 9 test.
LOG: list[Event] = [
    ("u", "a", 0, 5),
    ("v", "c", 1, 1),
    ("u", "b", 2, 1),
    ("v", "d", 3, 5),
    ("w", "c", 4, 1),
    ("u", "c", 5, 5),
    ("v", "a", 6, 5),
    ("w", "d", 7, 1),
    ("u", "e", 8, 5),
    ("x", "b", 9, 1),
]


def make_dataset(
    events: list[Event], *, tasks: dict[str, float] | None = None, users: UserTable | None = None, **config: Any
) -> TagDataset:
    """Everything kept, no negatives, values by their counts, unless ``config`` says otherwise."""
    plain = {"min_tag_count": 1, "min_value_count": 1, "negatives": 0, "value_weights": "count"}
    tagging = TaggingConfig.model_validate({**plain, **config})
    user_ids = sorted({event[0] for event in events})
    item_ids = list(TAGS)
    table = EventTable(
        user_ids=user_ids,
        item_ids=item_ids,
        user_codes=np.array([user_ids.index(event[0]) for event in events]),
        item_codes=np.array([item_ids.index(event[1]) for event in events]),
        timestamps=np.array([event[2] for event in events], float),
        weights=np.array([event[3] for event in events], np.float32),
    )
    tables = LogTables(table, ItemTable(item_ids, tags=list(TAGS.values())), users)
    log = tag_log_from_tables("toy", tables, tagging, tasks or {"clicked": 0.0})
    return build_tag_dataset(log, tagging, SplitConfig(valid_share=0.2, test_share=0.2))


def names(dataset: TagDataset, indices: np.ndarray) -> list[str]:
    """The tags at indices, "?" for unknown ones, padding left out."""
    return [dataset.tags.identifier(int(index)) or "?" for index in indices if index]


def field_of(dataset: TagDataset, name: str, state: int) -> dict[str, float]:
    """A state's values of a multi-valued field, with their weights; "?" for unknown values."""
    feature = dataset.states.fields[name]
    assert isinstance(feature, MultiValuedFeature)
    pairs = zip(feature.values[state].tolist(), feature.weights[state].tolist(), strict=True)
    return {feature.vocabulary.identifier(value) or "?": weight for value, weight in pairs if value}
