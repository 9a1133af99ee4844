"""Rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from tfmi.core.errors import DataError
from tfmi.data.reading.formats import TableFile
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk, joined_text, text_array, text_of

CHUNK_ROWS = 200_000

# Why a cell has no text, and what stands there.
BadCell = tuple[str, str]


def parquet_chunks(file: TableFile, request: ColumnRequest, rejects: Rejects, chunk_rows: int = CHUNK_ROWS) -> Iterator[RowChunk]:
    """Read the requested columns of a Parquet file. A row's "line" is its place, from 1.

    Strings, numbers, dates and times become text as they would stand in a text file (times in ISO 8601), nulls become empty cells.
    Single-valued cells that hold a list, a struct or bytes that are not UTF-8 are rejected.

    Raises:
        DataError: The file is damaged or cannot be read, or lacks a required column.
    """
    try:
        with pyarrow.parquet.ParquetFile(file.path) as parquet:
            names = request.select(file.path, parquet.schema_arrow.names)
            first = 1
            for batch in parquet.iter_batches(batch_size=chunk_rows, columns=names, use_threads=False):
                yield _chunk(batch, first, names, request, rejects)
                first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.path}: not a readable Parquet file: {error}") from None


def _chunk(batch: pa.RecordBatch, first: int, names: list[str], request: ColumnRequest, rejects: Rejects) -> RowChunk:
    kept = np.ones(batch.num_rows, dtype=bool)
    columns: dict[str, pa.Array] = {}
    for name in names:
        text, bad = _column_text(batch.column(name), request.separator if name in request.lists else None)
        for place, (reason, value) in bad.items():
            if kept[place]:
                rejects.add(first + place, name, reason, value)
                kept[place] = False
        columns[name] = text
    lines = np.arange(first, first + batch.num_rows, dtype=np.int64)
    if kept.all():
        return RowChunk(lines, columns, batch.num_rows)
    mask = pa.array(kept)
    return RowChunk(lines[kept], {name: text.filter(mask) for name, text in columns.items()}, batch.num_rows)


def _column_text(column: pa.Array, separator: str | None) -> tuple[pa.Array, dict[int, BadCell]]:
    """A column's cells as text, and which cells have none."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _cell_by_cell(column, separator)
    if not _is_valid(column):
        return _cell_by_cell(column.cast(pa.binary()), separator)
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("ms"))
    text = pc.fill_null(column.cast(pa.large_string()), "")
    return text, {}


def _is_valid(column: pa.Array) -> bool:
    """Whether strings are UTF-8: writers other than Arrow may have stored any bytes."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _cell_by_cell(column: pa.Array, separator: str | None) -> tuple[pa.Array, dict[int, BadCell]]:
    # Arrow's own text of numbers and lists is not the one that the text formats have.
    texts: list[str] = []
    bad: dict[int, BadCell] = {}
    for place, value in enumerate(column.to_pylist()):
        text: str | None = None
        if isinstance(value, bytes):
            try:
                text = value.decode("utf-8")
            except UnicodeDecodeError:
                bad[place] = ("bad_utf8", value.decode("utf-8", "backslashreplace"))
        else:
            text = text_of(value) if separator is None else joined_text(value, separator)
            if text is None:
                bad[place] = ("not_a_single_value", str(value))
        texts.append(text or "")
    return text_array(texts), bad
