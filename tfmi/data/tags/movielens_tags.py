"""MovieLens as a log of tags: which genres and tags a user watches, and likes.

Two nested tasks: ``watched``, any rating, and ``liked``, a rating of at least 4, which about half of the ratings are: what users come
for, and what they were glad of. A movie's tags are its genres, and what users had called it before. Fields: ``tags``, ``liked_tags`` and
``disliked_tags`` (ratings below 3) of the movies rated, the newest ``movies`` and ``liked_movies``, and ``decades``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfmi.config import TaggingConfig
from tfmi.data.assembly import TagAssignments
from tfmi.data.public.movielens import read_ratings, read_tag_assignments
from tfmi.data.reading.log import LogTables
from tfmi.data.tables import ItemTable
from tfmi.data.tags.facts import Facts, heaviest_before
from tfmi.data.tags.tag_log import FieldSource, TagLog
from tfmi.data.tags.tag_tables import item_field, tag_field, tag_log_from_tables, value_field

LIKED, DISLIKED_BELOW = 4.0, 3.0


def read_movielens_tags(folder: Path, config: TaggingConfig, tasks: Mapping[str, float], rejects_folder: Path) -> TagLog:
    """Read a MovieLens folder.

    Raises:
        DataError: A file is missing or damaged.
    """
    events, items = read_ratings(folder, rejects_folder)
    assignments = read_tag_assignments(folder, events, rejects_folder)
    log = tag_log_from_tables("movielens", LogTables(events, items, None), config, tasks)
    if assignments is not None:
        log = _with_votes(log, assignments)
    # In the log's order.
    ratings = np.asarray(events.weights)[np.argsort(np.asarray(events.timestamps), kind="stable")]
    return replace(log, fields=_fields(log, ratings, events.item_ids, items, config))


def _with_votes(log: TagLog, assignments: TagAssignments) -> TagLog:
    """What users had called the movies beside their genres."""
    # Users' tags in the codes of the genres, and new ones behind these.
    code_of = {name: code for code, name in enumerate(log.tag_names)}
    user_codes = np.array([code_of.setdefault(name, len(code_of)) for name in assignments.tag_names], np.int64)
    votes = Facts(
        assignments.item_codes.astype(np.int64),
        assignments.timestamps,
        user_codes[assignments.tag_codes],
        np.ones(len(assignments.timestamps)),
    )
    joined = (np.concatenate(pair) for pair in zip(_columns(log.tags), _columns(votes), strict=True))
    return replace(log, tags=Facts(*joined), tag_names=list(code_of))


def _columns(facts: Facts) -> tuple[np.ndarray, ...]:
    return facts.keys, facts.times, facts.values, facts.weights


def _fields(log: TagLog, ratings: np.ndarray, item_ids: Sequence[str], items: ItemTable, config: TaggingConfig) -> dict[str, FieldSource]:
    known = heaviest_before(log.tags, log.items, log.times, config.max_item_tags)
    liked = ratings >= LIKED
    years = dict(zip(items.item_ids, items.numbers["year"].tolist(), strict=True))
    decades = [years.get(identifier, np.nan) // 10 * 10 for identifier in item_ids]
    return {
        "tags": tag_field(log, known, np.ones(len(log), bool)),
        "liked_tags": tag_field(log, known, liked),
        "disliked_tags": tag_field(log, known, ratings < DISLIKED_BELOW),
        "movies": log.fields["items"],
        "liked_movies": item_field(log.users[liked], log.items[liked], log.times[liked], item_ids),
        "decades": value_field(log, np.array(["" if np.isnan(decade) else f"{decade:.0f}s" for decade in decades], dtype=object)),
    }
