"""Rows of JSON: one object per line (JSON Lines), or one array of objects; their keys are the columns."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from tfmi.core.errors import DataError
from tfmi.data.reading.formats import BLOCK_BYTES, LONGEST_LINE_BYTES, TableFile, line_blocks, split_lines, text_blocks
from tfmi.data.reading.paths import ColumnPath
from tfmi.data.reading.rejects import REASONS, Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk, json_cell, text_array, text_of
from tfmi.data.reading.shapes import Cells, nested_names, rows_of_objects

NumberedObject = tuple[int, dict[str, Any]]

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BLANKS = " \t\r\n"
_BETWEEN = re.compile(f"[{_BLANKS}]*")
_BETWEEN_OBJECTS = re.compile(rb"\}[ \t\r]*,[ \t\r]*\{")
_PYTHON_DICT = re.compile(rb"\s*\{\s*u?'")
# Rows that are looked at to tell which types the columns of a block have.
_ROWS_FOR_TYPES = 20
_ARROW_TYPES: dict[type, pa.DataType] = {str: pa.large_string(), int: pa.int64(), float: pa.float64()}


@dataclass
class _Columns:
    """What is read of a file's objects; known from its first rows on."""

    file: TableFile
    request: ColumnRequest
    paths: list[ColumnPath] = field(default_factory=list)
    known: bool = False

    def learn(self, rows: Sequence[NumberedObject]) -> None:
        """Take the columns from the first rows; raises ``DataError`` if a required one is missing."""
        if self.known or not rows:
            return
        refuse_table_in_one_object(self.file, [row for _, row in rows])
        found = list(dict.fromkeys(key for _, row in rows for key in row))
        nested = list(dict.fromkeys(name for _, row in rows[:_ROWS_FOR_TYPES] for name in nested_names(row)))
        self.paths = self.request.paths(self.request.select(self.file.path, found, nested), found)
        self.known = True

    @property
    def are_plain(self) -> bool:
        """Whether every column is a key of the rows themselves, with a single value."""
        return all(path.is_plain and path.name not in self.request.lists for path in self.paths)


def refuse_table_in_one_object(file: TableFile, rows: Sequence[dict[str, Any]]) -> None:
    """Raise ``DataError`` where the first rows are one object with a whole table in it, in a form of pandas that names no row."""
    if len(rows) != 1:
        return
    (table,) = rows
    inner = [value for value in table.values() if isinstance(value, dict)]
    numbered = all(key.isdecimal() for key in table) or all(key.isdecimal() for value in inner for key in value)
    if (len(inner) == len(table) > 1 and numbered) or {"columns", "data"} <= table.keys() or {"schema", "data"} <= table.keys():
        raise DataError(
            f"{file.path}: one object holds the whole table, as DataFrame.to_json writes it unless told otherwise; expected one object per "
            "row: write it with to_json(FILE, orient='records', lines=True)"
        )


def json_chunks(file: TableFile, request: ColumnRequest, rejects: Rejects, block_bytes: int = BLOCK_BYTES) -> Iterator[RowChunk]:
    """Read the requested columns of a file of JSON.

    The columns that the file has are the keys in its first block (8 MB). A key that a row lacks, or null, is an empty cell. Blank
    lines are passed over. Lines that are not UTF-8 or not one JSON object, elements of an array that are no objects, and single-valued
    cells that hold a list or an object, are rejected.

    Raises:
        DataError: The file cannot be read or is empty, lacks a required column, or is an array that is not well-formed.
    """
    columns = _Columns(file, request)
    if file.suffix == ".json" and _is_array(file):
        return _array_chunks(file, columns, rejects, block_bytes)
    return _line_chunks(file, columns, rejects, block_bytes)


def _line_chunks(file: TableFile, columns: _Columns, rejects: Rejects, block_bytes: int) -> Iterator[RowChunk]:
    first_line = 1
    for block in line_blocks(file, block_bytes):
        chunk = _with_arrow(block, first_line, columns) if columns.known and columns.are_plain else None
        if chunk is not None:
            first_line += len(chunk)
            yield chunk
            continue
        raw = split_lines(block)
        rows = _parse_at_once(raw, first_line)
        if rows is None:
            rows = _parse_line_by_line(raw, first_line, rejects)
        columns.learn(rows)
        yield _chunk(rows, columns, rejects, seen=sum(1 for line in raw if line.strip()))
        first_line += len(raw)


