"""Rows of CSV and TSV files with a header.

Blocks whose every line is a good row are cut by Arrow, or, if they hold quotes, by Python's ``csv``; any other block is read line by
line, so that every bad line is named exactly and quoted cells may hold line ends.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv

from tfmi.core.errors import DataError
from tfmi.data.reading.formats import BLOCK_BYTES, TableFile, line_blocks, split_lines
from tfmi.data.reading.rejects import REASONS, Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk, text_array

# A quoted cell that is still open after this many lines is taken for a stray quote: its first line is rejected and reading goes on.
LONGEST_ROW_LINES = 100

DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Dialect:
    """How a file's cells are separated, and whether double quotes enclose them."""

    delimiter: str
    quoting: bool = True


@dataclass(frozen=True)
class _Layout:
    """Where the requested columns stand."""

    dialect: Dialect
    width: int
    positions: dict[str, int]


@dataclass(frozen=True)
class _Row:
    """The outcome of one row: its cells, or a reason; and how many lines it took. No lines: the row goes on in the next block."""

    lines: int
    cells: list[str] | None = None
    reason: str = ""
    expected: str | None = None


def delimited_chunks(
    file: TableFile, request: ColumnRequest, rejects: Rejects, dialect: Dialect, block_bytes: int = BLOCK_BYTES
) -> Iterator[RowChunk]:
    """Read the requested columns of a CSV or TSV file.

    Lines that are blank are passed over. Lines that are not UTF-8, have too many or too few cells, or bad quotes are rejected.

    Raises:
        DataError: The file cannot be read or is empty, or lacks a required column.
    """
    layout: _Layout | None = None
    first_line = 1
    pending = b""
    for block in line_blocks(file, block_bytes):
        block = pending + block  # noqa: PLW2901 - a row that the last block cut goes on in this one
        if layout is None:
            header, first_line, block = _take_header(file, block, dialect)  # noqa: PLW2901
            layout = _layout(file, header, request, dialect)
        chunk, pending = _parse_block(block, first_line, layout, rejects, final=False)
        first_line += _count_lines(block) - _count_lines(pending)
        yield chunk
    if layout is None:
        raise DataError(f"{file.path}: the file holds blank lines only; expected a header and rows")
    if pending:
        chunk, _ = _parse_block(pending, first_line, layout, rejects, final=True)
        yield chunk


def _take_header(file: TableFile, block: bytes, dialect: Dialect) -> tuple[list[str], int, bytes]:
    """The header's names, the line after it, and the block without it."""
    lines = split_lines(block)
    start = next((place for place, line in enumerate(lines) if line.strip()), len(lines))
    row = _parse_row(lines, start, dialect, final=True) if start < len(lines) else _Row(0)
    if row.cells is None:
        raise DataError(
            f"{file.path}: line {start + 1}: cannot read the header ({row.reason or 'blank lines only'}); expected column names"
        )
    end = start + row.lines
    return [name.strip() for name in row.cells], end + 1, b"".join(lines[end:])


def _layout(file: TableFile, header: list[str], request: ColumnRequest, dialect: Dialect) -> _Layout:
    names = request.select(file.path, header)
    return _Layout(dialect, len(header), {name: header.index(name) for name in names})


def _parse_block(block: bytes, first_line: int, layout: _Layout, rejects: Rejects, *, final: bool) -> tuple[RowChunk, bytes]:
    """The rows of a block, and what of it belongs to a row that the next block finishes."""
    if not block:
        return RowChunk(np.empty(0, np.int64), {name: text_array([]) for name in layout.positions}, 0), b""
    columns = _cut_with_arrow(block, layout) if _is_plain(block, layout) else _cut_with_csv(block, layout)
    if columns is None:
        return _parse_lines(block, first_line, layout, rejects, final=final)
    rows = len(next(iter(columns.values())))
    return RowChunk(np.arange(first_line, first_line + rows), columns, rows), b""


