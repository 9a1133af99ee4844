"""Every user's best tags, from an exported model into Parquet, in memory that does not grow with the number of users.

Users are scored part by part. A part's file appears complete or not at all, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from tqdm import tqdm

from tfmi.core.errors import ConfigError, DataError
from tfmi.core.files import write_json
from tfmi.data.reading.checks import ChunkChecks, parse_tags
from tfmi.data.reading.formats import table_file
from tfmi.data.reading.readers import read_rows
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import ColumnRequest, RowChunk
from tfmi.export.exported_model import ExportedModel
from tfmi.export.tags.user_fields import Request, UserFields

log = logging.getLogger(__name__)

MANIFEST = "scoring.json"


class Users(NamedTuple):
    """Some users: their ids, and what a model is asked about them."""

    ids: list[str]
    request: Request

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> Users:
        """Some of them."""
        return Users(self.ids[start:stop], {name: values[start:stop] for name, values in self.request.items()})


class UserSource(Protocol):
    """Users in an order that is the same every time."""

    def chunks(self) -> Iterator[Users]:
        """All of them, in chunks of any size."""

    def total(self) -> int | None:
        """How many there are, if that is known beforehand."""

    def fingerprint(self) -> dict[str, Any]:
        """What tells these users from others."""


class UserFile:
    """Users in a Parquet, CSV, TSV or JSON Lines file, one row each, columns called as the model's fields are.

    Rows that cannot be used are written to a rejects file, with the reason. A column that the file lacks is unknown for everybody.

    Args:
        path: The file.
        fields: The model's fields.
        user_column: The column of ids.
        rejects_path: Where rejected rows go.
        separator: Between the values of a cell that holds several, ``value|value:weight``.
        delimiter: Between cells of CSV and TSV; None: by the suffix.

    Raises:
        DataError: There is no such file, or it has none of the fields.
    """

    def __init__(
        self,
        path: Path,
        fields: UserFields,
        *,
        user_column: str,
        rejects_path: Path,
        separator: str = "|",
        delimiter: str | None = None,
    ) -> None:
        self._file = table_file(path)
        if user_column in fields.kinds:
            raise DataError(f"--user-column: {user_column!r} is a field of the model, not the users' id")
        self._fields, self._user_column, self._rejects_path = fields, user_column, rejects_path
        self._separator, self._delimiter = separator, delimiter

    def chunks(self) -> Iterator[Users]:
        """See ``UserSource``; logs at the end what was rejected."""
        request = ColumnRequest(
            required=[self._user_column],
            optional=list(self._fields.kinds),
            lists=frozenset(self._fields.multi_valued),
            separator=self._separator,
            hints={self._user_column: "Name the column of user ids with --user-column"},
        )
        seen = 0
        with Rejects(self._file.path, self._rejects_path) as rejects:
            for rows in read_rows(self._file.path, request, rejects, delimiter=self._delimiter):
                if not seen and not set(rows.columns) & set(self._fields.kinds):
                    raise DataError(f"{self._file.path}: none of the model's fields is there: {', '.join(sorted(self._fields.kinds))}")
                seen += rows.seen
                if len(rows):
                    yield self._checked(rows, ChunkChecks(rows, rejects))
            rejects.log_summary(seen)

    def total(self) -> int | None:
        """See ``UserSource``."""
        return pyarrow.parquet.read_metadata(self._file.path).num_rows if self._file.format == "parquet" else None

    def fingerprint(self) -> dict[str, Any]:
        """See ``UserSource``."""
        status = self._file.path.stat()
        return {
            "file": str(self._file.path.resolve()),
            "bytes": status.st_size,
            "modified": status.st_mtime_ns,
            "user_column": self._user_column,
            "separator": self._separator,
            "delimiter": self._delimiter,
        }

    def _checked(self, rows: RowChunk, checks: ChunkChecks) -> Users:
        checks.require_text(self._user_column, "empty_user")
        columns: dict[str, Any] = {}
        for name, kind in self._fields.kinds.items():
            if name not in rows.columns:
                continue
            if kind == "number":
                columns[name] = checks.numbers(name)
            elif kind == "categorical":
                columns[name] = [text.strip() for text in rows.columns[name].to_pylist()]
            else:
                parsed = [parse_tags(text, self._separator) for text in rows.columns[name].to_pylist()]
                checks.reject(np.array([cell is None for cell in parsed], dtype=bool), name, "bad_tag_weight")
                columns[name] = [cell or [] for cell in parsed]
        kept = np.flatnonzero(checks.kept)
        ids = rows.columns[self._user_column].to_pylist()
        request = self._fields.request(columns, len(rows))
        return Users([ids[place] for place in kept], {name: values[kept] for name, values in request.items()})


@dataclass(frozen=True)
class UsersInMemory:
    """Users that are there already, such as those of a dataset."""

    name: str
    users: Users

    def chunks(self) -> Iterator[Users]:
        """See ``UserSource``."""
        yield self.users

    def total(self) -> int | None:
        """See ``UserSource``."""
        return len(self.users)

    def fingerprint(self) -> dict[str, Any]:
        """See ``UserSource``."""
        return {"dataset": self.name, "users": len(self.users)}


class TagScorer:
    """Asks a model for users' best tags.

    Args:
        model: An exported user-tag model.
        batch_size: Users per request.
        most: Tags per user and task at most; None: all that the model answers.
    """

    def __init__(self, model: ExportedModel, batch_size: int, most: int | None = None) -> None:
        self._model, self._batch_size = model, batch_size
        answered = int(model.metadata["widths"]["num_results"])
        if most is not None and most > answered:
            raise ConfigError(f"--top {most}: this model answers with {answered} tags; export with --set export.num_results={most}")
        self._most = most or answered
        self._outputs: dict[str, str] = {task["task"]: task["output"] for task in model.metadata["tasks"]}
        if set(self._outputs) & {"user_id", "cold_start"}:
            raise ConfigError("a task called user_id or cold_start would have that column's name; rename it")
        columns = [("user_id", pa.string()), ("cold_start", pa.bool_())]
        for task in self._outputs:
            columns += [(f"{task}_tags", pa.list_(pa.string())), (f"{task}_scores", pa.list_(pa.float32()))]
        self.schema = pa.schema(columns)

    def score(self, users: Users) -> Iterator[pa.RecordBatch]:
        """The users' tags, batch by batch."""
        for start in range(0, len(users), self._batch_size):
            batch = users.rows(start, start + self._batch_size)
            answer = self._model.predict("user_tags", batch.request)
            columns: list[Any] = [pa.array(batch.ids, pa.string()), pa.array(answer["cold_start"])]
            for key in self._outputs.values():
                columns += _lists(answer[f"{key}_tags"][:, : self._most], answer[f"{key}_scores"][:, : self._most])
            yield pa.record_batch(columns, schema=self.schema)


