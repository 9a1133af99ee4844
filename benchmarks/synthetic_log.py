"""A log of any number of events, in Parquet files, with users and items by Zipf's law."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfmi.core.files import file_appears_complete

ITEMS = 1_000_000
EVENTS_PER_USER = 20
EVENTS_PER_FILE = 1_000_000
USER_EXPONENT, ITEM_EXPONENT = 1.0, 0.7
_FIRST_TIME = 1_700_000_000


def write_synthetic_log(folder: Path, events: int, *, items: int = ITEMS, events_per_file: int = EVENTS_PER_FILE, seed: int = 0) -> Path:
    """Write ``part-*.parquet`` with the columns ``user``, ``item`` and ``time``; files that are there are kept.

    There is a user for every 20 events. The share of the user of rank r falls as 1 / r, so that the first one has about a fourteenth of
    ten million events; that of items falls as 1 / r^0.7.

    Args:
        folder: Made if needed.
        events: How many.
        items: Different items at most.
        events_per_file: Events of a file, the last one perhaps fewer.
        seed: Of the numbers; each file has a stream of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    users = max(1, events // EVENTS_PER_USER)
    user_shares, item_shares = _cumulated(users, USER_EXPONENT), _cumulated(items, ITEM_EXPONENT)
    for number, start in enumerate(range(0, events, events_per_file)):
        path = folder / f"part-{number:05}.parquet"
        if path.exists():
            continue
        count = min(events_per_file, events - start)
        random = np.random.default_rng([seed, number])
        columns = {
            "user": np.searchsorted(user_shares, random.random(count)),
            "item": np.searchsorted(item_shares, random.random(count)),
            "time": _FIRST_TIME + start + np.arange(count),
        }
        with file_appears_complete(path) as temporary:
            pyarrow.parquet.write_table(pa.table(columns), temporary)
    return folder


def _cumulated(number: int, exponent: float) -> np.ndarray:
    """float64 [number]: the shares of ranks 1, 2, ..., added up."""
    shares = np.cumsum(np.arange(1, number + 1, dtype=np.float64) ** -exponent)
    return np.asarray(shares / shares[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--events-per-file", type=int, default=EVENTS_PER_FILE)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    sizes = {"items": options.items, "events_per_file": options.events_per_file, "seed": options.seed}
    print(write_synthetic_log(options.folder, options.events, **sizes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