def _array_chunks(file: TableFile, columns: _Columns, rejects: Rejects, block_bytes: int) -> Iterator[RowChunk]:
    def read_at_once(piece: str, first: int) -> RowChunk | None:
        """The rows of elements that are plainly good; else None."""
        if columns.known and columns.are_plain:
            # A line feed is never within a string. Should a string or a list hold "},{", the lines are no objects.
            chunk = _with_arrow(_lines_of_array(piece), first, columns)
            if chunk is not None:
                return chunk
        try:
            elements = json.loads(f"[{piece}]")
        except (ValueError, RecursionError):
            return None
        if _SURROGATE.search(piece.encode("utf-8")) or not all(type(element) is dict for element in elements):
            return None
        rows = list(enumerate(elements, start=first))
        columns.learn(rows)
        return _chunk(rows, columns, rejects, seen=len(rows))

    for found in _array_elements(file, block_bytes, read_at_once):
        if isinstance(found, RowChunk):
            yield found
            continue
        rows: list[NumberedObject] = []
        for number, element, is_text in found:
            if not is_text:
                rejects.add(number, "", "bad_utf8", json.dumps(element))
            elif isinstance(element, dict):
                rows.append((number, element))
            else:
                rejects.add(number, "", "malformed_json", json.dumps(element, ensure_ascii=False), "a JSON object")
        columns.learn(rows)
        yield _chunk(rows, columns, rejects, seen=len(found))


def _lines_of_array(piece: str) -> bytes:
    """Elements between commas as lines, if what is between them looks the same everywhere."""
    text = piece.encode("utf-8").replace(b"\n", b" ").strip()
    between = _BETWEEN_OBJECTS.search(text)
    return text.replace(between[0], b"}\n{") if between else text


def _is_array(file: TableFile) -> bool:
    """Whether the first character of a file is that of an array."""
    for block in text_blocks(file):
        if block.strip():
            return block.lstrip().startswith(b"[")
    return False


