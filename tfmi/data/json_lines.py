"""Rows of JSON Lines files: one object per line, its keys the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tfmi.data.formats import BLOCK_BYTES, TableFile, line_blocks, split_lines
from tfmi.data.rejects import Rejects
from tfmi.data.rows import ColumnRequest, RowChunk, joined_text, text_array, text_of


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
        rows = _parse_objects(raw, first_line, rejects)
        if names is None and rows:
            names = request.select(file.path, list(dict.fromkeys(key for _, row in rows for key in row)))
        yield _chunk(rows, names or [], request, rejects, seen=sum(1 for line in raw if line.strip()))
        first_line += len(raw)


def _parse_objects(raw: Sequence[bytes], first_line: int, rejects: Rejects) -> list[tuple[int, dict[str, Any]]]:
    """Each good line's number and object."""
    rows: list[tuple[int, dict[str, Any]]] = []
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
    if "\\u" in text:
        # Escapes can spell half of a surrogate pair, which is no character and has no UTF-8.
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    return row


def _chunk(rows: list[tuple[int, dict[str, Any]]], names: list[str], request: ColumnRequest, rejects: Rejects, *, seen: int) -> RowChunk:
    texts = {name: [_cell(row.get(name), name, request) for _, row in rows] for name in names}
    kept = np.ones(len(rows), dtype=bool)
    for name in names:
        for place, text in enumerate(texts[name]):
            if text is None and kept[place]:
                line, row = rows[place]
                rejects.add(line, name, "not_a_single_value", json.dumps(row[name], ensure_ascii=False))
                kept[place] = False
    lines = np.array([line for line, _ in rows], dtype=np.int64)
    mask = pa.array(kept)
    columns = {name: text_array([text or "" for text in texts[name]]).filter(mask) for name in names}
    return RowChunk(lines[kept], columns, seen)


def _cell(value: object, name: str, request: ColumnRequest) -> str | None:
    return joined_text(value, request.separator) if name in request.lists else text_of(value)
