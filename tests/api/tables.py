"""A small shop in memory: users who keep to a category, with ratings, clicks, profiles and tags."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd

USERS, EVENTS_PER_USER = 40, 12


@functools.cache
def shop() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Events, items and users."""
    random = np.random.default_rng(3)
    names = [f"{category}{number}" for category in "abc" for number in range(8)]
    rows = []
    for user in range(USERS):
        own = random.integers(0, 3)
        for step in range(EVENTS_PER_USER):
            category = own if random.random() < 0.8 else random.integers(0, 3)
            item = names[category * 8 + random.integers(0, 8)]
            rows.append((f"user-{user}", item, 1000.0 * step + user, int(category == own), float(random.integers(1, 6))))
    events = pd.DataFrame(rows, columns=["user", "item", "time", "clicked", "stars"])
    items = pd.DataFrame({"item": names, "category": [name[0] for name in names], "tags": [[name[0].upper(), name] for name in names]})
    users = pd.DataFrame({"user": [f"user-{user}" for user in range(USERS)], "city": ["Oslo", "Rome"] * (USERS // 2), "age": range(USERS)})
    return events, items, users


SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 64, "seed": 3, "evaluation.report": False}
EVERYTHING = {"min_user_events": 1, "min_item_events": 1}
