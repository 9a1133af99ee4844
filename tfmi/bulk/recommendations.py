"""Every user's recommendations, by an exported retriever, alone or with a ranker behind it."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from tfmi.bulk.parts import list_columns, lists_of
from tfmi.bulk.users import Users, padded_columns
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.dataset import FIRST_INDEX
from tfmi.export.exported_model import ExportedModel
from tfmi.export.filter_inputs import ALLOW_ITEMS, MOST_ALLOWED_ITEMS, MOST_VALUES, NUM_RESULTS
from tfmi.export.retrieval.retrieval_signatures import MOST_EXCLUSIONS
from tfmi.export.saving import Request
from tfmi.export.tags.user_fields import UserFields
from tfmi.export.timestamp_inputs import TIMESTAMPS

HISTORY, EXCLUDE, DIVERSITY = "history", "exclude", "diversity"


class RetrieverFields:
    """What a retriever can be asked with: a history, times where it reads them, exclusions, diversity, and the profile that it knows.

    Args:
        metadata: The model's.
        restrictions: Whether users may also say what their answers are restricted to, and how long these are, if the model can be asked
            that: ``allow_<column>``, ``deny_<column>``, ``min_<column>``, ``max_<column>``, ``allow_items`` and ``num_results``.

    Attributes:
        kinds: See ``Fields``.
    """

    def __init__(self, metadata: Mapping[str, Any], *, restrictions: bool = False) -> None:
        self._restrictions = restriction_inputs(metadata) if restrictions else {}
        self._most_results = int(metadata["filters"]["most_results"]) if self._restrictions else 0
        self._profile = UserFields(metadata["profile_inputs"])
        self._length = int(metadata["widths"]["history_length"])
        self._excludes_history = bool(metadata["exclude_history"])
        inputs = metadata["signatures"]["recommend"]["inputs"]
        taken = sorted({HISTORY, EXCLUDE, DIVERSITY, TIMESTAMPS, *self._restrictions} & set(self._profile.kinds))
        if taken:
            raise ConfigError(f"the model's profile has a column called {taken[0]!r}, as an input of every model is called; rename it")
        self.kinds = {HISTORY: "ids", EXCLUDE: "ids", DIVERSITY: "number", **self._profile.kinds}
        if TIMESTAMPS in inputs:
            self.kinds[TIMESTAMPS] = "times"
        self.kinds |= {name: kind for name, (_, kind) in self._restrictions.items()}

    @property
    def profile_names(self) -> list[str]:
        """The columns of the profile."""
        return list(self._profile.kinds)

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
        for name, (key, kind) in self._restrictions.items():
            values: Any = columns.get(name, [[]] * rows if kind == "ids" else np.full(rows, np.nan))
            if kind == "ids":
                # Lists stay lists until their batch is asked about: one long list would make a table of all of them wide.
                request[key] = _lists(values, name, MOST_ALLOWED_ITEMS if key == ALLOW_ITEMS else MOST_VALUES)
            else:
                request[key] = np.asarray(values, np.float32) if key != NUM_RESULTS else _counts(values, self._most_results)
        return request

    def _times(self, histories: Sequence[Sequence[str]], given: Sequence[np.ndarray] | np.ndarray | None, rows: int) -> np.ndarray:
        if given is None:
            return np.zeros([rows, self._length])
        for row, (history, times) in enumerate(zip(histories, given, strict=True)):
            if len(times) not in (0, len(history)):
                raise DataError(f"{TIMESTAMPS}: row {row + 1} has {len(times)} times for the {len(history)} items of its history")
        return newest(given, self._length, np.float64, 0.0)


def restriction_inputs(metadata: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What a model's answers can be restricted to: by the name of a column of a users' file, the request's input and the field's kind."""
    filters = metadata.get("filters")
    if filters is None:
        return {}
    found = {ALLOW_ITEMS: (ALLOW_ITEMS, "ids"), NUM_RESULTS: (NUM_RESULTS, "number")}
    for column in filters["columns"]:
        kind = "ids" if column["kind"] == "values" else "number"
        found |= {f"{key.partition('_')[0]}_{column['column']}": (key, kind) for key in column["inputs"]}
    return found


def _lists(values: Sequence[Sequence[str]], name: str, most: int) -> np.ndarray:
    """object [rows]: a list each."""
    longest = max(map(len, values), default=0)
    if longest > most:
        raise DataError(f"{name}: a list of {longest:,} entries; a user may have at most {most:,}")
    lists = np.empty(len(values), dtype=object)
    for row, each in enumerate(values):  # as one assignment, lists of equal lengths would be taken for a table
        lists[row] = list(each)
    return lists


