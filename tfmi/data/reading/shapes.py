"""From rows that hold lists and objects to one row per event.

A log may hold a user's items in one row (a list, or text separated by blanks), a session's events as objects, a message as JSON within a
text cell, or what was shown together as ``N1-1 N2-0``. Where a requested column is a path into such a cell (see ``paths.py``), every
element becomes a row of its own; the row's other columns are repeated, and several lists of one row go side by side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmi.data.reading.paths import ColumnPath
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, ListText, RowChunk, json_cell, text_array, text_of

# What follows a path where there is nothing.
_NOTHING = None


@dataclass(frozen=True)
class Cells:
    """The cells of some rows, by the file's own columns: strings, or any objects of typed formats.

    Attributes:
        lines: int64 [rows].
        columns: [rows] each.
        seen: How many rows of the file these stand for, unreadable ones included.
    """

    lines: np.ndarray
    columns: Mapping[str, Any]
    seen: int


class _BadCellError(ValueError):
    """A cell that is not what its path says: the reason, and what was expected if the reason does not say it."""

    def __init__(self, reason: str, expected: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.expected = reason, expected


def rows_of_cells(cells: Cells, paths: Sequence[ColumnPath], request: ColumnRequest, rejects: Rejects) -> RowChunk:
    """The requested columns of rows whose cells are texts."""
    if all(path.is_plain for path in paths):
        return RowChunk(cells.lines, {path.name: cells.columns[path.base] for path in paths}, cells.seen)
    columns = {name: values.to_pylist() for name, values in cells.columns.items()}
    return rows_of_objects(Cells(cells.lines, columns, cells.seen), paths, request, rejects)


def rows_of_objects(cells: Cells, paths: Sequence[ColumnPath], request: ColumnRequest, rejects: Rejects) -> RowChunk:
    """The requested columns of rows whose cells are any objects, lists cut into rows.

    Rows whose lists differ in length, and elements that are not what the path says, are rejected. An empty list is no row, unless the
    request has ``empty_lists``.
    """
    texts: dict[str, list[str]] = {path.name: [] for path in paths}
    lines: list[int] = []
    seen = cells.seen - len(cells.lines)
    for place, line in enumerate(cells.lines.tolist()):
        row = {name: values[place] for name, values in cells.columns.items()}
        good, bad = _rows_of_one(row, paths, request, line, rejects)
        seen += len(good) + bad
        lines += [line] * len(good)
        for values in good:
            for path, text in zip(paths, values, strict=True):
                texts[path.name].append(text)
    columns = {name: text_array(values) for name, values in texts.items()}
    return RowChunk(np.array(lines, dtype=np.int64), columns, seen)


def nested_names(row: Mapping[str, Any]) -> list[str]:
    """The paths into a row's lists and objects, to suggest them."""
    names: list[str] = []
    for key, cell in row.items():
        value = object_of_text(cell) or cell if isinstance(cell, str) else cell
        if isinstance(value, dict):
            names += [f"{key}.{inner}" for inner in value]
        elif isinstance(value, list) and value:
            names += [f"{key}[].{inner}" for inner in value[0]] if isinstance(value[0], dict) else [f"{key}[]"]
    return names


def list_of_text(text: str, how: ListText) -> list[Any]:
    """The elements of a list that stands in a text cell: JSON, numbers in brackets, or texts between separators.

    Raises:
        ValueError: It is in brackets and neither.
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            return list(json.loads(text))
        except (ValueError, RecursionError):
            if set(text) & set("'\",[") - {"["} or text.count("[") > 1:
                raise ValueError("a list in JSON, with double quotes") from None
            text = text[1:-1]
    return [part.strip() for part in text.split(how.separator) if part.strip()]


def object_of_text(text: str) -> dict[str, Any] | None:
    """The object that stands as JSON in a text cell, as queues and warehouses write messages; None if it is no such text."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _rows_of_one(
    row: Mapping[str, Any], paths: Sequence[ColumnPath], request: ColumnRequest, line: int, rejects: Rejects
) -> tuple[list[list[str]], int]:
    """The good rows that one row of the file makes, each the paths' texts, and how many were rejected."""
    lists: dict[tuple[str, tuple[str, ...]], list[Any]] = {}
    single: dict[str, str] = {}
    nothing = [_NOTHING] if request.empty_lists else []
    for path in paths:
        try:
            value = _follow(row[path.base], path.outer)
            if path.is_list:
                lists.setdefault((path.base, path.outer), _elements(value, request.list_text) or nothing)
            else:
                single[path.name] = _text(value, path.name, request)
        except _BadCellError as problem:
            rejects.add(line, path.name, problem.reason, _shown(row[path.base]), problem.expected)
            return [], 1
    if not lists:
        return [[single[path.name] for path in paths]], 0
    lengths = {len(elements) for elements in lists.values()}
    if len(lengths) > 1:
        found = ", ".join(f"{len(elements)} in {'.'.join([base, *outer])}" for (base, outer), elements in lists.items())
        rejects.add(line, "", "lists_differ", found)
        return [], 1
    good: list[list[str]] = []
    bad = 0
    for place in range(lengths.pop()):
        values: list[str] = []
        for path in paths:
            if not path.is_list:
                values.append(single[path.name])
                continue
            element = lists[path.base, path.outer][place]
            try:
                values.append(_text(_follow(element, path.inner, request.list_text), path.name, request))
            except _BadCellError as problem:
                rejects.add(line, path.name, problem.reason, _shown(element), problem.expected)
                break
        if len(values) == len(paths):
            good.append(values)
        else:
            bad += 1
    return good, bad


def _follow(value: Any, keys: Iterable[str], how: ListText | None = None) -> Any:
    for key in keys:
        if value is None or value in ("", b""):
            return _NOTHING
        if how is not None and how.fields and isinstance(value, str):
            parts = value.rsplit(how.field_separator, len(how.fields) - 1)
            if len(parts) != len(how.fields):
                raise _BadCellError("bad_element", f"{len(how.fields)} parts separated by {how.field_separator!r}: {', '.join(how.fields)}")
            value = dict(zip(how.fields, parts, strict=True))
        value = _as_object(value)
        if not isinstance(value, dict):
            raise _BadCellError("not_an_object", f"an object with the key {key!r}; or set data.log.element_fields for texts such as N1-1")
        value = value.get(key)
    return value


def _as_object(value: Any) -> Any:
    """The object that a cell holds in another form: JSON in a text or in bytes, or the pairs of a map of Parquet; else the value."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return object_of_text(value)
    if isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return dict(value)
    return value


def _elements(value: Any, how: ListText) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str):
        try:
            return list_of_text(value, how)
        except ValueError as error:
            raise _BadCellError("not_a_list", str(error)) from None
    if isinstance(value, list | tuple):
        return list(value)
    raise _BadCellError("not_a_list")


def _text(value: Any, name: str, request: ColumnRequest) -> str:
    text = json_cell(value) if name in request.lists else text_of(value, empty_nan=request.empties_nan(name))
    if text is None:
        raise _BadCellError("not_a_single_value")
    return text


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
