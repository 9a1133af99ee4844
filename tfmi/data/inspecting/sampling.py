"""The columns of a table and the text of its first rows, whatever its format."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tfmi.config import FileConfig
from tfmi.core.errors import DataError
from tfmi.data.reading.checks import looks_like_data
from tfmi.data.reading.delimited import delimited_columns
from tfmi.data.reading.formats import TableFile, line_blocks, text_blocks
from tfmi.data.reading.json_rows import expected_instead_of, refuse_table_in_one_object
from tfmi.data.reading.parquet import parquet_columns
from tfmi.data.reading.readers import read_rows
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest
from tfmi.data.reading.shapes import nested_names
from tfmi.data.reading.sources import TableSource, table_source

SAMPLE_ROWS = 20_000
SAMPLE_BYTES = 2 << 20
# What may separate the cells of a file whose suffix says a comma, but whose first line has none.
OTHER_DELIMITERS = (";", "\t", "|", "::")


@dataclass(frozen=True)
class Sample:
    """What the beginning of a table shows.

    Attributes:
        source: Its files.
        options: How they are written; where the suffix's delimiter splits nothing, another one that does.
        columns: The names of all columns, paths into lists and objects included.
        texts: The first rows of the columns that hold single values.
        nested: The columns that hold lists or objects.
        looks_headerless: A value in the header that looks like data, if any; else "".
        repeated: Names that several columns have, of which none can be read.
    """

    source: TableSource
    options: FileConfig
    columns: tuple[str, ...]
    texts: Mapping[str, pa.Array]
    nested: tuple[str, ...] = ()
    looks_headerless: str = ""
    repeated: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(next(iter(self.texts.values()))) if self.texts else 0


def take_sample(path: str | Path, options: FileConfig | None = None) -> Sample:
    """Look at the beginning of a table.

    Args:
        path: A file, a folder of part files or a pattern.
        options: How it is written, as far as that is said.

    Raises:
        DataError: It cannot be read.
    """
    options = options or FileConfig()
    source = table_source(path, options)
    first = source.parts[0]
    names = _names(first)
    if first.format == "delimited" and len(names) == 1 and options.delimiter is None:
        delimiter = next((each for each in OTHER_DELIMITERS if each in names[0]), None)
        if delimiter is not None:
            return take_sample(path, options.model_copy(update={"delimiter": delimiter}))
    headerless = looks_like_data(names) or "" if first.format == "delimited" and options.header else ""
    if headerless:
        # Read without a header, so that no row is lost; columns are then called by their numbers.
        bare = take_sample(path, options.model_copy(update={"header": False}))
        return Sample(bare.source, bare.options, bare.columns, bare.texts, bare.nested, headerless)
    unique = [name for name in dict.fromkeys(names) if names.count(name) == 1]
    texts = _first_rows(source, unique, options)
    nested = _nested(first, texts)
    kept = {name: text for name, text in texts.items() if name not in nested}
    # Paths into several lists of one row need not go side by side, so each is looked at by itself.
    for inner in (inner for name in nested for inner in nested[name]):
        kept |= _first_rows(source, [inner], options)
    repeated = tuple(name for name in dict.fromkeys(names) if name not in unique)
    return Sample(source, options, tuple(kept), kept, tuple(nested), repeated=repeated)


def column_names(path: str | Path, options: FileConfig) -> list[str]:
    """The names of a table's own columns; raises ``DataError`` if it cannot be read."""
    return _names(table_source(path, options).parts[0])


def _names(part: TableFile) -> list[str]:
    if part.format == "delimited":
        return [*delimited_columns(part), *part.partitions]
    if part.format == "parquet":
        return [*parquet_columns(part), *part.partitions]
    rows = _json_rows(part)
    refuse_table_in_one_object(part, rows)
    return [*dict.fromkeys(key for row in rows for key in row), *part.partitions]


def _json_rows(part: TableFile) -> list[dict[str, Any]]:
    """The objects at the beginning of a file of JSON."""
    block = next(iter(text_blocks(part, SAMPLE_BYTES))).decode("utf-8", "replace")
    rows: list[Any] = []
    if block.lstrip().startswith("["):
        decoder, place = json.JSONDecoder(), _after_blanks(block, block.index("[") + 1)
        while len(rows) < SAMPLE_ROWS:
            try:
                row, place = decoder.raw_decode(block, place)
            except ValueError:
                break
            rows.append(row)
            place = _after_blanks(block, place)
    else:
        for line in next(iter(line_blocks(part, SAMPLE_BYTES))).decode("utf-8", "replace").splitlines()[:SAMPLE_ROWS]:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return [row for row in rows if isinstance(row, dict)]


def _after_blanks(block: str, place: int) -> int:
    """The next place that is neither blank nor a comma."""
    while place < len(block) and block[place] in " \t\r\n,":
        place += 1
    return place


def _first_rows(source: TableSource, names: Sequence[str], options: FileConfig) -> dict[str, pa.Array]:
    """The first rows, lists and objects as JSON text."""
    if not names:
        raise DataError(f"{source.path}: no columns; expected {_expected(source.parts[0])}")
    request = ColumnRequest(names, codes=frozenset(names), lists=frozenset(names))
    with tempfile.TemporaryDirectory() as folder, Rejects(source.path, Path(folder) / "rejects.jsonl") as rejects:
        for chunk in read_rows(source, request, rejects, options, block_bytes=SAMPLE_BYTES):
            if len(chunk):
                return {name: chunk.columns[name][:SAMPLE_ROWS] for name in names if name in chunk.columns}
        if rejects.total:
            raise DataError(f"{source.path}: no row can be read:\n{rejects.reasons()}")
    raise DataError(f"{source.path}: the file holds no rows; expected one row per event")


def _expected(part: TableFile) -> str:
    """What a file without a column should hold."""
    if part.format == "delimited":
        return "rows of events"
    line = next((line for line in next(line_blocks(part, SAMPLE_BYTES), b"").splitlines() if line.strip()), b"")
    return (
        f"{expected_instead_of(line) or 'rows of events, each a JSON object'}; its first line is {line[:80].decode('utf-8', 'replace')!r}"
    )


def _nested(part: TableFile, texts: Mapping[str, pa.Array]) -> dict[str, list[str]]:
    """The columns whose cells are lists or objects, with the paths into them; of delimited text only objects, which are JSON there, too."""
    opening = ("{",) if part.format == "delimited" else ("[", "{")
    found: dict[str, list[str]] = {}
    for name, text in texts.items():
        cell = next((cell for cell in text[:100].to_pylist() if cell.startswith(opening)), None)
        if cell is None:
            continue
        try:
            paths = nested_names({name: json.loads(cell)})
        except ValueError:
            continue
        if paths:
            found[name] = paths
    return found
