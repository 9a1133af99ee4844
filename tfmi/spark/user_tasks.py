"""What executors do to users: a task reads a file of them, another asks the model about a part. Both with the code of the local path."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tfmi.bulk.asking import answers_of, fields_of
from tfmi.bulk.parts import Answers, part_name, write_part
from tfmi.bulk.user_file import UserRows
from tfmi.bulk.users import Users
from tfmi.config import FileConfig
from tfmi.core.files import write_json
from tfmi.data.reading.checks import ChunkChecks
from tfmi.data.reading.parquet import batch_chunk, requested_paths
from tfmi.data.reading.readers import read_rows
from tfmi.data.reading.rejects import Rejects
from tfmi.data.reading.rows import RowChunk
from tfmi.export.exported_model import ExportedModel
from tfmi.spark.log_tasks import READ, REJECTS, source_of
from tfmi.spark.work_folder import read_job, telling

# A user's id, and the cells of the model's fields, a column each; a column that the table lacks is null.
ID, CELL = "user", "cell"


def cell_schema(fields: int) -> str:
    """The columns of checked rows, in Spark's words."""
    return ", ".join([f"{ID} string", *(f"{CELL}{number} string" for number in range(fields))])


def read_file_users(numbers: Iterator[pa.RecordBatch], *, folder: str) -> Iterator[pa.RecordBatch]:
    """A task: the good rows of some files, as text. What was counted and rejected is written as by ``read_files``."""
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            with telling(folder, f"read-{number:06}"):
                job = read_job(folder)
                source = source_of(job, number, FileConfig.model_validate(job["options"]))
                rows = _rows(folder)
                seen = 0
                with Rejects(job["path"], Path(folder) / REJECTS / f"{number:06}.jsonl") as rejects:
                    for chunk in read_rows(source, rows.request(), rejects):
                        rows.require_fields(source.parts[0].path, chunk.columns)
                        seen += chunk.seen
                        yield _good_rows(chunk, rows, rejects)
                write_json(Path(folder) / READ / f"{number:06}.json", {"rows": seen, "rejects": rejects.tally()})


def read_table_users(batches: Iterator[pa.RecordBatch], *, folder: str) -> Iterator[pa.RecordBatch]:
    """A task: the same of a partition of one of Spark's tables."""
    from pyspark import TaskContext

    context = TaskContext.get()
    number = 0 if context is None else context.partitionId()
    job, rows = read_job(folder), _rows(folder)
    seen = 0
    with telling(folder, f"read-{number:06}"):
        with Rejects(job["path"], Path(folder) / REJECTS / f"{number:06}.jsonl") as rejects:
            for batch in batches:
                paths = requested_paths(Path(job["path"]), batch.schema, rows.request())
                chunk = batch_chunk(batch, seen + 1, paths, rows.request(), rejects)
                seen += batch.num_rows
                yield _good_rows(chunk, rows, rejects)
        write_json(Path(folder) / READ / f"{number:06}.json", {"rows": seen, "rejects": rejects.tally()})


def _good_rows(chunk: RowChunk, rows: UserRows, rejects: Rejects) -> pa.RecordBatch:
    checks = ChunkChecks(chunk, rejects)
    if len(chunk):
        rows.checked(chunk, checks)  # for what it rejects; the part's task makes users of the rows again
    good = pa.array(checks.kept)
    nothing = pa.nulls(int(checks.kept.sum()), pa.string())
    columns = {ID: chunk.columns[rows.user_column].filter(good).cast(pa.string()) if len(chunk) else nothing}
    for number, name in enumerate(rows.columns.values()):
        there = len(chunk) and name in chunk.columns
        columns[f"{CELL}{number}"] = chunk.columns[name].filter(good).cast(pa.string()) if there else nothing
    return pa.record_batch(columns)


def answer_parts(batches: Iterator[pa.RecordBatch], *, folder: str) -> Iterator[pa.RecordBatch]:
    """A task: the answers about some parts' users, who come part by part; gives the number of users of each part."""
    job = read_job(folder)
    output, answers, rows = Path(job["output"]), _answers(folder), _rows(folder)
    none = Rejects(job["path"], Path(folder) / "none.jsonl")  # what would be rejected was not passed on
    for number, chunks in _by_part(batches):
        asked: list[int] = []
        with telling(folder, f"part-{number:06}"):
            write_part(output / part_name(number), answers, (_users(chunk, rows, none) for chunk in chunks), asked.append)
        yield pa.record_batch({"part": pa.array([number], pa.int32()), "users": pa.array([sum(asked)], pa.int64())})


def _by_part(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
    """The batches cut where the part changes, part by part; each part is to be read to its end before the next one."""
    cut = _cut(batches)
    first = next(cut, None)
    while first is not None:
        following: list[tuple[int, pa.RecordBatch]] = []
        number = first[0]

        def own(begin: tuple[int, pa.RecordBatch], number: int, following: list[tuple[int, pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
            yield begin[1]
            for each in cut:
                if each[0] != number:
                    following.append(each)
                    return
                yield each[1]

        yield number, own(first, number, following)
        first = following[0] if following else None


def _cut(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    for batch in batches:
        numbers = batch.column("part").to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
            yield int(numbers[start]), batch.slice(start, end - start)


def _users(batch: pa.RecordBatch, rows: UserRows, rejects: Rejects) -> Users:
    columns: dict[str, Any] = {rows.user_column: batch.column(ID).cast(pa.large_string())}
    for number, name in enumerate(rows.columns.values()):
        column = batch.column(f"{CELL}{number}")
        if not column.null_count:
            columns[name] = column.cast(pa.large_string())
    chunk = RowChunk(np.arange(1, batch.num_rows + 1), columns, batch.num_rows)
    return rows.checked(chunk, ChunkChecks(chunk, rejects))


@functools.cache
def _model(path: str) -> ExportedModel:
    """The model, loaded once by every process."""
    return ExportedModel(path)


@functools.cache
def _rows(folder: str) -> UserRows:
    job = read_job(folder)
    columns = {name: column for name, column in job["columns"].items() if name != column}
    return UserRows(fields_of(_model(job["savedmodel"])), user_column=job["user_column"], columns=columns, separator=job["separator"])


@functools.cache
def _answers(folder: str) -> Answers:
    job = read_job(folder)
    return answers_of(_model(job["savedmodel"]), job["batch_size"], job["top"], vectors=job["vectors"])
