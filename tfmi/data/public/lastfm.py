"""Last.fm as HetRec 2011 published it: ``user_taggedartists.dat``, ``artists.dat``, ``tags.dat``, tab-separated.

The data says when a user tagged an artist, but not when a user listened: an event is a day on which a user tagged an artist, at that
day's midnight UTC, and events of one day keep the file's order. ``user_artists.dat``, play counts without any time, can order nothing
and is not read. An artist's tags are those that training users gave it,
weighted by how often, see ``tags_from_training``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tfmi.config import SplitConfig
from tfmi.core.errors import DataError
from tfmi.data.assembly import TagAssignments
from tfmi.data.dataset import InteractionDataset
from tfmi.data.public.text_files import read_integer_table, read_table, require_file
from tfmi.data.splitting.splits import split_events
from tfmi.data.tables import EventTable, ItemTable

ASSIGNMENTS_FILE, ARTISTS_FILE, TAGS_FILE = "user_taggedartists.dat", "artists.dat", "tags.dat"
# Last.fm began in 2002; a handful of assignments claim to be from the 1950s and 1970s.
FIRST_YEAR = 2002


def load_lastfm(folder: Path, config: SplitConfig) -> InteractionDataset:
    """Load a folder of the Last.fm files. The customary split is leave-one-out.

    Raises:
        DataError: A file is missing, or a line is not what the format says.
    """
    artists = read_table(require_file(folder, ARTISTS_FILE, "lastfm"), 4, "\t", header="id\tname\turl\tpictureURL")
    items = ItemTable(item_ids=[row[0] for row in artists], titles=[row[1].strip() for row in artists])
    events, assignments = read_assignments(require_file(folder, ASSIGNMENTS_FILE, "lastfm"), read_tag_names(folder))
    return split_events("lastfm", events, config, "leave_one_out", items=items, assignments=assignments)


def read_tag_names(folder: Path) -> dict[int, str]:
    """The name of each tag number."""
    tags = read_table(require_file(folder, TAGS_FILE, "lastfm"), 2, "\t", header="tagID\ttagValue")
    return {int(number): name.strip() for number, name in tags if number.isdecimal() and name.strip()}


def read_assignments(path: Path, tag_names: dict[int, str]) -> tuple[EventTable, TagAssignments]:
    """The tagging days as events, and the tags given.

    Args:
        path: ``user_taggedartists.dat``.
        tag_names: The name of each tag number; a tag without a name raises ``DataError``.
    """
    rows = read_integer_table(path, 6, "\t", header="userID\tartistID\ttagID\tday\tmonth\tyear")
    table = pd.DataFrame(rows, columns=["user", "artist", "tag", "day", "month", "year"])
    days = pd.to_datetime(table[["year", "month", "day"]], errors="coerce")
    plausible = (days.notna() & (table["year"] >= FIRST_YEAR)).to_numpy()
    table, days = table[plausible].reset_index(drop=True), days[plausible]
    table["seconds"] = days.to_numpy().astype("datetime64[s]").astype(np.float64)
    user_codes, users = pd.factorize(table["user"])
    item_codes, artists = pd.factorize(table["artist"])
    tag_codes, tags = pd.factorize(table["tag"])
    unnamed = [tag for tag in tags.tolist() if tag not in tag_names]
    if unnamed:
        raise DataError(f"{path}: tag {unnamed[0]} has no name in {TAGS_FILE}")
    first_of_day = ~table.duplicated(["user", "artist", "seconds"]).to_numpy()
    events = EventTable(
        user_ids=[str(user) for user in users],
        item_ids=[str(artist) for artist in artists],
        user_codes=user_codes[first_of_day],
        item_codes=item_codes[first_of_day],
        timestamps=table["seconds"].to_numpy()[first_of_day],
        weights=None,
        report={"file": path.name, "rows": len(rows), "impossible_dates_left_out": int((~plausible).sum())},
    )
    names = [tag_names[tag] for tag in tags.tolist()]
    return events, TagAssignments(user_codes, item_codes, tag_codes, table["seconds"].to_numpy(), names)
