"""What users did before a log begins, as a column of the log itself says it: a list in each row, of which every user's earliest counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmi.config import LogColumns, LogConfig
from tfmi.data.reading.codebook import CodeBook
from tfmi.data.reading.events import EventChunk
from tfmi.data.tables import TRAIN

# Events that a chunk holds about.
CHUNK_EVENTS = 500_000
EARLIER_TYPE = "earlier"


def reading_earlier(config: LogConfig) -> LogConfig:
    """A log's configuration to read its column of earlier items instead of its events."""
    columns = LogColumns(
        user=config.columns.user, item=config.columns.history or "", time=config.columns.time, offset=config.columns.offset
    )
    return config.model_copy(
        update={"columns": columns, "event_types": None, "event_weights": None, "negative_events": None, "element_fields": None}
    )


class EarlierEvents:
    """Collects the earlier items of every user, and makes events of them that stand before the log's first.

    Memory holds one list of items for each user.
    """

    def __init__(self) -> None:
        self._items = CodeBook()
        self._of_user: dict[str, tuple[float, np.ndarray]] = {}

    def add(self, events: EventChunk) -> None:
        """Look at what ``reading_earlier`` reads: of each user the list of the row of the smallest time counts, the first where times are
        equal or absent."""
        if events.rows is None:
            raise ValueError("expected events with their rows")
        if not len(events):
            return
        codes = self._items.encode(events.items)
        named = pc.not_equal(events.items, "").to_numpy(zero_copy_only=False)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(events.rows)) + 1, [len(events)]])
        users = events.users.take(pa.array(starts[:-1])).to_pylist()
        times = np.zeros(len(users)) if events.times is None else events.times[starts[:-1]]
        for user, time, start, end in zip(users, times.tolist(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            known = self._of_user.get(user)
            if known is None or time < known[0]:
                self._of_user[user] = (time, codes[start:end][named[start:end]])

    @property
    def counts(self) -> tuple[int, int]:
        """How many events there are, and of how many users."""
        lengths = [len(items) for _, items in self._of_user.values() if len(items)]
        return sum(lengths), len(lengths)

    def chunks(self, config: LogConfig, first_time: float, *, has_parts: bool) -> Iterator[EventChunk]:
        """The events.

        Args:
            config: The log's; of a log with times the last of a user's earlier events is a second before ``first_time``, the one before
                it two seconds, and so on.
            first_time: Of the log itself.
            has_parts: Whether the log's events have parts; earlier events train.
        """
        item_ids = pa.array(self._items.strings, pa.large_string())
        waiting: list[tuple[str, np.ndarray]] = []
        count = 0
        for user, (_, items) in self._of_user.items():
            if not len(items):
                continue
            waiting.append((user, items))
            count += len(items)
            if count >= CHUNK_EVENTS:
                yield _chunk(waiting, item_ids, config, first_time, has_parts=has_parts)
                waiting, count = [], 0
        if waiting:
            yield _chunk(waiting, item_ids, config, first_time, has_parts=has_parts)


def _chunk(lists: list[tuple[str, np.ndarray]], item_ids: pa.Array, config: LogConfig, first_time: float, *, has_parts: bool) -> EventChunk:
    lengths = np.array([len(items) for _, items in lists])
    total = int(lengths.sum())
    owners = np.repeat(np.arange(len(lists)), lengths)
    from_end = np.repeat(np.cumsum(lengths), lengths) - np.arange(total)  # 1 at a user's last
    kept = config.kept_types()
    return EventChunk(
        users=pa.array([user for user, _ in lists], pa.large_string()).take(pa.array(owners)),
        items=item_ids.take(pa.array(np.concatenate([items for _, items in lists]))),
        times=None if config.columns.time is None else first_time - from_end,
        weights=np.ones(total, dtype=np.float32) if config.has_weights else None,
        types=None if config.columns.event is None else pa.array([kept[0] if kept else EARLIER_TYPE] * total, pa.large_string()),
        parts=np.full(total, TRAIN, dtype=np.int8) if has_parts else None,
        earlier=True,
    )
