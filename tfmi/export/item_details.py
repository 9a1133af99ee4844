"""What a version folder says of its items and of some users, for programs and people: no server reads it.

``assets.extra/tfmi_items.parquet`` has a row for each item in index order: ``item_id``, ``events`` (of training), ``title`` if the data
has titles, and a column ``feature.<name>`` for every feature of the catalogue but vectors: strings, lists of strings with
``feature.<name>.weights`` beside them, or numbers. ``assets.extra/tfmi_sample_users.parquet`` has some users that were held out of
training: ``user_id`` where it is known, ``history`` (ids, oldest first), ``timestamps`` if the data has them, and ``profile.<column>`` as
a request says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tfmi.core.errors import ExportError
from tfmi.data.dataset import (
    FIRST_INDEX,
    Catalogue,
    CategoricalFeature,
    ItemFeature,
    MultiValuedFeature,
    NumericFeature,
    Sequences,
    UserProfiles,
    Vocabulary,
)
from tfmi.data.splitting.slicing import whole_rows

ITEMS_PATH = Path("assets.extra") / "tfmi_items.parquet"
SAMPLE_USERS_PATH = Path("assets.extra") / "tfmi_sample_users.parquet"
FEATURE, PROFILE, WEIGHTS = "feature.", "profile.", ".weights"
# Of a history that is longer, the newest items.
MOST_HISTORY = 500


def write_items(folder: Path, catalogue: Catalogue) -> None:
    """Write the table of items into a version folder."""
    end = catalogue.candidate_rows
    columns: dict[str, pa.Array] = {
        "item_id": pa.array(catalogue.vocabulary.ids[: end - FIRST_INDEX], pa.large_string()),
        "events": pa.array(np.asarray(catalogue.counts)[FIRST_INDEX:end], pa.int64()),
    }
    if catalogue.titles is not None:
        columns["title"] = pa.array(list(catalogue.titles[FIRST_INDEX:end]), pa.large_string())
    rows = np.arange(FIRST_INDEX, end)
    columns |= feature_columns(catalogue.features, rows, FEATURE)
    write_details(folder / ITEMS_PATH, columns)


def write_sample_users(folder: Path, histories: Sequences, catalogue: Catalogue, profiles: UserProfiles | None, most: int) -> None:
    """Write up to ``most`` users, drawn once and for all, into a version folder.

    Users without a history are not among them, and unknown items are left out of histories.
    """
    known = np.flatnonzero(histories.lengths() > 0)
    chosen = np.sort(np.random.default_rng(0).permutation(known)[:most])
    sample = whole_rows(histories, chosen)
    width = int(min(sample.lengths().max(initial=0), MOST_HISTORY))
    items, times = sample.padded(width), sample.padded_timestamps(width)
    named = items >= FIRST_INDEX
    offsets = pa.array(np.concatenate([[0], np.cumsum(named.sum(axis=1))]).astype(np.int32))
    columns: dict[str, pa.Array] = {"history": pa.ListArray.from_arrays(offsets, texts_at(catalogue.vocabulary, items[named]))}
    if times is not None:
        columns["timestamps"] = pa.ListArray.from_arrays(offsets, pa.array(times[named], pa.float64()))
    if profiles is not None:
        columns["user_id"] = pa.array([profiles.user_ids[row] for row in sample.users], pa.string())
        columns |= feature_columns(profiles.features, sample.users, PROFILE)
    write_details(folder / SAMPLE_USERS_PATH, columns)


def read_items(folder: str | Path) -> pa.Table:
    """The table of items; raises ``ExportError`` where the folder has none."""
    return read_details(Path(folder), ITEMS_PATH, "export.item_details: true")


def read_sample_users(folder: str | Path) -> pa.Table:
    """The table of held-out users; raises ``ExportError`` where the folder has none."""
    return read_details(Path(folder), SAMPLE_USERS_PATH, "export.sample_users above 0")


def read_details(folder: Path, path: Path, setting: str) -> pa.Table:
    """A table of a version folder; raises ``ExportError``, which names the ``setting`` that writes it, where it cannot be read."""
    try:
        return pyarrow.parquet.read_table(folder / path)
    except FileNotFoundError:
        raise ExportError(f"{folder}: no {path.name}: it was exported without it; export it again with {setting}") from None
    except (OSError, pa.ArrowException) as error:
        raise ExportError(f"{folder / path}: not a readable Parquet file: {error}") from None


def write_details(path: Path, columns: Mapping[str, pa.Array]) -> None:
    """Write columns by name as Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.table(dict(columns)), path, compression="zstd")


def feature_columns(features: Mapping[str, ItemFeature], rows: np.ndarray, prefix: str) -> dict[str, pa.Array]:
    """The features of some ``rows``, as columns called ``<prefix><name>``; vectors are left out."""
    columns: dict[str, pa.Array] = {}
    for name, feature in sorted(features.items()):
        values = feature.values[rows]
        if isinstance(feature, CategoricalFeature):
            columns[f"{prefix}{name}"] = texts_at(feature.vocabulary, values)
        elif isinstance(feature, MultiValuedFeature):
            present = values > 0
            offsets = pa.array(np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32))
            columns[f"{prefix}{name}"] = pa.ListArray.from_arrays(offsets, texts_at(feature.vocabulary, values[present]))
            weights = pa.array(feature.weights[rows][present], pa.float32())
            columns[f"{prefix}{name}{WEIGHTS}"] = pa.ListArray.from_arrays(offsets, weights)
        elif isinstance(feature, NumericFeature):
            columns[f"{prefix}{name}"] = pa.array(values, pa.float32(), from_pandas=True)
    return columns


def texts_at(vocabulary: Vocabulary, indices: np.ndarray) -> Any:
    """Strings at vocabulary indices, "" for padding and unknown; no Python object for each of them."""
    texts = pa.array(["", "", *vocabulary.ids], pa.large_string())
    return texts.take(pa.array(np.asarray(indices, dtype=np.int64))).cast(pa.large_string())
