"""Tables in memory, as files that the readers of logs read: one path for checks, rejects and messages."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from tfmi.core.errors import DataError
from tfmi.core.files import file_appears_complete
from tfmi.data.reading.rows import text_of


def write_table(table: Any, path: Path, argument: str, columns: Collection[str] | None = None) -> None:
    """Write a table as Parquet.

    Args:
        table: A pandas ``DataFrame``, a pyarrow ``Table``, or anything else that offers its columns to Arrow (``__arrow_c_stream__``) or
            makes one of these (``to_arrow``, ``to_pandas``).
        path: The file.
        argument: What the table is called in messages.
        columns: Those that will be read; of the others only the names are kept, for messages. None: all.

    Raises:
        DataError: It is not a table, or two of its columns have one name.
    """
    arrow = arrow_table(table, argument, columns)
    with file_appears_complete(path) as temporary:
        pyarrow.parquet.write_table(arrow, temporary)


def arrow_table(table: Any, argument: str, columns: Collection[str] | None = None) -> pa.Table:
    """The table in Arrow's format; see ``write_table``."""
    table = _known_table(table)
    if isinstance(table, pd.DataFrame):
        frame, rows = _with_named_index(table, columns), len(table)
        names = [str(name) for name in frame.columns]
        arrays = [_array(frame.iloc[:, place]) if _is_read(name, columns) else None for place, name in enumerate(names)]
    elif isinstance(table, pa.Table) or hasattr(table, "__arrow_c_stream__"):
        arrow = pa.table(table)
        rows = arrow.num_rows
        names = list(arrow.column_names)
        arrays = [arrow.column(place) if _is_read(name, columns) else None for place, name in enumerate(names)]
    else:
        raise DataError(
            f"{argument}: expected a pandas DataFrame or a pyarrow Table, got {type(table).__name__}; files are read by "
            "tfmi.Dataset.load('log', path)"
        )
    if not names:
        raise DataError(f"{argument}: the table has no columns")
    repeated = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if repeated is not None:
        raise DataError(f"{argument}: column {repeated!r} stands twice; rename one of them")
    return pa.table([pa.nulls(rows) if array is None else array for array in arrays], names=names)


def _known_table(table: Any) -> Any:
    """The table itself, or what it makes of itself where it is neither of pandas nor of Arrow and has a method for that."""
    if isinstance(table, pd.DataFrame | pa.Table) or hasattr(table, "__arrow_c_stream__"):
        return table
    for method in ("to_arrow", "to_pandas"):
        make = getattr(table, method, None)
        if callable(make):
            made = make()
            if isinstance(made, pd.DataFrame | pa.Table):
                return made
    return table


def numeric_columns(table: Any, argument: str) -> tuple[list[str], list[str]]:
    """The names of a table's columns: of those that hold numbers, and of all others."""
    schema = arrow_table(table, argument).schema
    numeric = [field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]
    return numeric, [field.name for field in schema if field.name not in numeric]


def _is_read(name: str, columns: Collection[str] | None) -> bool:
    # A requested name may be a path into lists and objects: "items[]", "user.id".
    return columns is None or any(wanted == name or wanted.startswith((f"{name}[", f"{name}.")) for wanted in columns)


def _with_named_index(frame: pd.DataFrame, columns: Collection[str] | None) -> pd.DataFrame:
    """The frame, with an index that has the name of a wanted column as a column."""
    names = [name for name in frame.index.names if name is not None and name not in frame.columns]
    wanted = [name for name in names if columns is None or str(name) in columns]
    return frame.reset_index(level=wanted) if wanted else frame


def _array(series: pd.Series) -> pa.Array:
    try:
        return pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):  # objects of several types, such as ids of which some are numbers
        return pa.array([_text(value) for value in series], type=pa.large_string())


def _text(value: Any) -> str | None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    text = text_of(value)
    return str(value) if text is None else text
