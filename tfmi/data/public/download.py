"""Fetching MovieLens from its public home, with nothing trusted: size, members, headers and counts are checked before it is kept."""

from __future__ import annotations

import http.client
import logging
import os
import re
import tempfile
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import IO

from tfmi.core.errors import DataError
from tfmi.data.public.movielens import MOVIES_FILE, RATINGS_FILE, TAGS_FILE

logger = logging.getLogger(__name__)

MOVIELENS_URL = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
FOLDER_NAME = "ml-latest-small"
README_FILE = "README.txt"
HEADERS = {RATINGS_FILE: "userId,movieId,rating,timestamp", MOVIES_FILE: "movieId,title,genres", TAGS_FILE: "userId,movieId,tag,timestamp"}
# The archive has about 1 MB and unpacks to about 3.
MAX_ARCHIVE_BYTES = 20 << 20
MAX_MEMBER_BYTES = 50 << 20
TIMEOUT_SECONDS = 30
# What reading a damaged or foreign archive can raise; RuntimeError is an encrypted member.
_DAMAGE = (DataError, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, UnicodeDecodeError)
# The archive changes over the years; each edition's README states its counts.
_STATED_COUNTS = re.compile(r"contains (\d+) ratings and (\d+) tag applications across (\d+) movies")


def fetch_movielens(cache: Path, url: str) -> Path:
    """Return the folder of MovieLens latest-small in ``cache``, downloading and checking it if it is not there yet.

    The folder appears complete or not at all.

    Args:
        cache: Where downloads are kept.
        url: Where the archive is, ``MOVIELENS_URL`` or a mirror.

    Raises:
        DataError: It cannot be downloaded, or is not what it should be; the message says what to download and where to put it.
    """
    folder = cache / FOLDER_NAME
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{FOLDER_NAME}.") as temporary:
        archive, unpacked = Path(temporary) / "archive.zip", Path(temporary) / FOLDER_NAME
        logger.info("downloading %s", url)
        try:
            _download(url, archive)
        except (OSError, http.client.HTTPException, DataError) as error:
            raise DataError(f"cannot download {url}: {error}. {_by_hand(folder, url)}") from None
        try:
            _unpack(archive, unpacked)
            _check_counts(unpacked)
        except _DAMAGE as error:
            raise DataError(f"{url}: not the expected archive: {error}. {_by_hand(folder, url)}") from None
        try:
            os.replace(unpacked, folder)
        except OSError:
            # Another run may have put it there in the meantime: theirs has passed the same checks.
            if not folder.is_dir():
                raise
    logger.info("unpacked into %s", folder)
    return folder


def _by_hand(folder: Path, url: str) -> str:
    return (
        f"Download {url} on a machine with internet access, unpack it, and either give its folder with --data or put it at {folder} "
        f"(it holds {', '.join(HEADERS)})"
    )


def _download(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response, target.open("wb") as file:  # noqa: S310 - our own address
        _copy_at_most(response, file, MAX_ARCHIVE_BYTES, "the archive")


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack only the members that are needed, by their exact names, so that no member can choose where it is written."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as content:
        present = set(content.namelist())
        for name in (*HEADERS, README_FILE):
            member = f"{FOLDER_NAME}/{name}"
            if member not in present:
                raise DataError(f"it has no member {member}; it has: {', '.join(sorted(present)[:12])}")
            with content.open(member) as source, (folder / name).open("wb") as target:
                _copy_at_most(source, target, MAX_MEMBER_BYTES, member)


def _check_counts(folder: Path) -> None:
    stated = _STATED_COUNTS.search((folder / README_FILE).read_text(encoding="utf-8", errors="replace"))
    if stated is None:
        raise DataError(f"{README_FILE} does not state the numbers of ratings, tags and movies")
    for name, expected in zip((RATINGS_FILE, TAGS_FILE, MOVIES_FILE), stated.groups(), strict=True):
        with (folder / name).open(encoding="utf-8") as file:
            header = next(file, "").rstrip("\r\n")
            rows = sum(1 for _ in file)
        if header != HEADERS[name]:
            raise DataError(f"{name} has the header {header[:120]!r}, expected {HEADERS[name]!r}")
        if rows != int(expected):
            raise DataError(f"{name} has {rows:,} rows, but {README_FILE} states {int(expected):,}")


def _copy_at_most(source: IO[bytes], target: IO[bytes], limit: int, what: str) -> None:
    """Copy a stream; raises ``DataError`` as soon as it proves longer than ``limit`` bytes."""
    copied = 0
    while block := source.read(1 << 16):
        copied += len(block)
        if copied > limit:
            raise DataError(f"{what} is longer than {limit:,} bytes")
        target.write(block)
