"""Rows of delimited text files: CSV, TSV and their like, with a header or without.

Blocks whose every line is a good row are cut by Arrow, or, if their quotes are of a rare kind, by Python's ``csv``; any other block is
read line by line, so that every bad line is named exactly and quoted cells may hold line ends. A delimiter of several bytes is replaced by
a control character that the block lacks, so that it costs next to nothing.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tfmi.core.errors import DataError
from tfmi.core.text import shown_name, shown_names
from tfmi.data.reading.checks import looks_like_data
from tfmi.data.reading.formats import BLOCK_BYTES, DELIMITERS, TableFile, line_blocks, split_lines
from tfmi.data.reading.paths import ColumnPath
from tfmi.data.reading.rejects import REASONS, Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk, missing_column_message, text_array
from tfmi.data.reading.shapes import Cells, rows_of_cells

logger = logging.getLogger(__name__)

# A quoted cell that is still open after this many lines is taken for a stray quote: its first line is rejected and reading goes on.
LONGEST_ROW_LINES = 100

# What may separate cells where nothing says it, the likeliest first.
_LIKELY_DELIMITERS = ("\t", "::", ",", ";", "|")
# What packed files and files of other formats begin with, and what their names should end in.
_FIRST_BYTES = {b"\x1f\x8b": ".csv.gz", b"BZh": ".csv.bz2", b"\x28\xb5\x2f\xfd": ".csv.zst", b"PK\x03\x04": ".zip", b"PAR1": ".parquet"}
# What PostgreSQL, MySQL and Hive write for a cell without a value; no id and no text is written so.
_DATABASE_NULL = "\\N"
# The line by which spreadsheets tell each other the delimiter; it is above the header.
_SPREADSHEET_LINE = re.compile(rb"sep=(.)\r?\n?", re.IGNORECASE)
_STAND_INS = [chr(code) for code in (*range(0x1F, 0x0D, -1), *range(0x08, 0x00, -1))]


@dataclass(frozen=True)
class Dialect:
    """How a file's cells are separated, and whether double quotes enclose them."""

    delimiter: str
    quoting: bool = True


@dataclass(frozen=True)
class _Header:
    """What is known of a file before its rows: its columns' names, the first row's line, and its cells."""

    names: list[str]
    dialect: Dialect
    first_line: int
    first_cells: list[str]


@dataclass(frozen=True)
class _Layout:
    """Where the columns that are read stand. ``replaced`` is the delimiter that ``dialect``'s own stands in for."""

    dialect: Dialect
    width: int
    positions: dict[str, int]
    replaced: str | None = None

    def restored(self, text: str) -> str:
        """A text with the file's own delimiter."""
        return text if self.replaced is None else text.replace(self.dialect.delimiter, self.replaced)


@dataclass(frozen=True)
class _Row:
    """The outcome of one row: its cells, or a reason; and how many lines it took. No lines: the row goes on in the next block."""

    lines: int
    cells: list[str] | None = None
    reason: str = ""
    expected: str | None = None


def delimited_columns(file: TableFile) -> list[str]:
    """The names of a file's columns; raises ``DataError`` as ``delimited_chunks``."""
    for block in line_blocks(file):
        return _take_header(file, block)[0].names
    raise _blank_lines_only(file)


def delimited_chunks(file: TableFile, request: ColumnRequest, rejects: Rejects, block_bytes: int = BLOCK_BYTES) -> Iterator[RowChunk]:
    """Read the requested columns of a delimited text file.

    Lines that are blank are passed over. Lines that are not UTF-8, have too many or too few cells, or bad quotes are rejected.

    Raises:
        DataError: The file cannot be read or is empty, or lacks a required column.
    """
    header: _Header | None = None
    paths: list[ColumnPath] = []
    first_line = 1
    pending = b""
    for block in line_blocks(file, block_bytes):
        block = pending + block  # noqa: PLW2901 - a row that the last block cut goes on in this one
        if header is None:
            header, block = _take_header(file, block)  # noqa: PLW2901
            first_line = header.first_line
            paths = request.paths(_selected(file, header, request), header.names)
        chunk, pending = _parse_block(block, first_line, header, paths, rejects, request=request, final=False)
        first_line += _count_lines(block) - _count_lines(pending)
        yield chunk
    if header is None:
        raise _blank_lines_only(file)
    if pending:
        chunk, _ = _parse_block(pending, first_line, header, paths, rejects, request=request, final=True)
        yield chunk


