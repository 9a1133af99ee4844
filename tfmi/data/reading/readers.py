"""Read rows of any supported format, chunk by chunk, with every unreadable row rejected by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from tfmi.config import FileConfig
from tfmi.core.errors import DataError
from tfmi.core.text import shown_names
from tfmi.data.reading.codes import plain_codes
from tfmi.data.reading.delimited import delimited_chunks, delimited_columns
from tfmi.data.reading.formats import BLOCK_BYTES, TableFile
from tfmi.data.reading.json_rows import json_chunks
from tfmi.data.reading.parquet import parquet_chunks, parquet_columns
from tfmi.data.reading.paths import ColumnPath
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk, text_array
from tfmi.data.reading.sources import TableSource, table_source


def read_rows(
    source: str | Path | TableSource,
    request: ColumnRequest,
    rejects: Rejects,
    options: FileConfig | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[RowChunk]:
    """Read the requested columns of a table, in memory bounded by one block of one file.

    Args:
        source: A file, a folder of part files or a pattern, see ``sources.py``; or the files, found before.
        request: Which columns. Those of partitions (``day=2024-05-01/``) are columns like the others.
        rejects: Takes the rows that cannot be read, with the file that they stand in.
        options: How the files are written; default: by their suffixes.
        block_bytes: How much of a text file one chunk holds.

    Yields:
        Chunks of rows as text, in the files' order.

    Raises:
        DataError: A file is absent, empty, damaged, of an unknown format, lacks a required column, or differs from the first one in
            its columns.
    """
    table = source if isinstance(source, TableSource) else table_source(source, options)
    check_alike(table, request)
    names: list[str] | None = None
    for part in table.parts:
        rejects.begin_file(part.path)
        for chunk in _part_chunks(part, request, rejects, block_bytes):
            if names is None and chunk.columns:
                names = list(chunk.columns)
            yield _completed(chunk, names or [], request, part)


def _part_chunks(part: TableFile, request: ColumnRequest, rejects: Rejects, block_bytes: int) -> Iterator[RowChunk]:
    own = replace(
        request,
        required=[name for name in request.required if name not in part.partitions],
        optional=[name for name in request.optional if name not in part.partitions],
    )
    constant = {name: part.partitions[name] for name in (*request.required, *request.optional) if name in part.partitions}
    if part.format == "parquet":
        chunks = parquet_chunks(part, own, rejects)
    elif part.format == "json":
        chunks = json_chunks(part, own, rejects, block_bytes)
    else:
        chunks = delimited_chunks(part, own, rejects, block_bytes)
    for chunk in chunks:
        if constant:
            repeated = {name: text_array([value] * len(chunk)) for name, value in constant.items()}
            yield replace(chunk, columns={**chunk.columns, **repeated})
        else:
            yield chunk


def _completed(chunk: RowChunk, names: list[str], request: ColumnRequest, part: TableFile) -> RowChunk:
    """The chunk with the first one's columns, and ids by the rule for whole numbers."""
    added = [name for name in chunk.columns if name not in names]
    if added:
        raise DataError(
            f"{part.path}: has the column {added[0]!r}, which the first file of the table lacks; write the key there, too, if as null"
        )
    columns: dict[str, pa.Array] = {}
    for name in names if len(chunk) else chunk.columns:
        text = chunk.columns.get(name)
        if text is None:  # an optional key of JSON that this file never has
            text = text_array([""] * len(chunk))
        columns[name] = plain_codes(text) if name in request.codes else text
    return replace(chunk, columns=columns)


def check_alike(table: TableSource, request: ColumnRequest) -> None:
    """Raise ``DataError`` if the files of a table differ in their columns, naming the first that differs; reads no rows."""
    if len(table.parts) == 1:
        return
    first, *others = table.parts
    expected = _columns(first)
    wanted = {ColumnPath.parse(name).base for name in (*request.required, *request.optional)} | {*request.required, *request.optional}
    for part in others:
        if part.format != first.format:
            raise DataError(
                f"{part.path}: is of another format than {first.path} ({part.suffix}, {first.suffix}); the files of one table are alike: "
                f"remove what does not belong to {table.path}, or give a pattern of those that do"
            )
        found = _columns(part)
        if expected is None or found is None:
            continue
        lacking = [name for name in expected if name not in found]
        added = [name for name in found if name not in expected]
        if lacking or added:
            differences = [f"lacks {shown_names(lacking)}"] * bool(lacking) + [f"has {shown_names(added)} besides"] * bool(added)
            raise DataError(
                f"{part.path}: its columns differ from those of {first.path}: it {' and '.join(differences)}; the files of one table have "
                f"the same columns: fix it, or give a pattern of the files that belong together (read as one: {table.path})"
            )
        changed = [name for name in expected if name in wanted and found[name] != expected[name]]
        if changed:
            name = changed[0]
            raise DataError(
                f"{part.path}: column {name!r} is of another type than in {first.path} ({found[name]}, {expected[name]}); write the files "
                "of one table with one schema"
            )


def _columns(part: TableFile) -> Mapping[str, str] | None:
    """The kinds of a file's columns by name; None for JSON, where every row may have other keys."""
    if part.format == "json":
        return None
    return parquet_columns(part) if part.format == "parquet" else dict.fromkeys(delimited_columns(part), "value")
