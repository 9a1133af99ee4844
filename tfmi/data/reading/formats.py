"""Which format a file has, how it is packed and encoded, and its bytes."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pyarrow as pa

from tfmi.config import FileConfig
from tfmi.core.errors import DataError
from tfmi.core.text import shown_names

Format = Literal["delimited", "json", "parquet"]
Compression = Literal["", "gzip", "bz2", "zstd", "zip"]

# The delimiter of each delimited suffix; None: found in the first line.
DELIMITERS: dict[str, str | None] = {".csv": ",", ".tsv": "\t", ".txt": None, ".dat": None}
_SUFFIXES: dict[str, Format] = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".txt": "delimited",
    ".dat": "delimited",
}
_NAMED: dict[str, tuple[Format, str]] = {
    "csv": ("delimited", ".csv"),
    "tsv": ("delimited", ".tsv"),
    "jsonl": ("json", ".jsonl"),
    "json": ("json", ".json"),
    "parquet": ("parquet", ".parquet"),
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".zip": "zip"}
_SPOKEN = {"gzip": "gzip", "bz2": "bzip2", "zstd": "Zstandard", "zip": "zip"}
SUFFIXES = [
    *_SUFFIXES,
    *(suffix + packed for packed in _COMPRESSIONS for suffix, kind in _SUFFIXES.items() if kind != "parquet"),
    ".zip",
]
# What a folder may well hold beside its data; for those suffixes a name alone does not say that it is a table.
VAGUE_SUFFIXES = frozenset(suffix for suffix in SUFFIXES if suffix.startswith((".txt", ".dat", ".json.", ".zip")) or suffix == ".json")

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
        suffix: The suffix that stands for the format, without that of the compression.
        compression: How it is packed; "" if it is not.
        options: How a text file is written.
        partitions: Columns whose one value is part of the path, as in ``day=2024-05-01/``.
    """

    path: Path
    format: Format
    suffix: str
    compression: Compression = ""
    options: FileConfig = field(default_factory=FileConfig)
    partitions: dict[str, str] = field(default_factory=dict)


def table_file(path: str | Path, options: FileConfig | None = None, partitions: dict[str, str] | None = None) -> TableFile:
    """Describe a file by its name, or by ``options.format``.

    Raises:
        DataError: It is absent, not a file, of an unknown suffix, or an archive of several files.
    """
    path, options = Path(path), options or FileConfig()
    require_path(path)
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found a folder")
    name = path.name.lower()
    packed = next((suffix for suffix in _COMPRESSIONS if name.endswith(suffix)), "")
    compression = _COMPRESSIONS.get(packed, "")
    name = name.removesuffix(packed)
    if options.format != "auto":
        kind, suffix = _NAMED[options.format]
    else:
        if compression == "zip" and _table_suffix(name) is None:
            name = _member(path)[1].filename.lower()
        found = _table_suffix(name)
        if found is None or (_SUFFIXES[found] == "parquet" and compression):
            raise DataError(
                f"{path}: cannot tell the format from the name; expected one of {', '.join(_SUFFIXES)}, those of text also packed "
                f"({', '.join(_COMPRESSIONS)}), or set data.log.format (catalogue_file.format, users_file.format) to csv, tsv, jsonl, "
                "json or parquet; save a spreadsheet, or a table of another program, as one of these"
            )
        kind, suffix = _SUFFIXES[found], found
    return TableFile(path, kind, suffix, compression, options, partitions or {})


def require_path(path: Path, what: str = "file; check the path") -> None:
    """Raise ``DataError`` if there is nothing at ``path``, or if no such path can be; ``what`` is missing, and what to do."""
    try:
        if path.exists():
            return
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no such {what} ({getattr(error, 'strerror', None) or error})") from None
    raise DataError(f"{path}: no such {what}")


def known_suffix(path: Path) -> str | None:
    """The suffix of ``path`` that says its format, that of the compression included, or None."""
    name = path.name.lower()
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), None)