def _counts(values: Any, most: int) -> np.ndarray:
    """int32 [rows]: numbers of results, 0 where none is given."""
    counts = np.nan_to_num(np.asarray(values, np.float64), nan=0.0)
    odd = counts[(counts < 0) | (counts > most) | (counts != np.floor(counts))]
    if len(odd):
        raise DataError(f"{NUM_RESULTS}: expected whole numbers up to {most}, this model's export.most_results, got {odd[0]:g}")
    return counts.astype(np.int32)


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
        most: Items per user at most; None: as many as the model's signatures answer with.
        vectors: Whether to write each user's interest vectors, too.
        workers: Requests under way at a time.

    Attributes:
        schema: ``user_id``, ``cold_start`` (null where the model has no interests to tell it by), the lists ``item_ids``, ``scores`` and
            ``interests`` of equal length, best first; and ``interest_vectors``, a list of vectors, if they are asked for.
    """

    def __init__(self, model: ExportedModel, batch_size: int, most: int | None = None, *, vectors: bool = False, workers: int = 2) -> None:
        has_interests = "user_interests" in model.signature_names
        if vectors and not has_interests:
            raise ConfigError(f"--vectors: a model of the system {model.metadata.get('system')!r} has no vectors for users")
        self._restrictions = dict(restriction_inputs(model.metadata).values())
        bound = None if not self._restrictions else int(model.metadata["filters"]["most_results"])
        if most is not None and bound is not None and most > bound:
            raise ConfigError(f"--top {most}: this model answers with up to {bound} items; export with --set export.most_results={most}")
        self._model, self._batch_size, self._workers = model, batch_size, workers
        self._most = most or int(model.metadata["widths"]["num_results"])
        self._vectors, self._has_interests = vectors, has_interests
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
        """Users who restrict nothing are answered together, which is much faster than one after the other."""
        restricted = self._restricted(users.request)
        if restricted.any() and not restricted.all():
            groups = [np.flatnonzero(~restricted), np.flatnonzero(restricted)]
            found = [self._answered(users.request, rows, asks=asks) for rows, asks in zip(groups, (False, True), strict=True)]
            answered = pa.concat_tables(found).take(pa.array(np.argsort(np.concatenate(groups))))
        else:
            answered = self._answered(users.request, np.arange(len(users)), asks=bool(restricted.any()))
        columns = [pa.array(users.ids, pa.string()), *(column.combine_chunks() for column in answered.columns)]
        if self._vectors:
            asked = self._model.metadata["signatures"]["user_interests"]["inputs"]
            vectors = self._model.predict("user_interests", {name: users.request[name] for name in asked})
            columns.append(self._vector_column(vectors["interests"], vectors["count"]))
        return pa.record_batch(columns, schema=self.schema)

    def _restricted(self, request: Request) -> np.ndarray:
        """bool [rows]: who asks for anything that ``recommend`` does not take."""
        rows = len(request[HISTORY])
        asks = np.zeros(rows, dtype=bool)
        for key, kind in self._restrictions.items():
            values = request.get(key)
            if values is None:  # users of a log restrict nothing
                continue
            if kind == "ids":
                asks |= np.fromiter(map(bool, values), dtype=bool, count=rows)
            else:
                asks |= values > 0 if key == NUM_RESULTS else ~np.isnan(values)
        return asks

    def _answered(self, request: Request, rows: np.ndarray, *, asks: bool) -> pa.Table:
        """``cold_start``, items, scores and interests of some of the users."""
        asked = {name: values[rows] for name, values in request.items() if asks or name not in self._restrictions}
        asked = _without_padding(asked, EXCLUDE)
        if asks:
            for key, kind in self._restrictions.items():
                if kind == "ids":
                    asked[key] = newest(asked[key], max(map(len, asked[key]), default=0), object, "")
            asked[NUM_RESULTS] = np.where(asked[NUM_RESULTS] > 0, asked[NUM_RESULTS], self._most).astype(np.int32)
            answer = self._model.predict("recommend_filtered", asked)
            lists = list_columns(answer["item_ids"], answer["scores"], answer["interests"])
            interests = answer["interests"]
        else:
            items, scores, interests = self._model.recommend_items(asked, self._most)
            found = items >= FIRST_INDEX
            lists = lists_of(found, self._ids.take(pa.array(items[found] - FIRST_INDEX)), scores[found], interests[found])
        cold = pa.array((interests < 0).all(axis=1)) if self._has_interests else pa.nulls(len(rows), pa.bool_())
        return pa.table([cold, *lists], names=self.schema.names[1:5])

    @functools.cached_property
    def _ids(self) -> pa.Array:
        return pa.array(self._model.item_ids(), pa.string())

    def _vector_column(self, interests: np.ndarray, count: np.ndarray) -> pa.Array:
        """A list of vectors of every user: the interests [B, K, d] that have anything in them."""
        active = np.abs(interests).sum(axis=2) > 0
        active &= count[:, None] > 0
        flat = pa.array(np.ascontiguousarray(interests[active]).ravel(), pa.float32())
        (vectors,) = lists_of(active, pa.FixedSizeListArray.from_arrays(flat, interests.shape[2]))
        return vectors


def _without_padding(request: Request, name: str) -> Request:
    """The same request with no more columns of ``name`` than its fullest row has: every exclusion widens the search."""
    values = request[name]
    used = int((values != "").sum(axis=1).max(initial=0)) if values.size else 0
    return {**request, name: padded_columns(values[:, :used], used)}