def _lists(tags: np.ndarray, scores: np.ndarray) -> list[pa.Array]:
    """The cells of two columns, without padding."""
    found = tags != b""
    offsets = pa.array(np.concatenate([[0], np.cumsum(found.sum(axis=1))]).astype(np.int32))
    names = pa.array([tag.decode("utf-8") for tag in tags[found]], pa.string())
    return [pa.ListArray.from_arrays(offsets, names), pa.ListArray.from_arrays(offsets, pa.array(scores[found]))]


def score_users(
    scorer: TagScorer, source: UserSource, output: Path, *, settings: Mapping[str, Any], part_rows: int, progress: bool = True
) -> int:
    """Score all users of a source.

    Args:
        scorer: Asks the model.
        source: The users.
        output: A folder of part files; or, with the suffix ``.parquet``, one file, made of the parts once all are there.
        settings: What the result depends on besides the source: another run in the same place has to have the same.
        part_rows: Users per part.
        progress: Whether to show a progress bar.

    Returns:
        The number of users in the output.

    Raises:
        ConfigError: The place holds something else, or what a run with other settings left.
        DataError: There is nobody to score.
    """
    single = output.suffix == ".parquet"
    if single and output.exists():
        raise ConfigError(f"{output}: exists already; remove it, or name another output")
    folder = parts_folder(output)
    _claim(folder, {**settings, "part_rows": part_rows, "source": source.fingerprint()})
    total = 0
    with tqdm(total=source.total(), unit=" users", desc="scoring", disable=not progress) as bar:
        for number, users in enumerate(_in_parts(source.chunks(), part_rows)):
            path = folder / f"part-{number:05}.parquet"
            if not path.exists():
                _write_part(path, scorer, users, bar)
            else:
                bar.update(len(users))
            total += len(users)
    if not total:
        raise DataError("there is nobody to score: no row is left; see the rejects")
    if single:
        _merge(folder, output, scorer.schema)
    return total


def parts_folder(output: Path) -> Path:
    """Where the part files of an output are."""
    return output.with_name(f"{output.name}.parts") if output.suffix == ".parquet" else output


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder of this run, or go on with what the same run has begun."""
    manifest = folder / MANIFEST
    if not folder.exists():
        write_json(manifest, settings)
        return
    if not manifest.is_file():
        if any(folder.iterdir()):
            raise ConfigError(f"{folder}: holds something else than scored users; name another output")
        write_json(manifest, settings)
        return
    found = json.loads(manifest.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(dict(settings)))
    differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if differing:
        raise ConfigError(
            f"{folder}: was begun with other settings ({', '.join(differing)}); remove it to begin afresh, or name another output"
        )
    log.info("Going on with %s", folder)


def _in_parts(chunks: Iterator[Users], part_rows: int) -> Iterator[Users]:
    """The same users, so many at a time."""
    waiting: list[Users] = []
    count = 0
    for chunk in chunks:
        waiting.append(chunk)
        count += len(chunk)
        if count < part_rows:
            continue
        joined = _joined(waiting)
        whole = count - count % part_rows
        yield from (joined.rows(start, start + part_rows) for start in range(0, whole, part_rows))
        waiting, count = [joined.rows(whole, count)], count - whole
    if count:
        yield _joined(waiting)


def _joined(users: list[Users]) -> Users:
    request = {name: np.concatenate([each.request[name] for each in users]) for name in users[0].request}
    return Users([identifier for each in users for identifier in each.ids], request)


def _write_part(path: Path, scorer: TagScorer, users: Users, bar: tqdm) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with pyarrow.parquet.ParquetWriter(temporary, scorer.schema) as writer:
            for batch in scorer.score(users):
                writer.write_batch(batch)
                bar.update(batch.num_rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _merge(folder: Path, output: Path, schema: pa.Schema) -> None:
    """Make one file of all parts, a row group each, and remove them."""
    temporary = folder / f".merged.{os.getpid()}"
    with pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for part in sorted(folder.glob("part-*.parquet")):
            writer.write_table(pyarrow.parquet.read_table(part))
    os.replace(temporary, output)
    shutil.rmtree(folder)