def _blank_lines_only(file: TableFile) -> DataError:
    return DataError(f"{file.path}: the file holds blank lines only; expected a header and rows")


def _what_it_is(block: bytes) -> str:
    """What a file that is no text may be, and what to do about it."""
    packed = next((suffix for first, suffix in _FIRST_BYTES.items() if block.startswith(first)), None)
    if packed is not None:
        return f"; the file looks like one that ends in {packed}: rename it"
    return "; if the file is in another encoding, set data.log.encoding (catalogue_file.encoding, users_file.encoding), e.g. to latin-1"


def _take_header(file: TableFile, block: bytes) -> tuple[_Header, bytes]:
    """The header, and the block without it. Columns of a file without one are called by their numbers, or as the options say."""
    lines = split_lines(block)
    start = next((place for place, line in enumerate(lines) if line.strip()), len(lines))
    said = _SPREADSHEET_LINE.fullmatch(lines[start]) if start < len(lines) else None
    if said is not None:
        start += 1
    delimiter = _delimiter(file, lines[start] if start < len(lines) else b"")
    if said is not None and file.options.delimiter is None:
        delimiter = said[1].decode("latin-1")
    dialect = Dialect(delimiter, file.options.quoting)
    work, layout = _with_single_delimiter(b"".join(lines[start : start + LONGEST_ROW_LINES]), dialect)
    row = _parse_row(split_lines(work), 0, layout.dialect, final=True) if start < len(lines) else _Row(0)
    if row.cells is None:
        reason = row.reason or "blank lines only"
        hint = _what_it_is(block) if reason == "bad_utf8" else ""
        raise DataError(f"{file.path}: line {start + 1}: cannot read the header ({reason}); expected column names{hint}")
    cells = [layout.restored(cell).strip() for cell in row.cells]
    if file.options.header:
        end = start + row.lines
        return _Header(cells, dialect, end + 1, cells), b"".join(lines[end:])
    named = file.options.column_names or []
    if len(named) > len(cells):
        raise DataError(
            f"{file.path}: line {start + 1} has {len(cells)} cells, data.log.column_names {len(named)} names; give one for each"
        )
    names = [*named, *(str(number) for number in range(len(named) + 1, len(cells) + 1))]
    return _Header(names, dialect, start + 1, cells), b"".join(lines[start:])


def _delimiter(file: TableFile, first_line: bytes) -> str:
    if file.options.delimiter is not None:
        return file.options.delimiter
    customary = DELIMITERS.get(file.suffix, ",")
    if customary is not None:
        return customary
    return next((delimiter for delimiter in _LIKELY_DELIMITERS if delimiter.encode() in first_line), ",")


def _selected(file: TableFile, header: _Header, request: ColumnRequest) -> list[str]:
    """The columns to read; warns where the header may be none."""
    try:
        names = request.select(file.path, header.names)
    except DataError:
        if not file.options.header:
            raise DataError(_headerless_message(file, header, request)) from None
        data = looks_like_data(header.names)
        if not data:
            raise
        missing = next(name for name in request.required if name not in header.names)
        raise DataError(
            f"{file.path}: no column {missing!r}; the first line ({shown_names(header.names, most=6)}) looks like data: "
            f"{shown_name(data)!r} is a value, not a name. If the file has no header, set data.log.header: false (for a catalogue or users "
            "file catalogue_file.header, users_file.header) and give the columns by number, from 1, e.g. data.log.columns.user: 1, or name "
            "them all in data.log.column_names"
        ) from None
    if file.options.header:
        data = looks_like_data(header.names)
        if data:
            logger.warning(
                "%s: the first line (%s) is taken for the header but looks like data; if the file has none, set data.log.header: false, "
                "else its first row is lost",
                file.path,
                shown_names(header.names, most=6),
            )
    else:
        paths = request.paths(names, header.names)
        columns = (f"{path.name!r} is column {header.names.index(path.base) + 1}" for path in paths)
        logger.info("%s: no header; %s; the first row is: %s", file.path, ", ".join(columns), shown_names(header.first_cells, most=12))
    return names


