"""Vectors of items that another program made: cells of a catalogue, or an ``.npy`` file with a list of ids beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfmi.config import VectorFile
from tfmi.core.errors import DataError
from tfmi.data.reading.checks import ChunkChecks, is_storable
from tfmi.data.reading.rows import RowChunk

log = logging.getLogger(__name__)


class VectorCells:
    """The cells of vector columns, ``[0.1, -0.2, ...]``; the first good one of a column says how long all of them are.

    Args:
        columns: The columns' names.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._widths: dict[str, int | None] = dict.fromkeys(columns)

    def parse(self, column: str, rows: RowChunk, checks: ChunkChecks) -> list[np.ndarray | None]:
        """One vector per row, None where the cell is empty; rejects cells that are no vector of the column's length."""
        vectors: list[np.ndarray | None] = []
        bad: dict[str, list[int]] = {}
        for place, text in enumerate(rows.columns[column].to_pylist()):
            vector = None if not text.strip() else _parsed(text)
            reason = None
            if vector is not None and not vector.size:
                reason = "not_a_vector"
            elif vector is not None and not (np.isfinite(vector).all() and is_storable(vector).all()):
                reason = "not_finite"
            elif vector is not None and self._widths[column] not in (None, len(vector)):
                reason = "vector_of_another_length"
            elif vector is not None:
                self._widths[column] = len(vector)
            if reason is not None:
                bad.setdefault(reason, []).append(place)
            vectors.append(None if reason is not None else vector)
        for reason, places in bad.items():
            checks.reject(np.isin(np.arange(len(rows)), places), column, reason)
        return vectors

    def table(self, column: str, vectors: Sequence[np.ndarray | None]) -> np.ndarray:
        """float32 [rows, width], NaN where there is none.

        Raises:
            DataError: The column holds no vector at all.
        """
        width = self._widths[column]
        if width is None:
            raise DataError(f"the catalogue's column {column!r} holds no vector; take it out of data.log.catalogue_columns.vectors")
        table = np.full((len(vectors), width), np.nan, dtype=np.float32)
        for row, vector in enumerate(vectors):
            if vector is not None:
                table[row] = vector
        return table


def read_vector_file(name: str, folder: Path, file: VectorFile, item_ids: Sequence[str]) -> np.ndarray:
    """float32 [items, width]: the vectors of these items, NaN rows for items that the file lacks.

    Args:
        name: The feature's name, for messages.
        folder: Relative paths start here: beside the catalogue.
        file: Where the vectors and their ids are.
        item_ids: The catalogue's items.

    Raises:
        DataError: A file cannot be read, or the two do not fit to each other, or not to the catalogue.
    """
    path, ids_path = folder / file.vectors, folder / file.ids
    try:
        vectors = np.load(path, allow_pickle=False)
        ids = ids_path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"data.log.catalogue_columns.vector_files.{name}: {path} with {ids_path} cannot be read: {error}") from None
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise DataError(f"{path}: expected a table of numbers [items, width], got {vectors.dtype} of the shape {vectors.shape}")
    if len(ids) != len(vectors):
        raise DataError(f"{path} has {len(vectors):,} rows, but {ids_path} {len(ids):,} ids; expected one id a line for each row")
    row_of = {identifier.strip(): row for row, identifier in enumerate(ids)}
    rows = np.array([row_of.get(identifier, -1) for identifier in item_ids])
    found = rows >= 0
    if not found.any():
        raise DataError(
            f"{ids_path}: none of its {len(ids):,} ids is an item of the catalogue, such as {item_ids[0]!r}; the first of the file is "
            f"{ids[0] if ids else ''!r}"
        )
    log.info("%s: vectors of %s of %s items (%.1f %%)", path, f"{found.sum():,}", f"{len(item_ids):,}", 100 * found.mean())
    table = np.full((len(item_ids), vectors.shape[1]), np.nan, dtype=np.float32)
    chosen = vectors[rows[found]].astype(np.float64)
    if not (np.isfinite(chosen).all() and is_storable(chosen).all()):
        raise DataError(f"{path}: holds numbers that are not finite or that 32 bits cannot hold")
    table[found] = chosen
    return table


def _parsed(text: str) -> np.ndarray:
    """The numbers of a cell; an empty array if it is no list of numbers."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return np.zeros(0)
    if not isinstance(values, list) or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.zeros(0)
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.full(1, np.inf)
