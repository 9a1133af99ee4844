"""What a model answers for many users, into Parquet, in memory that does not grow with their number.

Users are asked about part by part. A part's file appears complete or not at all, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from tqdm import tqdm

from tfmi.bulk.users import Users, UserSource, in_parts
from tfmi.core.errors import ConfigError, DataError
from tfmi.core.files import file_appears_complete, remove_leftovers, write_json
from tfmi.core.folder_lock import only_holder

log = logging.getLogger(__name__)

ANY_PART = "part-*.parquet"
MANIFEST = "_answers.json"  # which readers of a folder of Parquet files pass over
LOCK = ".lock"


class Answers(Protocol):
    """What a model is asked, and the table that its answers make.

    Attributes:
        schema: The columns of the table.
    """

    schema: pa.Schema

    def answer(self, users: Users) -> Iterator[pa.RecordBatch]:
        """The rows of these users, in order, batch by batch."""


def list_columns(identifiers: np.ndarray, *values: np.ndarray) -> list[pa.Array]:
    """The cells of list columns without padding: ids ``bytes`` [B, n], b"" where there is none, and values beside them [B, n]."""
    found = identifiers != b""
    names = pa.array(identifiers[found], pa.binary()).cast(pa.string())
    return lists_of(found, names, *(column[found] for column in values))


def lists_of(found: np.ndarray, *values: pa.Array | np.ndarray) -> list[pa.ListArray]:
    """The cells of list columns of equal lengths: of each row the values where ``found`` bool [B, n] is true, which ``values`` hold
    row by row."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(found.sum(axis=1))]).astype(np.int32))
    return [pa.ListArray.from_arrays(offsets, each if isinstance(each, pa.Array) else pa.array(each)) for each in values]


def write_answers(
    answers: Answers, source: UserSource, output: Path, *, settings: Mapping[str, Any], part_rows: int, progress: bool = True
) -> int:
    """Ask about all users of a source.

    Args:
        answers: Asks the model.
        source: The users.
        output: A folder of part files; or, with the suffix ``.parquet``, one file, made of the parts once all are there.
        settings: What the result depends on besides the source: another run in the same place has to have the same.
        part_rows: Users per part.
        progress: Whether to show a progress bar.

    Returns:
        The number of users in the output.

    Raises:
        ConfigError: The place holds something else, or what a run with other settings left; or another process is writing there.
        DataError: There is nobody to ask about.
        StorageError: There is no space; with more of it the same call goes on behind the last part.
    """
    folder = parts_folder(output)
    lock = only_holder(folder / LOCK, f"{output}")
    try:
        return _write_answers(answers, source, output, folder, settings={**settings, "part_rows": part_rows}, progress=progress)
    finally:
        lock.release_and_remove()
        with contextlib.suppress(OSError):  # where nothing was begun
            folder.rmdir()


def _write_answers(answers: Answers, source: UserSource, output: Path, folder: Path, *, settings: Mapping[str, Any], progress: bool) -> int:
    single, part_rows = folder != output, settings["part_rows"]
    if single and output.exists():
        raise ConfigError(f"{output}: exists already; remove it, or name another output")
    remove_leftovers(folder)
    claim(folder, {**settings, "source": source.fingerprint()})
    total = 0
    with tqdm(total=source.total(), unit=" users", desc="asking", disable=not progress) as bar:
        for number, users in enumerate(in_parts(source.chunks(), part_rows)):
            path = folder / part_name(number)
            if not path.exists():
                write_part(path, answers, [users], bar.update)
            else:
                bar.update(len(users))
            total += len(users)
    if not total:
        raise DataError("there is nobody to ask about: no row is left; see the rejects")
    if single:
        _merge(folder, output, answers.schema)
    return total


def parts_folder(output: Path) -> Path:
    """Where the part files of an output are."""
    return output.with_name(f"{output.name}.parts") if output.suffix == ".parquet" else output


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Begin in the folder, or go on with what the same run has begun. Hidden files, which killed processes leave, count as nothing."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        if any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise ConfigError(f"{folder}: holds something else than answers; name another output")
        write_json(manifest, settings)
        return
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{manifest}: is not what a run has written; remove the folder, or name another output") from None
    wanted = json.loads(json.dumps(dict(settings)))
    differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if differing and not any(folder.glob(ANY_PART)):
        write_json(manifest, settings)  # a run that ended before it answered anybody, on a wrong column, say, binds nobody
        return
    if differing:
        raise ConfigError(
            f"{folder}: was begun with other settings ({', '.join(differing)}); remove it to start over, or name another output"
        )
    log.info("Going on with %s", folder)


def part_name(number: int) -> str:
    """The file of a part."""
    return f"part-{number:05}.parquet"


def write_part(path: Path, answers: Answers, chunks: Iterable[Users], asked: Callable[[int], object]) -> None:
    """Ask about some users; their file appears complete or not at all.

    Args:
        path: The file.
        answers: Asks the model.
        chunks: The users.
        asked: Told how many users a request was about, once it is answered.
    """
    with file_appears_complete(path) as temporary, _writer(temporary, answers.schema) as writer:
        for users in chunks:
            for batch in answers.answer(users):
                writer.write_batch(batch)
                asked(batch.num_rows)


def _writer(path: Path, schema: pa.Schema) -> pyarrow.parquet.ParquetWriter:
    """Ids repeat, and are stored once; scores and vectors hardly do: looking for repeats in them is most of the time of writing them."""
    repeating = [name for field in schema for name in _leaves(field.type, field.name) if not pa.types.is_floating(_leaf_type(field.type))]
    return pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=repeating)


def _leaves(of_type: pa.DataType, name: str) -> list[str]:
    return _leaves(of_type.value_type, f"{name}.list.element") if hasattr(of_type, "value_type") else [name]


def _leaf_type(of_type: pa.DataType) -> pa.DataType:
    return _leaf_type(of_type.value_type) if hasattr(of_type, "value_type") else of_type


def _merge(folder: Path, output: Path, schema: pa.Schema) -> None:
    """Make one file of all parts, a row group each, and remove them."""
    parts = sorted(folder.glob("part-*.parquet"))
    wanted = sum(part.stat().st_size for part in parts)
    with file_appears_complete(output, wanted=wanted) as temporary, _writer(temporary, schema) as writer:
        for part in parts:
            writer.write_table(pyarrow.parquet.read_table(part))
    for part in parts:
        part.unlink()
    (folder / MANIFEST).unlink()
