"""Rows of Parquet files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from tfmi.core.errors import DataError
from tfmi.data.reading.formats import TableFile
from tfmi.data.reading.paths import ColumnPath
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk, json_cell, text_array, text_of
from tfmi.data.reading.shapes import Cells, rows_of_objects

CHUNK_ROWS = 200_000

EXPECTED_BYTES = "text in UTF-8; write ids that are bytes as text, such as their hexadecimal digits"

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
            paths = requested_paths(file.path, parquet.schema_arrow, request)
            columns = list(dict.fromkeys(path.base for path in paths))
            first = 1
            for batch in parquet.iter_batches(batch_size=chunk_rows, columns=columns, use_threads=False):
                yield batch_chunk(batch, first, paths, request, rejects)
                first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.path}: not a readable Parquet file: {error}") from None


def requested_paths(source: Path, schema: pa.Schema, request: ColumnRequest) -> list[ColumnPath]:
    """Where a table of Arrow columns has what is requested; raises ``DataError``, naming ``source``, if it lacks a required column."""
    found = schema.names
    return request.paths(request.select(source, found, _nested_names(schema)), found)


def parquet_columns(file: TableFile) -> dict[str, str]:
    """The kind of each column, ``time``, ``list``, ``object`` or ``value``; raises ``DataError`` if the file is not readable."""
    try:
        with pyarrow.parquet.ParquetFile(file.path) as parquet:
            return {column.name: _kind(column.type) for column in parquet.schema_arrow}
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.path}: not a readable Parquet file: {error}") from None


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_temporal(kind):
        return "time"
    if pa.types.is_struct(kind):
        return "object"
    return "list" if pa.types.is_nested(kind) else "value"


def _nested_names(schema: pa.Schema) -> list[str]:
    """The paths into lists and objects, to suggest them."""
    names: list[str] = []
    for column in schema:
        kind = column.type
        if pa.types.is_struct(kind):
            names += [f"{column.name}.{kind.field(place).name}" for place in range(kind.num_fields)]
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            inner = kind.value_type
            struct = pa.types.is_struct(inner)
            names += [f"{column.name}[].{inner.field(place).name}" for place in range(inner.num_fields)] if struct else [f"{column.name}[]"]
    return names


def batch_chunk(batch: pa.RecordBatch, first: int, paths: Sequence[ColumnPath], request: ColumnRequest, rejects: Rejects) -> RowChunk:
    """Rows of Arrow columns as text, the first one having the line ``first``; ``paths`` are those of ``requested_paths``."""
    lines = np.arange(first, first + batch.num_rows, dtype=np.int64)
    if not all(path.is_plain for path in paths):
        cells = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        return rows_of_objects(Cells(lines, cells, batch.num_rows), paths, request, rejects)
    kept = np.ones(batch.num_rows, dtype=bool)
    columns: dict[str, pa.Array] = {}
    for path in paths:
        text, bad = _column_text(batch.column(path.base), path.name, request)
        for place, (reason, value) in bad.items():
            if kept[place]:
                rejects.add(first + place, path.name, reason, value, EXPECTED_BYTES if reason == "bad_utf8" else None)
                kept[place] = False
        columns[path.name] = text
    if kept.all():
        return RowChunk(lines, columns, batch.num_rows)
    mask = pa.array(kept)
    return RowChunk(lines[kept], {name: text.filter(mask) for name, text in columns.items()}, batch.num_rows)


def _column_text(column: pa.Array, name: str, request: ColumnRequest) -> tuple[pa.Array, dict[int, BadCell]]:
    """A column's cells as text, and which cells have none."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if isinstance(column, pa.ExtensionArray):
        column = _text_of_uuids(column) if column.type.extension_name == "arrow.uuid" else column.storage
    kind = column.type
    if pa.types.is_floating(kind):
        whole = _whole_numbers(column)
        if whole is not None:
            column, kind = whole, whole.type
    if (
        pa.types.is_floating(kind)
        or pa.types.is_nested(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    ):
        return _cell_by_cell(column, name, request)
    if not _is_valid(column):
        return _cell_by_cell(column.cast(pa.binary()), name, request)
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("ms"))
    text = pc.fill_null(column.cast(pa.large_string()), "")
    return text, {}


def _text_of_uuids(column: pa.ExtensionArray) -> pa.Array:
    """Identifiers of 128 bits as they are written: ``123e4567-e89b-12d3-a456-426614174000``."""
    return pa.array((None if value is None else str(uuid.UUID(bytes=value)) for value in column.storage.to_pylist()), pa.large_string())


def _whole_numbers(column: pa.Array) -> pa.Array | None:
    """A column of fractions that are all whole, as integers; None if any is not, or is too large to be exact."""
    values = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    if not np.isfinite(values).all() or (np.abs(values) >= 2**53).any() or (values != np.floor(values)).any():
        return None
    return column.cast(pa.float64()).cast(pa.int64())


def _is_valid(column: pa.Array) -> bool:
    """Whether strings are UTF-8: writers other than Arrow may have stored any bytes."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _cell_by_cell(column: pa.Array, name: str, request: ColumnRequest) -> tuple[pa.Array, dict[int, BadCell]]:
    # Arrow's own text of numbers and lists is not the one that the text formats have.
    texts: list[str] = []
    bad: dict[int, BadCell] = {}
    is_list, empty_nan = name in request.lists, request.empties_nan(name)
    for place, value in enumerate(column.to_pylist()):
        text: str | None = None
        if isinstance(value, bytes):
            try:
                text = value.decode("utf-8")
            except UnicodeDecodeError:
                bad[place] = ("bad_utf8", value.decode("utf-8", "backslashreplace"))
        else:
            text = json_cell(value) if is_list else text_of(value, empty_nan=empty_nan)
            if text is None:
                bad[place] = ("not_a_single_value", str(value))
        texts.append(text or "")
    return text_array(texts), bad
