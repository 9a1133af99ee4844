"""``sequences.txt``: a line per user, ``user item item ...``, oldest item first, separated by blanks; ids are any strings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tfmi.config import SplitConfig
from tfmi.core.errors import DataError
from tfmi.data.dataset import InteractionDataset
from tfmi.data.public.item_attributes import ATTRIBUTES_FILE, check_join, read_attributes
from tfmi.data.public.text_files import read_lines, require_file
from tfmi.data.splitting.splits import split_events
from tfmi.data.tables import EventTable, ItemTable

SEQUENCES_FILE = "sequences.txt"


def load_sequences(path: Path, config: SplitConfig) -> InteractionDataset:
    """Load a folder with ``sequences.txt`` and, if it is there, ``item_attributes.json``; or a sequences file of any name.

    The customary split is ``by_user``, ComiRec's.

    Raises:
        DataError: The file is missing, empty, or names a user twice.
    """
    events, items = read_sequence_files(path)
    return split_events("sequences", events, config, "by_user", items=items)


def read_sequence_files(path: Path) -> tuple[EventTable, ItemTable | None]:
    """The events and attributes of a folder or file; raises as ``load_sequences``."""
    file = path if path.is_file() else require_file(path, SEQUENCES_FILE, "sequences")
    events = read_sequences(file)
    return events, read_attributes_of(events, file)


def read_attributes_of(events: EventTable, file: Path) -> ItemTable | None:
    """The attributes beside a sequences file, checked against its events; None without any.

    Raises:
        DataError: The attributes cannot be read, or none of the items has any.
    """
    path = file.parent / ATTRIBUTES_FILE
    if not path.is_file():
        return None
    table = read_attributes(path)
    fix = f"write both files with the same ids, or take {ATTRIBUTES_FILE} away"
    check_join(path, table, events.item_ids, events.item_codes, events.user_codes, certain=True, fix=fix)
    return table


def read_sequences(path: Path) -> EventTable:
    """The lines as events without times: their order in the line is the time order."""
    rows = [line.split() for line in read_lines(path)]
    users: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if not row:
            raise DataError(f"{path}, line {number}: expected 'user item item ...', got an empty line")
        if row[0] in users:
            raise DataError(f"{path}, line {number}: user {row[0]!r} also stands in line {users[row[0]]}; write one line per user")
        users[row[0]] = number
    item_codes, item_ids = pd.factorize(np.array([item for row in rows for item in row[1:]], dtype=object))
    return EventTable(
        user_ids=list(users),
        item_ids=item_ids.tolist(),
        user_codes=np.repeat(np.arange(len(rows)), [len(row) - 1 for row in rows]),
        item_codes=item_codes.astype(np.int64),
        timestamps=None,
        weights=None,
        report={"file": path.name, "rows": len(rows)},
    )
