"""Every user's recommendations, by an exported retriever, alone or with a ranker behind it."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from tfmi.bulk.parts import list_columns
from tfmi.bulk.users import Users, padded_columns
from tfmi.core.errors import ConfigError, DataError
from tfmi.export.exported_model import ExportedModel
from tfmi.export.retrieval.retrieval_signatures import MOST_EXCLUSIONS
from tfmi.export.saving import Request
from tfmi.export.tags.user_fields import UserFields
from tfmi.export.timestamp_inputs import TIMESTAMPS

HISTORY, EXCLUDE, DIVERSITY = "history", "exclude", "diversity"


class RetrieverFields:
    """What a retriever can be asked with: a history, times where it reads them, exclusions, diversity, and the profile that it knows.

    Args:
        metadata: The model's.

    Attributes:
        kinds: See ``Fields``.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._profile = UserFields(metadata["profile_inputs"])
        self._length = int(metadata["widths"]["history_length"])
        self._excludes_history = bool(metadata["exclude_history"])
        inputs = metadata["signatures"]["recommend"]["inputs"]
        taken = sorted({HISTORY, EXCLUDE, DIVERSITY, TIMESTAMPS} & set(self._profile.kinds))
        if taken:
            raise ConfigError(f"the model's profile has a column called {taken[0]!r}, as an input of every model is called; rename it")
        self.kinds = {HISTORY: "ids", EXCLUDE: "ids", DIVERSITY: "number", **self._profile.kinds}
        if TIMESTAMPS in inputs:
            self.kinds[TIMESTAMPS] = "times"

    def request(self, columns: Mapping[str, Sequence[Any] | np.ndarray], rows: int) -> Request:
        """See ``Fields``. The model reads a history's newest items; one that leaves out a user's own items leaves out older ones, too.

        Raises:
            DataError: A history has another number of times than of items.
        """
        histories: Any = columns.get(HISTORY, [[]] * rows)
        request = self._profile.request({name: values for name, values in columns.items() if name in self._profile.kinds}, rows)
        request[HISTORY] = newest(histories, self._length, object, "")
        if TIMESTAMPS in self.kinds:
            request[TIMESTAMPS] = self._times(histories, columns.get(TIMESTAMPS), rows)
        excluded: Any = columns.get(EXCLUDE, [[]] * rows)
        if self._excludes_history:
            excluded = [[*given, *history[: -self._length]] for given, history in zip(excluded, histories, strict=True)]
        # The newest of what is left out, should a user have more than a request may hold.
        request[EXCLUDE] = newest(excluded, min(max(map(len, excluded), default=0), MOST_EXCLUSIONS), object, "")
        diversity = np.asarray(columns.get(DIVERSITY, np.zeros(rows)), np.float32)
        request[DIVERSITY] = np.nan_to_num(diversity, nan=0.0)
        return request

    def _times(self, histories: Sequence[Sequence[str]], given: Sequence[np.ndarray] | np.ndarray | None, rows: int) -> np.ndarray:
        if given is None:
            return np.zeros([rows, self._length])
        for row, (history, times) in enumerate(zip(histories, given, strict=True)):
            if len(times) not in (0, len(history)):
                raise DataError(f"{TIMESTAMPS}: row {row + 1} has {len(times)} times for the {len(history)} items of its history")
        return newest(given, self._length, np.float64, 0.0)


def newest(lists: Sequence[Any] | np.ndarray, width: int, dtype: Any, padding: str | float) -> np.ndarray:
    """[rows, width]: the last ``width`` of every list, padded on the right."""
    table = np.full((len(lists), width), padding, dtype=dtype)
    if width:
        for row, values in enumerate(lists):
            newest = values[-width:]
            table[row, : len(newest)] = newest
    return table


