"""A checked catalogue and users' profiles as Parquet, so that they can be read again without checks, by whoever holds the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tfmi.core.errors import DataError
from tfmi.data.tables import ItemTable, UserTable

_REPORT = b"tfmi_report"
_TEXT, _NUMBER, _VECTOR = "text.", "number.", "vector."
# Columns of one text per item, and what ``ItemTable`` calls them.
_SINGLE = {"title": "titles", "category": "categories", "brand": "brands"}
_TAGS = pa.list_(pa.struct([("tag", pa.string()), ("weight", pa.float64())]))


def write_item_table(path: Path, items: ItemTable) -> None:
    """Write a catalogue."""
    columns: dict[str, pa.Array] = {"item": pa.array(items.item_ids, pa.string())}
    for name, attribute in _SINGLE.items():
        values = getattr(items, attribute)
        if values is not None:
            columns[name] = pa.array(values, pa.string())
    if items.tags is not None:
        columns["tags"] = pa.array([[{"tag": tag, "weight": weight} for tag, weight in tags] for tags in items.tags], _TAGS)
    columns |= {f"{_TEXT}{name}": pa.array(values, pa.string()) for name, values in items.texts.items()}
    columns |= {f"{_NUMBER}{name}": pa.array(values, pa.float32()) for name, values in items.numbers.items()}
    columns |= {
        f"{_VECTOR}{name}": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])
        for name, values in items.vectors.items()
    }
    _write(path, columns, items.report)


def read_item_table(path: Path) -> ItemTable:
    """Read what ``write_item_table`` wrote; raises ``DataError`` if it cannot be read."""
    table = _read(path)
    names = table.column_names

    def named(prefix: str) -> dict[str, pa.ChunkedArray]:
        return {name.removeprefix(prefix): table[name] for name in names if name.startswith(prefix)}

    tags = None
    if "tags" in names:
        tags = [[(each["tag"], each["weight"]) for each in row] for row in table["tags"].to_pylist()]
    return ItemTable(
        item_ids=table["item"].to_pylist(),
        tags=tags,
        texts={name: column.to_pylist() for name, column in named(_TEXT).items()},
        numbers={name: _floats(column) for name, column in named(_NUMBER).items()},
        vectors={
            name: _floats(column.combine_chunks().flatten()).reshape(table.num_rows, column.type.list_size)
            for name, column in named(_VECTOR).items()
        },
        report=_report(table),
        **{attribute: table[name].to_pylist() for name, attribute in _SINGLE.items() if name in names},
    )


def write_user_table(path: Path, users: UserTable) -> None:
    """Write profiles."""
    columns: dict[str, pa.Array] = {"user": pa.array(users.user_ids, pa.string())}
    for name, values in users.columns.items():
        if isinstance(values, np.ndarray):
            columns[f"{_NUMBER}{name}"] = pa.array(values, pa.float32())
        else:
            columns[f"{_TEXT}{name}"] = pa.array(values, pa.string())
    _write(path, columns, users.report)


def read_user_table(path: Path) -> UserTable:
    """Read what ``write_user_table`` wrote; raises ``DataError`` if it cannot be read."""
    table = _read(path)
    columns: dict[str, Any] = {}
    for name in table.column_names[1:]:
        if name.startswith(_NUMBER):
            columns[name.removeprefix(_NUMBER)] = _floats(table[name])
        else:
            columns[name.removeprefix(_TEXT)] = table[name].to_pylist()
    return UserTable(table["user"].to_pylist(), columns, _report(table))


def _write(path: Path, columns: Mapping[str, pa.Array], report: Mapping[str, Any]) -> None:
    table = pa.table(dict(columns)).replace_schema_metadata({_REPORT: json.dumps(dict(report)).encode()})
    pyarrow.parquet.write_table(table, path, compression="zstd")


def _read(path: Path) -> pa.Table:
    try:
        return pyarrow.parquet.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _report(table: pa.Table) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((table.schema.metadata or {}).get(_REPORT, b"{}"))
    return report


def _floats(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """float32, writable, NaN as it was written."""
    return np.array(column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy(), dtype=np.float32)
