"""Small logs of impressions."""

from __future__ import annotations

import numpy as np

from tfmi.config import DataConfig
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.data.impressions.impression_split import LabelledEvents, split_impressions
from tfmi.data.tables import EventTable, ItemTable

NUM_USERS, NUM_ITEMS = 12, 15
UNFILTERED = {"min_user_events": 1, "min_item_events": 1}


def random_log(count: int = 400, seed: int = 0) -> LabelledEvents:
    """Impressions at whole seconds, some at the same one."""
    random = np.random.default_rng(seed)
    table = EventTable(
        user_ids=[f"u{number}" for number in range(NUM_USERS)],
        item_ids=[f"i{number}" for number in range(NUM_ITEMS)],
        user_codes=random.integers(NUM_USERS, size=count),
        item_codes=random.integers(NUM_ITEMS, size=count),
        timestamps=random.integers(150, size=count).astype(np.float64),
        weights=None,
    )
    return LabelledEvents(table, random.random(count) < 0.3)


def catalogue() -> ItemTable:
    """Items of four categories, one of them without."""
    return ItemTable(item_ids=[f"i{n}" for n in range(NUM_ITEMS)], categories=["" if n == 3 else f"c{n % 4}" for n in range(NUM_ITEMS)])


def split(log: LabelledEvents, **impressions: object) -> RankingDataset:
    """The log as ranking data, nothing left out."""
    return split_impressions("toy", log, DataConfig.model_validate({"split": UNFILTERED, "impressions": impressions}), items=catalogue())
