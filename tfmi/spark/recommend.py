"""Everybody's recommendations, or best tags, by a cluster: the driver's side.

Users are read by tasks, file by file, or come from a table of Spark's; the CRC-32 of a user's id says which part the user belongs to. A
part is a Parquet file of the output, which appears complete or not at all: a run that was stopped asks about the missing parts alone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet

from tfmi.bulk.asking import answers_of, fields_of
from tfmi.bulk.item_vectors import write_item_vectors
from tfmi.bulk.parts import LOCK, claim, part_name
from tfmi.bulk.user_file import UserRows
from tfmi.config import FileConfig
from tfmi.core.errors import DataError
from tfmi.core.files import remove_leftovers, write_atomically, write_json
from tfmi.core.folder_lock import only_holder
from tfmi.data.reading.readers import check_alike
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.sources import TableSource, table_source
from tfmi.export.exported_model import ExportedModel
from tfmi.spark.log_tasks import READ, REJECTS, part_of
from tfmi.spark.session import SparkCluster
from tfmi.spark.user_tasks import ID, answer_parts, cell_schema, read_file_users, read_table_users
from tfmi.spark.work_folder import JOB, read_result, told

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)

SUCCESS = "_SUCCESS"
_WORK = ".work"
_PARTS_PATTERN = "part-*.parquet"


@dataclass(frozen=True)
class UserLocation:
    """Where the users are who are asked about; one of ``path`` and ``table``.

    Attributes:
        path: A file, a folder of part files or a pattern, as for ``tfmi.bulk.user_file.UserFile``.
        table: The name of one of Spark's tables, or what ``spark.read`` can load, as ``format:address``.
        user_column: The column of ids.
        columns: The column of a field whose name is another.
        separator: Between the values of a cell that holds several.
        delimiter: Between cells of CSV and TSV; None: by the suffix.
    """

    path: Path | None = None
    table: str | None = None
    user_column: str = "user_id"
    columns: Mapping[str, str] | None = None
    separator: str = "|"
    delimiter: str | None = None


@dataclass(frozen=True)
class Asking:
    """What is asked.

    Attributes:
        top: Items, or tags of each task, per user at most; None: all that the model answers.
        vectors: Whether to write users' interest vectors, and every item's vector beside the output.
        batch_size: Users per request.
        parts: Files that users are divided over.
    """

    top: int | None = None
    vectors: bool = False
    batch_size: int = 1024
    parts: int = 64


@dataclass(frozen=True)
class Recommending:
    """An exported model, asked about all users of files or of a table.

    Attributes:
        model: The model.
        savedmodel: Its version folder; every machine of the cluster sees it, the users' files and the output under the same names.
        asked: The users.
        asking: What is asked.
        output: A folder of part files, with the columns of ``tfmi.bulk``'s answers, and ``_SUCCESS`` when all are there.
        rejects_path: Where rejected rows go.
    """

    model: ExportedModel
    savedmodel: Path
    asked: UserLocation
    asking: Asking
    output: Path
    rejects_path: Path

    def run(self, cluster: SparkCluster) -> dict[str, Any]:
        """Ask about everybody whose part is not there.

        Args:
            cluster: Who works.

        Returns:
            Counts, for a report.

        Raises:
            ConfigError: The model answers with fewer, the output holds something else, or what a run with other settings left.
            DataError: The users cannot be read, or there are none.
            ClusterError: The cluster cannot be reached, or has failed.
        """
        asked, asking, output = self.asked, self.asking, self.output.absolute()
        answers_of(self.model, asking.batch_size, asking.top, vectors=asking.vectors)  # refuses what this model cannot answer
        rows = UserRows(fields_of(self.model), user_column=asked.user_column, columns=asked.columns, separator=asked.separator)
        source = None if asked.path is None else table_source(asked.path, FileConfig(delimiter=asked.delimiter))
        if source is not None:
            check_alike(source, rows.request())
        lock = only_holder(output / LOCK, f"{output}")
        try:
            remove_leftovers(output)
            claim(output, self._settings(rows, source))
            (output / SUCCESS).unlink(missing_ok=True)
            if asking.vectors:
                write_item_vectors(self.model, output.with_name(f"{output.name}.items"))
            counts = self._answer(rows, source, output, cluster)
            write_atomically(output / SUCCESS, "")
        finally:
            shutil.rmtree(output / _WORK, ignore_errors=True)
            lock.release_and_remove()
            with contextlib.suppress(OSError):  # where nothing was begun
                output.rmdir()
        return counts

    def _settings(self, rows: UserRows, source: TableSource | None) -> dict[str, Any]:
        """What the result depends on."""
        users = {"table": self.asked.table} if source is None else source.state()
        return {
            "savedmodel": str(self.savedmodel.resolve()),
            "created": self.model.metadata["created"],
            "source": {**users, **rows.settings(), "delimiter": self.asked.delimiter},
            **asdict(self.asking),
            "by": "spark",
        }

    def _answer(self, rows: UserRows, source: TableSource | None, output: Path, cluster: SparkCluster) -> dict[str, Any]:
        asking, work = self.asking, output / _WORK
        shutil.rmtree(work, ignore_errors=True)
        for name in (READ, REJECTS):
            (work / name).mkdir(parents=True)
        shown = str(self.asked.table if source is None else source.path)
        job = {
            "path": shown,
            "parts": [] if source is None else [part_of(source, number) for number in range(len(source.parts))],
            "options": FileConfig(delimiter=self.asked.delimiter).model_dump(mode="json"),
            "savedmodel": str(self.savedmodel.absolute()),
            "output": str(output),
            **rows.settings(),
            "top": asking.top,
            "vectors": asking.vectors,
            "batch_size": asking.batch_size,
        }
        write_json(work / JOB, job)
        there = sum((output / part_name(number)).exists() for number in range(asking.parts))
        if there:
            log.info("%s: %s of %s parts are there", output, f"{there:,}", f"{asking.parts:,}")
        with cluster.session(f"tfmi recommend {model_name(self.savedmodel)}") as session, told(work):
            cells = _cells(session, self.asked, rows, source, work)
            now = _ask(cells, asking, output, work)
            _join_rejects(work, shown, self.rejects_path)
        users = sum(pyarrow.parquet.read_metadata(path).num_rows for path in output.glob(_PARTS_PATTERN))
        if not users:
            raise DataError("there is nobody to ask about: no row is left; see the rejects")
        return {"users": users, "asked": now, "parts": len(list(output.glob(_PARTS_PATTERN)))}


def model_name(savedmodel: Path) -> str:
    """A model as Spark's pages call it: its name and version."""
    return "/".join(savedmodel.absolute().parts[-2:])


