"""MovieLens in its CSV files: ``ratings.csv``, ``movies.csv``, and ``tags.csv`` where there is one (some copies lack it).

Every rating is an event, whatever its value: the task is what a user watches next. A movie's first genre is its category; its genres
are its tags, of weight 1 each, joined by the tags that training users gave it, in lower case, weighted by how often, see
``tags_from_training``.
The year at the end of a title is a number.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tfmi.config import CatalogueColumns, LogColumns, LogConfig, SplitConfig
from tfmi.data.assembly import TagAssignments
from tfmi.data.dataset import InteractionDataset
from tfmi.data.public.text_files import require_file
from tfmi.data.reading.checks import ChunkChecks
from tfmi.data.reading.log import read_catalogue, read_log
from tfmi.data.reading.readers import read_rows
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk
from tfmi.data.splitting.splits import split_events
from tfmi.data.tables import EventTable, ItemTable

log = logging.getLogger(__name__)

RATINGS_FILE, MOVIES_FILE, TAGS_FILE = "ratings.csv", "movies.csv", "tags.csv"
NO_GENRE = "(no genres listed)"
_YEAR = re.compile(r"\((\d{4})\)\s*$")

# A public file of known content has no bad rows; one that has is damaged.
_LOG = LogConfig(
    columns=LogColumns(user="userId", item="movieId", time="timestamp"),
    catalogue_columns=CatalogueColumns(item="movieId", title="title", category=None, brand=None, tags="genres"),
    max_reject_share=0.0,
)


def load_movielens(folder: Path, config: SplitConfig, rejects_folder: Path) -> InteractionDataset:
    """Load a MovieLens folder. The customary split is leave-one-out.

    Args:
        folder: Holds the files.
        config: How to split.
        rejects_folder: Where a list of unusable rows would go.

    Raises:
        DataError: A file is missing or damaged.
    """
    ratings = require_file(folder, RATINGS_FILE, "movielens")
    movies = require_file(folder, MOVIES_FILE, "movielens")
    items = describe_movies(read_catalogue(movies, _LOG, rejects_folder / "movies.jsonl"))
    events = read_log(ratings, _LOG, rejects_folder / "ratings.jsonl", catalogue=items)
    assignments = read_tag_assignments(folder, events, rejects_folder)
    return split_events("movielens", events, config, "leave_one_out", items=items, assignments=assignments)


def read_ratings(folder: Path, rejects_folder: Path) -> tuple[EventTable, ItemTable]:
    """The ratings, each with its value as the event's weight, and the movies with their genres. Tags that users gave are left out: what
    a user says of a movie tells how the same user has rated it.

    Raises:
        DataError: A file is missing or damaged.
    """
    ratings = require_file(folder, RATINGS_FILE, "movielens")
    items = describe_movies(read_catalogue(require_file(folder, MOVIES_FILE, "movielens"), _LOG, rejects_folder / "movies.jsonl"))
    weighted = _LOG.model_copy(update={"columns": _LOG.columns.model_copy(update={"weight": "rating"})})
    return read_log(ratings, weighted, rejects_folder / "ratings.jsonl", catalogue=items), items


def describe_movies(movies: ItemTable) -> ItemTable:
    """Add the first genre as category and the year, and drop the word for "no genre"."""
    genres = [[(genre, weight) for genre, weight in tags if genre != NO_GENRE] for tags in movies.tags or []]
    years = [_YEAR.search(title) for title in movies.titles or []]
    return replace(
        movies,
        categories=[tags[0][0] if tags else "" for tags in genres],
        tags=genres,
        numbers={"year": np.array([float(year[1]) if year else np.nan for year in years], dtype=np.float32)},
    )


def read_tag_assignments(folder: Path, events: EventTable, rejects_folder: Path) -> TagAssignments | None:
    """The tags that users gave to movies they rated; None, which is logged, where the folder has no such file."""
    path = folder / TAGS_FILE
    if not path.is_file():
        log.info("%s: no %s there, so that movies have the tags of their genres alone", folder, TAGS_FILE)
        return None
    columns = ["userId", "movieId", "tag", "timestamp"]
    with Rejects(path, rejects_folder / "tags.jsonl") as rejects:
        chunks = [
            _tag_columns(chunk, rejects)
            for chunk in read_rows(path, ColumnRequest(columns, codes=frozenset(["userId", "movieId"])), rejects)
            if len(chunk)
        ]
        rejects.stop_if_too_many(sum(map(len, chunks)), _LOG.max_reject_share)
    table = pd.concat([pd.DataFrame(columns=columns), *chunks])
    users = pd.Index(events.user_ids).get_indexer(pd.Index(table["userId"]))
    items = pd.Index(events.item_ids).get_indexer(pd.Index(table["movieId"]))
    names = table["tag"].str.strip().str.lower()
    known = (users >= 0) & (items >= 0) & (names != "").to_numpy()
    tag_codes, tag_names = pd.factorize(names[known].to_numpy(dtype=object))
    return TagAssignments(users[known], items[known], tag_codes, table["timestamp"].to_numpy(np.float64)[known], tag_names.tolist())


def _tag_columns(chunk: RowChunk, rejects: Rejects) -> pd.DataFrame:
    times = ChunkChecks(chunk, rejects).times("timestamp", "seconds")
    return pd.DataFrame({**{name: chunk.columns[name].to_pylist() for name in ("userId", "movieId", "tag")}, "timestamp": times})