def _is_plain(block: bytes, layout: _Layout) -> bool:
    """Whether every line is a row of the right width, in UTF-8, without quotes."""
    if (layout.dialect.quoting and b'"' in block) or not layout.dialect.delimiter.isascii():
        return False
    if block.count(b"\r") != block.count(b"\r\n"):
        return False
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    characters = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    delimiters = np.flatnonzero(characters == ord(layout.dialect.delimiter))
    per_line = np.diff(np.searchsorted(delimiters, ends), prepend=0)
    # A file of one column has no delimiters, so its blank lines show only by their length; "\r\n" alone is blank too.
    lengths = np.diff(ends, prepend=-1) - 1
    blank = lengths <= 1 if b"\r" in block else lengths == 0
    return bool((per_line == layout.width - 1).all()) and not (layout.width == 1 and blank.any())


def _cut_with_arrow(block: bytes, layout: _Layout) -> dict[str, pa.Array]:
    names = [str(position) for position in range(layout.width)]
    table = pyarrow.csv.read_csv(
        pa.BufferReader(block),
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
        parse_options=pyarrow.csv.ParseOptions(delimiter=layout.dialect.delimiter, quote_char=False, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            include_columns=[names[position] for position in layout.positions.values()],
            strings_can_be_null=False,
        ),
    )
    return {name: table.column(str(position)).combine_chunks() for name, position in layout.positions.items()}


def _cut_with_csv(block: bytes, layout: _Layout) -> dict[str, pa.Array] | None:
    """The columns of a block with quotes, if every line is one well-formed row of the right width; else None."""
    if not layout.dialect.quoting or b"\n" not in block:
        return None
    try:
        lines = block.decode("utf-8").removesuffix("\n").split("\n")
        rows = list(csv.reader(lines, delimiter=layout.dialect.delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    # The reader takes one or more lines for each row, so equal counts mean one line each.
    if len(rows) != len(lines) or set(map(len, rows)) != {layout.width}:
        return None
    cells = list(zip(*rows, strict=True))
    return {name: text_array(cells[position]) for name, position in layout.positions.items()}


def _parse_lines(block: bytes, first_line: int, layout: _Layout, rejects: Rejects, *, final: bool) -> tuple[RowChunk, bytes]:
    lines = split_lines(block)
    cells: dict[str, list[str]] = {name: [] for name in layout.positions}
    row_lines: list[int] = []
    seen = 0
    place = 0
    while place < len(lines):
        if not lines[place].strip(b"\r\n"):
            place += 1
            continue
        row = _parse_row(lines, place, layout.dialect, final=final)
        if not row.lines:
            break
        seen += 1
        row = _with_width_checked(row, layout)
        if row.cells is None:
            text = b"".join(lines[place : place + row.lines]).decode("utf-8", "backslashreplace").rstrip("\r\n")
            rejects.add(first_line + place, "", row.reason, text, row.expected)
        else:
            row_lines.append(first_line + place)
            for name, position in layout.positions.items():
                cells[name].append(row.cells[position])
        place += row.lines
    chunk = RowChunk(np.array(row_lines, np.int64), {name: text_array(values) for name, values in cells.items()}, seen)
    return chunk, b"".join(lines[place:])


def _with_width_checked(row: _Row, layout: _Layout) -> _Row:
    if row.cells is None or len(row.cells) == layout.width:
        return row
    return _Row(row.lines, None, "wrong_field_count", f"{layout.width} fields as in the header, found {len(row.cells)}")


def _parse_row(lines: list[bytes], place: int, dialect: Dialect, *, final: bool) -> _Row:
    """Read one row that starts at ``lines[place]``, taking as many lines as its quoted cells span."""
    text = ""
    longest = min(LONGEST_ROW_LINES, len(lines) - place)
    for used in range(1, longest + 1):
        try:
            text += lines[place + used - 1].decode("utf-8")
        except UnicodeDecodeError:
            return _Row(used, None, "bad_utf8")
        if not dialect.quoting or '"' not in text:
            return _Row(used, text.rstrip("\r\n").split(dialect.delimiter))
        try:
            return _Row(used, next(csv.reader([text], delimiter=dialect.delimiter, strict=True)))
        except csv.Error as error:
            if "unexpected end of data" not in str(error):
                return _Row(1, None, "malformed_row", f"{REASONS['malformed_row']}: {error}")
    if longest < LONGEST_ROW_LINES and not final:
        return _Row(0)
    return _Row(1, None, "malformed_row", f"{REASONS['malformed_row']}: a quote is opened and not closed within {LONGEST_ROW_LINES} lines")


def _count_lines(block: bytes) -> int:
    return block.count(b"\n")