def _headerless_message(file: TableFile, header: _Header, request: ColumnRequest) -> str:
    missing = next(name for name in request.required if name not in header.names)
    first = shown_names(header.first_cells, most=12)
    if missing.isdecimal():
        return (
            f"{file.path}: no column {missing}; the file has no header and {len(header.names)} columns, numbered from 1; the first row is: "
            f"{first}"
        )
    return missing_column_message(
        file.path,
        missing,
        header.names,
        f"The file has no header (data.log.header: false); its first row is: {first}. Give the column by its number, from 1, or name all "
        f"in data.log.column_names. {request.hints.get(missing, '')}".strip(),
    )


def _with_single_delimiter(block: bytes, dialect: Dialect) -> tuple[bytes, _Layout]:
    """The block and a layout of no columns with a delimiter of one byte: a control character stands in for a longer one."""
    delimiter = dialect.delimiter.encode("utf-8")
    if len(delimiter) == 1:
        return block, _Layout(dialect, 0, {})
    free = next((character for character in _STAND_INS if character.encode() not in block), None)
    if free is None:
        raise DataError("the file holds every control character, so that it is no text; expected a text file of rows")
    return block.replace(delimiter, free.encode()), _Layout(Dialect(free, dialect.quoting), 0, {}, dialect.delimiter)


def _parse_block(
    block: bytes, first_line: int, header: _Header, paths: Sequence[ColumnPath], rejects: Rejects, *, request: ColumnRequest, final: bool
) -> tuple[RowChunk, bytes]:
    """The rows of a block, and what of it belongs to a row that the next block finishes."""
    columns = list(dict.fromkeys(path.base for path in paths))
    work, single = _with_single_delimiter(block, header.dialect)
    layout = _Layout(single.dialect, len(header.names), {name: header.names.index(name) for name in columns}, single.replaced)
    cells, lines, seen, pending = _parse_rows(work, first_line, layout, rejects, final=final)
    if pending and layout.replaced is not None:
        pending = pending.replace(layout.dialect.delimiter.encode(), layout.replaced.encode())
    if _DATABASE_NULL.encode() in block:
        cells = {name: _without_nulls(column) for name, column in cells.items()}
    return rows_of_cells(Cells(lines, cells, seen), paths, request, rejects), pending


def _without_nulls(column: pa.Array) -> pa.Array:
    """The column with empty cells where a database wrote that there is no value."""
    return pc.if_else(pc.equal(column, _DATABASE_NULL), pa.scalar("", column.type), column)


def _parse_rows(
    block: bytes, first_line: int, layout: _Layout, rejects: Rejects, *, final: bool
) -> tuple[dict[str, pa.Array], np.ndarray, int, bytes]:
    """The cells of a block's good rows, their lines, how many rows there were, and what belongs to a row that the next block finishes."""
    if not block:
        return {name: text_array([]) for name in layout.positions}, np.empty(0, np.int64), 0, b""
    columns = _cut_with_arrow(block, layout) if _is_plain(block, layout) else _cut_with_csv(block, layout)
    if columns is None:
        return _parse_lines(block, first_line, layout, rejects, final=final)
    rows = len(next(iter(columns.values())))
    return columns, np.arange(first_line, first_line + rows), rows, b""


