"""Several files as one table: a file, a folder of part files, or a pattern.

Spark, Hive and their like write a table as a folder of ``part-*`` files with markers such as ``_SUCCESS`` beside them, and columns of few
values as folders, ``day=2024-05-01/``. Others write a file a month. All of them are read as one table, in the order of their names,
numbers in names by their value.
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tfmi.config import FileConfig
from tfmi.core.errors import DataError
from tfmi.core.text import shown_names
from tfmi.data.reading.formats import VAGUE_SUFFIXES, TableFile, known_suffix, require_path, table_file, text_blocks

logger = logging.getLogger(__name__)

LOG_STEMS = ("log", "events", "interactions")
CATALOGUE_STEMS = ("catalogue", "items")
USERS_STEMS = ("users",)

# What Hive calls the folder of the rows that have no value.
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_PATTERN = re.compile(r"[*?\[]")
# A packed file of up to this size may be one without a row.
_SMALLEST_PACKED_BYTES = 1 << 10


# How text is written, which files that are no text do not have; and what lines of cells have, which JSON does not.
_OF_TEXT = ("encoding",)
_OF_CELLS = ("header", "column_names", "delimiter", "quoting", "decimal")


@dataclass(frozen=True)
class TableSource:
    """The files of one table.

    Attributes:
        path: The file, folder or pattern that the user named.
        parts: The files, in the order in which they are read; at least one.
    """

    path: Path
    parts: tuple[TableFile, ...]

    def unused(self, options: FileConfig) -> list[str]:
        """Which of the options were given though no file of the table has what they describe."""
        plain = FileConfig()
        formats = {part.format for part in self.parts}
        nothing = (*_OF_CELLS, *_OF_TEXT) if formats == {"parquet"} else _OF_CELLS if formats <= {"parquet", "json"} else ()
        return [name for name in nothing if getattr(options, name) != getattr(plain, name)]

    def state(self) -> dict[str, Any]:
        """What tells this state of the files from another one: their paths, sizes and times of change."""
        try:
            status = [(part.path, part.path.stat()) for part in self.parts]
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from None
        return {
            "file": str(self.path.absolute()),
            "bytes": sum(each.st_size for _, each in status),
            "modified_ns": max(each.st_mtime_ns for _, each in status),
            "parts": [[str(path.absolute()), each.st_size, each.st_mtime_ns] for path, each in status],
        }

    def size(self) -> int:
        """The bytes of all files, as they lie on the disk."""
        return sum(part.path.stat().st_size for part in self.parts)


def table_source(path: str | Path, options: FileConfig | None = None) -> TableSource:
    """Find the files of a table.

    Args:
        path: A file, a folder of part files, or a pattern (``*``, ``?``, ``[...]``, and ``**`` for folders of any depth).
        options: How they are written.

    Raises:
        DataError: Nothing is there, or a file's format is unknown.
    """
    path = Path(path)
    if is_pattern(path):
        root, files = _fixed_part(path), _matching(path)
    else:
        require_path(path)
        if path.is_file():
            return TableSource(path, (table_file(path, options),))
        root, files = path, part_files(path, options)
        if not files:
            raise DataError(f"{path}: the folder holds no data files; it holds: {_holdings(path)}")
        for other in _walk(path):
            if other not in files:
                logger.info("%s: not read; it has not the suffix of the folder's data files", other)
    # Writers that work side by side leave empty files where one of them had no rows.
    files = [file for file in files if file.stat().st_size] or files
    parts = tuple(table_file(file, options, _partitions(file, root)) for file in files)
    parts = tuple(part for part in parts if not _packs_nothing(part)) or parts
    for part in parts[1:]:
        if list(part.partitions) != list(parts[0].partitions):
            raise DataError(
                f"{part.path}: lies in folders of the columns {_listed(part.partitions)}, unlike {parts[0].path} "
                f"({_listed(parts[0].partitions)}); the files of one table lie equally deep"
            )
    return TableSource(path, parts)


def is_pattern(path: Path) -> bool:
    """Whether a path that does not exist as it is written is a pattern of paths."""
    try:
        return bool(_PATTERN.search(str(path))) and not path.exists()
    except (OSError, ValueError):
        return False


def part_files(folder: Path, options: FileConfig | None = None) -> list[Path]:
    """The data files of a folder that is one table, in order.

    Hidden files, and markers such as ``_SUCCESS``, are none; nor, in the folder itself, are a catalogue and a users file, which stand
    beside a log; nor notes: files of a suffix that says little, such as ``.txt``, where there are others. Of folders only those of
    partitions (``day=2024-05-01``) are looked into. Files without a known suffix count if ``options.format`` says what they are.

    Raises:
        DataError: The folder is a table of Delta Lake, Iceberg or Hudi, where files of earlier versions lie beside those that count.
    """
    _refuse_versioned(folder)
    files = list(_walk(folder))
    if options is None or options.format == "auto":
        files = [file for file in files if known_suffix(file) is not None]
    clear = [file for file in files if known_suffix(file) not in VAGUE_SUFFIXES]
    return clear or files


def _refuse_versioned(folder: Path) -> None:
    """Raise ``DataError`` for a folder whose own log says which of its files count: to read them all would count rows of the past."""
    data = folder.name == "data"  # Iceberg's files lie in a folder of their own
    kinds = {
        "Delta Lake": (folder / "_delta_log").is_dir(),
        "Hudi": (folder / ".hoodie").is_dir(),
        "Iceberg": any((folder.parent if data else folder).glob("metadata/*.metadata.json")),
    }
    kind = next((kind for kind, found in kinds.items() if found), None)
    if kind is not None:
        raise DataError(
            f"{folder}: a table of {kind}, where rows that were changed or deleted may lie in files beside those that count; write its "
            "newest version out as Parquet or CSV, or, if every file counts, name them with a pattern such as FOLDER/*.parquet"
        )


def _packs_nothing(part: TableFile) -> bool:
    """Whether a packed text file holds no byte."""
    if not part.compression or part.path.stat().st_size > _SMALLEST_PACKED_BYTES:
        return False
    return not any(text_blocks(part, allow_empty=True))


def stem_of(path: Path) -> str:
    """A file's name without the suffix of its format, in lower case; a folder's, too, as Spark calls folders ``log.parquet``."""
    return path.name[: -len(known_suffix(path) or "") or None].lower()


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir(), key=_natural):
        if entry.name.startswith(("_", ".")):
            continue
        if entry.is_dir():
            if "=" in entry.name:
                yield from _walk(entry)
        elif stem_of(entry) not in (*CATALOGUE_STEMS, *USERS_STEMS):
            yield entry


def _matching(path: Path) -> list[Path]:
    """The files that a pattern matches; of folders that it matches, their part files."""
    files: list[Path] = []
    for found in sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural):
        if found.is_dir():
            files += part_files(found)
        elif not found.name.startswith(("_", ".")):
            files.append(found)
    if not files:
        raise DataError(f"{path}: no file matches this pattern; check the path")
    return list(dict.fromkeys(files))


def _fixed_part(path: Path) -> Path:
    """The folders of a pattern before the first one that varies."""
    fixed = Path(path.anchor)
    for part in path.parts[len(fixed.parts) :]:
        if _PATTERN.search(part):
            break
        fixed /= part
    return fixed


def _partitions(file: Path, root: Path) -> dict[str, str]:
    try:
        folders = file.relative_to(root).parts[:-1]
    except ValueError:
        folders = file.parts[:-1]
    pairs = [folder.split("=", 1) for folder in folders if "=" in folder]
    return {unquote(name): "" if value == _HIVE_NULL else unquote(value) for name, value in pairs}


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts ``part-2`` before ``part-10``."""
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", str(path)) if piece]


def _listed(names: Sequence[str] | dict[str, str]) -> str:
    return shown_names(names) or "none"


def _holdings(folder: Path) -> str:
    return shown_names((entry.name for entry in sorted(folder.iterdir())), most=12) or "nothing"
