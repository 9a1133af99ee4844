"""Which format a file has, by its suffix, and its bytes."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from tfmi.core.errors import DataError

Format = Literal["delimited", "json_lines", "parquet"]

_SUFFIXES: dict[str, Format] = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SUFFIXES = [*_SUFFIXES, *(f"{suffix}.gz" for suffix, kind in _SUFFIXES.items() if kind != "parquet")]

BLOCK_BYTES = 8 << 20
LONGEST_LINE_BYTES = 64 << 20
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class TableFile:
    """A file of rows.

    Attributes:
        path: Where it lies.
        format: How rows are written.
        suffix: The suffix of the format, without ``.gz``.
        compressed: Whether it is gzipped.
    """

    path: Path
    format: Format
    suffix: str
    compressed: bool


def table_file(path: str | Path) -> TableFile:
    """Describe a file by its name; raises ``DataError`` if it is absent, not a file, or of an unknown suffix."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found a folder")
    suffix = known_suffix(path)
    if suffix is None:
        raise DataError(f"{path}: cannot tell the format from the name; expected one of {', '.join(SUFFIXES)}")
    compressed = suffix.endswith(".gz")
    plain = suffix.removesuffix(".gz")
    return TableFile(path, _SUFFIXES[plain], plain, compressed)


def known_suffix(path: Path) -> str | None:
    """The suffix of ``path`` that says its format, ``.gz`` included, or None."""
    name = path.name.lower()
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), None)


def line_blocks(file: TableFile, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The file's bytes in blocks of whole lines, unpacked, without a byte order mark. Only the last line may lack its line end.

    Raises:
        DataError: The file is empty, damaged, cut short, in UTF-16, cannot be read, or has a line of over 64 MB.
    """
    carry = b""
    first = True
    with _open(file) as stream:
        while block := stream.read(block_bytes):
            block = carry + block
            if first:
                block = _without_mark(file, block)
                first = False
            cut = block.rfind(b"\n") + 1
            if cut:
                yield block[:cut]
            carry = block[cut:]
            if len(carry) > LONGEST_LINE_BYTES:
                raise DataError(f"{file.path}: {LONGEST_LINE_BYTES >> 20} MB without a line end; expected a text file of rows")
    if first:
        raise DataError(f"{file.path}: the file is empty; expected {'a header and rows' if file.format == 'delimited' else 'rows'}")
    if carry:
        yield carry


def split_lines(block: bytes) -> list[bytes]:
    """The lines of a block with their line ends. Only a line feed ends a line, so that line numbers are those of ``wc`` and editors."""
    *whole, rest = block.split(b"\n")
    lines = [line + b"\n" for line in whole]
    return [*lines, rest] if rest else lines


@contextlib.contextmanager
def _open(file: TableFile) -> Iterator[BinaryIO]:
    try:
        with file.path.open("rb") as plain:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if file.compressed else plain
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file.path}: the gzip file is damaged or cut short ({error}); fetch or write it again") from None
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from None


def _without_mark(file: TableFile, block: bytes) -> bytes:
    if block.startswith(_UTF16_MARKS):
        raise DataError(f"{file.path}: the file is in UTF-16; expected UTF-8, convert it, e.g. with iconv -f UTF-16 -t UTF-8")
    return block.removeprefix(_UTF8_MARK)
