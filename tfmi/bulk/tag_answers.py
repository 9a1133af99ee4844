"""Every user's best tags, by an exported user-tag model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tfmi.bulk.parts import list_columns
from tfmi.bulk.users import Users
from tfmi.core.errors import ConfigError
from tfmi.export.exported_model import ExportedModel


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

    def answer(self, users: Users) -> Iterator[pa.RecordBatch]:
        """The users' tags, batch by batch."""
        for start in range(0, len(users), self._batch_size):
            batch = users.rows(start, start + self._batch_size)
            answer = self._model.predict("user_tags", batch.request)
            columns: list[Any] = [pa.array(batch.ids, pa.string()), pa.array(answer["cold_start"])]
            for key in self._outputs.values():
                columns += list_columns(answer[f"{key}_tags"][:, : self._most], answer[f"{key}_scores"][:, : self._most])
            yield pa.record_batch(columns, schema=self.schema)