def _array_elements(
    file: TableFile, block_bytes: int, read_at_once: Callable[[str, int], RowChunk | None]
) -> Iterator[RowChunk | list[tuple[int, Any, bool]]]:
    """The elements of an array, block by block: what ``read_at_once`` makes of many of them; or, one by one, their numbers from 1, their
    values, and whether they are text that UTF-8 can hold."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    scan = _ArrayScan(file)
    for block in text_blocks(file, block_bytes):
        try:
            scan.buffer += decode(block)
        except UnicodeDecodeError as error:
            raise DataError(f"{file.path}: not UTF-8 after element {scan.number} ({error}); convert it, or set data.log.encoding") from None
        if not scan.open():
            continue
        cut = scan.buffer.rfind("},") + 1
        chunk = read_at_once(scan.buffer[:cut], scan.number + 1) if cut else None
        if chunk is not None:
            scan.number += chunk.seen
            scan.buffer = scan.buffer[cut + 1 :].lstrip(_BLANKS)
            yield chunk
        yield scan.elements()
        if len(scan.buffer) > LONGEST_LINE_BYTES:
            raise scan.broken()
    if not scan.closed:
        raise scan.broken()


@dataclass
class _ArrayScan:
    """How far an array is read: what is left of its text, how many elements there were, whether it has begun and ended."""

    file: TableFile
    buffer: str = ""
    number: int = 0
    opened: bool = False
    closed: bool = False
    problem: str = "the array does not end"

    def open(self) -> bool:
        """Pass over the bracket that opens the array; whether it was there already."""
        if not self.opened:
            self.buffer = self.buffer.lstrip(_BLANKS)
            self.opened = bool(self.buffer)
            self.buffer = self.buffer[1:].lstrip(_BLANKS)
        return self.opened

    def elements(self) -> list[tuple[int, Any, bool]]:
        """The elements that end in the text, taken out of it. Raises ``DataError`` where something else than a comma follows one."""
        decoder = json.JSONDecoder()
        self.problem = "the array does not end"
        found: list[tuple[int, Any, bool]] = []
        suspicious = bool(_SURROGATE.search(self.buffer.encode("utf-8")))
        place = _skip(self.buffer, 0)
        if not self.number and self.buffer[place:].startswith("]"):
            self.closed, place = True, place + 1
        while not self.closed and place < len(self.buffer):
            try:
                element, end = decoder.raw_decode(self.buffer, place)
            except (ValueError, RecursionError) as error:
                self.problem = str(error)
                break
            end = _skip(self.buffer, end)
            if end == len(self.buffer):  # whether the element ends here is seen in the next block
                break
            if self.buffer[end] not in ",]":
                self.problem = f"expected ',' or ']' after it, got {self.buffer[end]!r}"
                raise self.broken()
            self.number += 1
            found.append((self.number, element, not suspicious or _is_text(element)))
            self.closed = self.buffer[end] == "]"
            place = _skip(self.buffer, end + 1)
        self.buffer = self.buffer[place:]
        if self.closed and self.buffer.strip(_BLANKS):
            raise DataError(f"{self.file.path}: text after the end of the array; expected one array, or one object per line")
        return found

    def broken(self) -> DataError:
        """The error for an array that cannot be read on."""
        return DataError(f"{self.file.path}: element {self.number + 1} of the array: {self.problem}; the file may be cut short")


def _skip(text: str, place: int) -> int:
    match = _BETWEEN.match(text, place)
    return match.end() if match else place


def _is_text(value: Any) -> bool:
    """Whether UTF-8 can hold it: escapes can spell half of a surrogate pair, which is no character."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _with_arrow(block: bytes, first_line: int, columns: _Columns) -> RowChunk | None:
    """The rows of a block of which every line is one object of simple values; else None. Several times faster than Python's ``json``."""
    rows = _objects_on_lines(block)
    types = _types(block, columns.paths) if rows else None
    if types is None or _SURROGATE.search(block):
        return None
    try:
        block.decode("utf-8")
        table = pyarrow.json.read_json(
            pa.BufferReader(block),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=types, unexpected_field_behavior="ignore"),
        )
    except (UnicodeDecodeError, pa.ArrowException):
        return None
    # Each line starts and ends as an object does, so that objects cannot span lines, and equal counts mean one object each.
    if table.num_rows != rows:
        return None
    texts: dict[str, pa.Array] = {}
    for path in columns.paths:
        text = _arrow_text(table.column(path.base).combine_chunks(), empty_nan=columns.request.empties_nan(path.name))
        if text is None:
            return None
        texts[path.name] = text
    return RowChunk(np.arange(first_line, first_line + rows), texts, rows)


def _objects_on_lines(block: bytes) -> int:
    """The number of lines if each starts and ends as a JSON object does; else 0."""
    characters = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    starts = np.append(0, ends[:-1] + 1)
    if (ends - starts < 2).any() or (characters[starts] != ord("{")).any():
        return 0
    last = characters[ends - 1]
    last = np.where(last == ord("\r"), characters[ends - 2], last)
    return len(ends) if (last == ord("}")).all() else 0


def _types(block: bytes, paths: Sequence[ColumnPath]) -> pa.Schema | None:
    """The types of the columns by the first rows; None if they are not simple. A column without values there is taken for text."""
    types: dict[str, pa.DataType] = {}
    for line in block[: 1 << 16].split(b"\n", _ROWS_FOR_TYPES)[:_ROWS_FOR_TYPES]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        for path in paths:
            value = row.get(path.base)
            if value is None:
                continue
            kind = _ARROW_TYPES.get(type(value))
            if kind is None:
                return None
            if types.get(path.base) != pa.float64():
                types[path.base] = kind
    return pa.schema([(path.base, types.get(path.base, pa.large_string())) for path in paths]) if paths else None


