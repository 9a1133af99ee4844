"""Read rows of any supported format, chunk by chunk, with every unreadable row rejected by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tfmi.data.reading.delimited import DELIMITERS, Dialect, delimited_chunks
from tfmi.data.reading.formats import BLOCK_BYTES, table_file
from tfmi.data.reading.json_lines import json_lines_chunks
from tfmi.data.reading.parquet import parquet_chunks
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk


def read_rows(
    path: str | Path,
    request: ColumnRequest,
    rejects: Rejects,
    *,
    delimiter: str | None = None,
    quoting: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[RowChunk]:
    """Read the requested columns of a CSV, TSV, JSON Lines or Parquet file, gzipped or not, in memory bounded by one block.

    Args:
        path: The file; its suffix says the format.
        request: Which columns.
        rejects: Takes the rows that cannot be read.
        delimiter: Between the cells of CSV and TSV; None: a comma or a tab, by the suffix.
        quoting: Whether double quotes enclose cells of CSV and TSV.
        block_bytes: How much of a text file one chunk holds.

    Yields:
        Chunks of rows as text, in the file's order.

    Raises:
        DataError: The file is absent, empty, damaged, of an unknown format, or lacks a required column.
    """
    file = table_file(path)
    if file.format == "parquet":
        return parquet_chunks(file, request, rejects)
    if file.format == "json_lines":
        return json_lines_chunks(file, request, rejects, block_bytes)
    dialect = Dialect(delimiter or DELIMITERS[file.suffix], quoting)
    return delimited_chunks(file, request, rejects, dialect, block_bytes)
