"""Reading the plain-text files of public data sets, with errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfmi.errors import DataError


def require_file(folder: Path, name: str, dataset: str) -> Path:
    """The path of a data set's file; raises ``DataError`` saying what the folder lacks."""
    path = folder / name
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; --data for dataset {dataset!r} is the folder that holds {name}")
    if not path.is_file():
        present = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
        raise DataError(f"{folder}: dataset {dataset!r} needs the file {name} there; the folder holds: {present}")
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file without their ends, a final empty one left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: the file is empty")
    return lines


def read_integers(path: Path, columns: int) -> np.ndarray:
    """int64 [lines, columns] of a file with ``columns`` comma-separated whole numbers a line; ``DataError`` names a bad line."""
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        fields = line.strip().split(",")
        if len(fields) != columns or not all(field.strip().lstrip("-").isdecimal() for field in fields):
            raise DataError(f"{path}, line {number}: expected {columns} whole numbers separated by commas, got {line[:80]!r}")
    return np.array([line.split(",") for line in lines], dtype=np.int64)