def _is_plain(block: bytes, layout: _Layout) -> bool:
    """Whether every line is a row of the right width, in UTF-8, and every quote opens or closes a cell or is doubled within one."""
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
    if layout.dialect.quoting and b'"' in block:
        quotes = np.flatnonzero(characters == ord('"'))
        if not _are_plain_quotes(characters, quotes, ends, layout.dialect.delimiter):
            return False
        # A delimiter after an odd number of quotes is within a cell; every line has an even number.
        delimiters = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
    per_line = np.diff(np.searchsorted(delimiters, ends), prepend=0)
    # A file of one column has no delimiters, so its blank lines show only by their length; "\r\n" alone is blank too.
    lengths = np.diff(ends, prepend=-1) - 1
    blank = lengths <= 1 if b"\r" in block else lengths == 0
    return bool((per_line == layout.width - 1).all()) and not (layout.width == 1 and blank.any())


def _are_plain_quotes(characters: np.ndarray, quotes: np.ndarray, ends: np.ndarray, delimiter: str) -> bool:
    """Whether quotes come in pairs on each line, the first of a pair at a cell's start or right after another pair (a doubled quote),
    the second at a cell's end or right before another pair."""
    if (np.searchsorted(quotes, ends) % 2).any():
        return False
    opening, closing = quotes[0::2], quotes[1::2]
    before = characters[np.maximum(opening - 1, 0)]
    starts = (opening == 0) | (before == ord(delimiter)) | (before == ord("\n"))
    doubled = np.zeros(len(opening), dtype=bool)
    doubled[1:] = opening[1:] == closing[:-1] + 1
    after = characters[np.minimum(closing + 1, len(characters) - 1)]
    stops = (closing == len(characters) - 1) | (after == ord(delimiter)) | (after == ord("\n")) | (after == ord("\r"))
    return bool((starts | doubled).all() and (stops | np.append(doubled[1:], False)).all())


def _cut_with_arrow(block: bytes, layout: _Layout) -> dict[str, pa.Array]:
    names = [str(position) for position in range(layout.width)]
    quoted = layout.dialect.quoting and b'"' in block
    table = pyarrow.csv.read_csv(
        pa.BufferReader(block),
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=layout.dialect.delimiter, quote_char='"' if quoted else False, ignore_empty_lines=False
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            include_columns=[names[position] for position in layout.positions.values()],
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    return {name: _restored(table.column(str(position)).combine_chunks(), layout, quoted) for name, position in layout.positions.items()}


def _restored(text: pa.Array, layout: _Layout, quoted: bool) -> pa.Array:
    if layout.replaced is None or not quoted:
        return text
    return pa.compute.replace_substring(text, layout.dialect.delimiter, layout.replaced)


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
    return {name: _restored(text_array(cells[position]), layout, True) for name, position in layout.positions.items()}


def _parse_lines(
    block: bytes, first_line: int, layout: _Layout, rejects: Rejects, *, final: bool
) -> tuple[dict[str, pa.Array], np.ndarray, int, bytes]:
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
            rejects.add(first_line + place, "", row.reason, layout.restored(text), row.expected)
        else:
            row_lines.append(first_line + place)
            for name, position in layout.positions.items():
                cells[name].append(layout.restored(row.cells[position]))
        place += row.lines
    texts = {name: text_array(values) for name, values in cells.items()}
    return texts, np.array(row_lines, np.int64), seen, b"".join(lines[place:])


def _with_width_checked(row: _Row, layout: _Layout) -> _Row:
    if row.cells is None or len(row.cells) == layout.width:
        return row
    expected = f"{layout.width} fields as in the header, found {len(row.cells)}"
    if any("\r" in cell for cell in row.cells):
        expected += "; it holds carriage returns (CR), perhaps as line ends: expected LF or CR LF"
    return _Row(row.lines, None, "wrong_field_count", expected)


def _parse_row(lines: Sequence[bytes], place: int, dialect: Dialect, *, final: bool) -> _Row:
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
