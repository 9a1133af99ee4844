"""Reading the plain-text files of public data sets, with errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfmi.core.errors import DataError
from tfmi.data.public.public_sets import public_sets


def require_file(folder: Path, name: str, dataset: str) -> Path:
    """The path of a data set's file; raises ``DataError`` saying what the folder lacks."""
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; --data for dataset {dataset!r} is the folder that holds {name}")
    path = folder / name
    if not path.is_file():
        present = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
        others = [known for known, public in public_sets().items() if (folder / str(public.data["log"]["file"])).is_file()]
        hint = f". It looks like a data set of another name: --dataset {' or '.join(others)}" if others else ""
        raise DataError(f"{folder}: dataset {dataset!r} needs the file {name} there; the folder holds: {present}{hint}")
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file without their ends, a final empty one left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: the file is empty")
    return lines


def read_table(path: Path, columns: int, separator: str, header: str | None = None) -> list[list[str]]:
    """The rows of a file of separated fields without quoting.

    Args:
        path: The file.
        columns: Fields per line; a line with another number raises ``DataError``.
        separator: Between the fields.
        header: What the first line must be; None if the file has no header.
    """
    lines = read_lines(path)
    if header is not None:
        if lines[0].rstrip("\r") != header:
            raise DataError(f"{path}, line 1: expected the header {header!r}, got {lines[0][:120]!r}")
        lines = lines[1:]
    rows = [line.rstrip("\r").split(separator) for line in lines]
    for number, fields in enumerate(rows, start=1 if header is None else 2):
        if len(fields) != columns:
            raise DataError(f"{path}, line {number}: expected {columns} fields separated by {separator!r}, got {len(fields)}")
    return rows


def read_integer_table(path: Path, columns: int, separator: str, header: str | None = None) -> np.ndarray:
    """int64 [rows, columns] of a file of separated whole numbers; raises ``DataError`` naming a line that holds something else."""
    rows = read_table(path, columns, separator, header)
    try:
        return np.array(rows, dtype=np.int64).reshape(-1, columns)
    except (ValueError, OverflowError):
        raise _not_whole_numbers(path, rows, 1 if header is None else 2) from None


def integer_rows(path: Path, rows: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of any number of whole numbers, the first row standing in line 1.

    Returns:
        int64 [numbers] all numbers, and int64 [rows + 1] where each row starts.
    """
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    try:
        return np.array([field for row in rows for field in row], dtype=np.int64), offsets
    except (ValueError, OverflowError):
        raise _not_whole_numbers(path, rows, 1) from None


def _not_whole_numbers(path: Path, rows: list[list[str]], first_line: int) -> DataError:
    for number, row in enumerate(rows, start=first_line):
        for field in row:
            if not field.strip().removeprefix("-").isdecimal() or len(field) > 18:
                return DataError(f"{path}, line {number}: expected whole numbers, got {field[:80]!r}")
    return DataError(f"{path}: expected whole numbers")
