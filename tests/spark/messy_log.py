"""A log in several files with every kind of row that a reader has something to say about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.config import DataConfig

USERS, ITEMS = 60, 40
SETTINGS: dict[str, Any] = {
    "dataset": "log",
    "log": {
        "streaming": True,
        "shards": 3,
        "columns": {"event": "kind", "weight": "worth"},
        "event_types": ["view"],
        "negative_events": ["hide"],
        "profile_columns": ["city"],
        "profile_numbers": ["age"],
        "catalogue_columns": {"numbers": ["price"]},
    },
    "split": {"min_item_events": 5, "min_user_events": 4, "max_user_events": 60, "valid_share": 0.2, "test_share": 0.2},
}
CONFIG = DataConfig.model_validate(SETTINGS)


def write_messy_log(folder: Path) -> Path:
    """``log/part-*.csv`` with rejected rows of several reasons in two files, ties, repeats and one user with very many events; a catalogue
    and a users file beside it."""
    random = np.random.default_rng(3)
    rows = [
        f"u{int(user)},i{int(item)},{int(time)},{kind},{worth:.2f}"
        for user, item, time, kind, worth in zip(
            random.integers(0, USERS, 1500),
            np.minimum(random.zipf(1.3, 1500), ITEMS),
            random.integers(1_700_000_000, 1_700_000_900, 1500),  # so close together that there are ties
            random.choice(["view", "hide", "other"], 1500, p=[0.8, 0.1, 0.1]),
            random.uniform(0.5, 2.0, 1500),
            strict=True,
        )
    ]
    rows += [f"giant,i{n % 30},{1_700_000_000 + n},view,1" for n in range(200)]
    rows += rows[5:25]
    random.shuffle(rows)
    rows[100:100] = [",i1,1700000000,view,1", "u1,i2,yesterday,view,1", "u1,i2,1700000000,view,-1", "too,few"]
    rows[1600:1600] = ["u2,,1700000000,view,1", "u1,i2,soon,view,1"]
    log = folder / "log"
    log.mkdir(parents=True)
    for number, part in enumerate((rows[:700], rows[700:1550], rows[1550:])):
        text = "user,item,time,kind,worth\n" + "".join(f"{row}\n" for row in part)
        (log / f"part-{number}.csv").write_text(text, encoding="utf-8")
    items = [{"item": f"i{n}", "title": f"Item {n}", "category": "odd" if n % 2 else "even", "price": n} for n in range(1, ITEMS + 10)]
    (folder / "catalogue.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    users = [f"u{n},{'Oslo' if n % 3 else 'Rome'},{20 + n % 40}\n" for n in range(USERS)]
    (folder / "users.csv").write_text("user,city,age\n" + "".join(users), encoding="utf-8")
    return folder