def line_blocks(file: TableFile, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The file's text in blocks of whole lines, unpacked, in UTF-8, without a byte order mark. Only the last line may lack its line end.

    Raises:
        DataError: The file is empty, damaged, cut short, in another encoding, cannot be read, ends its lines with carriage returns
            alone, or has a line of over 64 MB.
    """
    carry = b""
    first = True
    for part in text_blocks(file, block_bytes):
        block = carry + part
        cut = block.rfind(b"\n") + 1
        if first and not cut and b"\r" in block.rstrip(b"\r"):
            raise DataError(
                f"{file.path}: its lines end with a carriage return alone (CR), as old programs write them; expected a line feed (LF) or "
                "CR LF; convert it, e.g. with tr '\\r' '\\n'"
            )
        first = first and not cut
        if cut:
            yield block[:cut]
        carry = block[cut:]
        if len(carry) > LONGEST_LINE_BYTES:
            raise DataError(f"{file.path}: {LONGEST_LINE_BYTES >> 20} MB without a line end; expected a text file of rows")
    if carry:
        yield carry


def text_blocks(file: TableFile, block_bytes: int = BLOCK_BYTES, *, allow_empty: bool = False) -> Iterator[bytes]:
    """The file's text in blocks, cut anywhere between characters: unpacked, in UTF-8, without a byte order mark; see ``line_blocks``.

    With ``allow_empty`` an empty file has no blocks instead of being refused.
    """
    encoding = file.options.encoding
    is_utf8 = codecs.lookup(encoding).name in {"utf-8", "ascii", "utf-8-sig"}
    # Bytes that the encoding lacks go through as they are, are no UTF-8, and their rows are rejected.
    decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
    first = True
    with _open(file) as stream:
        while block := stream.read(block_bytes):
            if not is_utf8:
                block = _decoded(file, decoder, block, final=False)
            elif first and block.startswith(_UTF16_MARKS):
                raise DataError(f"{file.path}: the file is in UTF-16; expected UTF-8; set data.log.encoding: utf-16")
            yield block.removeprefix(_UTF8_MARK) if first else block
            first = False
    if first and allow_empty:
        return
    if first:
        raise DataError(f"{file.path}: the file is empty; expected {'a header and rows' if file.format == 'delimited' else 'rows'}")
    if not is_utf8:
        yield _decoded(file, decoder, b"", final=True)


def split_lines(block: bytes) -> list[bytes]:
    """The lines of a block with their line ends. Only a line feed ends a line, so that line numbers are those of ``wc`` and editors."""
    *whole, rest = block.split(b"\n")
    lines = [line + b"\n" for line in whole]
    return [*lines, rest] if rest else lines


def _table_suffix(name: str) -> str | None:
    return next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)


def _decoded(file: TableFile, decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool) -> bytes:
    try:
        return decoder.decode(block, final).encode("utf-8", "surrogateescape")
    except UnicodeError as error:
        raise DataError(f"{file.path}: not text in {file.options.encoding}: {error}; set data.log.encoding to what it is in") from None


@contextlib.contextmanager
def _open(file: TableFile) -> Iterator[BinaryIO]:
    try:
        with contextlib.ExitStack() as stack:
            if file.compression == "zip":
                archive, member = _member(file.path)
                stack.enter_context(archive)
                yield cast(BinaryIO, stack.enter_context(archive.open(member)))
                return
            plain = stack.enter_context(file.path.open("rb"))
            if file.compression == "gzip":
                yield cast(BinaryIO, gzip.GzipFile(fileobj=plain))
            elif file.compression == "bz2":
                yield cast(BinaryIO, bz2.BZ2File(plain))
            elif file.compression == "zstd":
                yield cast(BinaryIO, stack.enter_context(pa.CompressedInputStream(pa.PythonFile(plain, "r"), "zstd")))
            else:
                yield plain
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(file, error) from None
    except (NotImplementedError, RuntimeError) as error:  # zip: encrypted, or packed in a rare way
        raise DataError(f"{file.path}: cannot be unpacked: {error}; unpack it yourself") from None
    except OSError as error:
        if file.compression and error.errno is None:
            raise _damaged(file, error) from None
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from None


def _damaged(file: TableFile, error: Exception) -> DataError:
    return DataError(f"{file.path}: the {_SPOKEN[file.compression]} file is damaged or cut short ({error}); fetch or write it again")


def _member(path: Path) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    """The archive and its one member; folders and what macOS adds do not count."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: the zip file is damaged or cut short ({error}); fetch or write it again") from None
    members = [member for member in archive.infolist() if not member.is_dir() and not member.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        names = shown_names((member.filename for member in members), most=6) or "nothing"
        archive.close()
        raise DataError(f"{path}: expected a zip file with one file in it, found {len(members)} ({names}); unpack it and name the folder")
    return archive, members[0]