def _arrow_text(column: pa.Array, *, empty_nan: bool) -> pa.Array | None:
    """The cells as text, or None if numbers are too large for their fraction's type to hold exactly."""
    if pa.types.is_floating(column.type):
        values = pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False)
        if (np.abs(values[np.isfinite(values)]) >= 2**53).any():
            return None
        return text_array([text_of(value, empty_nan=empty_nan) or "" for value in column.to_pylist()])
    return pc.fill_null(column.cast(pa.large_string()), "")


def _parse_at_once(raw: Sequence[bytes], first_line: int) -> list[NumberedObject] | None:
    """Each line's number and object, parsed as one array, which is several times faster; None if any line is not plainly good."""
    lines = [line.strip() for line in raw]
    if not all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        return None
    joined = b",".join(lines)
    # Counting tells lines that only parse together from good ones, unless one line held two objects; and see _parse_object.
    if _BETWEEN_OBJECTS.search(b"\n".join(lines)) or _SURROGATE.search(joined):
        return None
    try:
        objects = json.loads(b"[" + joined + b"]")
    except (ValueError, RecursionError):
        return None
    return list(enumerate(objects, start=first_line)) if len(objects) == len(lines) else None


def _parse_line_by_line(raw: Sequence[bytes], first_line: int, rejects: Rejects) -> list[NumberedObject]:
    """Each good line's number and object."""
    rows: list[NumberedObject] = []
    for number, line in enumerate(raw, start=first_line):
        if not line.strip():
            continue
        try:
            rows.append((number, _parse_object(line.decode("utf-8"))))
        except UnicodeError:
            rejects.add(number, "", "bad_utf8", line.decode("utf-8", "backslashreplace").rstrip("\r\n"))
        except (ValueError, RecursionError) as error:
            expected = expected_instead_of(line) or f"{REASONS['malformed_json']}: {error}"
            rejects.add(number, "", "malformed_json", line.decode("utf-8").rstrip("\r\n"), expected)
    return rows


def expected_instead_of(line: bytes) -> str | None:
    """What a line that is not JSON should have been, and what to do about it, where its form tells; else None."""
    if line.strip() == b"{":
        return "one JSON object per line, or one array of objects; this is an object over several lines: take out the array in it"
    if not _PYTHON_DICT.match(line):
        return None
    return (
        "JSON, with double quotes; this is a Python dict (single quotes): convert the lines with ast.literal_eval and json.dumps, as "
        "docs/public_datasets.md shows in one line"
    )


def _parse_object(text: str) -> dict[str, Any]:
    row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError(f"found a {type(row).__name__}")
    if _SURROGATE.search(text.encode("utf-8")):
        # Escapes can spell half of a surrogate pair, which is no character and has no UTF-8.
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    return row


def _chunk(rows: list[NumberedObject], columns: _Columns, rejects: Rejects, *, seen: int) -> RowChunk:
    lines = np.array([line for line, _ in rows], dtype=np.int64)
    if not all(path.is_plain for path in columns.paths):
        bases = dict.fromkeys(path.base for path in columns.paths)
        cells = {base: [row.get(base) for _, row in rows] for base in bases}
        return rows_of_objects(Cells(lines, cells, seen), columns.paths, columns.request, rejects)
    texts = {path.name: _column(rows, path, columns.request) for path in columns.paths}
    kept = np.ones(len(rows), dtype=bool)
    for path in columns.paths:
        if None not in texts[path.name]:
            continue
        for place, text in enumerate(texts[path.name]):
            if text is None and kept[place]:
                line, row = rows[place]
                rejects.add(line, path.name, "not_a_single_value", json.dumps(row[path.base], ensure_ascii=False))
                kept[place] = False
    mask = pa.array(kept)
    arrays = {name: text_array([text or "" for text in values]).filter(mask) for name, values in texts.items()}
    return RowChunk(lines[kept], arrays, seen)


def _column(rows: list[NumberedObject], path: ColumnPath, request: ColumnRequest) -> list[str | None]:
    values = [row.get(path.base) for _, row in rows]
    if path.name in request.lists:
        return [json_cell(value) for value in values]
    empty_nan = request.empties_nan(path.name)
    return [value if type(value) is str else text_of(value, empty_nan=empty_nan) for value in values]
