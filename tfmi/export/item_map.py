"""A picture's coordinates of the items, and how to put other vectors into it: the two directions in which item vectors differ most.

``assets.extra/tfmi_map.parquet`` has a row for each of the items with most training events, at most ``MOST_ITEMS`` of them: ``item_id``,
``x`` and ``y``. Its metadata holds, as JSON under ``tfmi_projection``, the ``mean`` [d], the two ``directions`` [2, d] and the ``share`` of
the items' variance along each: a vector v stands at ``directions (v - mean)``, which goes for interests and for items without a row, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tfmi.core.errors import ExportError

MAP_PATH = Path("assets.extra") / "tfmi_map.parquet"
MOST_ITEMS = 20_000
_PROJECTION = b"tfmi_projection"


class Projection(NamedTuple):
    """From vectors to places on the map.

    Attributes:
        mean: float64 [d], what lies in the middle.
        directions: float64 [2, d], of length 1 and at right angles.
        share: float64 [2], the part of the items' variance that lies along each.
    """

    mean: np.ndarray
    directions: np.ndarray
    share: np.ndarray

    def places(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [M, 2]: where ``vectors`` [M, d] stand."""
        return np.asarray((np.asarray(vectors, np.float64) - self.mean) @ self.directions.T, np.float32)


class ItemMap(NamedTuple):
    """Items on the map.

    Attributes:
        item_ids: Their ids.
        places: float32 [M, 2].
        projection: For other vectors.
    """

    item_ids: list[str]
    places: np.ndarray
    projection: Projection


def principal_directions(vectors: np.ndarray) -> Projection:
    """The two directions of largest variance of ``vectors`` [M, d], M at least 1: principal components (Pearson, 1901).

    The same vectors have the same map: of the two ends of a direction, the one in which its largest component is positive counts. Where
    there is a single dimension, or no variance, a direction is 0.
    """
    values = np.asarray(vectors, np.float64)
    mean = values.mean(axis=0)
    centred = values - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(values))  # rising
    directions = np.zeros((2, values.shape[1]))
    share = np.zeros(2)
    total = float(np.maximum(variances, 0.0).sum())
    for place in range(min(2, values.shape[1])):
        variance, axis = float(variances[-1 - place]), axes[:, -1 - place]
        if total > 0.0 and variance > 1e-12 * total:
            directions[place] = axis * np.sign(axis[np.argmax(np.abs(axis))])
            share[place] = variance / total
    return Projection(mean, directions, share)


def mapped_rows(events: np.ndarray) -> np.ndarray:
    """int [M], rising: which of items with ``events`` int [N] a map shows: those with most, ties to those that stand first."""
    return np.sort(np.argsort(-np.asarray(events), kind="stable")[:MOST_ITEMS])


def write_map(folder: Path, item_ids: Sequence[str], vectors: np.ndarray) -> None:
    """Write the map of items with ``vectors`` float32 [M, d] into a version folder; see ``mapped_rows``."""
    projection = principal_directions(vectors)
    places = projection.places(vectors)
    columns = {"item_id": pa.array(list(item_ids), pa.large_string()), "x": places[:, 0], "y": places[:, 1]}
    described = json.dumps({name: part.tolist() for name, part in projection._asdict().items()})
    path = folder / MAP_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).replace_schema_metadata({_PROJECTION: described.encode("ascii")})
    pyarrow.parquet.write_table(table, path, compression="zstd")


def read_map(folder: str | Path) -> ItemMap:
    """The map of a version folder; raises ``ExportError`` where it has none that can be read."""
    path = Path(folder) / MAP_PATH
    try:
        table = pyarrow.parquet.read_table(path)
        parts = json.loads((table.schema.metadata or {})[_PROJECTION])
        projection = Projection(*(np.array(parts[name], np.float64) for name in Projection._fields))
        places = np.stack([table[name].to_numpy() for name in ("x", "y")], axis=1).astype(np.float32)
        ids = table["item_id"].to_pylist()
    except FileNotFoundError:
        raise ExportError(f"{folder}: no {path.name}: it was exported without it; export it again with export.item_details: true") from None
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise ExportError(f"{path}: not a readable map of items: {error}") from None
    if projection.directions.shape != (2, len(projection.mean)) or projection.mean.ndim != 1:
        raise ExportError(f"{path}: not a readable map of items: its directions have the shape {list(projection.directions.shape)}")
    return ItemMap(ids, places, projection)
