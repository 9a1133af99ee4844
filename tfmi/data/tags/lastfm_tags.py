"""Last.fm's tag assignments (HetRec 2011) as a log of tags: which tags a user gives to artists.

An event is a day on which a user tagged an artist; its tags are those that this user gave. Fields: ``tags``, the user's own, by how many
artists; ``artists``, the newest; ``crowd_tags``, what others had called these artists when the user came to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tfmi.config import TaggingConfig
from tfmi.data.public.lastfm import ARTISTS_FILE, ASSIGNMENTS_FILE, read_assignments, read_tag_names
from tfmi.data.public.text_files import require_file
from tfmi.data.tags.facts import ALWAYS, NO_VALUE, Facts, heaviest_before
from tfmi.data.tags.tag_log import FieldSource, TagLog
from tfmi.data.tags.tag_tables import item_field, label_events


def read_lastfm_tags(folder: Path, config: TaggingConfig, tasks: Mapping[str, float]) -> TagLog:
    """Read a folder of the Last.fm files.

    Raises:
        DataError: A file is missing, or a line is not what the format says.
    """
    require_file(folder, ARTISTS_FILE, "lastfm")
    events, assignments = read_assignments(require_file(folder, ASSIGNMENTS_FILE, "lastfm"), read_tag_names(folder))
    times = np.asarray(events.timestamps)
    order = np.argsort(times, kind="stable")
    users, items, times = events.user_codes[order], events.item_codes[order], times[order]
    event_of_assignment = _find_events(users, items, times, assignments.user_codes, assignments.item_codes, assignments.timestamps)
    tag_codes = assignments.tag_codes.astype(np.int64)
    once = np.ones(len(tag_codes))
    votes = Facts(assignments.item_codes, assignments.timestamps, tag_codes, once)
    crowd = heaviest_before(votes, items, times, config.max_item_tags)
    event, column = np.nonzero(crowd.values != NO_VALUE)
    shares = (crowd.weights / np.maximum(crowd.weights.sum(axis=1, keepdims=True), 1.0))[event, column]
    task_names, labels = label_events(None, len(users), tasks)
    return TagLog(
        name="lastfm",
        user_ids=list(events.user_ids),
        num_items=len(events.item_ids),
        tag_names=list(assignments.tag_names),
        users=users,
        items=items,
        times=times,
        task_names=task_names,
        labels=labels,
        tags=Facts(event_of_assignment, np.full(len(tag_codes), ALWAYS), tag_codes, once),
        tags_belong_to="events",
        fields={
            "tags": FieldSource(Facts(assignments.user_codes, assignments.timestamps, tag_codes, once)),
            "artists": item_field(users, items, times, events.item_ids),
            "crowd_tags": FieldSource(Facts(users[event], times[event], crowd.values[event, column], shares)),
        },
        report=events.report,
    )


def _find_events(*columns: np.ndarray) -> np.ndarray:
    """int64: the position in the first three columns (user, item, time of events) of each row of the last three."""
    events = pd.MultiIndex.from_arrays(columns[:3])
    return events.get_indexer(pd.MultiIndex.from_arrays(columns[3:])).astype(np.int64)
