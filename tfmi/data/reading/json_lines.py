"""Rows of JSON Lines files: one object per line, its keys the columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tfmi.data.reading.formats import BLOCK_BYTES, TableFile, line_blocks, split_lines
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk, joined_text, text_array, text_of

NumberedObject = tuple[int, dict[str, Any]]

_TWO_OBJECTS = re.compile(rb"\}[ \t\r]*,[ \t\r]*\{")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def json_lines_chunks(file: TableFile, request: ColumnRequest, rejects: Rejects, block_bytes: int = BLOCK_BYTES) -> Iterator[RowChunk]:
    """Read the requested columns of a JSON Lines file.

    The columns that the file has are the keys in its first block (8 MB). A key that a row lacks, or null, is an empty cell. Blank
    lines are passed over. Lines that are not UTF-8 or not one JSON object, and single-valued cells that hold a list or an object, are
    rejected.

    Raises:
        DataError: The file cannot be read or is empty, or lacks a required column.
    """
    names: list[str] | None = None
    first_line = 1
    for block in line_blocks(file, block_bytes):
        raw = split_lines(block)
        rows = _parse_at_once(raw, first_line)
        if rows is None:
            rows = _parse_line_by_line(raw, first_line, rejects)
        if names is None and rows:
            names = request.select(file.path, list(dict.fromkeys(key for _, row in rows for key in row)))
        yield _chunk(rows, names or [], request, rejects, seen=sum(1 for line in raw if line.strip()))
        first_line += len(raw)


def _parse_at_once(raw: Sequence[bytes], first_line: int) -> list[NumberedObject] | None:
    """Each line's number and object, parsed as one array, which is several times faster; None if any line is not plainly good."""
    lines = [line.strip() for line in raw]
    if not all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        return None
    joined = b",".join(lines)
    # Counting tells lines that only parse together from good ones, unless one line held two objects; and see _parse_object.
    if _TWO_OBJECTS.search(b"\n".join(lines)) or _SURROGATE.search(joined):
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
            rejects.add(number, "", "malformed_json", line.decode("utf-8").rstrip("\r\n"), f"one JSON object per line: {error}")
    return rows


def _parse_object(text: str) -> dict[str, Any]:
    row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError(f"found a {type(row).__name__}")
    if _SURROGATE.search(text.encode("utf-8")):
        # Escapes can spell half of a surrogate pair, which is no character and has no UTF-8.
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    return row


def _chunk(rows: list[NumberedObject], names: list[str], request: ColumnRequest, rejects: Rejects, *, seen: int) -> RowChunk:
    texts = {name: _column(rows, name, request) for name in names}
    kept = np.ones(len(rows), dtype=bool)
    for name in names:
        if None not in texts[name]:
            continue
        for place, text in enumerate(texts[name]):
            if text is None and kept[place]:
                line, row = rows[place]
                rejects.add(line, name, "not_a_single_value", json.dumps(row[name], ensure_ascii=False))
                kept[place] = False
    lines = np.array([line for line, _ in rows], dtype=np.int64)
    mask = pa.array(kept)
    columns = {name: text_array([text or "" for text in texts[name]]).filter(mask) for name in names}
    return RowChunk(lines[kept], columns, seen)


def _column(rows: list[NumberedObject], name: str, request: ColumnRequest) -> list[str | None]:
    values = [row.get(name) for _, row in rows]
    if name in request.lists:
        return [joined_text(value, request.separator) for value in values]
    return [value if type(value) is str else text_of(value) for value in values]