def _cells(session: SparkSession, asked: UserLocation, rows: UserRows, source: TableSource | None, work: Path) -> DataFrame:
    """Every good row as text."""
    schema = cell_schema(len(rows.columns))
    if source is not None:
        files = len(source.parts)
        return session.range(0, files, 1, files).mapInArrow(functools.partial(read_file_users, folder=str(work)), schema)
    table = _table(session, str(asked.table))
    if asked.user_column not in table.columns:
        raise DataError(f"{asked.table}: no column {asked.user_column!r}; it has: {', '.join(table.columns)}; name it with --user-column")
    rows.require_fields(asked.table, table.columns)
    wanted = dict.fromkeys([asked.user_column, *(name for name in rows.columns.values() if name in table.columns)])
    # Quoted, for a dot in a name would lead into a structure.
    own = table.select(*(f"`{name.replace('`', '``')}`" for name in wanted))
    return own.mapInArrow(functools.partial(read_table_users, folder=str(work)), schema)


def _table(session: SparkSession, name: str) -> DataFrame:
    """A table of the catalogue; or ``parquet:ADDRESS`` and the like, anything that Spark can load."""
    from pyspark.errors import AnalysisException

    kind, colon, address = name.partition(":")
    try:
        return session.read.format(kind).load(address) if colon else session.table(name)
    except AnalysisException as error:
        raise DataError(f"--table {name}: Spark cannot read it: {str(error).splitlines()[0]}") from None


def _ask(cells: DataFrame, asking: Asking, output: Path, work: Path) -> int:
    from pyspark.sql import functions as sql

    part = sql.pmod(sql.crc32(sql.col(ID).cast("binary")), sql.lit(asking.parts)).cast("int").alias("part")
    missing = [number for number in range(asking.parts) if not (output / part_name(number)).exists()]
    numbered = cells.select(part, "*")
    if len(missing) < asking.parts:
        numbered = numbered.where(sql.col("part").isin(missing))
    sorted_parts = numbered.repartitionById(asking.parts, "part").sortWithinPartitions("part", *numbered.columns[1:])
    counts = sorted_parts.mapInArrow(functools.partial(answer_parts, folder=str(work)), "part int, users long").toArrow()
    return int(sum(counts["users"].to_pylist()))


def _join_rejects(work: Path, source: str, rejects_path: Path) -> None:
    with Rejects(source, rejects_path) as rejects:
        seen = 0
        for path in sorted((work / READ).glob("*.json")):
            found = read_result(path)
            seen += found["rows"]
            rejects.add_tally(found["rejects"], work / REJECTS / f"{path.stem}.jsonl")
        rejects.log_summary(seen)