class RecommendationAnswers:
    """Asks a retriever for users' best items.

    Args:
        model: An exported retriever, alone or with a ranker behind it.
        batch_size: Users per request.
        most: Items per user at most; None: all that the model answers.
        vectors: Whether to write each user's interest vectors, too.
        workers: Requests under way at a time.

    Attributes:
        schema: ``user_id``, ``cold_start`` (null where the model has no interests to tell it by), the lists ``item_ids``, ``scores`` and
            ``interests`` of equal length, best first; and ``interest_vectors``, a list of vectors, if they are asked for.
    """

    def __init__(self, model: ExportedModel, batch_size: int, most: int | None = None, *, vectors: bool = False, workers: int = 2) -> None:
        answered = int(model.metadata["widths"]["num_results"])
        if most is not None and most > answered:
            raise ConfigError(f"--top {most}: this model answers with {answered} items; export with --set export.num_results={most}")
        has_interests = "user_interests" in model.signature_names
        if vectors and not has_interests:
            raise ConfigError(f"--vectors: a model of the system {model.metadata.get('system')!r} has no vectors for users")
        self._model, self._batch_size, self._workers = model, batch_size, workers
        self._most, self._vectors, self._has_interests = most or answered, vectors, has_interests
        columns = [
            ("user_id", pa.string()),
            ("cold_start", pa.bool_()),
            ("item_ids", pa.list_(pa.string())),
            ("scores", pa.list_(pa.float32())),
            ("interests", pa.list_(pa.int32())),
        ]
        if vectors:
            width = int(model.metadata["signatures"]["user_interests"]["outputs"]["interests"]["shape"][-1])
            columns.append(("interest_vectors", pa.list_(pa.list_(pa.float32(), width))))
        self.schema = pa.schema(columns)

    def answer(self, users: Users) -> Iterator[pa.RecordBatch]:
        """See ``Answers``."""
        batches = (users.rows(start, start + self._batch_size) for start in range(0, len(users), self._batch_size))
        waiting: collections.deque[Future[pa.RecordBatch]] = collections.deque()
        # TensorFlow computes outside of Python's lock: while one batch is searched for, the strings of another are made.
        with ThreadPoolExecutor(self._workers) as pool:
            for batch in batches:
                waiting.append(pool.submit(self._ask, batch))
                if len(waiting) > self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _ask(self, users: Users) -> pa.RecordBatch:
        request = dict(users.request)
        answer = self._model.predict("recommend", _without_padding(request, EXCLUDE))
        most = self._most
        items, scores, interests = (answer[name][:, :most] for name in ("item_ids", "scores", "interests"))
        cold = pa.array((interests < 0).all(axis=1)) if self._has_interests else pa.nulls(len(users), pa.bool_())
        columns = [pa.array(users.ids, pa.string()), cold, *list_columns(items, scores, interests)]
        if self._vectors:
            asked = self._model.metadata["signatures"]["user_interests"]["inputs"]
            found = self._model.predict("user_interests", {name: request[name] for name in asked})
            columns.append(self._vector_column(found["interests"], found["count"]))
        return pa.record_batch(columns, schema=self.schema)

    def _vector_column(self, interests: np.ndarray, count: np.ndarray) -> pa.Array:
        """A list of vectors of every user: the interests [B, K, d] that have anything in them."""
        active = np.abs(interests).sum(axis=2) > 0
        active &= count[:, None] > 0
        offsets = np.concatenate([[0], np.cumsum(active.sum(axis=1))]).astype(np.int32)
        flat = pa.array(np.ascontiguousarray(interests[active]).ravel(), pa.float32())
        vectors = pa.FixedSizeListArray.from_arrays(flat, interests.shape[2])
        return pa.ListArray.from_arrays(pa.array(offsets), vectors)


def _without_padding(request: Request, name: str) -> Request:
    """The same request with no more columns of ``name`` than its fullest row has: every exclusion widens the search."""
    values = request[name]
    used = int((values != "").sum(axis=1).max(initial=0)) if values.size else 0
    return {**request, name: padded_columns(values[:, :used], used)}
